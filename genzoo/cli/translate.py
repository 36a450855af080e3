"""`genzoo translate`: the content of each image with the class of each."""

import argparse
from typing import TYPE_CHECKING

from genzoo.cli.common import add_data, add_model, load_autoencoder, picture, select_items
from genzoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from genzoo.models.autoencoder import Autoencoder
    from genzoo.models.translating import Translating

DESCRIPTION = """Decodes the content of each image with the class of each: rows share the content of the image at their
left, columns the class of the image at their top, and the diagonal holds reconstructions. The model needs two
encoders."""

EXAMPLES = """examples:
  genzoo train softintrovae-translation       a model with two encoders, class and content
  genzoo translate RUN a.png b.png c.png --out grid.png
  genzoo translate RUN --n 8                  eight held-out images
  genzoo translate RUN --data FOLDER --n 6"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, "PNG to write (default MODEL/translation.png)")
    add_data(parser, n=8)


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    model = _translating(load_autoencoder(args.model, "translate"), args.model)
    import torch

    from genzoo.pictures import save_grid

    out = picture(args, "translation.png")
    images = torch.cat([batch.x for batch in select_items(args, model).batches])
    if len(images) < 2:
        raise UsageError("A translation is from one image to another, and there is one: give two or more.")
    rows = [model.translate(image.expand_as(images), images) for image in images]
    save_grid(_framed(images, rows), out)
    of_class, of_content = (kl.mean().item() for kl in model.kl_of_parts(images))
    print(
        f"{out}: content of the first column with the class of the first row, {len(images)}x{len(images)} images; KL "
        f"to the prior: class {of_class:.1f} nats, content {of_content:.1f} nats"
    )


def _translating(model: "Autoencoder", path: str) -> "Translating":
    from genzoo.models.translating import Translating

    if not isinstance(model, Translating):
        raise UsageError(
            f"{path} holds a {type(model).__name__}, which has one encoder, and `genzoo translate` needs two, class "
            "and content: train softintrovae-translation."
        )
    return model


def _framed(images: "Tensor", rows: "list[Tensor]") -> "list[Tensor]":
    """The grid with the images along its upper and left edges; its corner is white."""
    import torch

    corner = torch.ones_like(images[:1])
    return [
        torch.cat([corner, images]),
        *(torch.cat([image[None], row]) for image, row in zip(images, rows, strict=True)),
    ]
