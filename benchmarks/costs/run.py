"""Seconds per image of every row of a suite over its first row's: `per_image` of suites that compare at equal time.

    python benchmarks/costs/run.py recipe                        # results.jsonl gains one line per row and dataset
    python benchmarks/costs/run.py losses --data cifar10=FOLDER
    python benchmarks/costs/run.py ablation-family --only toyfaces-32

Protocol: one trainer per row, on one thread; they take turns, a step before the warm-up ends and one after it at a
time, so that a machine that becomes slower meanwhile is slower for all. Medians over the rounds, weighted by the share
of the warm-up, and the flow's steps at the end. Snapshots are not counted: every row takes as many. Where the same
configuration was measured twice (`toyfaces-32` and `toyfaces-32-75k` of losses), ratios differed by up to 9 %.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from genzoo import Trainer
from genzoo.bench.suites import Cell, get_suite
from genzoo.duration import in_images, in_seconds
from genzoo.files import JsonLines
from genzoo.provenance import versions
from genzoo.registry import get_spec
from genzoo.training.costs import time_flow, time_snapshot
from genzoo.training.fitting import flow_steps
from genzoo.training.timing import Steps

RESULTS = JsonLines(Path(__file__).with_name("results.jsonl"))
ROUNDS = 40


def seconds_per_image(trainer: Trainer, steps: Steps) -> dict[str, float]:
    """What a run of this trainer takes for one image, in milliseconds; and of which steps."""
    c, times, total = trainer.config.train, steps.times(), trainer.total_steps
    warmup = get_spec(trainer.config.model.partition(".")[0]).warmup(trainer.config.objective)
    share = in_images(warmup, batch=trainer.per_step, epoch=trainer.dataset.size, total=trainer.total_nimg)
    share /= trainer.total_nimg
    time_snapshot(trainer, in_seconds("3min"), time.perf_counter)  # a flow refines what a snapshot has fitted
    flow = time_flow(trainer, time.perf_counter) * flow_steps(c.prior, total) / total
    step = share * times.warmup + (1 - share) * times.late + flow
    ms = {"warmup_ms": times.warmup, "late_ms": times.late, "flow_ms": flow, "image_ms": step / trainer.per_step}
    return {name: 1000 * seconds for name, seconds in ms.items()}


def compare(cells: list[Cell], rounds: int) -> list[dict[str, Any]]:
    """Times the rows of one dataset side by side."""
    with tempfile.TemporaryDirectory() as folder:
        trainers = [Trainer(cell.config(), Path(folder) / cell.name, progress=False) for cell in cells]
        timed = [Steps(trainer, time.perf_counter) for trainer in trainers]
        for _ in tqdm(range(rounds), cells[0].data):
            for steps in timed:
                steps.round()
        found = [seconds_per_image(*pair) for pair in zip(trainers, timed, strict=True)]
    first = found[0]["image_ms"]
    return [
        {"suite": cell.suite, "data": cell.data, "label": cell.label, "per_image": one["image_ms"] / first, **one}
        for cell, one in zip(cells, found, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="whose rows: recipe, losses")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DATA", help="where a dataset is")
    parser.add_argument("--only", metavar="NAME", help="one dataset of the suite, by its name there")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of steps (default {ROUNDS})")
    args = parser.parse_args()
    name, suite = get_suite(args.suite)
    by_data = defaultdict[str, list[Cell]](list)
    for cell in suite.cells(name, seeds=suite.seeds[:1], paths=dict(text.split("=", 1) for text in args.data)):
        if args.only in (None, cell.data):
            by_data[cell.data].append(cell)
    torch.set_num_threads(1)
    for cells in by_data.values():
        for row in compare(cells, args.rounds):
            print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
            RESULTS.append({**row, "rounds": args.rounds, "versions": versions()})


if __name__ == "__main__":
    main()
