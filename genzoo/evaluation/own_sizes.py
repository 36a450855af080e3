"""Images of different sizes, each resized to an extractor's input on its own, as clean-fid does."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genzoo.data import open_dataset
from genzoo.data.materialize import DecodeJob, MixedSizesError
from genzoo.data.opening import open_source
from genzoo.data.sets import Dataset
from genzoo.errors import UsageError
from genzoo.spec import DataConfig


class OwnSizes:
    """The images of a split at their own sizes, decoded by every batch. Only feature extractors take them.

    Raises:
        UsageError: as `open_dataset`.
    """

    is_image = True

    def __init__(self, config: DataConfig, split: str | None) -> None:
        source = open_source(config, split)
        self._source, self._job = source, DecodeJob(source, config)
        kept = [i for i in range(source.size) if not config.skip_corrupt or isinstance(self._decoded(i), np.ndarray)]
        self._kept, self.size = np.array(kept), len(kept)
        if left_out := source.size - self.size:
            warnings.warn(f"{source.name}: {left_out:,} unreadable left out", stacklevel=2)
        self.name, self.fingerprint = source.name, self._job.key
        self.shape = (config.channels,)  # height and width differ

    def batch(self, indices: Sequence[int] | np.ndarray) -> list[Tensor]:
        """Decodes items, uint8 [1, C, H, W] each. Raises UsageError for one that cannot be read."""
        return [torch.from_numpy(self._pixels(int(self._kept[i])))[None] for i in indices]

    def _pixels(self, number: int) -> np.ndarray:
        pixels = self._decoded(number)
        if isinstance(pixels, str):  # it could be read before
            raise UsageError(f"cannot read {pixels}: put it back, or score other images.")
        return pixels

    def _decoded(self, number: int) -> np.ndarray | str:
        return self._job.attempt(number, *self._source.fetch([number]))


def open_at_own_sizes(config: DataConfig, split: str | None = None, progress: bool = True) -> Dataset | OwnSizes:
    """Opens a split; where no size is configured and the images have several, each keeps its own.

    Raises:
        UsageError: as `open_dataset`.
    """
    try:
        dataset = open_dataset(config, split, progress)
    except MixedSizesError:
        return OwnSizes(config, split)
    sizes_known = dataset.cached or config.size is not None
    return dataset if sizes_known else OwnSizes(config, split)
