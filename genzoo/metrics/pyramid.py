"""A distance between sets of images at every scale, without a network: the score that selects a run's best weights.

Small patches at each level of a Laplacian pyramid (as in Karras et al. 2018, Section 5) see blur and wrong texture;
whole images at the coarsest level see wrong layouts, as patches do not know their position. Instead of random
projections, Gaussians are compared along the principal components of the real images, scaled to unit variance: this
ranks snapshots better (benchmarks/score).
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from genzoo.metrics.frechet import Statistics, frechet_distance, statistics
from genzoo.noise import generator

COARSEST = 16  # the pyramid ends at the first level whose short side has at most so many pixels
PATCH = 7  # pixels a side
PATCHES = 2**13  # of each set and level, in all: more images give fewer patches each
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Burt & Adelson 1983, a = 0.375
COMPONENTS = 64  # principal components at most; and at most a quarter of the items, so that covariances are known
FLOOR = 1e-3  # of the largest variance: components below are left out, as scaling would blow up their noise
FLAT = 1e-6  # variance that counts at least: a quarter of a gray level, so that images of one color are compared, too


class Reference:
    """Real images that sets of samples are compared with; what does not depend on the samples is computed once.

    Args:
        real: [N, C, H, W] in [0, 1], any C, H and W.
        patches: of each set and level, rounded up to the same number from each image.
    """

    def __init__(self, real: Tensor, patches: int = PATCHES):
        self._patches = patches
        levels = laplacian_pyramid(real)
        self._sizes = [f"{level.shape[2]}x{level.shape[3]}" for level in levels]
        self._levels = [Whitened(_patches(x, patches, generator(0, "patches", i))) for i, x in enumerate(levels)]
        self._whole = Whitened(levels[-1].flatten(1))

    def distance(self, fake: Tensor) -> float:
        """Mean of the patches' distances over the levels, and of the whole images' distance; lower is better.

        0 for equal sets, about 1 where samples lack what a component varies by.
        """
        *levels, whole = self.distances(fake).values()
        return (sum(levels) / len(levels) + whole) / 2

    @torch.no_grad()
    def distances(self, fake: Tensor) -> dict[str, float]:
        """Distances of patches at each level of a Laplacian pyramid, and of whole images at the coarsest one.

        Args:
            fake: [M, C, H, W] in [0, 1]; compare only sets of one size, as small sets look farther away.

        Returns:
            `Whitened.distance` by level, finest first: `32x32`, `16x16`, ..., `whole`.
        """
        levels, found = laplacian_pyramid(fake), {}
        for i, (size, real, x) in enumerate(zip(self._sizes, self._levels, levels, strict=True)):
            found[size] = real.distance(_patches(x, self._patches, generator(1, "patches", i)))
        return found | {"whole": self._whole.distance(levels[-1].flatten(1))}


class Whitened:
    """Principal components of real vectors, scaled to unit variance.

    The components are the `COMPONENTS` largest whose variance is at least `FLOOR` times the largest.

    Args:
        real: [N, D].
    """

    def __init__(self, real: Tensor):
        found = _gaussian(real)
        variances, axes = _principal(real, found)
        variances = variances.clamp(min=FLAT)
        kept = variances > FLOOR * variances[-1]
        kept[: -max(1, min(COMPONENTS, len(real) // 4))] = False
        self._mean, self._axes = found.mean, axes[:, kept] / variances[kept].sqrt()
        self._real = _gaussian(self._scaled(real))

    def distance(self, fake: Tensor) -> float:
        """Root of the Fréchet distance per component, in standard deviations of the real vectors.

        Args:
            fake: [M, D].
        """
        return (frechet_distance(self._real, _gaussian(self._scaled(fake))) / len(self._real.mean)) ** 0.5

    def _scaled(self, x: Tensor) -> Tensor:
        return (x.cpu().double() - self._mean) @ self._axes  # not every accelerator has float64


def _gaussian(x: Tensor) -> Statistics:
    """Mean and covariance, which is 0 for a single item."""
    return statistics(x.cpu() if len(x) > 1 else x.cpu().expand(2, -1))


def _principal(x: Tensor, found: Statistics) -> tuple[Tensor, Tensor]:
    """Variances, smallest first, and directions [D, R] of vectors [N, D] with these moments; of few long vectors, all
    that have any.
    """
    n, dim = x.shape
    if dim <= n:
        return torch.linalg.eigh(found.cov)
    _, scales, axes = torch.linalg.svd(x.cpu().double() - found.mean, full_matrices=False)
    return scales.flip(0).square() / max(1, n - 1), axes.flip(0).T


def laplacian_pyramid(x: Tensor) -> list[Tensor]:
    """Splits images into bands, finest first, and the small image that is left (Burt & Adelson 1983).

    Args:
        x: [N, C, H, W]. Sides are halved, rounded up, until the short one is at most `COARSEST`; borders are reflected.
    """
    levels = []
    while min(x.shape[2:]) > COARSEST:
        small = _blurred(x)[:, :, ::2, ::2]
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = 4 * small
        levels.append(x - _blurred(spread))
        x = small
    return [*levels, x]


def _blurred(x: Tensor) -> Tensor:
    """Convolves with the binomial kernel in both directions; shifted slices take less time than a convolution."""
    height, width = x.shape[2:]
    wide = pad(x, (2, 2, 2, 2), mode="reflect")
    rows = sum((k * wide[:, :, i : i + height] for i, k in enumerate(BINOMIAL)), torch.zeros(()))
    return sum((k * rows[:, :, :, i : i + width] for i, k in enumerate(BINOMIAL)), torch.zeros(()))


def _patches(x: Tensor, total: int, rng: torch.Generator) -> Tensor:
    """Cuts patches at random places out of every image: [N, C, H, W] -> [total or a little more, C * side * side]."""
    n, _, height, width = x.shape
    side, each = min(PATCH, height, width), -(-total // n)
    top = torch.randint(height - side + 1, (n, each), generator=rng).to(x.device)
    left = torch.randint(width - side + 1, (n, each), generator=rng).to(x.device)
    item = torch.arange(n, device=x.device)[:, None]
    return x.unfold(2, side, 1).unfold(3, side, 1)[item, :, top, left].flatten(2).flatten(0, 1)
