"""Reconstruction error, one value per image; the sum of squared errors is `genzoo.losses.sse`."""

import torch
from torch import Tensor

from genzoo.losses import sse
from genzoo.metrics.checks import check_image_pair
from genzoo.metrics.inputs import Reconstructions
from genzoo.metrics.registry import Result, Value, metric
from genzoo.metrics.ssim import similarity


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a data range of 1, -10 log10(MSE): two [N, C, H, W] in [0, 1] -> [N].

    In float64; infinite for equal images. The mean of PSNRs is not the PSNR of the mean error.

    Raises:
        UsageError: not two equally shaped batches of images.
    """
    check_image_pair(a, b)
    return -10 * (a.double() - b.double()).square().mean(dim=(1, 2, 3)).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity, 1 for equal images (Wang et al. 2004): two [N, C, H, W] in [0, 1] -> [N] float64.

    11x11 Gaussian window of sigma 1.5 at the positions where it fits (no padding), K1 = 0.01, K2 = 0.03, averaged over
    channels. Below 11 pixels the window shrinks to the smaller side w and its sigma to 1.5 * w / 11.

    Raises:
        UsageError: not two equally shaped batches of images.
    """
    check_image_pair(a, b)
    return similarity(a, b)[0]


@metric(
    "rec",
    inputs=Reconstructions,
    values={"sse": Value("SSE", "lower"), "psnr": Value("PSNR, dB", "higher"), "ssim": Value("SSIM", "higher")},
    definition="Means over {n} images of the {split} split (or all if it has fewer), reconstructed from the "
    "posterior's mode: SSE summed over pixels, PSNR in dB, SSIM.",
    examples=("rec10k_test",),
)
def reconstruction_metric(images: Reconstructions) -> Result:
    pairs = ((x, images.model.reconstruct(x)) for x in images.real())
    rows = [(sse(x, decoded), psnr(x, decoded), ssim(x, decoded)) for x, decoded in pairs]
    columns = [torch.cat(column) for column in zip(*rows, strict=True)]
    means = {name: values.mean().item() for name, values in zip(("sse", "psnr", "ssim"), columns, strict=True)}
    return Result(means, details={"n_real": len(columns[0]), "n_fake": 0})
