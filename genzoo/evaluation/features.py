"""Features of many images: batched, shared between processes, and cached on disk for datasets.

They are kept in `<cache>/features/<key>/`, where the key is a hash of everything that decides the numbers.
`genzoo cache` lists and clears them; the folder can be deleted at any time.
"""

import json
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genzoo.data import cache
from genzoo.data.batches import to_float
from genzoo.data.sets import EndlessSet
from genzoo.data.sources import fingerprint
from genzoo.errors import UsageError
from genzoo.evaluation.extractors import Extractor, Mode, Precision, resized
from genzoo.evaluation.own_sizes import open_at_own_sizes
from genzoo.files import as_written, digest, replacing, sealed, utf8_path
from genzoo.noise import generator
from genzoo.progress import bar
from genzoo.spec import DataConfig

VALUES, ABOUT = "features.safetensors", "about.json"


@dataclass(frozen=True)
class Features:
    """One row per image."""

    values: Tensor  # [N, D] float32, on the CPU
    extractor: str  # `Extractor.identity`; features of different ones are never compared


def extract(
    extractor: Extractor,
    batches: Iterable[Tensor | list[Tensor]],
    *,
    precision: Precision | None = None,
    mode: Mode = "eval",
    total: int | None = None,
    progress: bool = True,
) -> Features:
    """Extracts features of images in their order. Each of k processes is given all batches and extracts every k-th.

    Args:
        extractor: what computes them.
        batches: [n, C, H, W] each, uint8 in [0, 255] or float in [0, 1], or n images [1, C, H, W] of different sizes;
            at least one.
        precision: see `Extractor`; None = the best for this machine.
        mode: see `Extractor`.
        total: number of images, if known, for the progress bar.
        progress: whether to show one.

    Raises:
        UsageError: there are no images, or the extractor refuses them.
    """
    world = dist.get_world_size() if dist.is_initialized() else 1
    precision = precision or extractor.best_precision(mode)
    done: list[tuple[int, Tensor]] = []  # first row, features
    n = 0
    name = f"features of {extractor.name}"
    with bar(name=name, shown=progress, total=total, unit=" images", leave=False) as shown:
        for i, batch in enumerate(batches):
            if is_mine(i):
                done.append((n, extractor(_images(batch, extractor), mode=mode, precision=precision).cpu()))
            n += len(batch)
            shown.update(len(batch))
    if n == 0:
        raise UsageError("There are no images to extract features from: give at least one batch.")
    values = torch.zeros(n, extractor.dim)
    for start, rows in done:
        values[start : start + len(rows)] = rows
    if world > 1:
        values = values.to(extractor.device)  # NCCL has no tensors on the CPU
        dist.all_reduce(values)  # each row is one process's, and zero in the others
    return Features(values.cpu(), extractor.identity(mode, precision))


def _images(batch: Tensor | list[Tensor], extractor: Extractor) -> Tensor:
    """Brings a batch to floats of one size: images of different sizes to the size of the extractor's input."""
    if isinstance(batch, Tensor):
        return to_float(batch, extractor.device)
    return torch.cat([resized(to_float(x, extractor.device), extractor.size, extractor.resize) for x in batch])


def is_mine(i: int) -> bool:
    """Whether this process extracts the i-th batch."""
    return not dist.is_initialized() or i % dist.get_world_size() == dist.get_rank()


