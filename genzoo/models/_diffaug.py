"""DiffAugment (Zhao et al., NeurIPS 2020, arXiv 2006.10738) in front of an encoder: differentiable translation and
cutout.

An introspective encoder is a discriminator, which memorizes its training images where they are few. With a new draw of
T at each call, E(T(x)) takes the place of E(x) in adversarial training; targets of reconstructions stay as they are.
In the warm-up the encoder discriminates nothing yet, and sees x.
"""

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.noise import Noise
from genzoo.objective import Spaces

# The calls of an encoder in one step, in both phases, that have a draw of their own.
REAL, RECONSTRUCTION, SAMPLE, RECONSTRUCTION_UPDATED, SAMPLE_UPDATED, REAL_SLOPE, SAMPLE_SLOPE = range(7)
CALLS = 7
NUMBERS = 6  # that one image needs for one call
SHIFT, CUTOUT = 1 / 8, 1 / 2  # of a side: the largest translation, and the square that is cut out


def refuse_points(diffaug: bool, spaces: Spaces) -> None:
    """Refuses to augment data that are not images.

    Raises:
        UsageError: they are not.
    """
    if diffaug and not spaces.is_image:
        raise UsageError(
            f"objective.diffaug=true moves and cuts images, and this data has shape {spaces.shape}: leave it out."
        )


def draw_views(diffaug: bool, noise: Noise) -> tuple[Tensor, ...]:
    """Draws what `seen` needs in one step: CALLS tensors U[0, 1), [N, NUMBERS] each; none without `diffaug`."""
    return noise.uniform("diffaug", CALLS, NUMBERS).unbind(dim=1) if diffaug else ()


def seen(x: Tensor, views: tuple[Tensor, ...], call: int) -> Tensor:
    """Returns what the encoder is shown of x at one of its calls: T(x), or x where no views were drawn."""
    return augmented(x, views[call]) if views else x


def augmented(x: Tensor, u: Tensor) -> Tensor:
    """T(x): with probability 1/2 translated, and with probability 1/2 without a square, each image for itself.

    A translation is by up to SHIFT of the side in each direction, in whole pixels; the square has CUTOUT of the side
    and is centered at any pixel, so that parts of it may lie outside. What is moved in or cut out is 0.

    Args:
        x: [N, C, H, W].
        u: [N, NUMBERS], uniform in [0, 1).

    Returns:
        [N, C, H, W]; gradients reach x.
    """
    moves, cuts = u[:, 0] < 0.5, u[:, 3] < 0.5
    height, width = x.shape[2:]
    rows, columns = _shifted(height, u[:, 1], moves), _shifted(width, u[:, 2], moves)
    inside = _inside(rows, height)[:, :, None] & _inside(columns, width)[:, None, :]
    cut = _cut(height, u[:, 4])[:, :, None] & _cut(width, u[:, 5])[:, None, :] & cuts[:, None, None]
    pixels = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    moved = x.flatten(2).gather(2, pixels.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view(x.shape)
    return moved * (inside & ~cut)[:, None]


def _shifted(side: int, u: Tensor, moves: Tensor) -> Tensor:
    """Where each row or column comes from, int64 [N, side]; outside 0 ... side - 1 for what is moved in."""
    most = int(SHIFT * side + 0.5)
    shift = (u * (2 * most + 1)).long().clamp(max=2 * most) - most  # a product may round up
    return torch.arange(side, device=u.device) - (shift * moves)[:, None]


def _inside(positions: Tensor, side: int) -> Tensor:
    return (positions >= 0) & (positions < side)


def _cut(side: int, u: Tensor) -> Tensor:
    """Which rows or columns the square covers, bool [N, side]."""
    size = int(CUTOUT * side + 0.5)
    start = (u * (side + 1 - size % 2)).long()[:, None] - size // 2
    at = torch.arange(side, device=u.device)
    return (at >= start) & (at < start + size)
