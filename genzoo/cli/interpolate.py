"""`genzoo interpolate`: IntroVAE's Figure 6."""

import argparse

from genzoo.cli.common import add_data, add_model, load_autoencoder, picture, select_items
from genzoo.cli.numbers import count
from genzoo.errors import UsageError

DESCRIPTION = """Encodes two images, walks between their latents in a straight line, and decodes the steps (IntroVAE,
Figure 6)."""

EXAMPLES = """examples:
  genzoo interpolate RUN a.png b.png --steps 11 --out walk.png
  genzoo interpolate RUN --n 8      four walks between held-out images
  genzoo interpolate RUN --n 8 --steps 25 --out walk.gif      animated; .mp4 needs pip install "genzoo[video]\""""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, "PNG: one row per pair; .gif or .mp4: there and back (default MODEL/interpolation.png)")
    add_data(parser, n=8)
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
    if model.conditional:
        raise UsageError(f"{args.model} is trained on labels: use model.interpolate(..., labels=...) in Python.")
    out = picture(args, "interpolation.png", ANIMATED)
    images = torch.cat([batch.x for batch in select_items(args, model).batches])
    if len(images) < 2 or len(images) % 2:
        raise UsageError(f"A walk leads from one image to another, and there are {len(images)}: give two, or four, ...")
    walks = [
        model.interpolate(a[None], b[None], args.steps)[0] for a, b in zip(images[0::2], images[1::2], strict=True)
    ]
    if out.suffix.lower() in ANIMATED:
        save_animation(torch.stack(walks, 1), out)
    else:
        save_grid(walks, out)
    print(f"{out}: {len(walks)} walk{'s' * (len(walks) > 1)} of {args.steps} steps")
