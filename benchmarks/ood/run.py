"""Out of distribution: which scores of a VAE, IntroVAE and Soft-IntroVAE tell other images from those of training?

    python benchmarks/ood/run.py --data mnist=FOLDER --data emoji=FOLDER --data cifar10=FOLDER
    python benchmarks/ood/run.py --data mnist=FOLDER --in mnist --seeds 0 --images 20k --results FILE
    python benchmarks/ood/run.py --table                     # the table of results.jsonl, in markdown

Protocol: every model sees the same images, by the recipe of `--budget 30min` (genzoo/recipes.py) on one thread, with
the networks of the 32x32 presets, and is scored by `genzoo ood` with its default scores: 500 held-out images of the
data that it was trained on against 500 of each other data, and for the slow scores (SLOW) the first 100 of these. SETS
says which, in both directions. Data that are neither built in nor given by --data are left out, and so are pairs with
them. results.jsonl has the lines of `genzoo ood`, and `label`, `on` and `against`: the model, the data of the run, and
the other data. A stopped command goes on where it was, with the same options: runs resume from --out, and what is in
results.jsonl is not run again.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from genzoo import Trainer, resolve
from genzoo.cli import main as genzoo
from genzoo.dataspec import last_name
from genzoo.evaluation.ood import DEFAULT
from genzoo.files import JsonLines
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.spec import RunConfig

HERE = Path(__file__).parent
MODELS = ("vae", "introvae", "softintrovae")
BUDGET_S = 1800
MADE = ("toyfaces", "noise", "constant")  # without files
SLOW = ("iw200", "regret", "corrected")  # scores that decode an image more than a hundred times
QUICK = tuple(name for name in DEFAULT if name not in SLOW)
SETS = {  # data to train on -> channels, latent dimensions, data to tell from it
    "mnist": (1, 16, ("emoji", "fashion-mnist", "noise", "constant")),
    "emoji": (1, 32, ("mnist", "noise", "constant")),
    "fashion-mnist": (1, 32, ("mnist", "noise", "constant")),
    "cifar10": (3, 128, ("toyfaces", "emoji", "svhn", "noise", "constant")),
    "toyfaces": (3, 32, ("cifar10", "emoji", "noise", "constant")),
    "svhn": (3, 128, ("cifar10", "noise", "constant")),
}


def configured(model: str, inside: str, seed: int, images: str, paths: Mapping[str, str]) -> RunConfig:
    """The configuration of a run."""
    channels, z_dim, _ = SETS[inside]
    recipe = recipe_lines(get_spec(model), (channels, 32, 32), accelerated=False, budget_s=BUDGET_S)
    settings = [
        f"train.duration={images}", f"train.seed={seed}", "train.threads=1", "train.snapshot_every=20%",
        "data.size=32x32", f"data.channels={channels}", f"arch.z_dim={z_dim}",
    ]  # fmt: skip
    return resolve(f"{model}.toyfaces32", data=paths.get(inside, inside), settings=[*texts(recipe), *settings])


def cells(args: argparse.Namespace, paths: Mapping[str, str]) -> Iterator[tuple[int, str, str]]:
    """Seeds, data and models that are not in the results yet, first seeds first."""
    there = {*MADE, *paths}
    finished = {(line["seed"], line["on"], line["label"]) for line in args.results.read()}
    for seed in map(int, args.seeds.split(",")):
        for inside in args.inside.split(","):
            for model in args.models.split(",") if inside in there else ():
                if (seed, inside, model) not in finished:
                    yield seed, inside, model


def measure(seed: int, inside: str, model: str, args: argparse.Namespace, paths: Mapping[str, str]) -> None:
    """Trains one model, scores it, and appends the lines."""
    folder = Path(args.out) / f"{model}-{inside}-s{seed}"
    Trainer(configured(model, inside, seed, args.images, paths), out=folder).fit()
    others = {paths.get(name, name): name for name in SETS[inside][2] if name in {*MADE, *paths}}
    against = {last_name(path): name for path, name in others.items()}
    lines = [*scored(folder, list(others), QUICK, args.n), *scored(folder, list(others), SLOW, args.slow_n)]
    about = [{"label": model, "on": inside, "against": against[line["out_data"]["name"]]} for line in lines]
    args.results.append(*(one | line for one, line in zip(about, lines, strict=True)))


def scored(folder: Path, others: Sequence[str], scores: Sequence[str], n: int) -> list[dict[str, Any]]:
    """The lines of `genzoo ood` for some scores of n images of each data; it adds complexity to any, which is left out
    unless it is among them.
    """
    picture = folder / f"ood-{scores[-1]}.png"
    lines = picture.with_suffix(".jsonl")
    lines.unlink(missing_ok=True)
    options = ["--scores", ",".join(scores), "--n", str(n), "--out", str(picture)]
    if status := genzoo(["ood", str(folder), "--out-data", *others, *options]):
        raise SystemExit(status)
    return [line for line in JsonLines(lines).read() if line["score"] in scores]


def table(results: JsonLines) -> None:
    """Prints AUROCs: a row per pair of data and score, a column per model, means over seeds with their range."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for line in results.read():
        key = (line["on"], line["against"], line["score"])
        found.setdefault(key, {}).setdefault(line["label"], []).append(line["values"]["auroc"])
    print(f"| trained on | other data | score | {' | '.join(MODELS)} |\n|{'---|' * (3 + len(MODELS))}")
    for key, by_model in found.items():
        print(f"| {' | '.join((*key, *(_mean(by_model.get(model, [])) for model in MODELS)))} |")


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{sum(values) / len(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DATA", help="where a dataset is")
    parser.add_argument("--in", dest="inside", default=",".join(SETS), help="data to train on, with commas")
    parser.add_argument("--models", default=",".join(MODELS), help="which, with commas (default all three)")
    parser.add_argument("--seeds", default="0,1,2", help="default 0,1,2")
    parser.add_argument("--images", default="100k", help="length of each run (default 100k)")
    parser.add_argument("--n", type=int, default=500, help="images of each data to score (default 500)")
    parser.add_argument("--slow-n", type=int, default=100, help=f"the same for {', '.join(SLOW)} (default 100)")
    parser.add_argument("--out", default="runs/ood", help="folder of the run folders (default runs/ood)")
    parser.add_argument(
        "--results",
        type=lambda text: JsonLines(Path(text)),
        default=JsonLines(HERE / "results.jsonl"),
        metavar="FILE",
        help="where lines are appended (default results.jsonl beside this script)",
    )
    parser.add_argument("--table", action="store_true", help="only print the table")
    args = parser.parse_args()
    paths = dict(text.split("=", 1) for text in args.data)
    for seed, inside, model in () if args.table else cells(args, paths):
        measure(seed, inside, model, args, paths)
    table(args.results)


if __name__ == "__main__":
    main()
