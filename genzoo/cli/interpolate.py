"""`genzoo interpolate`: IntroVAE's Figure 6."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from genzoo.cli.common import add_data, add_label, add_model, classes_of, load_autoencoder, picture, select_items
from genzoo.cli.numbers import count
from genzoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from genzoo.models.autoencoder import Autoencoder

DESCRIPTION = """Encodes two images, walks between their latents in a straight line, and decodes the steps (IntroVAE,
Figure 6). With --label, draws codes and walks with each from class to class."""

EXAMPLES = """examples:
  genzoo interpolate RUN a.png b.png --steps 11 --out walk.png
  genzoo interpolate RUN --n 8      four walks between held-out images
  genzoo interpolate RUN --label 3 --label 8 --n 4            four codes, each from class to class
  genzoo interpolate RUN --n 8 --steps 25 --out walk.gif      animated; .mp4 needs pip install "genzoo[video]\""""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, "PNG: one row per pair; .gif or .mp4: there and back (default MODEL/interpolation.png)")
    add_data(parser, n=8)
    add_label(parser, "class to walk from and to, of a model that is trained on labels; give it twice or more")
    parser.add_argument(
        "--steps",
        metavar="N",
        type=count(2),
        default=9,
        help="images per row, reconstructions of both ends included (default 9)",
    )


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    model = load_autoencoder(args.model, "interpolate")
    import torch

    from genzoo.pictures import ANIMATED, save_animation, save_grid

    if not model.is_image:
        raise UsageError("This model is for points, not images: use model.interpolate in Python.")
    _refuse_unlabeled(args, model)
    out = picture(args, "interpolation.png", ANIMATED)
    walks = list(_between_classes(args, model) if args.label else _between_images(args, model))
    if out.suffix.lower() in ANIMATED:
        save_animation(torch.stack(walks, 1), out)
    else:
        save_grid(walks, out)
    print(f"{out}: {len(walks)} walk{'s' * (len(walks) > 1)} of {args.steps} steps")


def _refuse_unlabeled(args: argparse.Namespace, model: "Autoencoder") -> None:
    """Refuses a model whose networks take labels, unless it is to walk between classes and its decoder can."""
    from genzoo.nn.labeled import LabeledDecoder

    walks = isinstance(model.decoder, LabeledDecoder)
    if model.conditional and not (walks and args.label):
        classes = "walk between classes with --label, given twice, or " * walks
        raise UsageError(
            f"{args.model} is trained on labels: {classes}use model.interpolate(..., labels=...) in Python."
        )


def _between_images(args: argparse.Namespace, model: "Autoencoder") -> "Iterator[Tensor]":
    """Yields the images of each walk, [steps, C, H, W]."""
    import torch

    images = torch.cat([batch.x for batch in select_items(args, model).batches])
    if len(images) < 2 or len(images) % 2:
        raise UsageError(f"A walk leads from one image to another, and there are {len(images)}: give two, or four, ...")
    for a, b in zip(images[0::2], images[1::2], strict=True):
        yield model.interpolate(a[None], b[None], args.steps)[0]


def _between_classes(args: argparse.Namespace, model: "Autoencoder") -> "Iterator[Tensor]":
    """Yields the images of each code's walk, [steps, C, H, W]."""
    import torch

    from genzoo.nn.labeled import LabeledDecoder

    numbers = classes_of(args.label, model)
    if args.images or args.data or len(numbers) < 2:
        raise UsageError(
            "--label walks with codes that are drawn, between classes: give it twice or more, without data."
        )
    decoder = model.decoder
    for z in _latents(args, model, numbers):
        with torch.no_grad():
            x = decoder.walk(z, numbers) if isinstance(decoder, LabeledDecoder) else model.decode(z).sample
        yield model.shown(x)


def _latents(args: argparse.Namespace, model: "Autoencoder", numbers: list[int]) -> "Iterator[Tensor]":
    """Yields each code along its walk, [steps, *latent]: a prior of classes moves it, any other leaves it as drawn."""
    import torch

    from genzoo.nn.mixture import learned_prior
    from genzoo.noise import generator

    rng, prior = generator(args.seed, "interpolate"), learned_prior(model)
    if prior is None or not prior.classes:
        for z in model.draw_latents(args.n, rng, None).to(model.device):
            yield z.expand(args.steps, *z.shape)
        return
    for normal in torch.randn(args.n, *model.latent_shape, generator=rng).to(model.device):
        with torch.no_grad():
            z = prior.walk(normal, numbers, args.steps)
        yield z
