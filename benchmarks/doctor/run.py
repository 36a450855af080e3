"""Does the monitor name the disease? Fault injection on small runs, healthy runs beside them, and recovery from broken steps.

    python benchmarks/doctor/run.py [PART]      # PART: what the names of the cells to run hold; cells that stand in results.jsonl are left out
    python benchmarks/doctor/run.py --table     # the tables of what is there

Protocol, in README.md beside this file. One process, one thread.
"""

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from genzoo import Trainer, resolve
from genzoo.data.base import ArraySet
from genzoo.provenance import versions
from genzoo.training.log import RunStopped
from genzoo.training.monitor import diagnose

RESULTS = Path(__file__).with_name("results.jsonl")
INTRO, SOFT, VAE = "introvae", "softintrovae", "vae"

DIGITS = ["data.size=8x8", "arch.channels=16", "arch.z_dim=8", "train.batch=32", "train.lr=1e-3", "train.ema=0.99", "train.duration=350it"]
FACES = ["arch.channels=8,16,32", "arch.z_dim=16", "train.batch=16", "train.lr=1e-3", "train.ema=0.99", "train.duration=300it"]
POINTS = ["train.batch=128", "arch.hidden=64,64,64", "train.lr=1e-3", "train.lr_drops=", "train.duration=500it"]
BOTH = ["train.snapshot_every=10%", "train.log_every=10"]
WEIGHTS = {
    (VAE, "digits"): ["objective.beta=0.2", "objective.beta_rec=1"],
    (INTRO, "digits"): ["objective.margin=30", "objective.beta=10", "objective.warmup=100it"],
    (SOFT, "digits"): ["objective.beta_kl=0.2", "objective.beta_rec=1", "objective.beta_neg=8", "objective.warmup=100it"],
    (VAE, "toyfaces"): [],
    (INTRO, "toyfaces"): ["objective.warmup=100it"],
    (SOFT, "toyfaces"): ["objective.warmup=100it"],
}


def settings(model: str, data: str) -> list[str]:
    own = {"digits": DIGITS, "toyfaces": FACES}.get(data, POINTS)
    return [*own, *BOTH, *WEIGHTS.get((model, data), [] if model == VAE else ["objective.warmup=100it"])]


def stuck_batchnorm(t: Trainer) -> None:
    """BatchNorm's running averages stay where they began."""
    for model in filter(None, (t.model, t.ema and t.ema.module)):
        for module in model.modules():
            if hasattr(module, "running_mean"):
                module.momentum = 0.0


def deaf_decoder(t: Trainer) -> None:
    """From step 150 on, the decoder gets z = 0."""
    for model in (t.model, t.ema.module):
        model.decoder.register_forward_pre_hook(lambda _, args: (args[0] * (t.step < 150),))


def other_data(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Trainer], None]:
    """Another data set in the place of the run's own, as a user of the Python interface may give one: `change` gets floats in [0, 1]."""

    def inject(t: Trainer) -> None:
        images = t.dataset.batch(range(t.dataset.size)).numpy().astype(np.float32) / 255
        t.dataset = ArraySet("changed", "changed", np.moveaxis(change(images), 1, -1), lambda: None)

    return inject


def nan_items(images: np.ndarray) -> np.ndarray:
    images[[7, 500, 1200]] = np.nan
    return images


def at_step(step: int, change: Callable[[Trainer, torch.Tensor], torch.Tensor]) -> Callable[[Trainer], None]:
    """Once, before a step."""

    def inject(t: Trainer) -> None:
        real_step, left = t.train_step, [1]

        def changed(batch, at):
            if at.step == step and left[0]:
                left[0] = 0
                batch = change(t, batch)
            return real_step(batch, at)

        t.train_step = changed

    return inject


def nan_batch(t: Trainer, batch: torch.Tensor) -> torch.Tensor:
    return torch.full(batch.shape, math.nan)


@torch.no_grad()
def blow_up(t: Trainer, batch: torch.Tensor) -> torch.Tensor:
    for p in t.model.decoder.parameters():
        p.mul_(100)
    return batch


