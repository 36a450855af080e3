"""Files of every kind that genzoo reads, and for each a command that reads it."""

import gzip
import io
import json
import os
import shlex
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from attacks.outcome import run
from genzoo.files import JsonLines, sealed

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIER = ROOT / "genzoo" / "evaluation" / "classifiers" / "toyfaces-3x64x64"
TRAIN = (
    "train vae --data images --res 16 --images {images} --out run --set arch.channels=4,8 --set arch.z_dim=4 "
    "--set train.batch=8 --set train.snapshot_every=32 --set train.log_every=1 --set data.mirror=true"
)
LONGER = TRAIN.format(images=96)
SUITE = """
title = "a suite"
metrics = ["rec8_train"]
[[rows]]
label = "vae"
model = "vae"
settings = ["arch.channels=8", "arch.z_dim=4"]
[[data]]
name = "digits"
preset = "toyfaces32"
source = "digits"
settings = ["data.size=8,8", "data.channels=1", "train.duration=64", "train.batch=8"]
[[columns]]
protocol = "rec8_train"
value = "sse"
"""
CONFIG = (
    'model = "vae.toyfaces32"\n[train]\nlr = 1e-3\nbatch = 8\n[data]\nname = "digits"\nsize = [8, 8]\nchannels = 1\n'
)
MODEL = "run/model/diffusion_pytorch_model.safetensors"

# Kinds of damage that leave what a user might have written: nobody can recognize them.
VALUES = frozenset(("flip", "bits", "zeros"))  # other pixels, other numbers
TEXT = VALUES | {"cut", "line", "twice", "lost", "noise"}  # of a list that a user writes


@dataclass(frozen=True)
class Target:
    """Files, and a command that reads them.

    Attributes:
        group: the row of the table.
        files: a pattern in the working folder.
        command: reads them.
        product: what the command leaves; equal content means that the damage did no harm. "": what it prints.
        blind: kinds of damage that cannot be recognized, as they leave what might have been meant.
    """

    group: str
    files: str
    command: str
    product: str = ""
    blind: frozenset[str] = frozenset()


SAMPLE = "sample {} --n 4 --out s.png"
RECONSTRUCT = "reconstruct run --data images --n 4 --out r.png"
TRAINED = "encode run --set data.split=train --out z.npz"  # reads the cache that training made
EVAL = "eval run --metrics rec8_train{} --out e.jsonl"
CLASSES = "eval run --metrics classes_classifier_toyfaces_8_train --extractor-weights clf --out e.jsonl"
BENCH = "bench suite.toml --out own"


def encode(data: str) -> tuple[str, str]:
    """A command that decodes all of a dataset, and what it leaves."""
    return f"encode run --data {data} --out z.npz", "z.npz"


