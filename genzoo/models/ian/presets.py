"""IAN's options and its presets."""

from typing import Annotated

from pydantic import Field

from genzoo.archspec import ArchConfig
from genzoo.dataspec import Width
from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class IANArch(ArchConfig):
    """A trunk of the encoder's kind, the encoder's head on it, a linear discriminator on it, and a decoder."""

    head: Annotated[Width, Field(description="width of the hidden layer between the trunk and the posterior")] = 256


@config
class IANConfig:
    """Weights beside the adversarial losses, which have 1."""

    weight_x: Annotated[
        float, Field(ge=0, description="weight of the mean absolute error of reconstructions (12: the code's 3)")
    ] = 12.0
    weight_features: Annotated[
        float, Field(ge=0, description="weight of the mean squared error of the trunk's features of reconstructions")
    ] = 1.0
    beta: Annotated[
        float, Field(ge=0, description="weight of the KL in the encoder's head, a mean over latent dimensions")
    ] = 1.0


def _points(name: str) -> Preset:
    source = "ours: no 2-D settings are published, and no search was made yet; the rest is Soft-IntroVAE's"
    return points_preset(name, {}, source)


PRESETS = {
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64)},
        train={"batch": 16, "lr": 5e-4, "duration": "32k", "ema": 0.995},
        source="ours: the quick start; no search was made yet",
    ),
    "celeba64": Preset(
        data={"name": "celeba", "size": (64, 64)},
        arch={
            **{"encoder": "dcgan:5", "decoder": "dcgan:5", "output": "tanh", "z_dim": 100},
            **{"channels": (128, 256, 512, 1024), "head": 1000},
        },
        train={
            **{"batch": 16, "betas": (0.5, 0.999), "duration": "80ep", "ema": 0.0},
            **{"lr_drops": ("25ep", "50ep", "75ep"), "lr_factor": 0.5},
        },
        source="authors' code, github.com/ajbrock/Neural-Photo-Editor: settings and losses of IAN.py and train_IAN.py, "
        "trunk and decoder of IAN_simple.py",
        deviations="left out: multiscale dilated blocks, the RGB-Beta output, the random autoregressive flow behind "
        "the posterior, minibatch discrimination, orthogonal regularization, the L2 penalty of the head, and its "
        "BatchNorm; the last drop of the rate is to a fifth there; weight_x is 12 for a weight of 3 on twice the "
        "error of images in [-1, 1]; its data are a 64x64 version of CelebA whose crop is not given in the code",
    ),
    "8gaussians": _points("8gaussians"),
    "25gaussians": _points("25gaussians"),
    "rings": _points("rings"),
}


def recipe(shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """Settings of a run with a budget of time on images of `shape`."""
    return {"weight_x": ("12", "the code's 3, on twice the error of images in [-1, 1]")}
