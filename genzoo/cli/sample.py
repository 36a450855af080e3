"""`genzoo sample`: new images from the prior."""

import argparse
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.cli.common import (
    CHUNK,
    add_label,
    add_model,
    add_prior,
    add_set,
    classes_of,
    data_config,
    default_out,
    fitted_as_asked,
    load_model,
    picture,
)
from genzoo.cli.numbers import count
from genzoo.errors import UsageError, shown

if TYPE_CHECKING:
    from torch import Tensor

    from genzoo.models.generative import Generative

DESCRIPTION = """Draws latents from the model's prior and decodes them; of a conditional model, all classes in turn. The
prior is the one that was fitted to encodings of training images, where the model has one."""

EXAMPLES = """examples:
  genzoo sample RUN --n 64 --out samples.png
  genzoo sample RUN --grid 4x12 --seed 7       rows x columns
  genzoo sample RUN --label 7 --n 64           of one class, by its name; several: --label cat --label dog
  genzoo sample RUN --prior normal             the model's own prior, as in published scores
  genzoo sample RUN --prior gmm:200 --temperature 0.9
  genzoo sample RUN --prior flow               fits a flow now, if none was saved
  genzoo sample RUN --n 8 --neighbors 4        each sample beside its nearest training images
  genzoo sample RUN --n 10000 --out folder     one PNG each"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, "PNG for a grid, or a folder for one PNG each; .npz for points (default MODEL/samples.png)")
    parser.add_argument("--n", metavar="N", type=count(), help="how many (default 64, or as many as --grid takes)")
    parser.add_argument("--grid", metavar="RxC", help="rows and columns of the picture, e.g. 4x12 (default: a square)")
    add_prior(parser)
    add_label(parser, "class to draw, of a model that knows classes; may be repeated, the samples take them in turn")
    parser.add_argument(
        "--neighbors",
        metavar="K",
        type=count(),
        help="shows each sample beside its K nearest training images, in pixels and in the encoder's means",
    )
    parser.add_argument(
        "--data", metavar="DATA", help="training images, for --prior and --neighbors (default: what the run trained on)"
    )
    add_set(parser, "how they are read: data.fit=pad, data.split=train[:1000], ...")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    rows, columns = _sides(args.grid) if args.grid else (0, 0)
    args.n = args.n if args.n is not None else rows * columns or 64
    if args.grid and args.neighbors is not None:
        raise UsageError("--neighbors shows each sample in a row of its own: leave out --grid.")
    if args.grid and args.n > rows * columns:
        raise UsageError(
            f"--grid {args.grid} has room for {rows * columns:,} samples, not for --n {args.n}: leave one out."
        )
    model = load_model(args.model)
    if model.is_image:
        _refuse_other_samples(args.out)
    args.label = classes_of(args.label, model)
    prior = fitted_as_asked(args, model, of_classes=bool(args.label))
    if args.neighbors is not None:
        out = _write_neighbors(args, model)
    elif not model.is_image:
        out = _write_points(args, model)
    elif args.out and not Path(args.out).suffix:
        out = _write_images(args, model)
    else:
        out = _write_grid(args, model, columns or min(16, math.ceil(math.sqrt(args.n))))
    cooled = f" at temperature {args.temperature:g}" * (args.temperature != 1)
    of = ", ".join(model.classes[k] for k in args.label)
    classes = f", of {of}" if of else f", of {len(model.classes)} classes in turn" * model.conditional
    print(f"{out}: {args.n:,} {'images' if model.is_image else 'points'}{classes}, prior {prior}{cooled}")


def _sides(grid: str) -> tuple[int, int]:
    """Reads --grid: rows, columns."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})x([1-9][0-9]{0,8})", grid)
    if match is None:
        raise UsageError(f"--grid {shown(grid)[1:-1]}: write rows x columns, e.g. --grid 4x12.")
    return int(match[1]), int(match[2])


