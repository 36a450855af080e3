"""Endless 2-D point sets: the toy data of Soft-IntroVAE (Daniel and Tamar 2021, section 5.1).

They equal the published code in distribution:

| name         | what                                    | where                                      | noise (sigma) |
|--------------|-----------------------------------------|--------------------------------------------|---------------|
| 8gaussians   | 8 equally likely modes on a circle      | radius 2 / 1.414, every 45 degrees         | 0.02 / 1.414  |
| 25gaussians  | 25 equally likely modes on a grid       | 4 / 2.828 * {-2, -1, 0, 1, 2} on each axis | 0.1 / 2.828   |
| 2spirals     | 2 arms of 1.5 turns, point-mirrored     | radius up to pi, plus U[0, 1/6) per axis   | 0.1           |
| checkerboard | 8 of the 16 cells of a board, uniformly | cells of side 2 in [-4, 4)^2               | none          |
| rings        | 4 equally likely circles                | radii 0.75, 1.5, 2.25, 3                   | 0.08          |

Every set has mean 0. Points are independent draws, except that the two arms of 2spirals get n/2 points each, as
published. The published code draws the angles of `rings` from n/4 equally spaced ones, and 25gaussians from 100,000
stored points: both are endless here.

Their extents are the published ones, too: the half-width of the square in which that code plots each set and measures
densities is 2 * scale, where its command line sets scale = 1 for 8gaussians and 2 for the rest, and its trainer doubles
it for 25gaussians (whose points end near 3).
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from genzoo.data.catalog import Registered, dataset
from genzoo.data.entry import Entry
from genzoo.data.labels import find_classes
from genzoo.data.sources import fingerprint
from genzoo.spec import DataConfig

if TYPE_CHECKING:  # torch is imported where points are drawn, so that this set can be listed without it
    import numpy as np
    from torch import Generator, Tensor

    from genzoo.data.arrays import ArraySource
    from genzoo.data.sets import ArraySet

Sampler = Callable[[int, "Generator"], "Tensor"]  # (n, generator) -> float32 [n, 2], on the generator's device

NOTE = "2-D, see genzoo/data/embedded/points.py"


class PointSet:
    """An endless 2-D distribution."""

    shape: tuple[int, ...] = (2,)
    is_image, size, cached = False, None, True

    def __init__(self, name: str, sampler: Sampler) -> None:
        self.name = self.fingerprint = name
        self._sampler = sampler

    def draw(self, n: int, generator: "Generator") -> "Tensor":
        """Draws n points, float32 [n, 2], in data units, on the generator's device."""
        return self._sampler(n, generator)

    def labels(self) -> "Mapping[str, np.ndarray]":
        """Returns no labels."""
        return {}

    def classes(self, name: str) -> tuple[str, ...]:
        """Raises UsageError: points have no classes."""
        return find_classes({}, name, self.name)


class PointCollection:
    """An endless 2-D distribution; with a limit, a fixed sample of it."""

    splits = ("train",)

    def __init__(self, name: str, sampler: Sampler, limit: int | None) -> None:
        self.name, self._sampler, self._limit = name, sampler, limit

    def source(self, split: str) -> "PointSet | ArraySource | ArraySet":
        import torch

        from genzoo.data.arrays import open_array

        if self._limit is None:
            return PointSet(self.name, self._sampler)
        sample = self._sampler(self._limit, torch.Generator().manual_seed(0)).numpy()
        return open_array(sample, self.name, fingerprint(sample.tobytes()))


def point_set(
    name: str, what: str, extent: float, terms: str = "generated", note: str = ""
) -> Callable[[Sampler], Registered]:
    """Registers the decorated sampler as a dataset of endless points.

    Args:
        what: a description for `genzoo list data`.
        extent: half-width of the square, centered at 0, in which densities are measured and drawn.
    """
    entry = Entry(name=name, kind="points", what=what, images=None, size=None, terms=terms, note=note, extent=extent)

    def register(sampler: Sampler) -> Registered:
        @functools.wraps(sampler)
        def open_points(config: DataConfig) -> PointCollection:
            return PointCollection(name, sampler, config.limit)

        return dataset(entry)(open_points)

    return register


def _uniform(shape: tuple[int, ...], g: "Generator") -> "Tensor":
    import torch

    return torch.rand(shape, generator=g, device=g.device)


def _normal(n: int, g: "Generator") -> "Tensor":
    import torch

    return torch.randn((n, 2), generator=g, device=g.device)


def _integers(high: int, shape: tuple[int, ...], g: "Generator") -> "Tensor":
    import torch

    return torch.randint(high, shape, generator=g, device=g.device)


def _polar(radius: "Tensor", angle: "Tensor") -> "Tensor":
    import torch

    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


@point_set("8gaussians", "8 modes on a circle", extent=2.0, note=NOTE)
def _eight_gaussians(n: int, g: "Generator") -> "Tensor":
    angle = _integers(8, (n,), g) * (math.pi / 4)
    return (_polar(angle.new_full((n,), 2.0), angle) + 0.02 * _normal(n, g)) / 1.414


@point_set("25gaussians", "25 modes on a grid", extent=8.0, note=NOTE)
def _twenty_five_gaussians(n: int, g: "Generator") -> "Tensor":
    return (2.0 * (_integers(5, (n, 2), g) - 2) + 0.05 * _normal(n, g)) / 2.828 * 2.0


@point_set("2spirals", "2 arms of 1.5 turns", extent=4.0, note=NOTE)
def _two_spirals(n: int, g: "Generator") -> "Tensor":
    import torch

    turn = _uniform((n,), g).sqrt() * (3 * math.pi)  # the square root makes the points even in area, not in angle
    arm = torch.stack([-turn.cos() * turn, turn.sin() * turn], dim=1) + 0.5 * _uniform((n, 2), g)
    first = _integers(2, (1,), g)  # a fair coin, so that neither arm is favored when n is odd
    sign = 1.0 - 2.0 * ((torch.arange(n, device=g.device) + first) % 2)
    return sign[:, None] * arm / 3 + 0.1 * _normal(n, g)


@point_set("checkerboard", "8 squares of 16", extent=4.0, note=NOTE)
def _checkerboard(n: int, g: "Generator") -> "Tensor":
    import torch

    x = _uniform((n,), g) * 4 - 2
    y = _uniform((n,), g) - 2 * _integers(2, (n,), g) + x.floor() % 2
    return torch.stack([x, y], dim=1) * 2


@point_set("rings", "4 circles", extent=4.0, note=NOTE)
def _rings(n: int, g: "Generator") -> "Tensor":
    radius = 0.75 * (1 + _integers(4, (n,), g))
    return _polar(radius, 2 * math.pi * _uniform((n,), g)) + 0.08 * _normal(n, g)
