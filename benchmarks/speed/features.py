"""How fast features of images are extracted, and whether the distances stay the same.

    python benchmarks/speed/features.py             # speed; 10 minutes on one core, most of them two compilations
    python benchmarks/speed/features.py --script    # forms of a TorchScript network; 1 minute
    python benchmarks/speed/features.py --agree FOLDER    # agreement, on CIFAR-10; 3 minutes, needs the classifier

Speed: an Inception v3 with random weights (torchvision's, without its head) stands in for the one of FID: same size,
same input (batches of 8 at 299x299, float32 in [0, 1]), one process, one thread. The reference is fp32 eager in torch's
default layout; `genzoo` is what `Extractor` does. The forms take turns (A B C A B C ...) and are timed in processor
time. So are matrix products of 1024x1024: `share` is a form's FLOP/s over theirs in fp32, so that 1 / share of the
reference is about the most that fp32 can gain.

TorchScript: the same network, scripted and in channels_last as clean-fid's Inception is run, after `WARM` calls of each
form (TorchScript optimizes at the second). `same_on_every_call`: whether the first and the last call gave the same
bits.

Agreement: Fréchet distances on `classifier:cifar10` features of 10,000 images each: training split to test split, and
the test split to itself blurred (3x3 box) and to uniform noise. In each column both sides are computed in that form.
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.utils.flop_counter import FlopCounterMode

from genzoo.data import open_dataset
from genzoo.evaluation.extractors import Extractor, get_extractor
from genzoo.evaluation.features import extract
from genzoo.files import JsonLines
from genzoo.metrics.frechet import frechet_distance, statistics
from genzoo.noise import generator
from genzoo.provenance import commit, device_name, versions
from genzoo.spec import DataConfig

BATCH, ROUNDS, WARM, N = 8, 7, 3, 10_000
RESULTS = JsonLines(Path(__file__).with_suffix(".jsonl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agree", metavar="FOLDER", help="images of CIFAR-10: compare distances instead of speeds")
    parser.add_argument("--script", action="store_true", help="forms of a TorchScript network")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = agreement(args.agree) if args.agree else scripted() if args.script else speed()
    about = {"commit": commit(), "versions": versions(), "device": device_name(torch.device("cpu"))}
    about["amx"] = torch.cpu._is_amx_tile_supported()
    others = [row for row in RESULTS.read() if row["kind"] != rows[0]["kind"]]
    RESULTS.replace([*others, *(row | about for row in rows)])
    names = list(rows[0])[1:]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        shown = [f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in names]
        print(f"| {' | '.join(shown)} |")


def inception() -> nn.Module:
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    net = inception_v3(weights=None, transform_input=False, init_weights=False, aux_logits=False)
    net.fc = nn.Identity()
    return net.eval().requires_grad_(False)


@torch.no_grad()
def speed() -> list[dict]:
    """One row for each form."""
    x, reference = torch.rand(BATCH, 3, 299, 299), inception()
    last = deepcopy(reference).to(memory_format=torch.channels_last)
    ours = Extractor("stand-in", "0" * 64, (299, 299), 3, "bicubic antialias", 2048, last)
    compiled = torch.compile(last, options={"freezing": True})

    def in_bf16(net: nn.Module) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x.contiguous(memory_format=torch.channels_last))

    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    half = [t.bfloat16() for t in (a, b)]
    forms: dict[str, Callable[[], Tensor]] = {
        "fp32 eager": lambda: reference(x),
        "genzoo, fp32": lambda: ours(x),
        "genzoo, bf16": lambda: ours(x, precision="bf16"),
        "channels_last + compile with freezing, fp32": lambda: compiled(
            x.contiguous(memory_format=torch.channels_last)
        ),
        "channels_last + compile with freezing, bf16": lambda: in_bf16(compiled),
        "GEMM fp32": lambda: a @ b,
        "GEMM bf16": lambda: half[0] @ half[1],
    }
    with FlopCounterMode(display=False) as counter:
        reference(x)
    flops = {name: 2 * 1024**3 if name.startswith("GEMM") else counter.get_total_flops() for name in forms}
    first = {name: timed(form, 1) for name, form in forms.items()}  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, form in forms.items():
            seconds[name].append(timed(form, 20 if name.startswith("GEMM") else 1))
    peak, exact = flops["GEMM fp32"] / median(seconds["GEMM fp32"]), reference(x)
    return [
        {
            "kind": "speed",
            "form": name,
            "images_per_s": None if name.startswith("GEMM") else BATCH / median(own),
            "ratio": None
            if name.startswith("GEMM")
            else median(r / s for r, s in zip(seconds["fp32 eager"], own, strict=True)),
            "ratio_best": None if name.startswith("GEMM") else min(seconds["fp32 eager"]) / min(own),
            "gflops": flops[name] / median(own) / 1e9,
            "share": flops[name] / median(own) / peak,
            "first_call_s": first[name],
            "feature_error": None
            if name.startswith("GEMM")
            else ((forms[name]() - exact).norm() / exact.norm()).item(),
        }
        for name, own in seconds.items()
    ]


@torch.no_grad()
def scripted() -> list[dict]:
    """One row for each form of a TorchScript network."""
    x, exact = torch.rand(BATCH, 3, 299, 299).contiguous(memory_format=torch.channels_last), inception()

    def script() -> torch.jit.ScriptModule:
        return torch.jit.script(inception().to(memory_format=torch.channels_last).requires_grad_(False)).eval()

    usual, frozen, optimised, fused = (
        script(),
        torch.jit.freeze(script()),
        torch.jit.optimize_for_inference(script()),
        torch.jit.freeze(script()),
    )

    def in_onednn() -> Tensor:
        torch.jit.enable_onednn_fusion(True)  # for the whole process, and read when a network is first called
        try:
            return fused(x)[0]
        finally:
            torch.jit.enable_onednn_fusion(False)

    forms: dict[str, Callable[[], Tensor]] = {
        "genzoo, TorchScript": lambda: usual(x)[0],
        "torch.jit.freeze": lambda: frozen(x)[0],
        "torch.jit.optimize_for_inference": lambda: optimised(x)[0],
        "torch.jit.freeze + oneDNN fusion": in_onednn,
    }
    first, *_ = [{name: form() for name, form in forms.items()} for _ in range(WARM)]
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(2 * ROUNDS):
        for name, form in forms.items():
            seconds[name].append(timed(form, 1))
    usually, expected = seconds["genzoo, TorchScript"], exact(x.contiguous())
    return [
        {
            "kind": "torchscript",
            "form": name,
            "images_per_s": BATCH / median(own),
            "ratio": median(r / s for r, s in zip(usually, own, strict=True)),
            "ratio_best": min(usually) / min(own),
            "feature_error": ((forms[name]() - expected).norm() / expected.norm()).item(),
            "same_on_every_call": torch.equal(first[name], forms[name]()),
        }
        for name, own in seconds.items()
    ]


def timed(form: Callable[[], Tensor], times: int) -> float:
    """Processor time of one call, in seconds."""
    began = time.process_time()
    for _ in range(times):
        form()
    return (time.process_time() - began) / times


def agreement(folder: str) -> list[dict]:
    """One row for each distance."""
    extractor = get_extractor("classifier:cifar10")
    config = DataConfig(name=folder, size=(32, 32))
    train, test = (open_dataset(config, split, progress=False).batch(range(N)) for split in ("train", "test"))
    blurred = avg_pool2d(test.float(), 3, 1, 1, count_include_pad=False).round().to(torch.uint8)
    noise = torch.randint(0, 256, test.shape, dtype=torch.uint8, generator=generator(0, "noise"))
    sets = {"train": train, "test": test, "test blurred": blurred, "noise": noise}
    eager = deepcopy(extractor.net).to(memory_format=torch.contiguous_format)

    def plain(images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([eager((part.float() / 255).contiguous()) for part in images.split(100)])

    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "fp32 eager": plain,
        "genzoo, fp32": lambda images: extract(extractor, images.split(100), progress=False).values,
        "genzoo, bf16": lambda images: extract(extractor, images.split(100), precision="bf16", progress=False).values,
    }
    found = {
        form: {name: statistics(features(images), extractor.key) for name, images in sets.items()}
        for form, features in forms.items()
    }
    pairs = [("train", "test"), ("test", "test blurred"), ("test", "noise")]
    return [
        {"kind": "agreement", "distance": f"{a} to {b}"}
        | {form: frechet_distance(of[a], of[b]) for form, of in found.items()}
        for a, b in pairs
    ]


if __name__ == "__main__":
    main()
