"""`genzoo sample`: new images from the prior."""

import argparse
import math
from pathlib import Path

from genzoo.cli.common import CHUNK, add_model, default_out, load_model, picture
from genzoo.errors import UsageError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draws latents from the prior N(0, I) and decodes them."
    parser.epilog = "example:\n  genzoo sample RUN --n 64 --out samples.png\n  genzoo sample RUN --n 10000 --out folder     one PNG each"
    add_model(parser, "PNG for a grid, or a folder for one PNG each; .npz for points (default MODEL/samples.png)")
    parser.add_argument("--n", metavar="N", type=int, default=64, help="how many (default 64)")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    import numpy as np
    import torch
    from tqdm import tqdm

    from genzoo.noise import generator
    from genzoo.training.pictures import save_grid

    if args.n < 1:
        raise UsageError(f"--n {args.n}: ask for at least one.")
    folder = Path(args.out) if args.out and not Path(args.out).suffix else None
    model = load_model(args.model)
    if not model.is_image:
        out = Path(args.out).with_suffix(".npz") if args.out else default_out(args.model, "samples.npz")
    else:
        out = folder or picture(args, "samples.png")
    rng = generator(args.seed, "sample")
    if folder and model.is_image:
        folder.mkdir(parents=True, exist_ok=True)
    samples: list[torch.Tensor] = []
    for start in tqdm(range(0, args.n, CHUNK), disable=args.n < 4 * CHUNK, unit="batch"):
        batch = model.sample(min(CHUNK, args.n - start), generator=rng).cpu()
        if folder and model.is_image:
            for i, image in enumerate(batch, start):
                save_grid([image[None]], folder / f"{i:06d}.png", zoom=1)
        else:
            samples.append(batch)
    if not model.is_image:
        np.savez(out, samples=torch.cat(samples).numpy())
    elif not folder:
        save_grid(torch.cat(samples).split(min(16, math.ceil(math.sqrt(args.n)))), out)
    print(f"{out}: {args.n:,} {'images' if model.is_image else 'points'}")