RUN = (
    Target("run.json", "run/run.json", "doctor run"),
    Target("run.json", "run/run.json", "reconstruct run --n 4 --out r.png", "r.png"),
    Target("run.json", "run/run.json", LONGER, MODEL),
    Target("run.json", "run/run.json", "train --resume run --images 96", MODEL),
    Target("run.json", "run/run.json", EVAL.format(""), "e.jsonl"),
    Target("run.json", "run/run.json", "train --config run/run.json --out other --dry-run", blind=VALUES),
    Target("data.json", "run/data.json", LONGER, MODEL),
    Target("data.json", "run/data.json", "eval run --data copy --metrics rec8_train --out e.jsonl", "e.jsonl"),
    Target("log.jsonl", "run/log.jsonl", "doctor run"),
    Target("log.jsonl", "run/log.jsonl", LONGER, MODEL),
    Target("log.jsonl", "run/log.jsonl", EVAL.format(""), "e.jsonl"),
    Target("events.jsonl", "run/events.jsonl", "doctor run"),
    Target("events.jsonl", "run/events.jsonl", LONGER, MODEL),
    Target("eval.jsonl", "run/eval.jsonl", "eval run --metrics rec8_train"),
    Target("checkpoints", "run/checkpoints/*/*", LONGER, MODEL),
    Target("checkpoints", "run/checkpoints/*/manifest.json", LONGER, MODEL),
    Target("checkpoints", "run/checkpoints/*/*", EVAL.format("_raw"), "e.jsonl"),
    Target("checkpoints", "run/checkpoints/*", LONGER, MODEL),
)
MODELS = (
    Target("config.json", "run/model/config.json", SAMPLE.format("run"), "s.png"),
    Target("config.json", "run/model/config.json", RECONSTRUCT, "r.png"),
    Target("config.json", "saved/config.json", RECONSTRUCT.replace("run", "saved", 1), "r.png"),
    Target("safetensors", MODEL, SAMPLE.format("run"), "s.png"),
    Target("safetensors", "run/best/*.safetensors", SAMPLE.format("run/best"), "s.png"),
    Target("safetensors", "saved/*.safetensors", SAMPLE.format("saved"), "s.png"),
    Target("safetensors", "saved/*.index.json", SAMPLE.format("saved"), "s.png"),
    Target("prior", "run/model/prior.safetensors", SAMPLE.format("run"), "s.png"),
)
CACHES = (
    Target("pixel cache", "cache/pixels/*/*", TRAINED, "z.npz"),
    Target("pixel cache", "cache/pixels/*/*", LONGER, MODEL),
    Target("pixel cache", "cache/pixels/*/*", "cache --check"),
    Target("pixel cache", "cache/pixels/*", TRAINED, "z.npz"),
    Target("feature cache", "cache/features/*/*", EVAL.format(",fd_classifier_toyfaces_8_train"), "e.jsonl"),
    Target("feature cache", "cache/features/*/*", "cache --check"),
    Target("classifier", "clf/*", CLASSES, "e.jsonl"),
)
BENCHES = (
    Target("bench", "bench/results/*.jsonl", "bench --report --out bench", "bench/RESULTS.md"),
    Target("bench", "own/results/*.jsonl", "bench --report --out own", "own/RESULTS.md"),
    Target("bench", "own/results/*.jsonl", BENCH, "own/RESULTS.md", frozenset(("empty", "gone", "link", "lost"))),
    Target("suite and config", "suite.toml", "bench suite.toml --list", blind=TEXT),
    Target("suite and config", "config.toml", "train --config config.toml --dry-run", blind=TEXT),
)
DATA = (
    Target("images", "images/1*.png", *encode("images"), blind=VALUES | {"gone"}),
    Target("images", "photos/*", *encode("photos"), blind=VALUES | {"gone"}),
    Target("images", "images/10.png", "reconstruct run images/10.png --out r.png", "r.png", VALUES),
    Target("metadata", "labeled/metadata.*", "data labeled --out d.png", blind=TEXT | {"gone"}),
    Target("tables", "table.parquet", *encode("table.parquet"), blind=VALUES),
    Target("tables", "shards/*.parquet", *encode("shards"), blind=VALUES | {"gone"}),
    Target("arrays", "array.npy", *encode("array.npy"), blind=VALUES),
    Target("arrays", "arrays/*.npy", *encode("arrays"), blind=VALUES | {"gone"}),
    Target("arrays", "arrays.npz", *encode("arrays.npz")),
    Target("arrays", "train-images-idx3-ubyte", *encode("train-images-idx3-ubyte"), blind=VALUES),
    Target("arrays", "packed-images-idx3-ubyte.gz", *encode("packed-images-idx3-ubyte.gz")),
    Target("archives", "archive.zip", *encode("archive.zip")),
    Target("archives", "archive.tar", *encode("archive.tar"), blind=VALUES),
    Target("lists", "list.csv", *encode("list.csv"), blind=TEXT),
    Target("lists", "list.jsonl", *encode("list.jsonl"), blind=TEXT),
    Target("lists", "list.txt", *encode("list.txt"), blind=TEXT),
    Target("saved datasets", "disk/*", *encode("disk"), blind=VALUES),
    Target(
        "statistics",
        "statistics.npz",
        "eval run --data statistics.npz --metrics fd_classifier_toyfaces_8_train --out e.jsonl",
        "e.jsonl",
    ),
)
TARGETS = (*RUN, *MODELS, *CACHES, *BENCHES, *DATA)


def command(text: str) -> None:
    """Runs a command that must not fail."""
    status, _, errors = run(shlex.split(text))
    assert status == 0, (text, errors)