def dataset_features(
    extractor: Extractor,
    config: DataConfig,
    split: str,
    n: int | None = None,
    *,
    seed: int = 0,
    batch: int = 100,
    shuffled: bool = False,
    mode: Mode = "eval",
    precision: Precision | None = None,
    progress: bool = True,
) -> Features:
    """Returns the features of a split's images, from the cache if they are there.

    Args:
        extractor: what computes them.
        config: the data at the resolution at which it is scored; its split and mirror are ignored.
        split: a split or a part of one, `test`, `train[:29000]`.
        n: number of images: a random subset that depends on `seed` only, in the dataset's order; None = all.
        seed: of the subset.
        batch: images at a time; changes the numbers in train mode only.
        shuffled: in a random order that depends on `seed`, of which train mode makes other batches.
        mode: see `Extractor`.
        precision: see `Extractor`; None = the best for this machine.
        progress: whether to show a progress bar.

    Raises:
        UsageError: there are fewer than n images or none, or `open_dataset` or the extractor refuses them.
    """
    dataset = open_at_own_sizes(config, split, progress)
    if isinstance(dataset, EndlessSet) or not dataset.is_image:
        raise UsageError(f"{dataset.name} contains no images: choose another dataset, or density2d for points.")
    if n is not None and not 1 <= n <= dataset.size:
        raise UsageError(
            f"{dataset.name} has {dataset.size:,} images, not {n:,}: "
            f"ask for 1 to {dataset.size:,}, or for None to take all."
        )
    indices = _shuffled(dataset.size, n, seed) if shuffled else subset_of(dataset.size, n, seed)
    subset = seed if len(indices) < dataset.size or shuffled else None
    precision = precision or extractor.best_precision(mode)
    key = fingerprint(
        dataset.fingerprint,
        getattr(dataset, "digest", ""),  # files that were changed in place may have the same fingerprint
        dataset.shape,
        len(indices),
        subset,
        extractor.digest,
        extractor.identity(mode, precision),
        batch if mode == "train" else None,
        *(["shuffled"] if shuffled else []),
    )
    folder = _folder(key)
    first = folder is not None and (not dist.is_initialized() or dist.get_rank() == 0)
    with FileLock(f"{folder}.lock") if first else nullcontext():  # another run waits, then finds them
        features = _load(folder)
        everywhere = _everywhere(features is not None, extractor.device)
        if features is None or not everywhere:
            batches = (dataset.batch(part) for part in np.split(indices, range(batch, len(indices), batch)))
            features = extract(
                extractor, batches, precision=precision, mode=mode, total=len(indices), progress=progress
            )
            if folder is not None and first:
                _save(
                    folder,
                    features,
                    {"data": dataset.name, "shape": dataset.shape, "n": len(indices), "subset_seed": subset},
                )
    return features


def _folder(key: str) -> Path | None:
    """Where features are kept; None, with a warning, where no cache can be written."""
    try:
        folder = cache.root().parent / "features" / key
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(f"the cache cannot be written ({error}): features are not kept for the next time", stacklevel=3)
        return None
    return folder


def subset_of(size: int, n: int | None, seed: int) -> np.ndarray:
    """Returns which images `dataset_features` takes: all, or n random ones in ascending order, int64."""
    if n is None or n == size:
        return np.arange(size)
    return np.sort(_shuffled(size, n, seed))


def _shuffled(size: int, n: int | None, seed: int) -> np.ndarray:
    """Returns n random indices, or all, in random order, int64."""
    return torch.randperm(size, generator=generator(seed, "subset"))[:n].numpy()


def _everywhere(here: bool, device: torch.device) -> bool:
    """Whether `here` is true in every process: either all processes extract, or none."""
    if not dist.is_initialized():
        return here
    flag = torch.tensor(int(here), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)


def _save(folder: Path, features: Features, about: dict[str, Any]) -> None:
    with replacing(folder) as temporary:
        save_file({"values": features.values}, temporary / VALUES)
        about |= {"extractor": features.extractor, "digest": digest(temporary / VALUES)}
        (temporary / ABOUT).write_text(json.dumps(sealed(about), indent=1), encoding="utf-8")


def _load(folder: Path | None) -> Features | None:
    """Reads cached features; None if there are none or, with a warning, if they are damaged."""
    if folder is None or not folder.exists():
        return None
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if not as_written(about) or digest(folder / VALUES) != about["digest"]:
            raise ValueError("another content than was written")
        cache.touch(folder / ABOUT)
        with utf8_path(folder / VALUES) as path:
            return Features(load_file(path)["values"], about["extractor"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        warnings.warn(f"The cached features {folder} are damaged ({error}) and are recomputed.", stacklevel=3)
        return None
