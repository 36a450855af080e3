"""How many images per second one core prepares for training steps, compared with the published loader.

    python benchmarks/speed/loader.py          # a minute; prints a table and writes loader.jsonl

Protocol: 512 toy faces drawn at 178x218 (CelebA's size), with grain, as JPEG files; batches of 8 at 128 and of 4 at
256, shuffled, mirrored at random, as float32 on the CPU; one process, one thread. The loaders take turns (A B C A B C
...) and are timed in processor time, which a busy machine disturbs less. `published` does what Soft-IntroVAE's and
IntroVAE's loaders do with every image, reimplemented; `uncached` decodes in every batch, too; `cached` reads genzoo's
decoded images (memory-mapped, in the page cache), up to the tensor that the trainer passes to the objective. All
resize to the target shape without cropping, and the script fails if they differ in a pixel.
"""

import argparse
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genzoo.data import Dataset as Images
from genzoo.data import open_dataset
from genzoo.data.batches import Batches, load, to_float
from genzoo.data.embedded.toyfaces import draw
from genzoo.files import JsonLines
from genzoo.provenance import commit, device_name, versions
from genzoo.spec import DataConfig

FILES, ROUNDS = 512, 9
BATCH = {128: 8, 256: 4}  # by resolution
EPOCHS = {"published": 1, "uncached": 1, "cached": 8}  # in one turn
CPU = torch.device("cpu")
RESULTS = JsonLines(Path(__file__).with_suffix(".jsonl"))


class Published(Dataset):
    """Item i: open, mirror at random, resize, to float32 [3, H, W] in [0, 1]."""

    def __init__(self, folder: Path, side: int, mirrors: bool = True):
        self.files, self.side, self.mirrors = sorted(folder.iterdir()), side, mirrors

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        image = Image.open(self.files[index])
        if image.mode != "RGB":
            image = image.convert("RGB")
        if self.mirrors and random.randint(0, 1):
            image = ImageOps.mirror(image)
        image = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return pixels.to(torch.float32).div(255)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENZOO_CACHE"] = str(Path(folder) / "cache")
        files = Path(folder) / "faces"
        size = write_faces(files)
        rows = [row for side in BATCH for row in measure(files, side)]
    about = {"files": FILES, "file_bytes": size, "rounds": ROUNDS, "threads": 1}
    about |= {"commit": commit(), "versions": versions(), "device": device_name(CPU)}
    RESULTS.replace(row | about for row in rows)
    print("| loader | images/s per core, median | best | ratio, median | best | paid back after |")
    print("|---" * 6 + "|")
    for r in rows:
        paid = f"{r['epochs_to_pay_back']:.1f} epochs" if "epochs_to_pay_back" in r else ""
        rates = f"{r['images_per_s']:,.0f} | {r['images_per_s_best']:,.0f} | {r['ratio']:.1f} | {r['ratio_best']:.1f}"
        print(f"| {r['loader']} {r['side']} | {rates} | {paid} |")


def write_faces(folder: Path) -> int:
    """Writes the JPEG files; returns their mean size in bytes."""
    folder.mkdir()
    grain = np.random.default_rng(0)
    for i in range(FILES):
        face = draw(np.array([i]), (218, 178))[0].transpose(1, 2, 0)
        pixels = np.clip(face + grain.normal(0, 4, face.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05}.jpg", quality=85)
    return sum(path.stat().st_size for path in folder.iterdir()) // FILES


def measure(files: Path, side: int) -> Iterator[dict]:
    """Yields one row for each loader."""
    config = DataConfig(name=str(files), size=(side, side), fit="stretch")
    before = cpu_seconds()
    cached = open_dataset(config, progress=False)
    decoding = (cpu_seconds() - before) / FILES
    uncached = open_dataset(DataConfig(**vars(config) | {"cache": False}), progress=False)
    expected = torch.stack([Published(files, side, mirrors=False)[i] for i in range(64)])
    for dataset in (cached, uncached):
        assert torch.equal(to_float(dataset.batch(range(64)), CPU), expected), (
            "pixels differ from those of the published loader"
        )
    turns: dict[str, Callable[[], Iterator[Tensor]]] = {
        "published": lambda: iter(DataLoader(Published(files, side), BATCH[side], shuffle=True)),
        "uncached": lambda: ours(uncached, side, EPOCHS["uncached"]),
        "cached": lambda: ours(cached, side, EPOCHS["cached"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in turns}  # an image
    for turn in range(ROUNDS + 1):  # the first warms up
        for name, batches in turns.items():
            spent = drain(batches()) / (FILES * EPOCHS[name])
            if turn:
                seconds[name].append(spent)
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(seconds["published"], own, strict=True)]
        row = {
            "loader": name,
            "side": side,
            "batch": BATCH[side],
            "images_per_s": 1 / median(own),
            "images_per_s_best": 1 / min(own),
        }
        row |= {"ratio": median(ratios), "ratio_best": min(seconds["published"]) / min(own)}
        if name == "cached":
            row |= {
                "decoding_s": decoding,
                "epochs_to_pay_back": decoding / (median(seconds["published"]) - median(own)),
            }
        yield {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def ours(dataset: Images, side: int, epochs: int) -> Iterator[Tensor]:
    """Yields what the trainer waits for."""
    n = BATCH[side]
    batches = Batches(dataset, seed=0, batch=n, start=0, stop=n, mirror=True)
    return (to_float(batch[0].x, CPU) for batch in load(batches, 0, epochs * FILES // n, workers=0))


def drain(batches: Iterator[Tensor]) -> float:
    """Iterates over all batches; returns the processor time in seconds."""
    began = time.process_time()
    for _ in batches:
        pass
    return time.process_time() - began


def cpu_seconds() -> float:
    """Processor time of this process and of its finished child processes."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


if __name__ == "__main__":
    main()
