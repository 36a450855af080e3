"""What a GPU buys on CIFAR-10: FID after 3 M and 30 M images. The goal is below 14.65 (standard protocol).

    python benchmarks/gpu/cifar10.py --dry-run              # plans, updates and memory of every run; trains nothing
    python benchmarks/gpu/cifar10.py --images 3M            # trains, resumes what was interrupted, scores
    python benchmarks/gpu/cifar10.py --images 30M --models introvae --data FOLDER

Protocol: the recipe of `genzoo train MODEL --budget` for a GPU (genzoo/recipes.py) with 128 latent dimensions and
mirrored images, for a given number of images instead of a time; in bf16, from CUDA graphs. Scores of averaged weights:
fid50k_train from N(0, I) and from the fitted prior where Inception's weights are at hand, else
fd_classifier_cifar10_10k_test of both, which compares only with itself. cifar10.jsonl gains one line per score, with
the seconds of the run.
"""

import argparse
import math
from pathlib import Path

import torch

from genzoo import Trainer, resolve
from genzoo.errors import UsageError
from genzoo.evaluation.evaluate import Job, result_line
from genzoo.evaluation.protocols import get_protocol
from genzoo.evaluation.subject import ModelSubject
from genzoo.files import JsonLines
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.runs.folder import RunFolder
from genzoo.spec import RunConfig
from genzoo.training.plan import plan

RESULTS = JsonLines(Path(__file__).with_name("cifar10.jsonl"))
PRIORS = ("", "_gmm", "_fitted")  # endings of protocols: N(0, I), the mixture, and the prior that was saved
INCEPTION = [f"fid50k_train{ending}" for ending in PRIORS]
CLASSIFIER = [f"fd_classifier_cifar10_10k_test{ending}" for ending in PRIORS]


def config(model: str, images: str, data: str, further: list[str]) -> RunConfig:
    """The recipe for a GPU, for so many images."""
    settings = [
        *texts(recipe_lines(get_spec(model), (3, 32, 32), accelerated=True, budget_s=math.inf)),
        "data.size=32x32",
        "data.mirror=true",
        "arch.z_dim=128",
        f"train.duration={images}",
        "train.precision=bf16",
        "train.compile=cudagraphs",
        "train.snapshot_every=20%",
        *further,
    ]
    return resolve(model, data=data, settings=settings)


def score(folder: Path, run: RunConfig) -> None:
    """Appends one line per protocol; Inception's where its weights are, or can be downloaded."""
    subject = ModelSubject(str(folder), torch.device("cuda"))
    seconds = RunFolder(folder, run).log.read()[-1]["seconds"]
    for wanted, instead in zip(INCEPTION, CLASSIFIER, strict=True):
        try:
            line = result_line(Job(subject, get_protocol(wanted), run.data))
        except UsageError as error:
            print(f"{wanted}: {error}")
            line = result_line(Job(subject, get_protocol(instead), run.data))
        about = {"batch": run.train.batch, "images": run.train.duration, "train_seconds": seconds}
        print(run.model, about, line.protocol, line.values, flush=True)
        RESULTS.append({**line.to_json(), **about})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="3M", help="length of each run (default 3M)")
    parser.add_argument("--models", default="introvae,softintrovae,vae", help="which, with commas (default all three)")
    parser.add_argument("--data", default="cifar10", help="short name, hub id or folder of CIFAR-10 (default cifar10)")
    parser.add_argument("--set", nargs="*", default=[], help="further settings, e.g. train.batch=64")
    parser.add_argument("--out", default="runs", help="folder of the run folders (default runs)")
    parser.add_argument("--dry-run", action="store_true", help="print the plans and train nothing")
    args = parser.parse_args()
    if not (args.dry_run or torch.cuda.is_available()):
        parser.error("PyTorch sees no CUDA device on this machine: add --dry-run to see the plans")
    for model in args.models.split(","):
        run = config(model, args.images, args.data, args.set)
        if args.dry_run:
            print(plan(run), end="\n\n")
            continue
        folder = Trainer(run, out=Path(args.out) / f"{model}-cifar10-{args.images}-b{run.train.batch}").fit()
        score(folder, run)


if __name__ == "__main__":
    main()
