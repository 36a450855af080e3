"""Randomness as a pure function of (seed, stream, step), so that an interrupted run resumes exactly."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """Returns a CPU generator that depends on its three arguments only.

    Streams of different names or steps are unrelated, but not all different: PyTorch's CPU generator takes the lower 32
    bits of a seed, so among n draws of whole tensors about n^2 / 2^33 pairs are equal by chance, and so may be draws of
    two runs.
    """
    key = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)  # torch takes seeds below 2**63


@dataclass(frozen=True)
class Noise:
    """The randomness of one step for items `start:stop` of a global batch of `batch` items.

    Every draw is made for the global batch and sliced, so that k processes or k micro-batches see the noise of one.
    """

    seed: int
    step: int
    batch: int
    start: int
    stop: int
    like: Tensor  # gives dtype and device
    part: int = 0  # which of the step's real batches the noise is for; see `genzoo.objective.Fresh`

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Draws N(0, 1) of shape [stop - start, *shape]."""
        return self._sliced(torch.randn(self.batch, *shape, generator=self._generator(stream), dtype=self.like.dtype))

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """Draws U[0, 1) of shape [stop - start, *shape]."""
        return self._sliced(torch.rand(self.batch, *shape, generator=self._generator(stream), dtype=self.like.dtype))

    def _generator(self, stream: str) -> torch.Generator:
        return generator(self.seed, f"{stream}/{self.part}" if self.part else stream, self.step)

    def _sliced(self, draw: Tensor) -> Tensor:
        return draw[self.start : self.stop].to(self.like.device, non_blocking=True)
