"""Does training work on this GPU, how fast is it, and does a resumed run end with the same bits? Not run yet.

    python benchmarks/gpu/run.py            # results.jsonl gains one line per cell

Protocol: each of CELLS in each of FORMS, on the embedded toyfaces. Images/s are those between the log line at a tenth
of the run and the last one; there is no warm-up (objective.warmup=0). Peak memory is that of PyTorch's allocator. A
form that fails is recorded with its error. The last cell trains introvae.toyfaces32 once without a stop and once
stopped half-way and resumed, and compares the weights.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from genzoo import Trainer, resolve
from genzoo.files import JsonLines
from genzoo.provenance import versions

CELLS = [
    ("softintrovae", 32, "64k"),
    ("softintrovae", 128, "6400"),
    ("introvae", 128, "12800"),
    ("introvae", 256, "6400"),
]
FORMS = {
    "fp32": (),
    "tf32": ("train.precision=tf32",),
    "bf16": ("train.precision=bf16",),
    "bf16, compiled": ("train.precision=bf16", "train.compile=true"),
    "bf16, compiled, data outside the GPU": ("train.precision=bf16", "train.compile=true", "train.workers=0"),
}
RESULTS = JsonLines(Path(__file__).with_name("results.jsonl"))


def speed(model: str, side: int, images: str, form: tuple[str, ...]) -> dict[str, Any]:
    """Trains one cell and reads its log."""
    settings = [
        f"train.duration={images}",
        *form,
        "objective.warmup=0",
        "data.limit=4096",
        "train.snapshot_every=100%",
    ]
    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        run = Trainer(resolve(model, res=(side, side), settings=settings), out=folder).fit()
        lines = [line for line in JsonLines(run / "log.jsonl").read() if "loss/encoder" in line]
    first, last = lines[len(lines) // 10], lines[-1]
    rate = (last["nimg"] - first["nimg"]) / (last["seconds"] - first["seconds"])
    return {
        "images_per_s": round(rate, 1),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "sse": last["error/sse"],
    }


def resumes_bit_identical() -> bool:
    """Trains for 2,000 images at once, and in two halves."""
    with tempfile.TemporaryDirectory() as folder:
        weights = []
        for name, durations in (("at once", ("2k",)), ("halves", ("1k", "2k"))):
            for duration in durations:
                settings = [
                    f"train.duration={duration}",
                    "objective.warmup=500",
                    "data.limit=4096",
                    "train.snapshot_every=100%",
                ]
                run = Trainer(resolve("introvae", settings=settings), out=Path(folder) / name).fit()
            weights.append(load_file(run / "model" / "diffusion_pytorch_model.safetensors"))
    return all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device on this machine")
    common = {"device": torch.cuda.get_device_name(), "versions": versions()}
    for model, side, images in CELLS:
        for form, settings in FORMS.items():
            try:
                measured = speed(model, side, images, settings)
            except RuntimeError as error:
                measured = {"error": str(error).splitlines()[0]}
            record({"model": model, "res": side, "images": images, "form": form, **measured, **common})
    record({"resumes_bit_identical": resumes_bit_identical(), **common})


def record(row: dict[str, Any]) -> None:
    print(row, flush=True)
    RESULTS.append(row)


if __name__ == "__main__":
    main()
