"""Published statistics in the place of real images: `mu` [D] and `sigma` [D, D] of their features in a `.npz` file.

The file may also hold `extractor`, the name of what made them (as in a result line), and `n`, the number of images.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genzoo.data.arrayfiles import holds_statistics
from genzoo.data.npy import open_npz
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
    arrays = {name: array for name, array in open_npz(path).items() if not array.dtype.hasobject}
    mean, cov = (torch.from_numpy(arrays[name].load()).double() for name in ("mu", "sigma"))
    if mean.shape != (extractor.dim,) or cov.shape != (extractor.dim, extractor.dim):
        raise UsageError(
            f"{path} holds statistics of {len(mean)} dimensions (mu {list(mean.shape)}, sigma {list(cov.shape)}), and "
            f"{extractor.name} has {extractor.dim}: name a protocol of the extractor that made them."
        )
    if not (mean.isfinite().all() and cov.isfinite().all()):
        raise UsageError(f"{path} holds NaN or infinity: copy it again.")
    if not torch.allclose(cov, cov.T, atol=1e-4 * cov.abs().max().item()) or (cov.diagonal() < 0).any():
        raise UsageError(f"sigma in {path} is not a covariance, which is symmetric and has no negative variances.")
    stated = str(arrays["extractor"].load()) if "extractor" in arrays else None
    if stated is None:
        warnings.warn(
            f"{path} does not say which extractor made it: the distance holds only if it was {extractor.name} "
            f"({extractor.resize}).",
            stacklevel=2,
        )
    elif stated not in (extractor.name, extractor.key):
        raise UsageError(f"{path} holds statistics of {stated}, not of {extractor.name}: take a protocol of {stated}.")
    n = int(arrays["n"].load().item()) if "n" in arrays else None
    mode = protocol.extractor_mode
    statistics = Statistics(
        mean,
        cov,
        n or 2 * extractor.dim,  # enough, if unknown: a warning of too few images would be a guess
        extractor.identity(mode, extractor.best_precision(mode)),
    )
    about = {"file": path.name, "sha256": digest(path), "extractor": stated or "not stated"}
    return Known(statistics, n, {"real_statistics": about})
