"""Randomness as a pure function of (seed, stream, step): what a killed run needs to end as if it had not been killed."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """Returns a CPU generator that depends on its three arguments only; streams of different names are independent."""
    key = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)  # torch takes seeds below 2**63


@dataclass(frozen=True)
class Noise:
    """One step's randomness for images `start:stop` of a global batch of `batch` images.

    Every draw is made for the global batch and sliced, so that k processes or k micro-batches see the noise of one.
    """

    seed: int
    step: int
    batch: int
    start: int
    stop: int
    like: Tensor  # gives dtype and device

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Draws N(0, 1) of shape [stop - start, *shape]."""
        draw = torch.randn(self.batch, *shape, generator=generator(self.seed, stream, self.step), dtype=self.like.dtype)
        return draw[self.start : self.stop].to(self.like.device, non_blocking=True)
