"""Endless 2-D point sets: the toy data of Soft-IntroVAE (Daniel and Tamar 2021, section 5.1), equal in distribution to the published code.

| name         | what                                            | where                                            | noise (sigma)       |
|--------------|-------------------------------------------------|--------------------------------------------------|---------------------|
| 8gaussians   | 8 equally likely modes on a circle              | radius 2 / 1.414, at multiples of 45 degrees     | 0.02 / 1.414        |
| 25gaussians  | 25 equally likely modes on a 5 x 5 grid         | 4 / 2.828 * {-2, -1, 0, 1, 2} on each axis       | 0.1 / 2.828         |
| 2spirals     | 2 arms of 1.5 turns, mirrored through the origin| radius up to pi, plus uniform [0, 1/6) per axis  | 0.1                 |
| checkerboard | 8 of the 16 cells of a board, uniformly         | cells of side 2 in [-4, 4)^2                     | none                |
| rings        | 4 equally likely circles, uniform in angle      | radii 0.75, 1.5, 2.25, 3                         | 0.08                |

Every set has mean 0. Points are independent draws, but for 2spirals, where the two arms get n/2 points each, as published.
The published code draws the angles of `rings` from n/4 equally spaced ones, and 25gaussians from 100,000 stored points: both endless here.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from genzoo.errors import UsageError, suggest

# Half-width of the square, centred at 0, in which the published code plots each set and measures densities and histograms: 2 * scale, where
# its command line sets scale = 1 for 8gaussians and 2 for the rest, and its trainer doubles it for 25gaussians (whose points end near 3).
EXTENT: dict[str, float] = {"8gaussians": 2.0, "25gaussians": 8.0, "2spirals": 4.0, "checkerboard": 4.0, "rings": 4.0}


def draw(name: str, n: int, generator: Generator) -> Tensor:
    """Draws `n` points of the set `name`.

    Args:
        name: one of `EXTENT`'s keys.
        n: number of points.
        generator: the source of all randomness; the points lie on its device.

    Returns:
        float32 [n,2], (x, y) in data units; see the table above for ranges.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in _SAMPLERS:
        raise UsageError(f"No point set is called {name!r}.{suggest(name, _SAMPLERS)}")
    return _SAMPLERS[name](n, generator)


def _uniform(shape: tuple[int, ...], g: Generator) -> Tensor:
    return torch.rand(shape, generator=g, device=g.device)


def _normal(n: int, g: Generator) -> Tensor:
    return torch.randn((n, 2), generator=g, device=g.device)


def _integers(high: int, shape: tuple[int, ...], g: Generator) -> Tensor:
    return torch.randint(high, shape, generator=g, device=g.device)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _eight_gaussians(n: int, g: Generator) -> Tensor:
    angle = _integers(8, (n,), g) * (math.pi / 4)
    return (_polar(torch.full_like(angle, 2.0), angle) + 0.02 * _normal(n, g)) / 1.414


def _twenty_five_gaussians(n: int, g: Generator) -> Tensor:
    return (2.0 * (_integers(5, (n, 2), g) - 2) + 0.05 * _normal(n, g)) / 2.828 * 2.0


def _two_spirals(n: int, g: Generator) -> Tensor:
    turn = _uniform((n,), g).sqrt() * (3 * math.pi)  # the square root makes the points even in area, not in angle
    arm = torch.stack([-turn.cos() * turn, turn.sin() * turn], dim=1) + 0.5 * _uniform((n, 2), g)
    first = _integers(2, (1,), g)  # a fair coin, so that neither arm is favoured when n is odd
    sign = 1.0 - 2.0 * ((torch.arange(n, device=g.device) + first) % 2)
    return sign[:, None] * arm / 3 + 0.1 * _normal(n, g)


def _checkerboard(n: int, g: Generator) -> Tensor:
    x = _uniform((n,), g) * 4 - 2
    y = _uniform((n,), g) - 2 * _integers(2, (n,), g) + x.floor() % 2
    return torch.stack([x, y], dim=1) * 2


def _rings(n: int, g: Generator) -> Tensor:
    radius = 0.75 * (1 + _integers(4, (n,), g))
    return _polar(radius, 2 * math.pi * _uniform((n,), g)) + 0.08 * _normal(n, g)


_SAMPLERS: dict[str, Callable[[int, Generator], Tensor]] = {
    "8gaussians": _eight_gaussians,
    "25gaussians": _twenty_five_gaussians,
    "2spirals": _two_spirals,
    "checkerboard": _checkerboard,
    "rings": _rings,
}
