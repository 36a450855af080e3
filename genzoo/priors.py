"""Priors of the latents: what objectives draw and what models sample."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.noise import Noise


@dataclass(frozen=True)
class Prior:
    """A distribution of latents; coordinates are independent except on the sphere.

    Attributes:
        kind: `normal` is N(0, scale^2 I), `uniform` is U(-scale, scale) per coordinate, `sphere` is uniform on the
            sphere of radius `scale`; `classes` and `mog` are learned, see `genzoo.nn.mixture`: draws are N(0, I), and
            the model places them.
        scale: positive.
        components: of a learned prior.
    """

    kind: Literal["normal", "uniform", "sphere", "classes", "mog"] = "normal"
    scale: float = 1.0
    components: int = 0

    @property
    def learned(self) -> bool:
        return self.components > 0

    def variance(self, shape: tuple[int, ...]) -> float:
        """Of one coordinate of a latent of `shape`; of a learned prior, that of its draws before they are placed."""
        of_kind = {"uniform": 1 / 3, "sphere": 1 / math.prod(shape)}
        return of_kind.get(self.kind, 1.0) * self.scale**2

    def draw_component(self, noise: Noise, stream: str, labels: Tensor | None) -> Tensor | None:
        """Draws which component each latent of a step's batch is of, for objectives: int64 [N].

        With classes they are the labels of the step's items, int64 [N]; None where the prior has no components.

        Raises:
            UsageError: the items have no labels.
        """
        if self.kind == "classes" and labels is None:
            raise UsageError("arch.prior=classes needs labels: set data.labels, e.g. --set data.labels=label.")
        if self.kind != "mog":
            return labels if self.learned else None
        return (noise.uniform(stream) * self.components).long().clamp(max=self.components - 1)

    def draw(self, noise: Noise, stream: str, shape: tuple[int, ...]) -> Tensor:
        """Draws one latent of `shape` per item of a step's batch, for objectives: [N, *shape]."""
        raw = noise.uniform(stream, *shape) if self.kind == "uniform" else noise.normal(stream, *shape)
        return self._transformed(raw)

    def sample(self, n: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Draws n latents of `shape` on the CPU: [n, *shape]."""
        draw = torch.rand if self.kind == "uniform" else torch.randn
        return self._transformed(draw(n, *shape, generator=generator))

    def _transformed(self, raw: Tensor) -> Tensor:
        """Maps U(0, 1) or N(0, 1) draws to the prior."""
        if self.kind == "uniform":
            raw = 2 * raw - 1
        elif self.kind == "sphere":
            raw = on_sphere(raw)
        return raw if self.scale == 1 else self.scale * raw


def on_sphere(z: Tensor) -> Tensor:
    """Divides each latent by its length: [N, *latent] -> the same shape, of length 1."""
    return z / z.flatten(1).norm(dim=1).view(-1, *[1] * (z.ndim - 1))
