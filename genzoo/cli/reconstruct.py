"""`genzoo reconstruct`: images and their reconstructions, one above the other."""

import argparse

from genzoo.cli.common import CHUNK, add_data, add_model, load_model, open_items, picture
from genzoo.errors import UsageError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Encodes images to the mode of their posterior and decodes them; each row of images stands above its reconstructions."
    )
    parser.epilog = "example:\n  genzoo reconstruct RUN face1.png face2.png --out pairs.png\n  genzoo reconstruct RUN --data cifar10 --n 32"
    add_model(parser, "PNG to write (default MODEL/reconstructions.png)")
    add_data(parser, n=16)


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    import torch

    from genzoo.training.pictures import save_grid

    model = load_model(args.model)
    if not model.is_image:
        raise UsageError("This model is of points, not images: see the plots in its run folder, or `genzoo encode`.")
    out = picture(args, "reconstructions.png")
    images = torch.cat(list(open_items(args, model).batches))
    again = torch.cat([model.reconstruct(part) for part in images.split(CHUNK)])
    save_grid([row for pair in zip(images.split(8), again.split(8), strict=True) for row in pair], out)
    error = (images - again).square().mean().item()
    print(f"{out}: {len(images)} images above their reconstructions, mean squared error {error:.5f} per pixel and channel")
