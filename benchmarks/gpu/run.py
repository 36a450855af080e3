"""Does training work on this accelerator, how fast, and does a resumed run end bit-identical? Not yet run: no GPU was at hand.

    python benchmarks/gpu/run.py            # results.jsonl gains one line per cell

Protocol: each preset on drawn faces (`--res`, no other data): images/s between the first and the last log line after
a tenth of the run, plain VAE steps left out (objective.warmup=0); peak memory as PyTorch's allocator counts it; each form of FORMS. A form that
fails is recorded with its error. The last cell trains introvae.toyfaces32 straight through, and again stopped half-way and resumed, and
compares the weights.
"""

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from genzoo import Trainer, resolve
from genzoo.provenance import versions

CELLS = [("softintrovae", 32, "64k"), ("softintrovae", 128, "6400"), ("introvae", 128, "12800"), ("introvae", 256, "6400")]
FORMS = {
    "fp32": (),
    "tf32": ("train.precision=tf32",),
    "bf16": ("train.precision=bf16",),
    "bf16, compiled": ("train.precision=bf16", "train.compile=true"),
    "bf16, compiled, data outside the GPU": ("train.precision=bf16", "train.compile=true", "train.workers=0"),
}
RESULTS = Path(__file__).with_name("results.jsonl")


def speed(model: str, side: int, images: str, form: tuple[str, ...]) -> dict:
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
        lines = [line for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if "loss/encoder" in line]
    first, last = lines[len(lines) // 10], lines[-1]
    rate = (last["nimg"] - first["nimg"]) / (last["seconds"] - first["seconds"])
    return {
        "images_per_s": round(rate, 1),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "sse": last["error/sse"],
    }


def resumes_bit_identical() -> bool:
    """Trains to 2k images at once, and in two halves."""
    with tempfile.TemporaryDirectory() as folder:
        weights = []
        for name, durations in (("whole", ("2k",)), ("halves", ("1k", "2k"))):
            for duration in durations:
                settings = [f"train.duration={duration}", "objective.warmup=500", "data.limit=4096", "train.snapshot_every=100%"]
                run = Trainer(resolve("introvae", settings=settings), out=Path(folder) / name).fit()
            weights.append(load_file(run / "model" / "diffusion_pytorch_model.safetensors"))
    return all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def main() -> None:
    assert torch.cuda.is_available(), "this script is for a CUDA machine"
    common = {"device": torch.cuda.get_device_name(), "versions": versions()}
    with RESULTS.open("a") as file:
        for model, side, images in CELLS:
            for form, chosen in FORMS.items():
                try:
                    measured = speed(model, side, images, chosen)
                except RuntimeError as error:
                    measured = {"error": str(error).splitlines()[0]}
                row = {
                    "model": model,
                    "res": side,
                    "images": images,
                    "form": form,
                    **measured,
                    **common,
                }
                print(row, flush=True)
                file.write(json.dumps(row) + "\n")
        row = {"resumes_bit_identical": resumes_bit_identical(), **common}
        print(row)
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
