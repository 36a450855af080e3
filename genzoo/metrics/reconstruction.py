"""How near a reconstruction is to its image, one value per image; the sum of squared errors is `genzoo.losses.sse`."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genzoo.errors import UsageError, suggest
from genzoo.metrics.checks import check_image_pair
from genzoo.metrics.ssim import similarity

BACKBONES = {  # LPIPS's name: torchvision's name, the smallest side in pixels that all its layers take
    "alex": ("alexnet", 31),
    "vgg": ("vgg16", 16),
    "squeeze": ("squeezenet1_1", 17),
}


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a data range of 1, -10 log10(MSE): two [N, C, H, W] in [0, 1] -> [N] float64.

    Infinite for equal images. The mean of PSNRs is not the PSNR of the mean error.

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


def lpips(a: Tensor, b: Tensor, net: str = "alex") -> Tensor:
    """Learned perceptual distance, version 0.1 (Zhang et al. 2018), 0 for equal images: two [N, C, H, W] in [0, 1] -> [N].

    The package `lpips` brings the linear weights; the backbone's weights must lie where torchvision keeps them, and are
    checked against the hash in their file's name. Nothing is downloaded. One channel is repeated to three. All N images go
    through the network at once.

    Args:
        a: images, on the device to compute on.
        b: as many images of the same shape.
        net: `alex` (the package's choice for evaluation), `vgg` or `squeeze`.

    Raises:
        UsageError: not two equally shaped batches of images, an unknown or absent network, or images too small for it.
    """
    check_image_pair(a, b)
    if net not in BACKBONES:
        raise UsageError(f"Unknown LPIPS network {net!r}.{suggest(net, BACKBONES)}")
    smallest = BACKBONES[net][1]
    if min(a.shape[2:]) < smallest:
        raise UsageError(f"LPIPS with {net!r} takes sides of {smallest} pixels or more, got {list(a.shape)}: upscale both, and say so.")
    network = _lpips_network(net).to(a.device)
    with torch.no_grad():
        return network(_three_channels(a), _three_channels(b), normalize=True).flatten()


def _three_channels(x: Tensor) -> Tensor:
    return x.float().expand(-1, 3, -1, -1)


@functools.cache
def _lpips_network(net: str) -> Any:
    """The package's network, loaded from local files once per process."""
    try:
        import lpips as package
    except ImportError:
        raise UsageError("LPIPS needs the package lpips: pip install 'genzoo[lpips]'.") from None
    _check_backbone(net)
    return package.LPIPS(net=net, verbose=False).requires_grad_(False)


def _check_backbone(net: str) -> None:
    """Refuses a backbone whose weights are not on this machine, or are not the published ones."""
    from torchvision.models import get_model_weights

    name = BACKBONES[net][0]
    url = get_model_weights(name).IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not file.is_file():
        raise UsageError(f"LPIPS with {net!r} needs torchvision's {name} weights: download {url} and put it at {file}.")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not digest.startswith(file.stem.rsplit("-", 1)[1]):
        raise UsageError(f"{file} is not torchvision's {name} weights (its sha256 begins {digest[:8]}): download {url} again.")
