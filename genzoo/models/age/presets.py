"""AGE's options and its presets."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class AGEConfig:
    """The game on the KL of a batch's codes, and the two reconstruction errors that tie the players to each other."""

    form: Annotated[
        Literal["paper", "official"],
        Field(
            description="paper: KL in nats, L1 and squared L2 errors, all summed over an item; official: means over "
            "dimensions, a KL with the variance for the deviation, a cosine error (authors' code)"
        ),
    ] = "official"
    weight_x: Annotated[
        float,
        Field(ge=0, description="weight of the error of reconstructed items in the encoder's loss (paper: mu)"),
    ] = 10.0
    weight_z: Annotated[
        float,
        Field(ge=0, description="weight of the error of re-encoded latents in the decoder's loss (paper: lambda)"),
    ] = 1000.0
    decoder_steps: Annotated[
        int, Field(gt=0, le=64, description="updates of the decoder per update of the encoder")
    ] = 2


CODE = "authors' code, github.com/DmitryUlyanov/AGE: its README's command"
IN_UNITS = "weight_x is doubled, as the code's images lie in [-1, 1]; the first convolution has a bias"


def _points(name: str) -> Preset:
    source = "ours: no 2-D settings are published, and no search was made yet; the rest is Soft-IntroVAE's"
    preset = points_preset(name, {"weight_x": 10, "weight_z": 1000}, source)
    return replace(preset, arch={**preset.arch, "z_dim": 8})  # a sphere of two dimensions is a circle


def _images(
    data: dict[str, Any], arch: dict[str, Any], weight_z: float, decoder_steps: int, train: dict[str, Any], **more: str
) -> Preset:
    return Preset(
        data=data,
        arch={"encoder": "dcgan", "decoder": "dcgan", "output": "tanh", **arch},
        objective={"weight_x": 20, "weight_z": weight_z, "decoder_steps": decoder_steps},
        train={"batch": 64, "betas": (0.5, 0.999), "lr_factor": 0.5, "ema": 0.0, **train},
        source=CODE,
        **more,
    )


PRESETS = {
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64), "output": "tanh"},
        objective={"weight_x": 20, "weight_z": 500},
        train={"batch": 16, "lr": 5e-4, "duration": "32k", "ema": 0.995},
        source="ours: the quick start; no search was made yet",
    ),
    "celeba64": _images(
        {"name": "celeba", "size": (64, 64)},
        {"z_dim": 64, "channels": (64, 128, 256, 512)},
        weight_z=1000,
        decoder_steps=3,
        train={"duration": "5ep", "lr_drops": ("4ep",)},
        deviations=f"{IN_UNITS}; the code then trains one more epoch with a batch of 256 and a weight of 15 (30 here)",
    ),
    "cifar10": _images(
        {"name": "cifar10", "size": (32, 32)},
        {"z_dim": 128, "channels": (64, 128, 256)},
        weight_z=1000,
        decoder_steps=2,
        train={"duration": "150ep", "lr_drops": ("39ep", "79ep", "119ep")},
        expected="Inception score 5.90 +- 0.04 (the paper's, quoted from a summary of it; its protocol was not found)",
        deviations=f"{IN_UNITS}; the code's decoder is wider, 512, 256, 128, 128 from latent to image with a last 1x1 "
        "convolution, and its encoder ends in a convolution and an average",
    ),
    "8gaussians": _points("8gaussians"),
    "25gaussians": _points("25gaussians"),
    "rings": _points("rings"),
}


def recipe(shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """Settings of a run with a budget of time on images of `shape`."""
    return {"weight_x": ("20", "the code's 10, for images in [0, 1] in place of [-1, 1]")}
