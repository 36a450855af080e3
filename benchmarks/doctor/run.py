"""Does the monitor name the problem? Fault injection in small runs, healthy runs, and recovery from broken steps.

    python benchmarks/doctor/run.py            # runs the cells that results.jsonl lacks, and adds them
    python benchmarks/doctor/run.py PART       # only those whose name, model or data contains PART
    python benchmarks/doctor/run.py --table    # prints the tables of what results.jsonl holds

The protocol is in README.md beside this file. One process, one thread.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genzoo import Trainer, resolve
from genzoo.data import FiniteSet, open_dataset
from genzoo.data.sets import ArraySet
from genzoo.errors import RunStopped
from genzoo.files import JsonLines
from genzoo.items import Items
from genzoo.objective import Progress
from genzoo.provenance import versions
from genzoo.runs.scores import PREFIX
from genzoo.spec import DataConfig
from genzoo.training.monitor import diagnose

RESULTS = JsonLines(Path(__file__).with_name("results.jsonl"))
INTRO, SOFT, VAE = "introvae", "softintrovae", "vae"

DIGITS = [
    "data.size=8x8",
    "arch.channels=16",
    "arch.z_dim=8",
    "train.batch=32",
    "train.lr=1e-3",
    "train.ema=0.99",
    "train.duration=350it",
]
FACES = [
    "arch.channels=8,16,32",
    "arch.z_dim=16",
    "train.batch=16",
    "train.lr=1e-3",
    "train.ema=0.99",
    "train.duration=300it",
]
POINTS = ["train.batch=128", "arch.hidden=64,64,64", "train.lr=1e-3", "train.lr_drops=", "train.duration=500it"]
BOTH = ["train.snapshot_every=10%", "train.log_every=10"]
WEIGHTS = {
    (VAE, "digits"): ["objective.beta=0.2", "objective.beta_rec=1"],
    (INTRO, "digits"): ["objective.margin=30", "objective.beta=10", "objective.warmup=100it"],
    (SOFT, "digits"): [
        "objective.beta_kl=0.2",
        "objective.beta_rec=1",
        "objective.beta_neg=8",
        "objective.warmup=100it",
    ],
    (VAE, "toyfaces"): [],
    (INTRO, "toyfaces"): ["objective.warmup=100it"],
    (SOFT, "toyfaces"): ["objective.warmup=100it"],
}


def settings(model: str, data: str) -> list[str]:
    own = {"digits": DIGITS, "toyfaces": FACES}.get(data, POINTS)
    return [*own, *BOTH, *WEIGHTS.get((model, data), [] if model == VAE else ["objective.warmup=100it"])]


@dataclass(frozen=True)
class Fault:
    """What is broken on purpose."""

    of_images: Callable[[np.ndarray], np.ndarray] | None = None  # changes all training images, floats in [0, 1]
    of_trainer: Callable[[Trainer], None] | None = None  # changes a trainer before its first step


def changed(config: DataConfig, change: Callable[[np.ndarray], np.ndarray]) -> ArraySet:
    """The images of a run, changed, as a user of the Python interface may pass them."""
    dataset = open_dataset(config, progress=False)
    assert isinstance(dataset, FiniteSet)
    images = dataset.batch(range(dataset.size)).numpy().astype(np.float32) / 255
    return ArraySet("changed", "changed", np.moveaxis(change(images), 1, -1))


def nan_items(images: np.ndarray) -> np.ndarray:
    images[[7, 500, 1200]] = np.nan
    return images


def stuck_batchnorm(trainer: Trainer) -> None:
    """BatchNorm's running averages keep their initial values."""
    for model in filter(None, (trainer.model, trainer.ema and trainer.ema.module)):
        for module in model.modules():
            if hasattr(module, "running_mean"):
                module.momentum = 0.0


def deaf_decoder(trainer: Trainer) -> None:
    """From step 150 on, the decoder gets z = 0."""
    for model in (trainer.model, trainer.ema.module):
        model.decoder.register_forward_pre_hook(lambda _, args: (args[0] * (trainer.step < 150),))


Change = Callable[[Trainer, Sequence[Items]], Sequence[Items]]


