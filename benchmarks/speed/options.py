"""What each option of the introspective models costs: a training step with it beside the plain one, in turns.

    python benchmarks/speed/options.py                          # appends to options.jsonl; 8 minutes on one core
    python benchmarks/speed/options.py --only "recipe, introvae" --rounds 5
    python benchmarks/speed/options.py --table                  # the table of the newest results, as Markdown

Protocol: networks of the recipe (genzoo/recipes.py, 30 minutes, 32x32) and of softintrovae.cifar10, on random images,
fp32 on one thread, in processor time. A step is `Trainer.train_step` after the warm-up, with all that it does (noise,
gradient norms, optimizers, weight average). After two steps each, plain and options take turns, one step at a time; a
ratio compares two steps of one round, and the table has medians over rounds, with quartiles. Penalties (r1, r2) are in
every timed step, and in one of 16 in training: the others are plain steps, so their mean is (15 + ratio) / 16. A step
of encoder_steps=2 takes twice the real images: its cost per image is half of its ratio.

A new option is one line of OPTIONS.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
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
PLAIN = "plain"


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
    "recipe, introvae": Networks("introvae.toyfaces32", batch=32, rounds=21),
    "recipe, softintrovae": Networks("softintrovae.toyfaces32", batch=32, rounds=21),
    "softintrovae.cifar10": Networks("softintrovae.cifar10", batch=16, rounds=9, recipe=False),
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


def measure(name: str, rounds: int | None) -> list[dict[str, Any]]:
    """One row for the plain step and for each option of a model."""
    networks = NETWORKS[name]
    options = {option: o for option, o in OPTIONS.items() if networks.model in o.models}
    settings = {PLAIN: ""} | {option: o.settings for option, o in options.items()}
    with tempfile.TemporaryDirectory() as folder:
        steps = {option: make(networks, text, Path(folder, option)) for option, text in settings.items()}
        for step in tqdm(steps.values(), desc=f"{name}: warming up", leave=False):
            for _ in range(WARM):
                step()
        times: dict[str, list[float]] = {option: [] for option in steps}
        for _ in trange(rounds or networks.rounds, desc=name, leave=False):
            for option, step in steps.items():
                times[option].append(seconds(step))
    about = {
        "networks": name, "batch": networks.batch, "rounds": len(times[PLAIN]), "threads": torch.get_num_threads(),
        "commit": commit(), "versions": versions(), "device": device_name(torch.device("cpu")),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
    return [row(option, options.get(option, Option("")), times[PLAIN], times[option]) | about for option in steps]


def row(name: str, option: Option, plain: list[float], own: list[float]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(own, plain, strict=True)]
    first, _, third = quantiles(ratios, n=4)
    return {
        "option": name,
        "settings": option.settings,
        "step_ms": round(1000 * median(own), 1),
        "ratio": median(ratios),
        "quartiles": [first, third],
        "cost": option.cost(median(ratios)),
        "most": option.most,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, of the newest row of each option; costs above their bound are bold."""
    lines = ["| networks | option | step, ms | times the plain step (quartiles) | cost per real image | wanted |"]
    lines.append(f"|{'---|' * 6}")
    for row in {(row["networks"], row["option"]): row for row in rows}.values():
        low, high = row["quartiles"]
        cost, most = f"{row['cost']:.3f}", row["most"]
        missed = most is not None and row["cost"] > most
        lines.append(
            f"| {row['networks']}, batch {row['batch']} | {row['option']} | {row['step_ms']:.0f} "
            f"| {row['ratio']:.3f} ({low:.3f} to {high:.3f}) | {f'**{cost}**' if missed else cost} "
            f"| {'' if most is None else f'at most {most:.2f}'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NETWORKS, action="append", help="some networks; may be repeated")
    parser.add_argument("--rounds", type=int, help="turns of every step (default: the networks')")
    parser.add_argument("--table", action="store_true", help="print the table of the newest results; measure nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if args.table else args.only or NETWORKS:
        RESULTS.append(*measure(name, args.rounds))
    print(table(RESULTS.read()))


if __name__ == "__main__":
    main()
