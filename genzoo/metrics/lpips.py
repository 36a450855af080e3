"""LPIPS, a learned perceptual distance (Zhang et al. 2018), version 0.1."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genzoo.errors import UsageError, did_you_mean
from genzoo.files import digest
from genzoo.metrics.checks import check_image_pair
from genzoo.metrics.inputs import Reconstructions
from genzoo.metrics.registry import Result, Value, metric

BACKBONES = {  # LPIPS's name: torchvision's name, the smallest side in pixels that all its layers take
    "alex": ("alexnet", 31),
    "vgg": ("vgg16", 16),
    "squeeze": ("squeezenet1_1", 17),
}


def lpips(a: Tensor, b: Tensor, net: str = "alex") -> Tensor:
    """Learned perceptual distance, 0 for equal images: two [N, C, H, W] in [0, 1] -> [N].

    The package `lpips` has the linear weights; the backbone's weights must be where torchvision keeps them, and are
    checked against the hash in their file's name. Nothing is downloaded. One channel is repeated to three. All N images
    go through the network at once.

    Args:
        a: images, on the device to compute on.
        b: as many images of the same shape.
        net: `alex` (the package's choice for evaluation), `vgg` or `squeeze`.

    Raises:
        UsageError: not two equally shaped batches of images, an unknown or absent network, or images too small for it.
    """
    check_image_pair(a, b)
    if a.shape[1] not in (1, 3):
        raise UsageError(f"LPIPS takes images of 1 or 3 channels, got {list(a.shape)}: choose channels.")
    if net not in BACKBONES:
        raise UsageError(f"Unknown LPIPS network {net!r}.{did_you_mean(net, BACKBONES)}")
    smallest = BACKBONES[net][1]
    if min(a.shape[2:]) < smallest:
        raise UsageError(
            f"LPIPS with {net!r} takes sides of {smallest} pixels or more, got {list(a.shape)}: "
            "upscale both, and report it."
        )
    network = lpips_network(net).to(a.device)
    with torch.no_grad():
        return network(_three_channels(a), _three_channels(b), normalize=True).flatten()


def _three_channels(x: Tensor) -> Tensor:
    return x.float().expand(-1, 3, -1, -1)


@functools.cache
def lpips_network(net: str) -> Any:
    """Loads the package's network from local files, once per process."""
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
    url = get_model_weights(name)["IMAGENET1K_V1"].url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not file.is_file():
        raise UsageError(f"LPIPS with {net!r} needs torchvision's {name} weights: download {url} and put it at {file}.")
    found = digest(file)
    if not found.startswith(file.stem.rsplit("-", 1)[1]):
        raise UsageError(
            f"{file} is not torchvision's {name} weights (its sha256 begins {found[:8]}): download {url} again."
        )


@metric(
    "lpips",
    inputs=Reconstructions,
    values={"lpips": Value("LPIPS", "lower")},
    definition="Mean LPIPS (AlexNet) over {n} images of the {split} split, reconstructed from the posterior's mode.",
    examples=("lpips10k_test",),
)
def lpips_metric(images: Reconstructions) -> Result:
    values = torch.cat([lpips(x, images.model.reconstruct(x)) for x in images.real()])
    return Result({"lpips": values.mean().item()}, details={"n_real": len(values), "n_fake": 0})