def prepare(targets: Sequence[Target] = TARGETS) -> None:
    """Makes the files of these targets in the working folder, and a run."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    for folder in ("images", "photos"):
        Path(folder).mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(f"images/{i:02d}.png")
    shutil.copytree("images", "copy")
    command(TRAIN.format(images=64))
    command("eval run --metrics rec8_train")
    _share()
    if set(targets) & set(DATA):
        _pictures(pixels)
        _arrays(pixels)
        _archives()
    if set(targets) & set(BENCHES):
        _results()
    if {target.group for target in targets} & {"feature cache", "classifier"}:
        command(EVAL.format(",fd_classifier_toyfaces_8_train"))
        os.remove("e.jsonl")
        Path("clf").mkdir()
        shutil.copyfile(CLASSIFIER / "classifier.safetensors", "clf/classifier.safetensors")
        about = json.loads((CLASSIFIER / "about.json").read_bytes())
        Path("clf/about.json").write_text(json.dumps(sealed(about), indent=1), encoding="utf-8")


def _share() -> None:
    """Saves the model in parts."""
    import genzoo

    genzoo.load("run").save_pretrained("saved", max_shard_size="4KB")


def _pictures(pixels: np.ndarray) -> None:
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp"):
        Image.fromarray(pixels[0]).save(f"photos/{suffix}.{suffix}")
    shutil.copytree("images", "labeled")
    rows = [f"{i:02d}.png,{i % 3}" for i in range(24)]
    Path("labeled/metadata.csv").write_text("\n".join(["file_name,label", *rows]) + "\n", encoding="utf-8")
    Path("list.csv").write_text("\n".join(["path,label", *(f"images/{row}" for row in rows)]) + "\n", encoding="utf-8")
    JsonLines(Path("list.jsonl")).append(*({"path": f"images/{i:02d}.png", "label": i % 3} for i in range(8)))
    Path("list.txt").write_text("".join(f"images/{i:02d}.png {i % 3}\n" for i in range(8)), encoding="utf-8")


def _arrays(pixels: np.ndarray) -> None:
    import datasets

    datasets.disable_progress_bars()
    cells = [{"bytes": Path(f"images/{i:02d}.png").read_bytes(), "path": None} for i in range(8)]
    table = pa.table({"image": cells, "label": list(range(8))})
    pq.write_table(table, "table.parquet")
    for folder in ("shards", "arrays"):
        Path(folder).mkdir()
    for i in range(2):
        pq.write_table(table.slice(4 * i, 4), f"shards/{i}.parquet")
    for i, image in enumerate(pixels[:8]):
        np.save(f"arrays/{i}.npy", image)
    np.save("array.npy", pixels)
    np.savez("arrays.npz", train=pixels)
    header = struct.pack(">HBBIII", 0, 8, 3, 24, 16, 16) + pixels[..., 0].tobytes()
    Path("train-images-idx3-ubyte").write_bytes(header)
    Path("packed-images-idx3-ubyte.gz").write_bytes(gzip.compress(header))
    disk = datasets.Dataset.from_dict({"image": [cell["bytes"] for cell in cells], "label": list(range(8))})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    disk.map(lambda row: {"image": {"bytes": row["image"], "path": None}}, features=features).save_to_disk("disk")
    half = rng_matrix(128)
    np.savez("statistics.npz", mu=half[0], sigma=half @ half.T, extractor="classifier:toyfaces", n=1000)


def rng_matrix(dim: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(dim, dim)) / dim


def _archives() -> None:
    files = sorted(Path("images").iterdir())[:8]
    listed = {"labels": [[file.name, i % 3] for i, file in enumerate(files)]}
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr("dataset.json", json.dumps(listed))
        for file in files:
            archive.write(file, file.name)
    with tarfile.open("archive.tar", "w") as archive:
        for i, file in enumerate(files):
            archive.add(file, file.name)
            label = tarfile.TarInfo(f"{file.stem}.cls")
            label.size = 1
            archive.addfile(label, io.BytesIO(str(i % 3).encode()))


def _results() -> None:
    Path("bench/results").mkdir(parents=True)
    Path("suite.toml").write_text(SUITE, encoding="utf-8")
    Path("config.toml").write_text(CONFIG, encoding="utf-8")
    smallest = min((ROOT / "benchmarks" / "results").glob("*.jsonl"), key=lambda path: path.stat().st_size)
    JsonLines(Path("bench/results") / smallest.name).append(*JsonLines(smallest).read())
    command(BENCH)
