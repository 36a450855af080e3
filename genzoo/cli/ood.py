"""`genzoo ood`: which scores of a trained autoencoder tell other images from those that are like its training data."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from genzoo.cli.common import accelerator, add_set, picture
from genzoo.cli.numbers import count, positive, seed
from genzoo.cli.tables import print_table

if TYPE_CHECKING:
    from pathlib import Path

    from genzoo.evaluation.ood_data import ImageSet
    from genzoo.evaluation.ood_lines import OodLine, Scored
    from genzoo.evaluation.subject import ModelSubject
    from genzoo.spec import DataConfig

DESCRIPTION = """Scores held-out images of the training data and images of other data, and measures how well each score
tells them apart: AUROC, AUPR and FPR95 with 95 % intervals. A larger score is more suspicious; an AUROC below 0.5 says
that the order is reversed. Prints a table, draws histograms, and appends one JSON line per score and data. The
complexity of images, which needs no model, is always among the scores. docs/ood.md explains them."""

EXAMPLES = """examples:
  genzoo ood RUN --out-data noise constant             what is made, and needs no data
  genzoo ood RUN --out-data cifar10 FOLDER --n 1000
  genzoo ood RUN --out-data FOLDER --scores kl,sse,elbo,iw5,iw5_sintrovae2021    seconds: few decodings
  genzoo ood RUN --data FOLDER --out-data noise        images in the place of the run's own
  genzoo ood RUN --out-data FOLDER --variance 1        the likelihood of published figures"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("model", metavar="MODEL", help="run folder, save_pretrained folder (RUN/best too), or hub id")
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="images that are like the training data (default: what the run was trained on); of the held-out split, or "
        "of the one that --set data.split names",
    )
    parser.add_argument(
        "--out-data",
        metavar="DATA",
        nargs="+",
        required=True,
        help="images to tell from them: datasets, converted as the model's data, `noise`, or `constant` gray images",
    )
    parser.add_argument("--scores", metavar="A,B", help="which scores (default: all but iw200_sintrovae2021)")
    parser.add_argument("--n", metavar="N", type=count(), default=500, help="how many images of each (default 500)")
    parser.add_argument(
        "--variance",
        metavar="V",
        type=positive,
        help="of the decoder, for scores of the likelihood (default: the mean squared error on training images)",
    )
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="seed of choices and noise (default 0)")
    parser.add_argument(
        "--out", metavar="PATH", help="PNG of histograms; lines go to a .jsonl beside it (default MODEL/ood.png)"
    )
    add_set(parser, "how images are read: data.fit=pad, ...; data.split=NAME is of --data")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    from genzoo.models.absent import refuse_missing

    refuse_missing(args.model)
    from genzoo.evaluation.ood import parse_scores, refuse_unfit
    from genzoo.evaluation.subject import ModelSubject

    names = parse_scores(args.scores)
    started, subject = time.monotonic(), ModelSubject(args.model, accelerator())
    refuse_unfit(subject, names)
    path = picture(args, "ood.png")
    data, inside, outside = _open(args, subject)
    variance = _variance(args, subject, data, names)
    scored = [_score(args, subject, images, names, variance) for images in (inside, *outside)]
    lines = _compare(args, subject, scored, data, variance, started)
    _print(lines)
    _draw(scored, lines, path)


def _open(args: argparse.Namespace, subject: "ModelSubject") -> "tuple[DataConfig, ImageSet, list[ImageSet]]":
    """Opens all data, before anything slow, and says what it is."""
    from genzoo.evaluation.ood_data import open_inside, open_outside
    from genzoo.runs.data import as_trained

    found = as_trained(args.model, subject.model, args.data, args.set)
    for note in found.notes:
        print(f"note: {note}")
    inside = open_inside(subject, found.data, any(text.startswith("data.split=") for text in args.set))
    others = dict.fromkeys(args.out_data)
    outside = [open_outside(subject, name, found.data, args.n, args.seed) for name in others]
    for side, images in (("in", inside), *(("out", images) for images in outside)):
        print(f"{side}: {images.described(min(args.n, images.images.size))}")
    if (prior := subject.model.prior).learned:
        print(f"prior: {subject.model.arch.prior}, a mixture of {prior.components} Gaussians whose KL is bounded above")
    return found.data, inside, outside


def _variance(
    args: argparse.Namespace, subject: "ModelSubject", data: "DataConfig", names: Sequence[str]
) -> float | None:
    """The variance of the decoder, and says so; None where no score needs it."""
    from genzoo.evaluation.ood import SCORES, measure_variance

    if not any(SCORES[name].needs == "variance" for name in names):
        return None
    if args.variance is not None:
        return args.variance
    variance = measure_variance(subject, data)
    print(f"variance of the decoder: {variance:.3g}, its mean squared error on images of training")
    return variance


def _score(
    args: argparse.Namespace, subject: "ModelSubject", images: "ImageSet", names: Sequence[str], variance: float | None
) -> "Scored":
    from genzoo.evaluation.ood import score_images
    from genzoo.evaluation.ood_lines import Scored

    chosen = images.chosen(args.n, args.seed)
    return Scored(images, score_images(subject, images, chosen, names, variance or 1.0, args.seed))


def _compare(
    args: argparse.Namespace,
    subject: "ModelSubject",
    scored: "Sequence[Scored]",
    data: "DataConfig",
    variance: float | None,
    started: float,
) -> "list[OodLine]":
    from genzoo.evaluation.ood_lines import compare

    inside, *outside = scored
    lines = [line for other in outside for line in compare(subject, inside, other, data, variance, args.seed)]
    seconds = round(time.monotonic() - started, 1)
    return [replace(line, seconds=seconds) for line in lines]


def _print(lines: "Sequence[OodLine]") -> None:
    header = ("score", "out", "AUROC", "AUPR", "FPR95", "mean in", "mean out")

    def row(line: "OodLine") -> list[str]:
        measures = [f"{line.values[name]:.3f} [{low:.3f}, {high:.3f}]" for name, (low, high) in line.intervals.items()]
        means = [f"{line.means[side]:,.4g}" for side in ("in", "out")]
        return [line.score, line.out_data["name"], *measures, *means]

    print_table(header, map(row, lines))


def _draw(scored: "Sequence[Scored]", lines: "Sequence[OodLine]", path: "Path") -> None:
    """Draws the histograms and appends the lines."""
    from genzoo.evaluation.ood import SCORES
    from genzoo.files import JsonLines
    from genzoo.pictures import save_histograms

    panels = {
        SCORES[name].title: {
            f"{one.images.name} ({'out' if i else 'in'})": one.scores[name] for i, one in enumerate(scored)
        }
        for name in scored[0].scores
    }
    save_histograms(panels, path)
    file = JsonLines(path.with_suffix(".jsonl"))
    file.append(*(line.to_json() for line in lines))
    print(f"{path}: histograms; {file.path}: {len(lines)} line{'s' * (len(lines) > 1)} added")