def _samples(args: argparse.Namespace, model: "Generative") -> "Iterator[Tensor]":
    """Yields batches of samples on the CPU."""
    from genzoo.noise import generator
    from genzoo.progress import bar

    rng = generator(args.seed, "sample")
    for start in bar(range(0, args.n, CHUNK), "sampling", shown=args.n >= 4 * CHUNK, unit="batch"):
        size = min(CHUNK, args.n - start)
        labels = _labels(args.label, size, start) if args.label else None
        if model.conditional and labels is None:
            labels = model.classes_in_turn(size, start)
        yield model.sample(size, rng, labels, args.prior, args.temperature).cpu()


def _labels(numbers: list[int], n: int, start: int) -> "Tensor":
    """Class numbers of samples start to start + n, in turn."""
    import torch

    return torch.tensor([numbers[i % len(numbers)] for i in range(start, start + n)])


def _write_points(args: argparse.Namespace, model: "Generative") -> Path:
    import numpy as np
    import torch

    out = Path(args.out).with_suffix(".npz") if args.out else default_out(args.model, "samples.npz")
    np.savez(out, samples=torch.cat(list(_samples(args, model))).numpy())
    return out


def _refuse_other_samples(out: str | None) -> None:
    """Refuses a folder that holds pictures: samples of two models, or of two draws, would be mixed."""
    held = [path.name for path in Path(out).glob("*.png")] if out and not Path(out).suffix else []
    if held:
        raise UsageError(
            f"--out {out} holds {len(held):,} pictures already, such as {min(held)}, with which these would be mixed: "
            "name a new folder."
        )


def _write_images(args: argparse.Namespace, model: "Generative") -> Path:
    """One PNG each, into a folder."""
    from genzoo.pictures import save_grid

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for first, batch in zip(range(0, args.n, CHUNK), _samples(args, model), strict=True):
        for number, image in enumerate(batch, first):
            save_grid([image[None]], folder / f"{number:06d}.png", zoom=1)
    return folder


def _write_grid(args: argparse.Namespace, model: "Generative", columns: int) -> Path:
    import torch

    from genzoo.pictures import save_grid

    out = picture(args, "samples.png")
    save_grid(torch.cat(list(_samples(args, model))).split(columns), out)
    return out


def _write_neighbors(args: argparse.Namespace, model: "Generative") -> Path:
    """One row per sample: itself, its nearest training images in pixels, and those in the encoder's means."""
    import torch

    from genzoo.data import open_dataset
    from genzoo.data.batches import to_float
    from genzoo.data.sets import FiniteSet
    from genzoo.metrics.copies import nearest, pixels
    from genzoo.models.autoencoder import can_encode
    from genzoo.pictures import save_grid

    out = picture(args, "neighbors.png")
    dataset = open_dataset(data_config(args.model, model, args.data, args.set))
    if not model.is_image or not isinstance(dataset, FiniteSet):
        raise UsageError(f"--neighbors is for images, and {args.model} is a model of points: leave it out.")
    if not 1 <= args.neighbors <= dataset.size:
        raise UsageError(
            f"--neighbors {args.neighbors}: {dataset.name} has {dataset.size:,} images, take 1 to {dataset.size:,}."
        )
    samples = torch.cat(list(_samples(args, model))).to(model.device)

    def read(numbers: "Tensor") -> "Tensor":
        return to_float(dataset.batch(numbers.numpy()), model.device)

    rows = [[sample[None]] for sample in samples]
    with torch.no_grad():
        for space in (pixels, *([model.features] if can_encode(model) else [])):
            items = (space(read(part)) for part in torch.arange(dataset.size).split(CHUNK))
            _, numbers = nearest(space(samples), items, args.neighbors)
            for row, found in zip(rows, numbers.cpu(), strict=True):
                row += [torch.ones_like(row[0]), read(found)]  # a white gap, then the neighbors
    save_grid([torch.cat(row) for row in rows], out)
    return out
