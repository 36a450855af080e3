"""`genzoo reconstruct`: images and their reconstructions, one above the other."""

import argparse
from pathlib import Path

from genzoo.cli.common import CHUNK, add_data, add_model, default_out, load_model, open_images
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
    from einops import rearrange

    from genzoo.training.pictures import save_grid

    model = load_model(args.model)
    if not model.is_image:
        raise UsageError("This model is of points, not images: see the plots in its run folder, or `genzoo encode`.")
    images, _, _ = open_images(args, model)
    pairs = [(part, model.reconstruct(part)) for part in images.split(CHUNK)]
    sse = torch.cat([(a - b).square().flatten(1).sum(1) for a, b in pairs])
    real, again = (torch.cat(side).split(8) for side in zip(*pairs, strict=True))
    out = Path(args.out) if args.out else default_out(args.model, "reconstructions.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_grid([row for rows in zip(real, again, strict=True) for row in rows], out)
    pixels = rearrange(images, "n c h w -> n (c h w)").shape[1]
    print(f"{out}: {len(images)} images above their reconstructions, mean squared error {(sse / pixels).mean():.5f} per pixel and channel")
