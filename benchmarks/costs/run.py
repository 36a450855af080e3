"""Seconds per image of every row of a suite over its first row's: `per_image` of suites that compare at equal time.

    python benchmarks/costs/run.py recipe                        # results.jsonl gains one line per row and dataset
    python benchmarks/costs/run.py losses --data cifar10=FOLDER
    python benchmarks/costs/run.py ablation-family --only toyfaces-32

Protocol: one trainer per row, on one thread; they take turns, a step before the warm-up ends and one after it at a
time, so that a machine that becomes slower meanwhile is slower for all. Processor time, weighted by the share of the
warm-up, with the flow's steps at the end, which cost every row that has a flow the same; `per_image` is the median over
the rounds of the ratio to the first row. Snapshots are not counted: every row takes as many. Lines with `image_ms` are
older: elapsed time, ratios of medians; where the same configuration was measured twice (`toyfaces-32` and
`toyfaces-32-75k` of losses), they differed by up to 9 %.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
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


def flow_share(trainer: Trainer) -> float:
    """Steps of the flow for one step of a run."""
    return flow_steps(trainer.config.train.prior, trainer.total_steps) / trainer.total_steps


def flow_seconds(trainer: Trainer) -> float:
    """Of one step of the flow, which refines what a snapshot has fitted; 0 where there is none."""
    if not flow_share(trainer):
        return 0.0
    time_snapshot(trainer, in_seconds("3min"), time.process_time)
    return time_flow(trainer, time.process_time)


def warmup_share(trainer: Trainer) -> float:
    """Of the run's steps."""
    warmup = get_spec(trainer.config.model.partition(".")[0]).warmup(trainer.config.objective)
    share = in_images(warmup, batch=trainer.per_step, epoch=trainer.dataset.size, total=trainer.total_nimg)
    return share / trainer.total_nimg


def compare(cells: list[Cell], rounds: int) -> list[dict[str, Any]]:
    """Times the rows of one dataset side by side."""
    with tempfile.TemporaryDirectory() as folder:
        trainers = [Trainer(cell.config(), Path(folder) / cell.name, progress=False) for cell in cells]
        timed = [Steps(trainer, time.process_time) for trainer in trainers]
        shares, flow = [warmup_share(trainer) for trainer in trainers], max(map(flow_seconds, trainers[:2]))
        ratios: list[list[float]] = [[] for _ in cells]
        for _ in tqdm(range(rounds), cells[0].data):
            seconds = []
            for trainer, steps, share in zip(trainers, timed, shares, strict=True):
                steps.round()
                times = steps.times(last=1)
                step = share * times.warmup + (1 - share) * times.late + flow * flow_share(trainer)
                seconds.append(step / trainer.per_step)
            for own, one in zip(ratios, seconds, strict=True):
                own.append(one / seconds[0])
        all_times = [steps.times() for steps in timed]
    return [
        {
            "suite": cell.suite,
            "data": cell.data,
            "label": cell.label,
            "per_image": median(ratio),
            "warmup_ms": 1000 * times.warmup,
            "late_ms": 1000 * times.late,
            "flow_ms": 1000 * flow * flow_share(trainer),
        }
        for cell, ratio, times, trainer in zip(cells, ratios, all_times, trainers, strict=True)
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
