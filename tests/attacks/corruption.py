"""Files of every kind that genzoo reads, damaged at random by seed: each command is to refuse, to warn, or to do what
it does with the intact files.

Run from the folder of the tests: `python -m attacks.corruption --seeds 300`. A seed can be repeated: `--first 17
--seeds 1`.
"""

import argparse
import os
import random
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from attacks.outcome import Outcome, judged, report, run

ROOT = Path(__file__).resolve().parents[2]
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
[[data]]
name = "digits"
preset = "toyfaces32"
source = "digits"
settings = ["data.size=8,8", "train.duration=64"]
"""
MODEL = "run/model/diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Target:
    """Files, and a command that reads them.

    Attributes:
        files: a pattern in the working folder.
        command: reads them.
        product: what the command leaves; equal bytes mean that the damage did no harm. "": what it prints.
        users: whether the content is the user's own, in which a wrong value cannot be recognized.
        flips: how many of the first bytes may be flipped; 0 = all. Weights of a shared model have no digest.
        optional: whether the file may be missing.
    """

    files: str
    command: str
    product: str = ""
    users: bool = False
    flips: int = 0
    optional: bool = False


SAMPLE = "sample run --n 4 --out s.png"
TARGETS = (
    Target("run/run.json", "doctor run"),
    Target("run/run.json", "reconstruct run --n 4 --out r.png", "r.png"),
    Target("run/run.json", LONGER, MODEL),
    Target("run/log.jsonl", "doctor run"),
    Target("run/log.jsonl", LONGER, MODEL),
    Target("run/events.jsonl", "doctor run"),
    Target("run/events.jsonl", LONGER, MODEL),
    Target("run/checkpoints/*/*", LONGER, MODEL),
    Target("run/checkpoints/*/manifest.json", LONGER, MODEL),
    Target("run/model/config.json", SAMPLE, "s.png"),
    Target(MODEL, SAMPLE, "s.png", flips=256),
    Target("run/model/prior.safetensors", SAMPLE, "s.png", flips=64, optional=True),
    Target("cache/pixels/*/*", "reconstruct run --data images --n 4 --out r.png", "r.png"),
    Target("cache/pixels/*/*", LONGER, MODEL),
    Target("images/1*.png", "reconstruct run --data images --n 24 --out r.png", users=True),
    Target("photos/*", "reconstruct run --data photos --n 6 --out r.png", users=True),
    Target("table.parquet", "reconstruct run --data table.parquet --n 8 --out r.png", users=True),
    Target("array.npy", "reconstruct run --data array.npy --n 8 --out r.png", users=True),
    Target("arrays.npz", "reconstruct run --data arrays.npz --n 8 --out r.png", users=True),
    Target("images/10.png", "reconstruct run images/10.png --out r.png", users=True),
    Target("suite.toml", "bench suite.toml --list", users=True),
    Target("bench/results/*.jsonl", "bench --report --out bench", "bench/RESULTS.md"),
)
JSON = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"5",
    b'"text"',
    b"[" * 100_000,
    b'{"format": 99}',
    b"\xff\xfe\x00",
    b"{" * 50,
    b"NaN",
)


def prepare() -> None:
    """Trains a tiny run in the working folder and makes one of each kind of file."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    for folder in ("images", "photos", "bench/results"):
        Path(folder).mkdir(parents=True)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(f"images/{i:02d}.png")
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp"):
        Image.fromarray(pixels[0]).save(f"photos/{suffix}.{suffix}")
    cells = [{"bytes": Path(f"images/{i:02d}.png").read_bytes(), "path": None} for i in range(8)]
    pq.write_table(pa.table({"image": cells, "label": list(range(8))}), "table.parquet")
    np.save("array.npy", pixels)
    np.savez("arrays.npz", train=pixels)
    Path("suite.toml").write_text(SUITE, encoding="utf-8")
    results = ROOT / "benchmarks" / "results"
    for path in sorted(results.glob("*.jsonl"), key=lambda path: path.stat().st_size)[:1]:
        shutil.copyfile(path, Path("bench/results") / path.name)
    status, _, errors = run(shlex.split(TRAIN.format(images=64)))
    assert status == 0, errors


def damage(path: Path, rng: random.Random, target: Target) -> str:
    """Damages a file and says how."""
    content, flips = path.read_bytes(), target.flips
    kinds = ["flip", "cut", "empty", "zeros", "other", "noise", "folder", *([] if target.optional else ["gone"])]
    if path.suffix in (".json", ".jsonl"):
        kinds += ["json"] * 4
    if path.suffix in (".jsonl", ".toml") and content:
        kinds += ["line"] * 2
    kind = rng.choice(kinds)
    place = rng.randrange(max(1, min(len(content), flips or len(content))))
    if kind == "flip" and content:
        content = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
    elif kind == "cut":
        content = content[:place]
    elif kind == "zeros":
        content = content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :]
    elif kind == "json":
        content = rng.choice(JSON)
    elif kind == "line":
        lines = content.splitlines(keepends=True)
        lines[rng.randrange(len(lines))] = rng.choice(JSON) + b"\n"
        content = b"".join(lines)
    elif kind in ("noise", "other"):
        content = rng.randbytes(200) if kind == "noise" else b"PK\x03\x04 or something else\n"
    elif kind == "empty":
        content = b""
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_bytes(content)
    return f"{kind} at {place}" if kind in ("flip", "cut", "zeros") else kind


class Ground:
    """A working folder that is restored before each attack.

    Args:
        folder: holds the working folder, whose path stays the same, and a copy.
    """

    def __init__(self, folder: Path):
        self.work, self._copy = folder / "work", folder / "copy"
        self.work.mkdir(parents=True)
        self._enter()
        prepare()
        shutil.copytree(self.work, self._copy, symlinks=True)
        self._expected: dict[tuple[str, str], bytes] = {}

    def _enter(self) -> None:
        os.chdir(self.work)
        os.environ["GENZOO_CACHE"] = str(self.work / "cache")

    def restore(self) -> None:
        os.chdir(self.work.parent)
        shutil.rmtree(self.work)
        shutil.copytree(self._copy, self.work, symlinks=True)
        self._enter()

    def expected(self, target: Target) -> bytes:
        """What the command leaves without an attack."""
        key = target.command, target.product
        if key not in self._expected:
            self.restore()
            status, out, errors = run(shlex.split(target.command))
            assert status == 0, (target, errors)
            self._expected[key] = left(target, out)
        return self._expected[key]

    def attack(self, seed: int, targets: Iterable[Target] = TARGETS) -> Outcome:
        """Damages one file, and runs the command that reads it."""
        rng = random.Random(seed)
        target = rng.choice(list(targets))
        expected = self.expected(target)
        self.restore()
        path = Path(rng.choice(sorted(map(str, Path().glob(target.files)))))
        how = damage(path, rng, target)
        status, out, errors = run(shlex.split(target.command))
        same = target.users or left(target, out) == expected
        return judged(
            f"seed {seed}: {path}, {how}: genzoo {' '.join(target.command.split()[:2])}", status, out, errors, same
        )


def left(target: Target, out: str) -> bytes:
    """The product of a command, or what it printed."""
    path = Path(target.product)
    return path.read_bytes() if target.product and path.is_file() else out.encode()


def attacks(folder: Path, seeds: Iterable[int]) -> Iterator[Outcome]:
    """Attacks once per seed."""
    ground = Ground(folder)
    for seed in seeds:
        yield ground.attack(seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = report(attacks(Path(temporary), range(args.first, args.first + args.seeds)))
        os.chdir("/")
    raise SystemExit(min(found, 100))
