"""Does training work on this GPU, how long do steps take, and does a resumed run end with the same bits?

    python benchmarks/gpu/run.py                 # results.jsonl gains one line per cell
    python benchmarks/gpu/run.py --cells recipe  # only cells whose name contains this

Protocol: three cells train a configuration once without a stop, and once stopped by Ctrl-C half-way and resumed, and
compare the weights: introvae.toyfaces32 in fp32, and the recipe of `--budget` in bf16, run as it is and from CUDA
graphs. The cell "mixture" fits the prior to 50,000 made-up encodings of 128 dimensions, as a long run does at its end,
once on the CPU and once on the GPU. Each other cell is a configuration, timed as `--budget` times steps
(genzoo/training/timing.py) on toyfaces, resident in the GPU's memory: the median of up to 25 steps, each waited for,
before the warm-up ends and after it. `first_s` is what the first steps took, in which code is loaded or compiled, or
graphs are recorded. Peak memory is that of PyTorch's allocator. A configuration that fails is recorded with its error.
"""

import argparse
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from genzoo import Trainer, resolve
from genzoo.files import JsonLines
from genzoo.fitted import fit_mixture
from genzoo.noise import generator
from genzoo.objective import Progress
from genzoo.provenance import versions
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.training.timing import time_steps
from genzoo.training.ways import way

BF16 = "train.precision=bf16"
GRAPHS, COMPILED = (BF16, "train.compile=cudagraphs"), (BF16, "train.compile=true")
FORMS = ((), ("train.precision=tf32",), (BF16,), GRAPHS, COMPILED)
BATCHES = 64, 512, 2048
SECONDS = 1.0  # per configuration, without its first steps
RESULTS = JsonLines(Path(__file__).with_name("results.jsonl"))


def cells() -> Iterator[tuple[str, str, tuple[int, int], tuple[str, ...]]]:
    """Name, model, size and settings of each configuration."""
    yield recipe("introvae", 64, ())
    for batch in BATCHES:
        for form in ((BF16,), GRAPHS):
            yield recipe("introvae", batch, form)
    for model in ("softintrovae", "vae"):
        for form in ((BF16,), GRAPHS):
            yield recipe(model, 512, form)
    for model in ("introvae", "vae"):
        yield recipe(model, 512, COMPILED)
    for model, side in (("softintrovae", 32), ("introvae", 128), ("introvae", 256)):
        for form in FORMS:
            yield f"published {model} {side}", model, (side, side), form


def recipe(model: str, batch: int, form: tuple[str, ...]) -> tuple[str, str, tuple[int, int], tuple[str, ...]]:
    """The recipe of `--budget` for a GPU."""
    lines = recipe_lines(get_spec(model), (3, 32, 32), accelerated=True, budget_s=3600)
    return f"recipe {model} 32", model, (32, 32), (*texts(lines), f"train.batch={batch}", *form)


def step(model: str, size: tuple[int, int], settings: tuple[str, ...]) -> dict[str, Any]:
    """Times steps of one configuration."""
    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        run = resolve(model, data="toyfaces", res=size, settings=[*settings, "data.limit=4096"])
        trainer = Trainer(run, out=folder, progress=False)
        times = time_steps(trainer, SECONDS, time.perf_counter)
    return {
        "batch": run.train.batch,
        "form": way(run.train),
        "warmup_ms": round(1000 * times.warmup, 2),
        "late_ms": round(1000 * times.late, 2),
        "images_per_s": round(trainer.per_step / times.late),
        "first_s": round(times.first, 1),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }


def resumes_bit_identical(settings: tuple[str, ...]) -> bool:
    """Trains for 4,096 images at once, and in two halves."""
    settings = (*settings, "train.duration=4096", "data.limit=4096", "train.snapshot_every=100%")
    run = resolve("introvae", data="toyfaces", res=(32, 32), settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        whole, halves = (Trainer(run, out=Path(folder) / name, progress=False) for name in ("whole", "halves"))
        whole.fit()
        stop_half_way(halves)
        Trainer(run, out=halves.folder.path, progress=False).fit()
        first, second = (
            load_file(trainer.folder.path / "model" / "diffusion_pytorch_model.safetensors")
            for trainer in (whole, halves)
        )
    return all(torch.equal(first[key], second[key]) for key in first)


def mixture(device: str) -> dict[str, Any]:
    """Fits a mixture to encodings that lie around a hundred centers."""
    rng = generator(0, "made-up encodings")
    centers, which = torch.randn(100, 128, generator=rng), torch.randint(100, (50_000,), generator=rng)
    encodings = centers[which] + 0.5 * torch.randn(50_000, 128, generator=rng)
    began = time.perf_counter()
    found = fit_mixture(encodings, device=device)
    return {"seconds": round(time.perf_counter() - began, 1), "prior": found.name, "heldout": found.record.heldout}


def stop_half_way(trainer: Trainer) -> None:
    """Trains, and stops as Ctrl-C does."""
    step, half = trainer.train_step, trainer.total_steps // 2

    def train_step(parts: Any, at: Progress) -> Any:
        if at.step == half:
            signal.raise_signal(signal.SIGINT)
        return step(parts, at)

    trainer.train_step = train_step
    with suppress(KeyboardInterrupt):
        trainer.fit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="", help="run only cells whose name contains this (default: all)")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device on this machine")
    common = {"device": torch.cuda.get_device_name(), "versions": versions()}
    if args.cells in "resume":
        by_recipe = recipe("introvae", 64, ("objective.warmup=25%", BF16))[-1]
        graphs = (*by_recipe, GRAPHS[1])
        for name, settings in (("preset", ("objective.warmup=1k",)), ("recipe", by_recipe), ("graphs", graphs)):
            record({"cell": f"resume {name}", "bit_identical": resumes_bit_identical(settings), **common})
    for device in ("cpu", "cuda"):
        if args.cells in (name := f"mixture, {device}"):
            record({"cell": name, **mixture(device), **common})
    for name, model, size, settings in cells():
        if args.cells not in name:
            continue
        try:
            measured = step(model, size, settings)
        except RuntimeError as error:
            measured = {"settings": settings, "error": str(error).splitlines()[0]}
        record({"cell": name, **measured, **common})


def record(row: dict[str, Any]) -> None:
    print({key: value for key, value in row.items() if key != "versions"}, flush=True)
    RESULTS.append(row)


if __name__ == "__main__":
    main()
