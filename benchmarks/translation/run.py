"""Which factors of an image move with its class, and which stay with its content?

    python benchmarks/translation/run.py                       # what results.jsonl lacks: 2 models, seeds 0, 1, 2
    python benchmarks/translation/run.py --data mnist=FOLDER   # the same on MNIST, whose only factor is the digit
    python benchmarks/translation/run.py --images 3200 --seeds 0 --pairs 500 --results FILE     # a trial of minutes
    python benchmarks/translation/run.py --table               # prints the tables of what results.jsonl holds

Protocol: a cell trains one model with one seed on toyfaces at 32x32 or MNIST at 28x28, by the recipe of a run with a
budget (fast networks, muon) with 64 latent dimensions, on MNIST 32, for as many images. `softintrovae-translation` has
two encoders, half of the dimensions each; `softintrovae` has one encoder, whose latent is cut in two halves, the first
of which is called class. An interrupted cell resumes from its run folder.

Held-out images are paired at random. Each pair is translated: content of the first, class of the second, posterior
means, averaged weights. genzoo's classifier of the data names the factors that have categories in the result. Over the
pairs whose two images differ in a factor, `kept` is the share of results with that of the first image, `moved` with
that of the second, and `chance` the share of unrelated images with that of the first. As nothing tells an unsupervised
model which factors are class, a factor counts as content or class by which of the two is larger on the first half of
the pairs; all figures are of the second half. `reconstructed` is the share of reconstructions that are named right.
"""

import argparse
import itertools
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genzoo import Trainer, load, resolve
from genzoo.cli import main as genzoo
from genzoo.data import open_dataset
from genzoo.data.batches import as_real
from genzoo.data.sets import FiniteSet, class_numbers
from genzoo.dataspec import ONLY
from genzoo.evaluation.extractors import Extractor, get_extractor
from genzoo.files import JsonLines
from genzoo.items import Items
from genzoo.losses import kl_to_prior
from genzoo.metrics.transfer import transferred
from genzoo.models.autoencoder import Autoencoder, can_encode
from genzoo.models.translating import Translating, mixed
from genzoo.noise import generator
from genzoo.provenance import versions
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.spec import DataConfig

RESULTS = Path(__file__).with_name("results.jsonl")
MODELS = {"softintrovae-translation": "two encoders", "softintrovae": "one encoder, latent cut in two"}
DATA = {  # by the name of the classifier that judges; with the latent dimensions
    "toyfaces": (DataConfig(name="toyfaces", size=(32, 32), split="test"), 64),
    "mnist": (DataConfig(name="mnist", size=(28, 28), channels=1, split="test"), 32),
}
KINDS = {"class": ONLY}  # the labels that the classifier calls otherwise
CHUNK, BUDGET_S = 250, 1800
COLUMNS = (
    *("model", "seeds", "content factors", "kept", "class factors", "moved", "chance", "reconstructed"),
    *("KL class, content", "training, s"),
)
Row = dict[str, Any]


def settings(model: str, name: str, images: int, seed: int) -> list[str]:
    data, z_dim = DATA[name]
    assert data.size is not None
    (h, w), channels = data.size, data.channels
    lines = recipe_lines(get_spec(model), (channels, h, w), accelerated=False, budget_s=BUDGET_S, count=50_000)
    own = [f"arch.z_dim={z_dim}", f"train.duration={images}", f"train.seed={seed}", "train.prior=normal"]
    return [*texts(lines), *own, f"data.size={h}x{w}", f"data.channels={channels}", "train.snapshot_every=25%"]


def measure(model: str, name: str, place: str, images: int, seed: int, pairs: int, runs: Path) -> Row:
    """Trains one cell, or resumes its run, and counts the factors of translated images."""
    chosen, began = settings(model, name, images, seed), time.monotonic()
    config = resolve(f"{model}.toyfaces32", data=place, settings=chosen)
    run = Trainer(config, out=runs / f"{model}-{name}-{images}-s{seed}").fit()
    seconds = JsonLines(run / "log.jsonl").read()[-1]["seconds"]
    trained = load(run)
    assert can_encode(trained)
    if isinstance(trained, Translating):
        genzoo(["translate", str(run), "--n", "8"])
    judge = get_extractor(f"classifier:{name}")
    return {
        "model": model,
        "data": name,
        "images": images,
        "seed": seed,
        "pairs": pairs,
        "training_s": round(seconds, 1),
        "cell_s": round(time.monotonic() - began, 1),
        **counted(trained, judge, replace(DATA[name][0], name=place), pairs, seed),
        "judge": judge.key,
        "settings": chosen,
        "versions": versions(),
    }


@torch.no_grad()
def counted(model: Autoencoder, judge: Extractor, data: DataConfig, pairs: int, seed: int) -> Row:
    """What translated images show, by factor; and the KL of both halves of the latent, in nats."""
    dataset = open_dataset(data)
    assert isinstance(dataset, FiniteSet)
    order = torch.randperm(dataset.size, generator=generator(seed, "pairs"))[: 3 * pairs]
    content, other, unrelated = order.chunk(3)
    z_class = model.z_class if isinstance(model, Translating) else model.arch.z_dim // 2
    seen, again, kls = [], [], []
    for first, second in zip(content.split(CHUNK), other.split(CHUNK), strict=True):
        a, b = (model.encode(images_of(dataset, part)).latent_dist.mode() for part in (first, second))
        seen.append(named(judge, model, mixed(b, a, z_class)))
        again.append(named(judge, model, a))
        mu, logvar = model.encoder(images_of(dataset, first))
        halves = slice(z_class), slice(z_class, None)
        kls.append(torch.stack([kl_to_prior(mu[:, half], logvar[:, half]) for half in halves], 1))
    factors = {
        name: by_factor(
            torch.cat([part[name] for part in seen]),
            torch.cat([part[name] for part in again]),
            *(torch.from_numpy(class_numbers(dataset, name))[part] for part in (content, other, unrelated)),
        )
        for name in seen[0]
    }
    nats = torch.cat(kls).mean(0).tolist()
    return {"kl_class": nats[0], "kl_content": nats[1], "factors": factors}


