"""Finds 2-D hyper-parameters for the models whose papers give none, by one rule for all of them.

    python benchmarks/2d/search.py vae introvae        about 35 minutes on one core; adds to search.jsonl what is missing there

Rule: every candidate trains for 1,500 steps (a fifth of them warm-up) with seed 1000, which no table reports; the lowest JSD, in nats,
between 50,000 samples and 50,000 points of the data wins its set and becomes the preset. gnELBO is not looked at.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

from genzoo import load, resolve
from genzoo.data.points import EXTENT, draw
from genzoo.metrics.density2d import jsd
from genzoo.noise import generator
from genzoo.training.trainer import Trainer

OUT = Path(__file__).with_name("search.jsonl")
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
    real = draw(data, N, generator(SEED, "search"))
    return jsd(real, trained.sample(N, generator=generator(SEED, "search samples")), EXTENT[data])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=CANDIDATES)
    args = parser.parse_args()
    lines = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    for model, data in itertools.product(args.models, SETS):
        names = CANDIDATES[model]
        for choice in itertools.product(*names.values()):
            values = dict(zip(names, choice, strict=True))
            key = {"model": model, "data": data, **values}
            if not any(all(line.get(name) == value for name, value in key.items()) for line in lines):
                lines.append({**key, "jsd": score(model, data, values), "steps": STEPS, "seed": SEED})
                with OUT.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
        tried = [line for line in lines if (line["model"], line["data"]) == (model, data)]
        print(f"{model} on {data}: {min(tried, key=lambda line: line['jsd'])}")


if __name__ == "__main__":
    main()
