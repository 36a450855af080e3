"""What each option of the introspective models costs: a training step with it beside the plain one, in turns.

    python benchmarks/speed/options.py                          # appends to options.jsonl; 10 minutes on one core
    python benchmarks/speed/options.py --only "recipe, introvae" --option diffaug --rounds 30
    python benchmarks/speed/options.py --table                  # the table of the newest results, as Markdown

Protocol: networks of the recipe (genzoo/recipes.py, 30 minutes, 32x32) and of softintrovae.cifar10, on random images,
fp32 on one thread, in processor time. A step is `Trainer.train_step` after the warm-up, with all that it does (noise,
gradient norms, optimizers, weight average). After two steps each, the options take turns, and each step of one follows
a plain step: a ratio compares these two, and the table has medians over such pairs, with their standard error as the
quartiles give it for normal noise, 0.93 (q3 - q1) / sqrt(pairs). FLOPs are FlopCounterMode's, of convolutions and
matrix products; it cannot count derivatives by images. Penalties (r1, r2) are in every timed step, and in one of 16 in
training: the others are plain steps, so their mean is (15 + ratio) / 16. A step of encoder_steps=2 takes twice the real
images: its cost per image is half of its ratio.

A new option is one line of OPTIONS.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm, trange

from genzoo import Trainer, resolve
from genzoo.files import JsonLines
from genzoo.items import Items
from genzoo.models._fields import PENALTY_EVERY
from genzoo.objective import Progress
from genzoo.provenance import commit, device_name, versions
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.training.plan import LATE

RESULTS = JsonLines(Path(__file__).with_suffix(".jsonl"))
SHAPE, WARM, BUDGET_S = (3, 32, 32), 2, 1800
SOFT, BOTH = ("softintrovae",), ("introvae", "softintrovae")


@dataclass(frozen=True)
class Option:
    """What is switched on, and how much it may cost.

    Attributes:
        settings: `section.field=value`, with spaces.
        most: the largest cost that is wanted, in steps without the option; None = no bound.
        models: that have it.
        every: steps from one that has it to the next.
        parts: real batches of a step.
    """

    settings: str
    most: float | None = None
    models: tuple[str, ...] = BOTH
    every: int = 1
    parts: int = 1

    def cost(self, ratio: float) -> float:
        """The mean step per real image, in steps without the option, from the ratio of one that has it."""
        return (self.every - 1 + ratio) / self.every / self.parts


OPTIONS = {
    "diffaug": Option("objective.diffaug=true", most=1.05),
    "r1, every 16": Option("objective.r1=1e-3", most=1.15, every=PENALTY_EVERY),
    "r2, every 16": Option("objective.r2=1e-3", every=PENALTY_EVERY),
    "encoder_steps=2": Option("objective.encoder_steps=2", parts=2),
    "arch.spectral_norm": Option("arch.spectral_norm=true"),
    "arch.prior=mog:10": Option("arch.prior=mog:10", most=1.05),
    "arch.prior=classes": Option("arch.prior=classes data.labels=hair_style"),
    "bootstrap": Option("objective.bootstrap=true", models=SOFT),
    "bootstrap, gamma_r=1": Option("objective.bootstrap=true objective.gamma_r=1", models=SOFT),
    "feature_loss": Option("objective.feature_loss=0.005", models=SOFT),
    "mog:10, prior_samples=100": Option("arch.prior=mog:10 objective.prior_samples=100", models=SOFT),
    "economy": Option("objective.economy=true", most=1 / 1.1, models=SOFT),
}


@dataclass(frozen=True)
class Networks:
    """Which networks are trained, and how often steps are timed."""

    preset: str
    batch: int
    rounds: int
    recipe: bool = True

    @property
    def model(self) -> str:
        return self.preset.partition(".")[0]

    @property
    def settings(self) -> list[str]:
        lines = recipe_lines(get_spec(self.model), SHAPE, accelerated=False, budget_s=BUDGET_S) if self.recipe else []
        own = [f"train.batch={self.batch}", "train.threads=1", "train.device=cpu", "data.limit=64", "data.size=32x32"]
        return [*texts(lines), *own]


NETWORKS = {
    "recipe, introvae": Networks("introvae.toyfaces32", batch=32, rounds=11),
    "recipe, softintrovae": Networks("softintrovae.toyfaces32", batch=32, rounds=11),
    "softintrovae.cifar10": Networks("softintrovae.cifar10", batch=8, rounds=7, recipe=False),
}


def make(networks: Networks, settings: str, folder: Path) -> Callable[[], object]:
    """Returns a function that runs a late step, the last one of 16; all have the same images and first weights."""
    run = resolve(networks.preset, data="toyfaces", settings=[*networks.settings, *settings.split()])
    trainer = Trainer(run, out=folder, progress=False)
    parts = 1 + trainer.objective.fresh
    rng = torch.Generator().manual_seed(0)
    items = [_items(networks.batch, len(trainer.model.classes), rng) for _ in range(parts)]
    total = (LATE + 1) * networks.batch * parts
    at = Progress(LATE, networks.batch, total, epoch_nimg=total, parts=parts)
    return lambda: trainer.train_step(items, at)


def _items(n: int, classes: int, rng: torch.Generator) -> Items:
    pixels = torch.randint(256, (n, *SHAPE), generator=rng, dtype=torch.uint8)
    return Items(pixels, torch.randint(classes, (n,), generator=rng) if classes else None)


def seconds(step: Callable[[], object]) -> float:
    """Processor time of one step."""
    began = time.process_time()
    step()
    return time.process_time() - began


def gflop(step: Callable[[], object], counted: bool) -> float | None:
    """Runs WARM steps; returns the FLOPs of the last one, if they can be counted."""
    for _ in range(WARM - 1):
        step()
    with FlopCounterMode(display=False) if counted else nullcontext() as counter:
        step()
    return counter.get_total_flops() / 1e9 if counter else None


def measure(name: str, only: Sequence[str], rounds: int | None) -> list[dict[str, Any]]:
    """One row for each of some options that a model has."""
    networks = NETWORKS[name]
    options = {option: OPTIONS[option] for option in only if networks.model in OPTIONS[option].models}
    with tempfile.TemporaryDirectory() as folder:
        plain = make(networks, "", Path(folder, "plain"))
        steps = {option: make(networks, o.settings, Path(folder, option)) for option, o in options.items()}
        work = [gflop(plain, counted=True)]
        for option, step in tqdm(steps.items(), desc=f"{name}: warming up", leave=False):
            work.append(gflop(step, counted=options[option].every == 1))
        times: dict[str, list[tuple[float, float]]] = {option: [] for option in steps}
        for _ in trange(rounds or networks.rounds, desc=name, leave=False):
            for option, step in steps.items():
                times[option].append((seconds(plain), seconds(step)))
    about = {
        "networks": name, "batch": networks.batch, "rounds": rounds or networks.rounds,
        "threads": torch.get_num_threads(), "gflop_plain": work[0],
        "commit": commit(), "versions": versions(), "device": device_name(torch.device("cpu")),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
    return [
        row(name, o, times[name]) | {"gflop": own} | about
        for (name, o), own in zip(options.items(), work[1:], strict=True)
    ]


def row(name: str, option: Option, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Sums up pairs of a plain step and one with the option, in seconds."""
    ratios = [own / plain for plain, own in pairs]
    first, _, third = quantiles(ratios, n=4)
    return {
        "option": name,
        "settings": option.settings,
        "plain_ms": round(1000 * median(plain for plain, _ in pairs), 1),
        "ratio": median(ratios),
        "quartiles": [first, third],
        "cost": option.cost(median(ratios)),
        "most": option.most,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, of the newest row of each option; costs above their bound are bold."""
    lines = ["| networks | option | pairs | FLOPs, times the plain step | time, times the plain step | cost | wanted |"]
    lines.append(f"|{'---|' * 7}")
    for row in {(row["networks"], row["option"]): row for row in rows}.values():
        low, high = row["quartiles"]
        wanted = "" if row["most"] is None else f"at most {row['most']:.2f}"
        flops = f"{row['gflop'] / row['gflop_plain']:.3f}" if row["gflop"] else "not counted"
        error = 0.93 * (high - low) / math.sqrt(row["rounds"])
        missed = row["most"] is not None and row["cost"] > row["most"]
        cost = f"**{row['cost']:.3f}**" if missed else f"{row['cost']:.3f}"
        lines.append(
            f"| {row['networks']}, batch {row['batch']} | {row['option']} | {row['rounds']} | {flops} "
            f"| {row['ratio']:.3f} ± {error:.3f} | {cost} | {wanted} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NETWORKS, action="append", help="some networks; may be repeated")
    parser.add_argument("--option", choices=OPTIONS, action="append", help="some options; may be repeated")
    parser.add_argument("--rounds", type=int, help="turns of every step (default: the networks')")
    parser.add_argument("--table", action="store_true", help="print the table of the newest results; measure nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if args.table else args.only or NETWORKS:
        RESULTS.append(*measure(name, args.option or list(OPTIONS), args.rounds))
    print(table(RESULTS.read()))


if __name__ == "__main__":
    main()
