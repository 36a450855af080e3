"""Few images: do DiffAugment and mirrored images help, and are samples copies?

    python benchmarks/few/run.py                                           # toy faces: what results.jsonl lacks
    python benchmarks/few/run.py --on emoji,cifar10 --data emoji=FOLDER --data cifar10=FOLDER
    python benchmarks/few/run.py --table                                   # prints the tables of what it holds

Protocol: a cell trains one model on the first 300 images of one dataset at 32x32, by the recipe of a run with a budget
(genzoo/recipes.py) on one thread, for the same number of images seen; WAYS says what is added. Snapshots score held-out
images. An interrupted cell resumes from its run folder; results.jsonl has a line per cell, and none is run again.

Samples are drawn from the fitted prior, as `genzoo sample` does. `held-out` and `training` are Fréchet distances of
1,000 of them to as many held-out images as were trained on (all held-out ones where there are fewer), and to the
training images, on the features of a classifier; lower is better, and a distance to training images that is far below
the other one says that these were memorized. They compare within a dataset only: so few images bias them.
`copies` and `nearest` are those of `genzoo copies` (docs/few-images.md). `rec` is the squared error of reconstructions
of held-out images over that of training images.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from genzoo import Trainer, resolve
from genzoo.evaluation.copies import PICTURE, check_copies
from genzoo.evaluation.evaluate import Job, evaluate
from genzoo.evaluation.protocols import get_protocol
from genzoo.evaluation.subject import ModelSubject
from genzoo.files import JsonLines
from genzoo.provenance import versions
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.runs.data import as_trained
from genzoo.spec import RunConfig

RESULTS = Path(__file__).with_name("results.jsonl")
BUDGET_S, SAMPLES = 180, 1000
SETS = {"toyfaces": ("toyfaces", 32), "emoji": ("cifar10", 64), "cifar10": ("cifar10", 64)}  # classifier, latents
WAYS = {
    "plain": (),
    "diffaug": ("objective.diffaug=true",),
    "mirror": ("data.mirror=true",),
    "both": ("objective.diffaug=true", "data.mirror=true"),
}
COLUMNS = ("held-out", "training", "copies, pixels", "copies, features", "nearest, pixels", "nearest, features", "rec")
Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run."""

    model: str
    data: str
    way: str
    seed: int
    count: int  # images to train on
    images: int  # seen


def configured(cell: Cell, paths: Mapping[str, str]) -> RunConfig:
    # No count: the recipe of many images, to which the ways are added.
    recipe = recipe_lines(get_spec(cell.model), (3, 32, 32), accelerated=False, budget_s=BUDGET_S)
    settings = [
        f"train.duration={cell.images}", f"train.seed={cell.seed}", "train.threads=1", "train.snapshot_every=25%",
        "train.device=cpu", "data.size=32x32", f"data.limit={cell.count}", f"arch.z_dim={SETS[cell.data][1]}",
    ]  # fmt: skip
    chosen = [*texts(recipe), *settings, *WAYS[cell.way]]
    return resolve(f"{cell.model}.toyfaces32", data=paths.get(cell.data, cell.data), settings=chosen)


def measure(cell: Cell, runs: Path, paths: Mapping[str, str]) -> Row:
    """Trains one cell, or resumes its run, and scores it."""
    began, c = time.monotonic(), cell
    out = runs / f"{c.model}-{c.data}-{c.count}-{c.images}-{c.way}-s{c.seed}"
    run = Trainer(configured(cell, paths), out=out).fit()
    seconds = JsonLines(run / "log.jsonl").read()[-1]["seconds"]
    subject = ModelSubject(str(run), torch.device("cpu"))
    read = as_trained(str(run), subject.model, None).data

    def value(protocol: str, name: str) -> float:
        return evaluate(Job(subject, get_protocol(protocol), read, progress=False)).values[name]

    prefix = f"fd_classifier_{SETS[cell.data][0]}_{SAMPLES}"
    heldout, training = (value(f"{prefix}_{split}_fitted", "frechet") for split in ("test", "train"))
    errors = {split: value(f"rec{cell.count}_{split}", "sse") for split in ("test", "train")}
    copies = check_copies(subject, read, SAMPLES, progress=False)
    copies.save(run / PICTURE)
    return {
        **asdict(cell),
        "values": {
            "held-out": heldout,
            "training": training,
            **{f"copies, {space}": copies.line.values[space] for space in ("pixels", "features")},
            **{f"nearest, {space}": copies.line.values[f"{space}_distance"] for space in ("pixels", "features")},
            "rec": errors["test"] / errors["train"],
        },
        "errors": errors,
        "details": copies.line.details,
        "training_s": round(seconds, 1),
        "cell_s": round(time.monotonic() - began, 1),
        "commit": copies.line.commit,
        "versions": versions(),
    }


def tables(rows: list[Row]) -> str:
    """Markdown: a table per model, dataset, number of images and length; a row per way."""
    names = ("model", "data", "count", "images")
    parts = []
    for kind in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        cells = [row for row in rows if tuple(row[name] for name in names) == kind]
        model, data, count, images = kind
        parts.append(f"{model}, {count} images of {data}, {int(images):,} seen\n")
        parts.append(f"| | seeds | {' | '.join(COLUMNS)} | training, s |\n|{'---|' * (len(COLUMNS) + 3)}")
        for way in WAYS:
            found = [row for row in cells if row["way"] == way]
            if found:
                columns = [spread([row["values"][name] for row in found]) for name in COLUMNS]
                seconds = spread([row["training_s"] for row in found])
                parts.append(f"| {way} | {len(found)} | {' | '.join(columns)} | {seconds} |")
        parts.append("")
    return "\n".join(parts)


def spread(values: list[float]) -> str:
    """Mean, with the standard deviation over seeds."""
    mean = f"{statistics.mean(values):.3g}"
    return f"{mean} ± {statistics.stdev(values):.2g}" if len(values) > 1 else mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DATA", help="where a dataset is")
    parser.add_argument("--on", default="toyfaces", help=f"datasets, with commas, of {', '.join(SETS)}")
    parser.add_argument("--models", default="introvae", help="which, with commas (default introvae)")
    parser.add_argument("--ways", default=",".join(WAYS), help="which, with commas (default all)")
    parser.add_argument("--seeds", default="0", help="with commas (default 0)")
    parser.add_argument("--count", type=int, default=300, help="images to train on (default 300)")
    parser.add_argument("--images", type=int, default=30_000, help="images seen by each cell (default 30,000)")
    parser.add_argument("--out", type=Path, default=Path("runs/few"), help="folder of the runs (default runs/few)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="lines are appended (default results.jsonl)")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    args = parser.parse_args()
    results, paths = JsonLines(args.results), dict(text.split("=", 1) for text in args.data)
    rows = results.read()
    done = {Cell(**{field.name: row[field.name] for field in fields(Cell)}) for row in rows}
    lists = (text.split(",") for text in (args.seeds, args.on, args.models, args.ways))
    for seed, data, model, way in [] if args.table else itertools.product(*lists):
        cell = Cell(model, data, way, int(seed), args.count, args.images)
        if cell not in done:
            rows.append(measure(cell, args.out, paths))
            results.append(rows[-1])
    print(tables(rows))


if __name__ == "__main__":
    main()
