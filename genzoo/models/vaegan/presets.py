"""VAE/GAN's options and its presets."""

from typing import Annotated, Any, Literal

from pydantic import Field

from genzoo.archspec import CriticArch
from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class VAEGANArch(CriticArch):
    """The networks, with BatchNorm in the critic, as in the paper: it gives features a scale."""

    critic_norm: Annotated[
        Literal["batch", "group", "none"], Field(description="normalization in the conv stacks of the critic")
    ] = "batch"


@config
class VAEGANConfig:
    """Algorithm 1: L_prior + L_rec for the encoder, gamma L_rec - L_GAN for the decoder, L_GAN for the critic."""

    form: Annotated[
        Literal["paper", "official"],
        Field(
            description="paper: reconstructions and samples count as generated, no gate; official: samples alone, "
            "gated updates, logarithms of D + 1e-3 (authors' scripts)"
        ),
    ] = "paper"
    gamma: Annotated[
        float,
        Field(ge=0, le=1, description="weight of the feature error in the decoder's loss, beside the adversarial one"),
    ] = 0.01
    depth: Annotated[
        int | None,
        Field(
            gt=0,
            description="stage of the critic whose features are compared, counted from the item; none: the last one",
        ),
    ] = None
    gate: Annotated[
        bool | None,
        Field(
            description="decoder and critic rest where one of them is too far ahead; none: as the form has it, true in "
            "official"
        ),
    ] = None
    equilibrium: Annotated[
        float, Field(gt=0, description="gate: cost of a critic that cannot tell real from generated, about log 2")
    ] = 0.68
    margin: Annotated[
        float, Field(ge=0, description="gate: distance of a cost from the equilibrium at which a network rests")
    ] = 0.35


CODE = "authors' code, as listed in genzoo/models/vaegan/README.md; Larsen et al. 2016"
DEVIATIONS = (
    "the critic has the encoder's widths and no stride-1 layer, features are compared behind norm and activation, the "
    "heads have no hidden layer, LeakyReLU for ReLU in encoder and critic, no BatchNorm in the encoder's first layer, "
    "weights start as DCGAN's; the rate falls linearly, in the code with the power 0.75 of time"
)


def _points(name: str, gamma: float) -> Preset:
    source = "ours: no 2-D settings are published, and no search was made; the recipe is Soft-IntroVAE's"
    return points_preset(name, {"gamma": gamma}, source)


def _published(data: dict[str, Any], size: int, z_dim: int, gamma: float, depth: int, epochs: int, more: str) -> Preset:
    """A setting of the authors' scripts, whose epochs are 250 batches of 64."""
    return Preset(
        data={**data, "size": (size, size)},
        arch={
            "encoder": "dcgan:5",
            "decoder": "dcgan:5",
            "z_dim": z_dim,
            "channels": (64, 128, 256),
            "output": "tanh",
        },
        objective={"form": "official", "gamma": gamma, "depth": depth},
        train={
            "batch": 64,
            "optimizer": "rmsprop",
            "lr": 0.025 / 64,
            "lr_schedule": "linear",
            "lr_end": 4e-4,
            "weight_decay": 1e-5,
            "duration": f"{250 * epochs}it",
            "ema": 0.0,
        },
        source=CODE,
        deviations=f"{more}; {DEVIATIONS}",
    )


PRESETS = {
    "celeba64": _published(
        {"name": "celeba", "precrop": 148, "mirror": True},
        64,
        128,
        1e-6,
        3,
        250,
        "faces are cropped from the image's middle, 7 pixels from where the code has them, and augmented by mirroring "
        "alone",
    ),
    "cifar10": _published({"name": "cifar10"}, 32, 256, 1e-5, 2, 200, "the decoder has the encoder's widths"),
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64), "output": "tanh"},
        objective={"gamma": 0.01, "gate": True},
        train={"batch": 16, "lr": 5e-4, "betas": (0.5, 0.999), "duration": "32k", "ema": 0.995},
        source="ours: the quick start",
    ),
    "8gaussians": _points("8gaussians", 0.1),
    "25gaussians": _points("25gaussians", 0.1),
    "rings": _points("rings", 0.1),
}