CELLS: list[tuple[str | None, str, str, list[str], Callable[[Trainer], None] | None]] = [
    ("margin too small", INTRO, "digits", ["objective.margin=1"], None),
    ("margin too small", INTRO, "8gaussians", ["objective.margin=0.2"], None),
    ("margin too small", INTRO, "rings", ["objective.margin=0.2"], None),
    ("margin too large", INTRO, "digits", ["objective.margin=3000"], None),
    ("margin too large", INTRO, "rings", ["objective.margin=1000"], None),
    ("beta_neg too small", SOFT, "digits", ["objective.beta_neg=0.2"], None),
    ("beta_neg too small", SOFT, "rings", ["objective.beta_neg=0.02"], None),
    ("beta_neg too large", SOFT, "digits", ["objective.beta_neg=1000"], None),
    ("beta_neg too large", SOFT, "rings", ["objective.beta_neg=50"], None),
    ("learning rate too high", INTRO, "digits", ["train.lr=3e-2"], None),
    ("learning rate too high", SOFT, "digits", ["train.lr=3e-2"], None),
    ("learning rate too high", VAE, "digits", ["train.lr=3e-2"], None),
    ("learning rate too high", INTRO, "rings", ["train.lr=3e-2"], None),
    ("learning rate too high", SOFT, "rings", ["train.lr=3e-2"], None),
    ("posterior collapse", VAE, "digits", ["objective.beta=50"], None),
    ("posterior collapse", INTRO, "digits", ["objective.beta=0.001", "objective.warmup=250it"], None),  # of the warm-up's VAE
    ("posterior collapse", SOFT, "digits", ["objective.beta_kl=20"], None),
    ("encoder runs away", INTRO, "digits", ["objective.beta=0.001"], None),
    ("decoder collapse", INTRO, "digits", [], deaf_decoder),
    ("decoder collapse", SOFT, "digits", [], deaf_decoder),
    ("BatchNorm mismatch", INTRO, "digits", [], stuck_batchnorm),
    ("BatchNorm mismatch", SOFT, "digits", [], stuck_batchnorm),
    ("overfit", INTRO, "digits", ["data.limit=16"], None),
    ("overfit", SOFT, "digits", ["data.limit=16"], None),
    ("non-finite data", INTRO, "digits", [], other_data(nan_items)),
    ("non-finite data", SOFT, "digits", [], other_data(nan_items)),
    ("constant data", INTRO, "digits", [], other_data(lambda x: np.broadcast_to(x[:1], x.shape).copy())),
    ("constant data", SOFT, "digits", [], other_data(lambda x: x * 0 + 0.5)),
    ("wrong value range", INTRO, "digits", [], other_data(lambda x: x * 255)),
    ("wrong value range", SOFT, "digits", [], other_data(lambda x: x * 2 - 1)),
    *[(None, model, data, [], None) for data in ("8gaussians", "rings", "digits", "toyfaces") for model in (VAE, INTRO, SOFT)],
]
RECOVERY = {"undisturbed": None, "NaN batch at step 170": at_step(170, nan_batch), "weights x 100 at step 250": at_step(250, blow_up)}


def run(name: str, model: str, data: str, own: list[str], inject: Callable[[Trainer], None] | None) -> dict:
    """Trains one cell; returns what the monitor said, and how the run ended."""
    began, config = time.monotonic(), resolve(model, data=data, settings=[*settings(model, data), *own])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, out=folder, progress=False)
        if inject:
            inject(trainer)
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
        "findings": [[f.began, f.ended, f.disease, f.text] for f in findings],
        "stopped": stopped,
        "steps": step,
        "last": {key: value for key, value in last.items() if key.startswith(("score/", "vitals/", "kl/", "error/"))},
        "seconds": round(time.monotonic() - began, 1),
        "versions": versions(),
    }


def tables(rows: list[dict]) -> str:
    """Markdown: what was said first in each cell, hits and false alarms in sum, and the scores of disturbed runs."""
    judged = [row for row in rows if "right" in row]
    lines = ["| started | model, data | said first | at step | then |", "|---|---|---|---|---|"]
    for row in judged:
        first, *others = [*row["findings"], [None, None, "nothing", ""]] if not row["findings"] else row["findings"]
        name = f"**{first[2]}**" if not row["right"] else first[2]
        then = ", ".join(dict.fromkeys(f[2] for f in others if f[2] != first[2])) or "-"
        step = "-" if first[0] is None else first[0]
        lines.append(f"| {row['cell']} | {row['model']}, {row['data']} | {name} | {step} | {then} |")
    ill, well = ([row for row in judged if (row["expected"] is None) == healthy] for healthy in (False, True))
    hits, alarms = sum(row["right"] for row in ill), sum(not row["right"] for row in well)
    lines += ["", f"Named first: {hits} of {len(ill)} diseases. False alarms: {alarms} of {len(well)} healthy runs."]
    lines += ["", "| recovery | score of seeds 0, 1, 2 | mean, standard deviation |", "|---|---|---|"]
    scores: dict[str, list[float]] = {}
    for row in rows:
        if "right" not in row:
            scores.setdefault(row["cell"].removeprefix("recovery: "), []).append(row["last"]["score/sliced_wasserstein"])
    for name, values in scores.items():
        spread = f", {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        lines.append(f"| {name} | {', '.join(f'{value:.4f}' for value in values)} | {statistics.mean(values):.4f}{spread} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    if part == "--table":
        return print(tables([json.loads(line) for line in RESULTS.read_text().splitlines()]))
    jobs = [(disease or "healthy", disease, model, data, own, inject, 0) for disease, model, data, own, inject in CELLS]
    jobs += [(f"recovery: {name}", None, INTRO, "digits", [], inject, seed) for name, inject in RECOVERY.items() for seed in range(3)]
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    done = {(row["cell"], row["model"], row["data"], row["seed"]) for row in map(json.loads, lines)}
    for name, disease, model, data, own, inject, seed in jobs:
        if part not in f"{name} {model} {data}" or (name, model, data, seed) in done:
            continue
        row = run(name, model, data, [*own, f"train.seed={seed}"], inject)
        first = row["findings"][0][2] if row["findings"] else None
        row |= {"seed": seed} if name.startswith("recovery") else {"seed": seed, "expected": disease, "right": first == disease}
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        score = row["last"].get("score/sliced_wasserstein", math.nan)
        print(
            f"{name}, {model} on {data}, seed {seed}: {[f[2] for f in row['findings']]}, score {score:.4f}, {row['stopped'] or 'ended'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
