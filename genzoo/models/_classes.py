"""The class-conditional presets of models whose papers have no settings for MNIST and CIFAR-10: sizes and length of
Soft-IntroVAE's published code, with a learned Gaussian per class, so that only the losses differ.
"""

from collections.abc import Mapping
from typing import Any

from genzoo.spec import Preset


def class_presets(objective: Mapping[str, Any], source: str) -> dict[str, Preset]:
    """Returns the presets `mnist-classes` and `cifar10-classes` of a model.

    Args:
        objective: its own settings, the same for both.
        source: where these come from.
    """
    return {
        "mnist-classes": _preset({"name": "mnist", "channels": 1}, 28, (64, 128), 32, 128, objective, source),
        "cifar10-classes": _preset({"name": "cifar10"}, 32, (64, 128, 256), 128, 32, objective, source),
    }


def _preset(
    data: Mapping[str, Any],
    size: int,
    channels: tuple[int, ...],
    z_dim: int,
    batch: int,
    objective: Mapping[str, Any],
    source: str,
) -> Preset:
    return Preset(
        data={**data, "size": (size, size), "labels": "label"},
        arch={"z_dim": z_dim, "channels": channels, "prior": "classes"},
        objective=objective,
        train={"batch": batch, "duration": "250ep", "ema": 0.0},
        source=f"ours: one learned Gaussian per class, arch.prior=classes; {source}; widths, latent dimensions, batch "
        "and length of Soft-IntroVAE's published code on these data",
        expected="none: class-conditional training is not published",
        deviations="the paper has no settings for these data",
    )