def images_of(dataset: FiniteSet, numbers: Tensor) -> Tensor:
    return as_real(Items(dataset.batch(numbers.numpy())), torch.device("cpu")).x


def named(judge: Extractor, model: Autoencoder, z: Tensor) -> dict[str, Tensor]:
    """The categories of decoded images, int64 [N] by factor."""
    assert judge.classifier is not None
    probabilities = judge.classifier.probabilities(judge(model.shown(model.decode(z).sample)))
    return {KINDS.get(name, name): found.argmax(1) for name, found in probabilities.items()}


def by_factor(seen: Tensor, again: Tensor, content: Tensor, other: Tensor, unrelated: Tensor) -> Row:
    """Chooses the side on the first half of the pairs, and counts on the second."""
    half = len(seen) // 2
    choice = transferred(seen[:half], content[:half], other[:half])
    found = transferred(seen[half:], content[half:], other[half:])
    return {
        "side": "content" if choice.kept >= choice.moved else "class",
        "kept": found.kept,
        "moved": found.moved,
        "chance": transferred(unrelated[half:], content[half:], other[half:]).kept,
        "reconstructed": (again == content)[half:].double().mean().item(),
        "pairs": found.pairs,
    }


def tables(rows: list[Row]) -> str:
    """Markdown: by data and length a summary of the models, then each factor."""
    parts = []
    for data, images in sorted({(row["data"], row["images"]) for row in rows}):
        alike = [row for row in rows if (row["data"], row["images"]) == (data, images)]
        found = {model: [row for row in alike if row["model"] == model] for model in MODELS}
        found = {model: cells for model, cells in found.items() if cells}
        parts += [f"{data}, {images:,} images", summary(found)]
        parts += [factor_table(model, cells) for model, cells in found.items()]
    return "\n\n".join(parts)


def summary(found: dict[str, list[Row]]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for model, cells in found.items():
        sides = {side: [of_side(row, side) for row in cells] for side in ("content", "class")}
        columns = [
            spread([len(factors) for factors in sides["content"]], ".1f"),
            spread([mean_of(factors, "kept") for factors in sides["content"] if factors]),
            spread([len(factors) for factors in sides["class"]], ".1f"),
            spread([mean_of(factors, "moved") for factors in sides["class"] if factors]),
            spread([mean_of(list(row["factors"].values()), "chance") for row in cells]),
            spread([mean_of(list(row["factors"].values()), "reconstructed") for row in cells]),
            ", ".join(spread([row[name] for row in cells], ".1f") for name in ("kl_class", "kl_content")),
            spread([row["training_s"] for row in cells], ".0f"),
        ]
        lines.append(f"| {MODELS[model]} | {len(cells)} | {' | '.join(columns)} |")
    return "\n".join(lines)


def of_side(row: Row, side: str) -> list[Row]:
    return [factor for factor in row["factors"].values() if factor["side"] == side]


def mean_of(factors: list[Row], name: str) -> float:
    return statistics.mean(factor[name] for factor in factors)


def factor_table(model: str, cells: list[Row]) -> str:
    lines = [f"{MODELS[model]}:", "", "| factor | class in | kept | moved | chance | reconstructed |", "|---" * 6 + "|"]
    for name in cells[0]["factors"]:
        found = [row["factors"][name] for row in cells]
        times = sum(factor["side"] == "class" for factor in found)
        columns = [spread([factor[key] for factor in found]) for key in ("kept", "moved", "chance", "reconstructed")]
        lines.append(f"| {name} | {times} of {len(found)} | {' | '.join(columns)} |")
    return "\n".join(lines)


def spread(values: list[float], form: str = ".2f") -> str:
    """Mean ± standard deviation over seeds; `-` without values."""
    if len(values) < 2:
        return format(values[0], form) if values else "-"
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):{form}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--data", nargs="+", metavar="NAME", default=["toyfaces"],
        help=f"{' or '.join(DATA)}, or NAME=DATA where its data are elsewhere (default toyfaces)",
    )  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=400_000, help="images seen by each model (default 400,000)")
    parser.add_argument("--pairs", type=int, default=3000, help="held-out pairs, at most 3,333 (default 3000)")
    parser.add_argument("--runs", type=Path, default=Path("benchmarks/runs/translation"), help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="lines are appended (default results.jsonl)")
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    results = JsonLines(args.results)
    rows = [{"data": "toyfaces"} | row for row in results.read()]  # first lines name none
    done = {(row["model"], row["data"], row["images"], row["seed"], row["pairs"]) for row in rows}
    places = {name: place or name for name, _, place in (text.partition("=") for text in args.data)}
    if unknown := places.keys() - DATA.keys():
        parser.error(f"--data {', '.join(sorted(unknown))}: choose from {', '.join(DATA)}, or write NAME=DATA")
    for seed, (name, place), model in [] if args.table else itertools.product(args.seeds, places.items(), args.models):
        if (model, name, args.images, seed, args.pairs) not in done:
            rows.append(measure(model, name, place, args.images, seed, args.pairs, args.runs))
            results.append(rows[-1])
    print(tables(rows))


if __name__ == "__main__":
    main()
