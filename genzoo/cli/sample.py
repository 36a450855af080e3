"""`genzoo sample`: new images from the prior."""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.cli.common import CHUNK, add_model, default_out, load_model, picture
from genzoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from genzoo.models.generative import Generative

DESCRIPTION = "Draws latents from the model's prior and decodes them; of a conditional model, all classes in turn."

EXAMPLES = """examples:
  genzoo sample RUN --n 64 --out samples.png
  genzoo sample RUN --n 10000 --out folder     one PNG each"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, "PNG for a grid, or a folder for one PNG each; .npz for points (default MODEL/samples.png)")
    parser.add_argument("--n", metavar="N", type=int, default=64, help="how many (default 64)")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.n < 1:
        raise UsageError(f"--n {args.n}: ask for at least one.")
    model = load_model(args.model)
    if not model.is_image:
        out = _write_points(args, model)
    elif args.out and not Path(args.out).suffix:
        out = _write_images(args, model)
    else:
        out = _write_grid(args, model)
    classes = f", of {len(model.classes)} classes in turn" * model.conditional
    print(f"{out}: {args.n:,} {'images' if model.is_image else 'points'}{classes}")


def _samples(args: argparse.Namespace, model: "Generative") -> "Iterator[Tensor]":
    """Yields batches of samples on the CPU."""
    from tqdm import tqdm

    from genzoo.noise import generator

    rng = generator(args.seed, "sample")
    for start in tqdm(range(0, args.n, CHUNK), disable=args.n < 4 * CHUNK, unit="batch"):
        size = min(CHUNK, args.n - start)
        yield model.sample(size, generator=rng, labels=model.classes_in_turn(size, start)).cpu()


def _write_points(args: argparse.Namespace, model: "Generative") -> Path:
    import numpy as np
    import torch

    out = Path(args.out).with_suffix(".npz") if args.out else default_out(args.model, "samples.npz")
    np.savez(out, samples=torch.cat(list(_samples(args, model))).numpy())
    return out


def _write_images(args: argparse.Namespace, model: "Generative") -> Path:
    """One PNG each, into a folder."""
    from genzoo.pictures import save_grid

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for first, batch in zip(range(0, args.n, CHUNK), _samples(args, model), strict=True):
        for number, image in enumerate(batch, first):
            save_grid([image[None]], folder / f"{number:06d}.png", zoom=1)
    return folder


def _write_grid(args: argparse.Namespace, model: "Generative") -> Path:
    import torch

    from genzoo.pictures import save_grid

    out = picture(args, "samples.png")
    save_grid(torch.cat(list(_samples(args, model))).split(min(16, math.ceil(math.sqrt(args.n)))), out)
    return out
