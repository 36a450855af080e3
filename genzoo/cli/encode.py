"""`genzoo encode`: the latents of images, for other programs."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from genzoo.cli.common import CHUNK, add_data, add_model, default_out, load_model, open_items
from genzoo.errors import UsageError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes the posterior of every image: mean and logvar [N, Z], kl [N] (nats), and its path, or its index in the data and its labels."
    )
    parser.epilog = (
        "example:\n  genzoo encode RUN --data cifar10 --out latents.npz\n  genzoo encode RUN a.png b.png --out latents.safetensors"
    )
    add_model(parser, ".npz or .safetensors (default MODEL/latents.npz)")
    add_data(parser, n=None)


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    import numpy as np
    import torch
    from tqdm import tqdm

    out = Path(args.out) if args.out else default_out(args.model, "latents.npz")
    if out.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"--out {out}: end it in .npz or .safetensors.")
    model = load_model(args.model)
    items = open_items(args, model)
    with torch.no_grad():
        bar = tqdm(items.batches, total=-(-items.count // CHUNK), disable=items.count < 8 * CHUNK, unit="batch")
        posteriors = [model.encode(batch).latent_dist for batch in bar]
    arrays = {name: torch.cat([getattr(p, name) for p in posteriors]).cpu().numpy() for name in ("mean", "logvar")}
    arrays["kl"] = torch.cat([p.kl() for p in posteriors]).cpu().numpy()
    if args.images:
        arrays["path"] = np.array(args.images)
    if items.dataset is not None:
        arrays["index"] = np.array(items.places)
        labels = items.dataset.labels()
        named = labels if isinstance(labels, Mapping) else {"": labels} if labels is not None else {}
        arrays |= {f"label_{name}".rstrip("_"): np.asarray(values)[items.places] for name, values in named.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        np.savez(out, **arrays)
    else:
        from safetensors.numpy import save_file

        texts = [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items() if name not in texts}, out)
        if texts:
            print(f"left out, as .safetensors holds numbers only: {', '.join(texts)}; an .npz file takes all")
    print(f"{out}: mean and logvar of {items.count:,} items, {arrays['mean'].shape[1]} latent dimensions")
