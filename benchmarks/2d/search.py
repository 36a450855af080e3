"""Finds 2-D hyper-parameters for the models whose papers give none, by one rule for all of them.

    python benchmarks/2d/search.py vae introvae     # adds what search.jsonl lacks; about 35 minutes on one core in all

Rule: every candidate trains for 1,500 steps (IntroVAE: 300 of them warm-up) with seed 1000, which no table reports.
The candidate with the lowest JSD, in nats, between 50,000 samples and 50,000 points of the data becomes the preset of
that dataset. gnELBO plays no part.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

from genzoo import load, resolve
from genzoo.data import find_entry, open_dataset
from genzoo.files import JsonLines
from genzoo.metrics.density2d import jsd
from genzoo.noise import generator
from genzoo.spec import DataConfig
from genzoo.training.trainer import Trainer

RESULTS = JsonLines(Path(__file__).with_name("search.jsonl"))
SETS = ("8gaussians", "2spirals", "checkerboard", "rings")
CANDIDATES = {
    "vae": {"beta": (0.02, 0.05, 0.1, 0.2)},
    "introvae": {"beta": (2, 8), "margin": (5, 10)},
}
STEPS, WARMUP, SEED, N = 1500, 300, 1000, 50_000


def score(model: str, data: str, values: dict[str, float]) -> float:
    """Trains one candidate and returns its JSD in nats."""
    settings = [f"objective.{name}={value}" for name, value in values.items()]
    if model == "introvae":
        settings.append(f"objective.warmup={WARMUP}it")
    settings += [f"train.duration={STEPS}it", f"train.seed={SEED}", "train.snapshot_every=100%"]
    with tempfile.TemporaryDirectory() as folder:
        trained = load(Trainer(resolve(f"{model}.{data}", settings=settings), out=f"{folder}/run").fit())
    entry, density = find_entry(data), open_dataset(DataConfig(name=data))
    real = density.draw(N, generator(SEED, "search"))
    return jsd(real, trained.sample(N, generator=generator(SEED, "search samples")), entry.extent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=CANDIDATES)
    args = parser.parse_args()
    lines = RESULTS.read()
    for model, data in itertools.product(args.models, SETS):
        names = CANDIDATES[model]
        for choice in itertools.product(*names.values()):
            key = {"model": model, "data": data, **dict(zip(names, choice, strict=True))}
            if not any(key.items() <= line.items() for line in lines):
                values = {name: key[name] for name in names}
                lines.append({**key, "jsd": score(model, data, values), "steps": STEPS, "seed": SEED})
                RESULTS.append(lines[-1])
        tried = [line for line in lines if (line["model"], line["data"]) == (model, data)]
        print(f"{model} on {data}: {min(tried, key=lambda line: line['jsd'])}")


if __name__ == "__main__":
    main()
