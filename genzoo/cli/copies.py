"""`genzoo copies`: are samples copies of training images?"""

import argparse
from pathlib import Path

from genzoo.cli.common import accelerator, add_model, add_set, picture
from genzoo.cli.numbers import count

DESCRIPTION = """Compares samples of a model with all images that it was trained on, in pixels and in the encoder's
features, and with held-out images, which cannot be copies: how many samples are copies, how far the others are, and a
picture of those that are nearest to a training image. Without --out, the model's card names the result.
docs/few-images.md explains the figures."""

EXAMPLES = """examples:
  genzoo copies RUN
  genzoo copies RUN --n 1000 --out copies.png
  genzoo copies RUN/best
  genzoo copies RUN --data FOLDER              the training images, where they have moved"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, "PNG of the nearest ones (default MODEL/copies.png)")
    parser.add_argument("--n", metavar="N", type=count(2, 10_000), default=256, help="how many samples (default 256)")
    parser.add_argument("--data", metavar="DATA", help="training images (default: what the run was trained on)")
    add_set(parser, "how images are read: data.fit=pad, ...")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    from genzoo.models.absent import refuse_missing

    refuse_missing(args.model)
    from genzoo.evaluation.copies import PICTURE, check_copies
    from genzoo.evaluation.subject import ModelSubject
    from genzoo.files import JsonLines
    from genzoo.runs.data import as_trained

    subject = ModelSubject(args.model, accelerator())
    path = picture(args, PICTURE)
    found = as_trained(args.model, subject.model, args.data, args.set)
    for note in found.notes:
        print(f"note: {note}")
    checked = check_copies(subject, found.data, args.n, args.seed)
    checked.save(path)
    print("\n".join([checked.summary(), *checked.distances()]))
    if warning := checked.warning():
        print(f"warning: {warning}")
    lines = JsonLines(path.with_suffix(".jsonl"))
    lines.append(checked.line.to_json())
    print(f"{path}: samples nearest to a training image, and held-out images below; {lines.path}: 1 line added")
    folder = Path(args.model).expanduser()
    if args.out is None and folder.is_dir() and (card := checked.into_card(folder)):
        print(f"{card}: names the result")
