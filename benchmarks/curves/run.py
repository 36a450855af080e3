"""Quality against images seen: when does the introspective game overtake the VAE that it starts from?

    python benchmarks/curves/run.py --data cifar10=FOLDER              # trains and judges what is missing
    python benchmarks/curves/run.py --sets toyfaces --seeds 0
    python benchmarks/curves/run.py --sets toyfaces --models introvae.toyfaces32 --seeds 0  # a preset as it is
    python benchmarks/curves/run.py --figure                           # draws curves.png from results.jsonl

Protocol: the recipe of `--budget 30min` (genzoo/recipes.py) for a fixed number of images, on one thread, in fp32 or
bf16 by timing, with a warm-up of 20 % instead of 80 %, so that the game has time, and with the whole weight of a
calibrated decoder. About twelve times a run, at distances that grow by a constant factor, 5,000 samples of the averaged
weights from N(0, I) and as many from the fitted prior (of 10,000 encodings) are compared with 5,000 held-out images:
Fréchet distance on `classifier:<dataset>`. Seconds are those of training, without judging, in a run that was not
interrupted. A model with a preset's name keeps the preset's networks, optimizer, weights and warm-up; only its length
is that of the others. results.jsonl has one line per model, dataset, seed and point; that of a run's end is marked
`last`.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import genzoo
from genzoo import Trainer, resolve
from genzoo.data import heldout_split, open_dataset
from genzoo.evaluation.extractors import get_extractor
from genzoo.evaluation.features import dataset_features
from genzoo.files import JsonLines
from genzoo.metrics.frechet import frechet_distance, statistics
from genzoo.noise import generator
from genzoo.provenance import device_name, versions
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.runs.prior import fit_from
from genzoo.spec import RunConfig
from genzoo.training.evaluators import Weights

HERE = Path(__file__).parent
RESULTS = JsonLines(HERE / "results.jsonl")
SHAPE, BUDGET_S = (3, 32, 32), 1800
SETS = {  # images in a run, settings
    "toyfaces": ("300k", ["arch.z_dim=32"]),
    "cifar10": ("300k", ["arch.z_dim=128", "data.mirror=true"]),
}
GAME = ["objective.warmup=20%", "objective.calibration=1"]
BY_MODEL = {"introvae": GAME, "softintrovae": GAME, "vae": ["objective.beta=1"]}
POINTS, N, CHUNK = 12, 5000, 100
# PyTorch-StudioGAN's logs of CIFAR-10, batch 64: generator steps -> FID (Inception, 10k samples).
STEPS = (2000, 4000, 10_000, 20_000, 40_000, 60_000, 100_000)
GANS = {
    "DCGAN": (115, 93, 65, 60, 56, 98, 126),
    "WGAN-GP ResNet": (61, 53, 41, 35, 32, 29, 29),
    "SNGAN ResNet, conditional": (44, 36, 26, 22, 18, 15, 13),
    "StyleGAN2, conditional": (None, None, 36, 20, 9.7, 6.6, 4.8),
}


def configured(model: str, name: str, seed: int, path: str) -> RunConfig:
    """The configuration of a run: a model with the recipe, or a preset."""
    duration, settings = SETS[name]
    if "." in model:
        settings = [text for text in settings if not text.startswith("arch.")]
    common = [
        f"train.duration={duration}", f"train.seed={seed}", "train.threads=1", "train.precision=auto",
        "train.compile=auto",
        "train.snapshot_every=2%", "train.snapshot_minutes=1000", "train.keep=1", "data.size=32x32",
    ]  # fmt: skip
    if "." in model:
        return resolve(model, data=path, settings=[*common, *settings])
    recipe = texts(recipe_lines(get_spec(model), SHAPE, accelerated=False, budget_s=BUDGET_S))
    return resolve(f"{model}.toyfaces32", data=path, settings=[*recipe, *common, *settings, *BY_MODEL[model]])


class Judge:
    """Compares the samples of a saved model with held-out images."""

    def __init__(self, name: str, config: RunConfig):
        self._data = config.data
        self._extractor = get_extractor(f"classifier:{name}", data=config.data, progress=False)
        split = heldout_split(config.data)
        assert split is not None
        self._real = statistics(dataset_features(self._extractor, config.data, split, N, progress=False).values)
        self.digest = self._extractor.digest[:12]

    @torch.no_grad()
    def __call__(self, folder: Path) -> dict[str, float]:
        """Distances of a model folder by prior."""
        model = genzoo.load(folder).eval()
        fit_from(model, open_dataset(self._data, progress=False))
        return {prior: self._distance(model.sample, prior) for prior in ("normal", "gmm")}

    def _distance(self, sample: Any, prior: str) -> float:
        rng = generator(0, "curve samples")
        parts = (sample(CHUNK, generator=rng, prior=prior) for _ in range(N // CHUNK))
        return frechet_distance(self._real, statistics(self._extractor(part) for part in parts))


def measure(model: str, name: str, seed: int, path: str, out: Path) -> None:
    """Trains one run and appends a line for each point."""
    config = configured(model, name, seed, path)
    judge, folder = Judge(name, config), out / f"{model}-{name}-s{seed}"
    trainer = Trainer(config, out=folder, progress=False)
    take, total = trainer.snapshots.take, trainer.total_nimg
    growth, spent, reached = 50 ** (1 / (POINTS - 1)), 0.0, 0

    def judged(
        weights: Weights, position: Callable[[], Mapping[str, Any]], last: bool, save: Callable[[], None]
    ) -> bool:
        nonlocal spent, reached
        cut, here = take(weights, position, last, save), position()
        point = math.floor(math.log(here["nimg"] / (0.0199 * total), growth)) + 1
        if cut or (point <= reached and not last):
            return cut
        reached, began = point, time.monotonic()
        row = {"model": model, "data": name, "seed": seed, "nimg": here["nimg"], "last": last}
        row["seconds"] = round(here["seconds"] - spent, 1)
        row |= {"precision": trainer.config.train.precision, "distance": judge(folder / "model")}
        row |= {"judge_hash": judge.digest, "device": device_name(trainer.acc.device), "versions": versions()}
        RESULTS.append(row)
        print({key: row[key] for key in ("model", "data", "seed", "nimg", "seconds", "distance")}, flush=True)
        spent += time.monotonic() - began
        return cut

    trainer.snapshots.take = judged
    trainer.fit()


def figure(path: Path) -> None:
    """Draws mean distances over seeds; beside CIFAR-10's, what GANs reach, by another distance."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rows = RESULTS.read()
    names = [name for name in SETS if any(row["data"] == name for row in rows)]
    drawing = Figure(figsize=(5 * (len(names) + 1), 4), layout="constrained")
    panels = drawing.subplots(1, len(names) + 1)
    for ax, name in zip(panels, names, strict=False):
        models = dict.fromkeys(row["model"] for row in rows if row["data"] == name)
        for i, model in enumerate(models):
            for prior, style in (("gmm", "-"), ("normal", ":")):
                points: dict[int, list[float]] = {}
                for row in (row for row in rows if (row["data"], row["model"]) == (name, model)):
                    points.setdefault(row["nimg"], []).append(row["distance"][prior])
                means = [sum(values) / len(values) for values in points.values()]
                ax.plot(list(points), means, style, color=f"C{i}", marker=".", label=f"{model}, {prior}")
        ax.set(title=f"{name}: FD on classifier:{name}", xlabel="images seen", xscale="log", yscale="log")
    for gan, fids in GANS.items():
        known = [(64 * step, fid) for step, fid in zip(STEPS, fids, strict=True) if fid is not None]
        panels[-1].plot(*zip(*known, strict=True), marker=".", label=gan)
    panels[-1].set(
        title="published GANs on CIFAR-10: FID, another distance", xlabel="images generated", xscale="log", yscale="log"
    )
    for ax in panels:
        ax.xaxis.set_minor_formatter(NullFormatter())  # its labels would overlap
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    drawing.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(BY_MODEL), help="which, with commas (default all three)")
    parser.add_argument("--sets", default=",".join(SETS), help="which, with commas (default both)")
    parser.add_argument("--seeds", default="0,1,2", help="default 0,1,2")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DATA", help="where a dataset is")
    parser.add_argument("--out", default="runs/curves", help="folder of the run folders (default runs/curves)")
    parser.add_argument("--figure", action="store_true", help="only draw curves.png")
    args = parser.parse_args()
    paths = dict(text.split("=", 1) for text in args.data)
    finished = {(row["model"], row["data"], row["seed"]) for row in RESULTS.read() if row["last"]}
    for seed in () if args.figure else args.seeds.split(","):
        for name in args.sets.split(","):
            for model in args.models.split(","):
                if (model, name, int(seed)) not in finished:
                    measure(model, name, int(seed), paths.get(name, name), Path(args.out))
    figure(HERE / "curves.png")


if __name__ == "__main__":
    main()
