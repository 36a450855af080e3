"""How long muon takes beside the rest of a step, and what orthogonalizing in fp32 on Gram matrices gains.

    python benchmarks/speed/muon.py             # appends to muon.jsonl; a minute on one core

For the two networks of the quick start (toy faces, 32 pixels, `--budget 3min`): `step` is a warm-up step without its
optimizers (fp32, forward and backward, batch 32); `adam` is torch's fused Adam; `timm bf16` is timm's muon as it is,
`timm fp32` the same with fp32 in its iteration; `genzoo` is `genzoo.training.muon`. Muon takes three Newton-Schulz
iterations in all forms. The forms take turns, on one thread; medians of ROUNDS. `capability` is the instruction set
that torch found; `share` is a form's time over the step's.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import timm.optim.muon as timm_muon
import torch
from timm.optim import create_optimizer_v2

from genzoo import resolve
from genzoo.factory import build
from genzoo.files import JsonLines
from genzoo.provenance import device_name, versions
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.spec import TrainConfig
from genzoo.training.optim import MUON_ADAMW, MUON_MOMENTUM, NEWTON_SCHULZ, make_optimizer

ROUNDS, BATCH, SHAPE, LR = 15, 32, (3, 32, 32), 1e-2
RESULTS = JsonLines(Path(__file__).with_suffix(".jsonl"))
ZEROPOWER = timm_muon.zeropower_via_newtonschulz


def main() -> None:
    torch.set_num_threads(1)
    lines = recipe_lines(get_spec("introvae"), SHAPE, accelerated=False, budget_s=180)
    model = build(resolve("introvae.toyfaces32", settings=texts(lines)), SHAPE)
    model.to(memory_format=torch.channels_last).train()
    params = list(model.parameters())
    images = torch.rand(BATCH, *SHAPE).to(memory_format=torch.channels_last)

    def step() -> None:
        model.decode(model.encode(images).latent_dist.mean).sample.square().sum().backward()

    def timms(dtype: torch.dtype) -> Callable[[], None]:
        optimizer = create_optimizer_v2(
            params, "muon", lr=LR, momentum=MUON_MOMENTUM, fallback_lr_scale=MUON_ADAMW, ns_steps=NEWTON_SCHULZ
        )

        def run() -> None:
            timm_muon.zeropower_via_newtonschulz = partial(ZEROPOWER, dtype=dtype)
            optimizer.step()

        return run

    forms = {
        "step": step,
        "adam": make_optimizer(params, 1e-6, TrainConfig(optimizer="adam")).step,
        "timm bf16": timms(torch.bfloat16),
        "timm fp32": timms(torch.float32),
        "genzoo": make_optimizer(params, LR, TrainConfig(optimizer="muon")).step,
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for round_ in range(ROUNDS + 2):  # the first two load code
        for name, form in forms.items():
            began = time.perf_counter()
            form()
            if round_ > 1:
                seconds[name].append(time.perf_counter() - began)
    row = {
        "ms": {name: round(1000 * median(values), 2) for name, values in seconds.items()},
        "share": {name: round(median(values) / median(seconds["step"]), 3) for name, values in seconds.items()},
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": device_name(torch.device("cpu")),
        "versions": versions(),
    }
    RESULTS.append(row)
    print(row)


if __name__ == "__main__":
    main()