def at_step(step: int, change: Change) -> Callable[[Trainer], None]:
    """Changes a step's batches, or the trainer, once."""

    def inject(trainer: Trainer) -> None:
        train_step, pending = trainer.train_step, [change]

        def changed_step(parts: Sequence[Items], at: Progress) -> Any:
            if at.step == step and pending:
                parts = pending.pop()(trainer, parts)
            return train_step(parts, at)

        trainer.train_step = changed_step

    return inject


def nan_batch(trainer: Trainer, parts: Sequence[Items]) -> Sequence[Items]:
    return [Items(torch.full(items.x.shape, math.nan)) for items in parts]


@torch.no_grad()
def blow_up(trainer: Trainer, parts: Sequence[Items]) -> Sequence[Items]:
    for p in trainer.model.decoder.parameters():
        p.mul_(100)
    return parts


NO_FAULT = Fault()
CELLS: list[tuple[str | None, str, str, list[str], Fault]] = [
    ("margin too small", INTRO, "digits", ["objective.margin=1"], NO_FAULT),
    ("margin too small", INTRO, "8gaussians", ["objective.margin=0.2"], NO_FAULT),
    ("margin too small", INTRO, "rings", ["objective.margin=0.2"], NO_FAULT),
    ("margin too large", INTRO, "digits", ["objective.margin=3000"], NO_FAULT),
    ("margin too large", INTRO, "rings", ["objective.margin=1000"], NO_FAULT),
    ("beta_neg too small", SOFT, "digits", ["objective.beta_neg=0.2"], NO_FAULT),
    ("beta_neg too small", SOFT, "rings", ["objective.beta_neg=0.02"], NO_FAULT),
    ("beta_neg too large", SOFT, "digits", ["objective.beta_neg=1000"], NO_FAULT),
    ("beta_neg too large", SOFT, "rings", ["objective.beta_neg=50"], NO_FAULT),
    ("learning rate too high", INTRO, "digits", ["train.lr=3e-2"], NO_FAULT),
    ("learning rate too high", SOFT, "digits", ["train.lr=3e-2"], NO_FAULT),
    ("learning rate too high", VAE, "digits", ["train.lr=3e-2"], NO_FAULT),
    ("learning rate too high", INTRO, "rings", ["train.lr=3e-2"], NO_FAULT),
    ("learning rate too high", SOFT, "rings", ["train.lr=3e-2"], NO_FAULT),
    ("posterior collapse", VAE, "digits", ["objective.beta=50"], NO_FAULT),
    # in the warm-up, which is a plain VAE
    ("posterior collapse", INTRO, "digits", ["objective.beta=0.001", "objective.warmup=250it"], NO_FAULT),
    ("posterior collapse", SOFT, "digits", ["objective.beta_kl=20"], NO_FAULT),
    ("encoder runs away", INTRO, "digits", ["objective.beta=0.001"], NO_FAULT),
    ("decoder collapse", INTRO, "digits", [], Fault(of_trainer=deaf_decoder)),
    ("decoder collapse", SOFT, "digits", [], Fault(of_trainer=deaf_decoder)),
    ("BatchNorm mismatch", INTRO, "digits", [], Fault(of_trainer=stuck_batchnorm)),
    ("BatchNorm mismatch", SOFT, "digits", [], Fault(of_trainer=stuck_batchnorm)),
    ("overfit", INTRO, "digits", ["data.limit=16"], NO_FAULT),
    ("overfit", SOFT, "digits", ["data.limit=16"], NO_FAULT),
    ("non-finite data", INTRO, "digits", [], Fault(nan_items)),
    ("non-finite data", SOFT, "digits", [], Fault(nan_items)),
    ("constant data", INTRO, "digits", [], Fault(lambda x: np.broadcast_to(x[:1], x.shape).copy())),
    ("constant data", SOFT, "digits", [], Fault(lambda x: x * 0 + 0.5)),
    ("wrong value range", INTRO, "digits", [], Fault(lambda x: x * 255)),
    ("wrong value range", SOFT, "digits", [], Fault(lambda x: x * 2 - 1)),
    *[
        (None, model, data, [], NO_FAULT)
        for data in ("8gaussians", "rings", "digits", "toyfaces")
        for model in (VAE, INTRO, SOFT)
    ],
]
RECOVERY = {
    "undisturbed": NO_FAULT,
    "NaN batch at step 170": Fault(of_trainer=at_step(170, nan_batch)),
    "weights x 100 at step 250": Fault(of_trainer=at_step(250, blow_up)),
}


