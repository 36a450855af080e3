"""`genzoo reconstruct`: images and their reconstructions, one above the other."""

import argparse

from genzoo.cli.common import add_data, add_model, load_autoencoder, picture, select_items
from genzoo.errors import UsageError

DESCRIPTION = """Encodes images to the mode of their posterior and decodes them; each row of images is followed by its
reconstructions."""

EXAMPLES = """examples:
  genzoo reconstruct RUN face1.png face2.png --out pairs.png
  genzoo reconstruct RUN --data cifar10 --n 32"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, "PNG to write (default MODEL/reconstructions.png)")
    add_data(parser, n=16)


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    model = load_autoencoder(args.model, "reconstruct")
    import torch

    from genzoo.pictures import save_grid

    if not model.is_image:
        raise UsageError("This model is for points, not images: see the plots in its run folder, or `genzoo encode`.")
    out = picture(args, "reconstructions.png")
    batches = list(select_items(args, model).batches)
    images = torch.cat([batch.x for batch in batches])
    decoded = torch.cat([model.reconstruct(batch.x, batch.labels) for batch in batches])
    save_grid([row for pair in zip(images.split(8), decoded.split(8), strict=True) for row in pair], out)
    error = (images - decoded).square().mean().item()
    print(
        f"{out}: {len(images)} images above their reconstructions, mean squared error {error:.5f} per pixel and channel"
    )
