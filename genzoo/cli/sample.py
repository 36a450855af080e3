"""`genzoo sample`: new images from the prior."""

import argparse
import math
from pathlib import Path

from genzoo.cli.common import CHUNK, add_model, default_out, load_model, write_images
from genzoo.errors import UsageError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draws latents from the prior N(0, I) and decodes them."
    parser.epilog = "example:\n  genzoo sample RUN --n 64 --out samples.png\n  genzoo sample RUN --n 10000 --out folder     one PNG each"
    add_model(parser, "PNG for a grid, or a folder for one PNG each; .npz for points (default MODEL/samples.png)")
    parser.add_argument("--n", metavar="N", type=int, default=64, help="how many (default 64)")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    import torch
    from tqdm import tqdm

    from genzoo.noise import generator

    if args.n < 1:
        raise UsageError(f"--n {args.n}: ask for at least one.")
    model = load_model(args.model)
    rng = generator(args.seed, "sample")
    sizes = [min(CHUNK, args.n - start) for start in range(0, args.n, CHUNK)]
    samples = torch.cat([model.sample(size, generator=rng).cpu() for size in tqdm(sizes, disable=len(sizes) < 4, unit="batch")])
    if model.is_image:
        out = Path(args.out) if args.out else default_out(args.model, "samples.png")
        print(write_images(samples, out, rows=min(16, math.ceil(math.sqrt(args.n)))))
    else:
        import numpy as np

        out = Path(args.out) if args.out else default_out(args.model, "samples.npz")
        np.savez(out, samples=samples.numpy())
        print(f"{out}: {len(samples)} points")
