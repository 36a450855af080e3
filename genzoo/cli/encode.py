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

    from genzoo.models.autoencoder import Autoencoder, PointCode, Posterior

DESCRIPTION = """Writes the posterior of every image: mean and logvar [N, *latent], kl [N] (nats), and its path, or its
index in the data and its labels. A model with a deterministic encoder has a mean only."""

EXAMPLES = """examples:
  genzoo encode RUN --data cifar10 --out latents.npz
  genzoo encode RUN a.png b.png --out latents.safetensors
  genzoo encode RUN --clusters                 which component of a learned mixture each item is of"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_model(parser, ".npz or .safetensors (default MODEL/latents.npz)")
    add_data(parser, n=None)
    parser.add_argument(
        "--clusters",
        action="store_true",
        help="of a model with a learned prior: adds each item's component, `cluster`, and where the data have classes "
        "compares clusters with them, beside k-means on the means",
    )


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    out = Path(args.out) if args.out else default_out(args.model, "latents.npz")
    if out.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"--out {out}: end it in .npz or .safetensors.")
    model = load_autoencoder(args.model, "encode")
    if args.clusters:
        _refuse_without_components(args.model, model)
    import numpy as np
    import torch

    from genzoo.progress import bar

    items = select_items(args, model)
    with torch.no_grad():
        many, total = items.count >= 8 * CHUNK, -(-items.count // CHUNK)
        batches = bar(items.batches, "encoding", shown=many, total=total, unit="batch")
        latents = _latents(model, [model.encode(batch.x, batch.labels).latent_dist for batch in batches])
    labels = {"path": np.array(args.images)} if args.images else _labels(items)
    if args.clusters:
        latents["cluster"] = _clusters(model, latents["mean"])
    out.parent.mkdir(parents=True, exist_ok=True)
    _write(out, latents | labels)
    what = " and ".join(name for name in latents if name not in ("kl", "cluster"))
    size = "x".join(map(str, model.latent_shape))
    split = f"; split {items.split}, another with --set data.split=..." if items.split else ""
    print(f"{out}: {what} of {items.count:,} items, {size} latent dimensions{split}")
    if args.clusters:
        _report(latents["cluster"], latents["mean"], labels, args.seed)


def _refuse_without_components(path: str, model: "Autoencoder") -> None:
    from genzoo.nn.mixture import learned_prior

    if learned_prior(model) is None:
        raise UsageError(
            f"--clusters needs a learned prior, and {path} has none: leave it out, or train with "
            "--set arch.prior=mog:10."
        )


def _clusters(model: "Autoencoder", means: "np.ndarray") -> "np.ndarray":
    """The most likely component of each item's mean: int64 [N]."""
    import torch

    from genzoo.nn.mixture import learned_prior

    prior = learned_prior(model)
    assert prior is not None
    with torch.no_grad():
        parts = torch.from_numpy(means).to(model.device).split(1024)
        return torch.cat([prior.responsibilities(part).argmax(1) for part in parts]).cpu().numpy()


def _report(clusters: "np.ndarray", means: "np.ndarray", labels: "Mapping[str, np.ndarray]", seed: int) -> None:
    """Prints how clusters agree with each kind of classes, beside as many clusters of k-means."""
    from genzoo.metrics.clusters import agreement, kmeans

    used = len(set(clusters.tolist()))
    kinds = {name: values for name, values in labels.items() if name != "index" and values.dtype.kind == "i"}
    kinds = {name: values for name, values in kinds.items() if (values >= 0).any()}  # a split may be without labels
    print(f"clusters: {used} components have items")
    if not kinds:
        return
    others = kmeans(means.reshape(len(means), -1), min(used, len(means)), seed)
    for name, classes in kinds.items():
        for what, found in (("learned prior", clusters), (f"k-means, k = {used}", others)):
            accuracy, information = agreement(found[classes >= 0], classes[classes >= 0])  # negative: no class
            print(f"  {what} against {name}: accuracy {accuracy:.3f}, NMI {information:.3f}")


def _latents(model: "Autoencoder", posteriors: "Sequence[Posterior | PointCode]") -> "dict[str, np.ndarray]":
    """Gathers what there is of mean, logvar and kl."""
    import torch

    from genzoo.models.autoencoder import Posterior

    columns = {"mean": [p.mean for p in posteriors]}
    if gaussian := [p for p in posteriors if isinstance(p, Posterior)]:
        columns |= {"logvar": [p.logvar for p in gaussian], "kl": [model.kl(p.mean, p.logvar) for p in gaussian]}
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