def run(name: str, model: str, data: str, own: list[str], fault: Fault) -> dict[str, Any]:
    """Trains one cell; returns what the monitor reported, and how the run ended."""
    began, config = time.monotonic(), resolve(model, data=data, settings=[*settings(model, data), *own])
    dataset = changed(config.data, fault.of_images) if fault.of_images else None
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, out=folder, progress=False, dataset=dataset)
        if fault.of_trainer:
            fault.of_trainer(trainer)
        try:
            trainer.fit()
            stopped = None
        except RunStopped as error:
            stopped = str(error)
        findings, step = diagnose(Path(folder))
        last = {key: value for line in trainer.folder.log.read() for key, value in line.items()}
    return {
        "cell": name,
        "model": model,
        "data": data,
        "settings": own,
        "findings": [[f.began, f.ended, f.problem, f.text] for f in findings],
        "stopped": stopped,
        "steps": step,
        "last": {key: value for key, value in last.items() if key.startswith(("score/", "vitals/", "kl/", "error/"))},
        "seconds": round(time.monotonic() - began, 1),
        "versions": versions(),
    }


def score_of(last: dict[str, float]) -> float:
    """The run's own score; rows of other versions of genzoo may have another one."""
    return next((value for name, value in last.items() if name.startswith(PREFIX)), math.nan)


def tables(rows: list[dict[str, Any]]) -> str:
    """Markdown: what was reported first in each cell, hits and false alarms in total, and the scores of broken runs."""
    judged = [row for row in rows if "right" in row]
    lines = ["| problem | model, data | reported first | at step | reported later |", "|---|---|---|---|---|"]
    for row in judged:
        first, *others = [*row["findings"], [None, None, "nothing", ""]] if not row["findings"] else row["findings"]
        name = f"**{first[2]}**" if not row["right"] else first[2]
        then = ", ".join(dict.fromkeys(f[2] for f in others if f[2] != first[2])) or "-"
        step = "-" if first[0] is None else first[0]
        lines.append(f"| {row['cell']} | {row['model']}, {row['data']} | {name} | {step} | {then} |")
    faulty, healthy = ([row for row in judged if (row["expected"] is None) == fine] for fine in (False, True))
    hits, alarms = sum(row["right"] for row in faulty), sum(not row["right"] for row in healthy)
    lines += [
        "",
        f"Named first: {hits} of {len(faulty)} problems. False alarms: {alarms} in {len(healthy)} healthy runs.",
    ]
    lines += ["", "| recovery | score of seeds 0, 1, 2 | mean, standard deviation |", "|---|---|---|"]
    scores: dict[str, list[float]] = {}
    for row in rows:
        if "right" not in row:
            scores.setdefault(row["cell"].removeprefix("recovery: "), []).append(score_of(row["last"]))
    for name, values in scores.items():
        spread = f", {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        lines.append(
            f"| {name} | {', '.join(f'{value:.4f}' for value in values)} | {statistics.mean(values):.4f}{spread} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="", metavar="PART", help="in the name, model or data of the cells")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    if args.table:
        print(tables(RESULTS.read()))
        return
    torch.set_num_threads(1)
    jobs = [(problem or "healthy", problem, model, data, own, fault, 0) for problem, model, data, own, fault in CELLS]
    jobs += [
        (f"recovery: {name}", None, INTRO, "digits", [], fault, seed)
        for name, fault in RECOVERY.items()
        for seed in range(3)
    ]
    done = {(row["cell"], row["model"], row["data"], row["seed"]) for row in RESULTS.read()}
    for name, problem, model, data, own, fault, seed in jobs:
        if args.part not in f"{name} {model} {data}" or (name, model, data, seed) in done:
            continue
        row = run(name, model, data, [*own, f"train.seed={seed}"], fault) | {"seed": seed}
        reported = [finding[2] for finding in row["findings"]]
        if not name.startswith("recovery"):
            row |= {"expected": problem, "right": (reported or [None])[0] == problem}
        RESULTS.append(row)
        score = score_of(row["last"])
        ending = row["stopped"] or "finished"
        print(f"{name}, {model} on {data}, seed {seed}: {reported}, score {score:.4f}, {ending}", flush=True)


if __name__ == "__main__":
    main()
