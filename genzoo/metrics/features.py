"""Features of many images: batched, shared between processes, and kept on disk for datasets.

Kept as `<cache>/features/<key>/`, the key a hash of all that decides the numbers. Nothing deletes them; the folder may be deleted at any time.
"""

import json
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from genzoo.data import cache, open_dataset
from genzoo.data.imageset import fingerprint
from genzoo.errors import UsageError
from genzoo.metrics.classifier import sha256
from genzoo.metrics.extractors import Extractor, Mode, Precision
from genzoo.noise import generator
from genzoo.spec import DataConfig
from genzoo.training.checkpoint import replacing
from genzoo.training.loader import as_real

if TYPE_CHECKING:
    from genzoo.metrics.frechet import Statistics

VALUES, ABOUT = "features.safetensors", "about.json"


@dataclass(frozen=True)
class Features:
    """One row an image."""

    values: Tensor  # [N, D] float32, on the CPU
    extractor: str  # `Extractor.mark`: features of different marks do not compare


def extract(
    extractor: Extractor,
    batches: Iterable[Tensor],
    *,
    precision: Precision | None = None,
    mode: Mode = "eval",
    total: int | None = None,
    progress: bool = True,
) -> Features:
    """Extracts features of images in their order. Of several processes, each must be given all batches; it extracts every k-th (`is_mine`).

    Args:
        batches: [n, C, H, W] each, uint8 in [0, 255] or float in [0, 1]; at least one.
        precision, mode: see `Extractor`; no precision = its best for this machine.
        total: number of images, if known, for the progress bar.

    Raises:
        UsageError: no images, or images that the extractor refuses.
    """
    world = dist.get_world_size() if dist.is_initialized() else 1
    precision = precision or extractor.best_precision(mode)
    done, n = [], 0  # (first row, features), rows
    with tqdm(total=total, desc=f"features of {extractor.name}", unit=" images", disable=None if progress else True, leave=False) as bar:
        for i, batch in enumerate(batches):
            if is_mine(i):
                done.append((n, extractor(as_real(batch, extractor.device), mode=mode, precision=precision).cpu()))
            n += len(batch)
            bar.update(len(batch))
    if n == 0:
        raise UsageError("there are no images to extract features from: give at least one batch.")
    values = torch.zeros(n, extractor.dim)
    for start, rows in done:
        values[start : start + len(rows)] = rows
    if world > 1:
        values = values.to(extractor.device)  # NCCL moves nothing from the CPU
        dist.all_reduce(values)  # every row is one process's and zero elsewhere
    return Features(values.cpu(), extractor.mark(mode, precision))


def is_mine(i: int) -> bool:
    """Whether the i-th batch falls to this process."""
    return not dist.is_initialized() or i % dist.get_world_size() == dist.get_rank()


def dataset_features(
    extractor: Extractor,
    config: DataConfig,
    split: str,
    n: int | None = None,
    *,
    seed: int = 0,
    batch: int = 100,
    mode: Mode = "eval",
    precision: Precision | None = None,
    progress: bool = True,
) -> Features:
    """Features of a split's images, from the cache where they are there.

    Args:
        config: the data at the resolution at which it is to be scored; its own split and mirror play no part.
        split: a split or a part of one, `test`, `train[:29000]`.
        n: number of images: a random subset that depends on `seed` only, in the dataset's order; None = all.
        batch: images at a time; decides the numbers in train mode only.
        mode, precision: as for `extract`.

    Raises:
        UsageError: fewer than n images, no images, or what `open_dataset` and the extractor refuse.
    """
    dataset = open_dataset(config, split, progress)
    if dataset.size is None or len(dataset.shape) != 3:
        raise UsageError(f"{dataset.name} holds no images, and features are of images: choose another dataset, or density2d for points.")
    if n is not None and not 1 <= n <= dataset.size:
        raise UsageError(f"{dataset.name} has {dataset.size:,} images, not {n:,}: ask for 1 to {dataset.size:,}, or for none to take all.")
    indices = _subset(dataset.size, n, seed)
    subset = seed if len(indices) < dataset.size else None
    precision = precision or extractor.best_precision(mode)
    mark = extractor.mark(mode, precision)
    key = fingerprint(dataset.fingerprint, dataset.shape, len(indices), subset, extractor.digest, mark, batch if mode == "train" else None)
    folder = cache.root().parent / "features" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    first = not dist.is_initialized() or dist.get_rank() == 0
    with FileLock(folder.with_name(f"{key}.lock")) if first else nullcontext():  # another run waits, and then finds them there
        features = _load(folder)
        if not _everywhere(features is not None, extractor.device):
            batches = (dataset.batch(part) for part in np.split(indices, range(batch, len(indices), batch)))
            features = extract(extractor, batches, precision=precision, mode=mode, total=len(indices), progress=progress)
            if first:
                _save(folder, features, {"data": dataset.name, "shape": dataset.shape, "n": len(indices), "subset_seed": subset})
    return features


def dataset_statistics(extractor: Extractor, config: DataConfig, split: str, n: int | None = None, **options: Any) -> "Statistics":
    """Mean and covariance of `dataset_features`, which are what is kept; takes and raises the same."""
    from genzoo.metrics.frechet import statistics

    features = dataset_features(extractor, config, split, n, **options)
    return statistics(features.values, features.extractor)


def _subset(size: int, n: int | None, seed: int) -> np.ndarray:
    """All indices, or a random n of them in ascending order, int64."""
    if n is None or n == size:
        return np.arange(size)
    return torch.randperm(size, generator=generator(seed, "subset"))[:n].sort().values.numpy()


def _everywhere(here: bool, device: torch.device) -> bool:
    """Whether something holds in every process: all must extract, or none."""
    if not dist.is_initialized():
        return here
    flag = torch.tensor(int(here), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)


def _save(folder: Path, features: Features, about: dict[str, Any]) -> None:
    with replacing(folder) as temporary:
        save_file({"values": features.values}, temporary / VALUES)
        about |= {"extractor": features.extractor, "digest": sha256(temporary / VALUES)}
        (temporary / ABOUT).write_text(json.dumps(about, indent=1))


def _load(folder: Path) -> Features | None:
    """Reads kept features; None, with a warning, where they are damaged."""
    if not folder.exists():
        return None
    try:
        about = json.loads((folder / ABOUT).read_text())
        if sha256(folder / VALUES) != about["digest"]:
            raise ValueError("not what was written")
        return Features(load_file(folder / VALUES)["values"], about["extractor"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        warnings.warn(f"the kept features {folder} are damaged ({error}): they are extracted anew", stacklevel=3)
        return None
