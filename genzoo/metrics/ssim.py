"""Structural similarity (Wang et al. 2004), as `reconstruction` and `diversity` use it."""

import torch
from torch import Tensor

WINDOW = 11  # pixels a side of the Gaussian window
SIGMA = 1.5  # its standard deviation in pixels
C1, C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 for images of range L = 1


def similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Means over channels and positions of SSIM and of its contrast-structure factor: two [N, C, H, W] -> [N], [N].

    In float64: the variances are small differences of large numbers, and a GPU's reduced-precision modes do not apply.
    """
    a, b = a.double(), b.double()
    size = window_size(*a.shape[2:])
    mean_a, mean_b, squares, product = _blur(torch.stack([a, b, a * a + b * b, a * b]), size)
    means = mean_a * mean_b
    mean_squares = mean_a.square() + mean_b.square()
    contrast = (2 * (product - means) + C2) / (squares - mean_squares + C2)
    ssim = (2 * means + C1) / (mean_squares + C1) * contrast
    return ssim.mean(dim=(1, 2, 3)), contrast.mean(dim=(1, 2, 3))


def window_size(height: int, width: int) -> int:
    """The side of the window: 11 pixels, or the image's smaller side if that is less."""
    return min(WINDOW, height, width)


def _blur(x: Tensor, size: int) -> Tensor:
    """Gaussian window at the positions where it fits: [..., H, W] -> [..., H - size + 1, W - size + 1].

    Its sigma is 1.5 * size / 11. Two products with band matrices: faster than a convolution up to about 256 pixels.
    """
    rows, columns = (_band(side, size, x) for side in x.shape[-2:])
    return rows @ x @ columns.T


def _band(side: int, size: int, like: Tensor) -> Tensor:
    """[side - size + 1, side]: the normalized Gaussian, shifted by one pixel in each row."""
    offsets = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    window = torch.exp(-0.5 * (offsets / (SIGMA * size / WINDOW)).square())
    positions = side - size + 1
    band = like.new_zeros(positions, side)
    for k, weight in enumerate(window / window.sum()):
        band.diagonal(k)[:positions] = weight
    return band
