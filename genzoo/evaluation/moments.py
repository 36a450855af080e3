"""Published statistics in the place of real images: `mu` [D] and `sigma` [D, D] of their features in a `.npz` file.

The file may also hold `extractor`, the name of what made them (as in a result line), and `n`, the number of images.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genzoo.data.arrayfiles import holds_statistics
from genzoo.data.npy import Stored, open_npz
from genzoo.errors import UsageError
from genzoo.evaluation.extractors import Extractor
from genzoo.evaluation.protocols import Protocol
from genzoo.files import digest
from genzoo.metrics.frechet import Statistics
from genzoo.metrics.inputs import FeatureMoments
from genzoo.spec import DataConfig


@dataclass(frozen=True)
class Known:
    """Statistics from a file."""

    statistics: Statistics
    n: int | None  # images, if the file says how many
    details: Mapping[str, Any]  # for the result line


def is_statistics(data: DataConfig) -> bool:
    """Whether the data is a file of statistics rather than images."""
    return holds_statistics(Path(data.name).expanduser())


def read_statistics(data: DataConfig, protocol: Protocol, extractor: Extractor) -> Known | None:
    """Reads the statistics that the data consists of; None for images.

    Warns where the file does not name its extractor.

    Raises:
        UsageError: the protocol needs more than statistics, or they are of another extractor or damaged.
    """
    if not is_statistics(data):
        return None
    path = Path(data.name).expanduser()
    if not issubclass(protocol.metric.inputs, FeatureMoments):
        raise UsageError(
            f"{protocol.name} needs the features of real images, and {path} holds their mean and covariance only: "
            "give images with --data, or take a Fréchet distance."
        )
    arrays = open_npz(path)
    mean, cov = _moments(arrays, path, extractor)
    stated = _extractor(arrays.get("extractor"), path, extractor)
    n = int(_numbers(arrays["n"]).flat[0]) if "n" in arrays else None
    mode = protocol.extractor_mode
    statistics = Statistics(
        mean,
        cov,
        n or 2 * extractor.dim,  # enough, if unknown: a warning of too few images would be a guess
        extractor.identity(mode, extractor.best_precision(mode)),
    )
    about = {"file": path.name, "sha256": digest(path), "extractor": stated or "not stated"}
    return Known(statistics, n, {"real_statistics": about})


def _moments(arrays: Mapping[str, Stored], path: Path, extractor: Extractor) -> tuple[Tensor, Tensor]:
    """Reads mean and covariance, float64, and refuses those that are not of this extractor's features."""
    mean, cov = (torch.from_numpy(_numbers(arrays[name])) for name in ("mu", "sigma"))
    if mean.shape != (extractor.dim,) or cov.shape != (extractor.dim, extractor.dim):
        raise UsageError(
            f"{path} holds statistics of {len(mean)} dimensions (mu {list(mean.shape)}, sigma {list(cov.shape)}), and "
            f"{extractor.name} has {extractor.dim}: name a protocol of the extractor that made them."
        )
    if not torch.allclose(cov, cov.T, atol=1e-4 * cov.abs().max().item()) or (cov.diagonal() < 0).any():
        raise UsageError(f"sigma in {path} is not a covariance, which is symmetric and has no negative variances.")
    return mean, cov


def _extractor(stored: Stored | None, path: Path, extractor: Extractor) -> str | None:
    """Reads the name of the extractor that made the statistics; warns where there is none, and refuses another."""
    if stored is None or stored.dtype.hasobject:  # a pickle
        warnings.warn(
            f"{path} does not say which extractor made it: the distance holds only if it was {extractor.name} "
            f"({extractor.resize}).",
            stacklevel=3,
        )
        return None
    stated = str(stored.load())
    if stated not in (extractor.name, extractor.key):
        raise UsageError(f"{path} holds statistics of {stated}, not of {extractor.name}: take a protocol of {stated}.")
    return stated


def _numbers(stored: Stored) -> np.ndarray:
    """Reads an array of numbers as float64, of one dimension at least.

    Raises:
        UsageError: it is damaged, empty, of another type, or not finite.
    """
    if stored.dtype.kind not in "iuf" or not math.prod(stored.shape):
        raise UsageError(f"{stored.where} holds {stored.dtype} {list(stored.shape)}, not numbers: copy the file again.")
    values = np.atleast_1d(stored.load()).astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{stored.where} holds NaN or infinity: copy the file again.")
    return values
