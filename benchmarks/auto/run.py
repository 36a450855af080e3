"""Are `margin=auto` and `beta_neg=auto` as good as numbers set by hand, and do they recover from a start ten times off?

    python benchmarks/auto/run.py                               # 8gaussians, rings, digits: what results.jsonl lacks
    python benchmarks/auto/run.py --starts 0.1 10 --seeds 1 2   # auto, from a tenth and ten times its first choice
    python benchmarks/auto/run.py --sets cifar10 emoji --cifar10 FOLDER --emoji FOLDER
    python benchmarks/auto/run.py --table                       # prints the tables of what results.jsonl holds

Protocol: a cell trains one model on one dataset with one seed, once with the preset's number (hand) and once with auto,
all else equal. A fifth of the steps is warm-up for points, a third for images. Networks and batches are small (SETTINGS
below), so that a cell takes half a minute of one core (points, digits) or about one minute (larger images). The laws'
constants were set while looking at seed 0, which is not reported. Cells affected by a later change of the laws were run
again.

Scores are those at the end of the run, of the last weights for points and of the EMA for images; lower is better:
the run's score (2,048 points, or held-out images; `sliced_wasserstein` of images: 256 of them, at most 16x16 pixels)
and, for points, the JSD in nats of 50,000 samples and 50,000 points of the data.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from genzoo import Trainer, load, resolve
from genzoo.data import find_entry, open_dataset
from genzoo.files import JsonLines
from genzoo.metrics.density2d import jsd
from genzoo.noise import generator
from genzoo.provenance import versions
from genzoo.runs.scores import PREFIX
from genzoo.spec import DataConfig

RESULTS = JsonLines(Path(__file__).with_name("results.jsonl"))
POINTS = ("8gaussians", "2spirals", "checkerboard", "rings")
FIELD = {"introvae": "margin", "softintrovae": "beta_neg"}
N_JSD = 50_000
SCORES = ("sliced_wasserstein", "pyramid_frechet", "jsd")
SMALL_MLP = ("arch.hidden=64,64,64", "train.batch=256", "train.lr=1e-3")
SMALL_CONV = ("train.batch=32", "train.lr=1e-3", "train.ema=0.995")
PHOTOS = ("train.batch=16", "train.lr=1e-3", "train.ema=0.995")
SETTINGS = {
    **dict.fromkeys(POINTS, SMALL_MLP),
    "digits": (*SMALL_CONV, "data.size=8x8", "data.channels=1", "arch.channels=16", "arch.z_dim=8"),
    "toyfaces": (*PHOTOS, "data.size=64x64", "data.limit=5000", "arch.channels=8,16,32,64", "arch.z_dim=32"),
    "cifar10": (*PHOTOS, "data.size=32x32", "arch.channels=16,32,64", "arch.z_dim=64"),
    "emoji": (*PHOTOS, "data.size=64x64", "arch.channels=8,16,32,64", "arch.z_dim=64"),
}
# Besides the presets, which is all for points: the quick suite's digits, and toyfaces32's weights scaled to the pixels.
HAND: dict[tuple[str, str], tuple[str, ...]] = {
    ("introvae", "digits"): ("objective.beta=4", "objective.margin=20"),
    ("softintrovae", "digits"): ("objective.beta_neg=8",),
    ("introvae", "toyfaces"): ("objective.beta=5",),
    ("softintrovae", "toyfaces"): ("objective.beta_kl=0.4",),
    ("introvae", "emoji"): ("objective.beta=5",),
    ("softintrovae", "emoji"): ("objective.beta_kl=0.4", "objective.beta_neg=128"),
    ("softintrovae", "cifar10"): ("objective.beta_kl=1", "objective.beta_neg=256"),
}
STEPS = {**dict.fromkeys(POINTS, 1500), "digits": 900, "toyfaces": 800, "cifar10": 800, "emoji": 800}


def train(model: str, data: str, how: str, seed: int, steps: int, path: str) -> dict[str, Any]:
    """Trains one cell; `how` is hand, auto, or auto with a factor on its first choice, as in auto*0.1."""
    points = data in POINTS
    drops = (f"train.lr_drops={steps * 4 // 5}it",) if points else ()
    settings = [
        *SETTINGS[data],
        *HAND.get((model, data), ()),
        *drops,
        f"train.duration={steps}it",
        f"train.seed={seed}",
    ]
    settings += [f"objective.warmup={steps // (5 if points else 3)}it", "train.snapshot_every=50%"]
    if how != "hand":
        settings.append(f"objective.{FIELD[model]}=auto")
    run = resolve(f"{model}.{data}" if points else model, data=path, settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(run, out=folder, progress=False)
        for controller in trainer.controllers.values():
            controller.offset = float(how.partition("*")[2] or 1)
        began = time.process_time()
        done = trainer.fit()
        lines, events = (JsonLines(done / name).read() for name in ("log.jsonl", "events.jsonl"))
        row = {
            "model": model,
            "data": data,
            "how": how,
            "seed": seed,
            "steps": steps,
            "cpu_seconds": round(time.process_time() - began, 1),
        }
        if points:
            entry, density = find_entry(data), open_dataset(DataConfig(name=data))
            real = density.draw(N_JSD, generator(seed, "auto"))
            samples = load(folder).sample(N_JSD, generator=generator(seed, "auto samples"))
            row["jsd"] = jsd(real, samples, entry.extent)
    last = {key: value for line in lines for key, value in line.items() if "/" in key}
    chosen = [line[f"control/{FIELD[model]}"] for line in lines if f"control/{FIELD[model]}" in line]
    number = getattr(run.objective, FIELD[model])
    return row | {
        **{name.removeprefix(PREFIX): value for name, value in last.items() if name.startswith(PREFIX)},
        "value": chosen[-1] if chosen else number,
        "events": [event["text"] for event in events if event["kind"] != "run"],
        **{
            name: last[name]
            for name in ("kl/real", "kl/sample", "error/sse", "hinge/active", "expelbo/sample")
            if name in last
        },
        "settings": settings,
        "versions": versions(),
    }


Group = list[dict[str, Any]]  # the rows of one model, dataset, length and setting: its seeds


def tables(rows: Group) -> str:
    """Markdown: auto compared with hand, then auto from other starts compared with auto; with a verdict on each."""
    groups: dict[tuple[str, str, int], dict[str, Group]] = {}
    for row in sorted(rows, key=lambda row: (row["model"], row["data"], row["steps"])):
        groups.setdefault((row["model"], row["data"], row["steps"]), {}).setdefault(row["how"], []).append(row)
    head = [
        "| model | data | steps | seeds | setting | final value | sliced Wasserstein | pyramid Fréchet | JSD, nats "
        "| compared with {} |",
        "|---" * 10 + "|",
    ]
    first, second = [line.format("hand") for line in head], [line.format("auto") for line in head]
    for (model, data, steps), settings in groups.items():
        cell = [model, data, f"{steps:,}"]
        if {"hand", "auto"} <= settings.keys():
            first += [_line(cell, "hand", settings["hand"]), _line(cell, "auto", settings["auto"], settings["hand"])]
        starts = sorted(settings.keys() - {"hand", "auto"})
        if starts and "auto" in settings:
            second += [
                _line(cell, "auto", settings["auto"]),
                *(_line(cell, start, settings[start], settings["auto"]) for start in starts),
            ]
    return "\n".join([*first, "", *second])


def _line(cell: list[str], how: str, group: Group, reference: Group | None = None) -> str:
    numbers = [_mean_and_deviation(_values(group, name)) for name in ("value", *SCORES)]
    verdicts = [
        _verdict(_values(group, name), _values(reference, name))
        for name in SCORES
        if reference and _values(reference, name)
    ]
    return f"| {' | '.join([*cell, str(len(group)), how, *numbers, ', '.join(verdicts)])} |"


def _values(group: Group, name: str) -> list[float]:
    return [row[name] for row in group if name in row]


def _verdict(values: list[float], others: list[float]) -> str:
    """Lower is better; a difference of means within the larger standard deviation counts as none."""
    if len(values) < 2 or len(others) < 2:
        return "one seed"
    difference = statistics.mean(values) - statistics.mean(others)
    if abs(difference) <= max(statistics.stdev(values), statistics.stdev(others)):
        return "level"
    return "**behind**" if difference > 0 else "ahead"


def _mean_and_deviation(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3g}" if values else "-"
    return f"{statistics.mean(values):.3g} ± {statistics.stdev(values):.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETTINGS, default=["8gaussians", "rings", "digits"])
    parser.add_argument("--models", nargs="+", choices=FIELD, default=list(FIELD))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--starts",
        nargs="+",
        type=float,
        metavar="FACTOR",
        help="instead of hand and auto: auto, with its first choice multiplied by these factors",
    )
    parser.add_argument("--steps", type=int, help="length of every cell (default: by dataset)")
    parser.add_argument("--cifar10", default="cifar10", metavar="DATA", help="folder of CIFAR-10 (default: by name)")
    parser.add_argument("--emoji", default="emoji", metavar="DATA", help="folder or parquet of the emoji images")
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, paths = RESULTS.read(), {"cifar10": args.cifar10, "emoji": args.emoji}
    settings = [f"auto*{start:g}" for start in args.starts] if args.starts else ["hand", "auto"]
    cells = [] if args.table else itertools.product(args.seeds, args.sets, args.models, settings)
    done = {(row["seed"], row["data"], row["model"], row["how"], row["steps"]) for row in rows}
    for seed, data, model, how in cells:
        steps = args.steps or STEPS[data]
        if (seed, data, model, how, steps) not in done:
            rows.append(train(model, data, how, seed, steps, paths.get(data, data)))
            RESULTS.append(rows[-1])
    print(tables(rows))


if __name__ == "__main__":
    main()
