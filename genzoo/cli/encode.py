"""`genzoo encode`: the latents of images, for other programs."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genzoo.cli.common import CHUNK, Selection, add_data, add_model, default_out, load_autoencoder, select_items
from genzoo.errors import UsageError
from genzoo.files import apply_umask

if TYPE_CHECKING:
    import numpy as np

    from genzoo.models.autoencoder import PointCode, Posterior

DESCRIPTION = """Writes the posterior of every image: mean and logvar [N, *latent], kl [N] (nats), and its path, or its
index in the data and its labels. A model with a deterministic encoder has a mean only."""

EXAMPLES = """examples:
  genzoo encode RUN --data cifar10 --out latents.npz
  genzoo encode RUN a.png b.png --out latents.safetensors"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, ".npz or .safetensors (default MODEL/latents.npz)")
    add_data(parser, n=None)


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    out = Path(args.out) if args.out else default_out(args.model, "latents.npz")
    if out.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"--out {out}: end it in .npz or .safetensors.")
    model = load_autoencoder(args.model, "encode")
    import numpy as np
    import torch

    from genzoo.progress import bar

    items = select_items(args, model)
    with torch.no_grad():
        many, total = items.count >= 8 * CHUNK, -(-items.count // CHUNK)
        batches = bar(items.batches, "encoding", shown=many, total=total, unit="batch")
        latents = _latents([model.encode(batch.x, batch.labels).latent_dist for batch in batches])
    labels = {"path": np.array(args.images)} if args.images else _labels(items)
    out.parent.mkdir(parents=True, exist_ok=True)
    _write(out, latents | labels)
    what = " and ".join(name for name in latents if name != "kl")
    size = "x".join(map(str, model.latent_shape))
    split = f"; split {items.split}, another with --set data.split=..." if items.split else ""
    print(f"{out}: {what} of {items.count:,} items, {size} latent dimensions{split}")


def _latents(posteriors: "Sequence[Posterior | PointCode]") -> "dict[str, np.ndarray]":
    """Gathers what there is of mean, logvar and kl."""
    import torch

    from genzoo.models.autoencoder import Posterior

    columns = {"mean": [p.mean for p in posteriors]}
    if gaussian := [p for p in posteriors if isinstance(p, Posterior)]:
        columns |= {"logvar": [p.logvar for p in gaussian], "kl": [p.kl() for p in gaussian]}
    return {name: torch.cat(parts).cpu().numpy() for name, parts in columns.items()}


def _labels(items: Selection) -> "dict[str, np.ndarray]":
    """Index and labels of items of a finite dataset."""
    import numpy as np

    from genzoo.dataspec import ONLY

    if items.dataset is None:
        return {}
    labels = items.dataset.labels()
    only = list(labels) == [ONLY]
    named = {name if only else f"label_{name}": values for name, values in labels.items()}
    return {"index": np.array(items.indices)} | {name: values[items.indices] for name, values in named.items()}


def _write(out: Path, arrays: Mapping[str, Any]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    if out.suffix == ".npz":
        np.savez(out, **arrays)
        return
    texts = [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items() if name not in texts}, out)
    apply_umask(out)
    if texts:
        print(f"left out, as .safetensors holds numbers only: {', '.join(texts)}; an .npz file takes all")
