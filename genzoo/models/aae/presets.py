"""AAE's options and its presets."""

from typing import Annotated, Literal

from pydantic import Field

from genzoo.archspec import CriticArch
from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class AAEArch(CriticArch):
    """Encoder and decoder; the critic of latents is a perceptron with the widths `hidden`."""

    prior_scale: Annotated[float, Field(gt=0, description="standard deviation of the prior")] = 1.0


@config
class AAEConfig:
    """Reconstruction, and a game between the encoder and a critic of latents."""

    form: Annotated[
        Literal["paper", "wae"],
        Field(
            description="paper: reconstruction, critic, then the encoder with an optimizer of its own; wae: encoder "
            "and decoder on the sum of both losses, then the critic (WAE-GAN)"
        ),
    ] = "paper"
    beta: Annotated[float, Field(ge=0, description="weight of the SSE of reconstructions")] = 0.5
    weight: Annotated[
        float, Field(ge=0, description="weight of the adversarial losses of encoder and critic (lambda in WAE)")
    ] = 1.0
    log_prior: Annotated[
        bool, Field(description="the prior's log density is added to the critic's logits (WAE's code: gan_p_trick)")
    ] = False


def _points(name: str) -> Preset:
    source = "ours: no 2-D settings are published, and no search was made yet; the rest is Soft-IntroVAE's"
    return points_preset(name, {"beta": 10}, source)


PRESETS = {
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64)},
        objective={"beta": 1},
        train={"batch": 16, "lr": 5e-4, "duration": "32k", "ema": 0.995},
        source="ours: the quick start; no search was made yet",
    ),
    "mnist": Preset(
        data={"name": "mnist", "channels": 1},  # at its own size: any number of pixels fits
        arch={
            **{"encoder": "mlp", "decoder": "mlp", "hidden": (1000, 1000), "output": "sigmoid"},
            **{"z_dim": 2, "prior_scale": 5},
        },
        train={
            "batch": 100,
            "lr": 1e-4,
            "lr_of": {"critic": 5e-5, "encoder-adversary": 5e-5},
            "duration": "500ep",
            "ema": 0.0,
        },
        source="a public implementation, github.com/fducau/AAE_pytorch: aae_pytorch_basic.py; the authors' code and "
        "the paper's settings were not found",
        deviations="that code has a mean cross-entropy for the reconstruction and dropout of 0.2 in all networks, and "
        "trains on 47,000 images without labels",
    ),
    "celeba64-wae": Preset(
        data={"name": "celeba", "size": (64, 64), "precrop": 140},
        arch={
            **{"encoder": "dcgan:5", "decoder": "dcgan:5", "output": "tanh", "z_dim": 64},
            **{"channels": (128, 256, 512, 1024), "hidden": (1024,) * 4},
        },
        objective={"form": "wae", "beta": 0.2, "weight": 100, "log_prior": True},
        train={
            **{"batch": 100, "lr": 3e-4, "lr_of": {"critic": 1e-3}, "betas": (0.5, 0.999), "duration": "50ep"},
            **{"lr_schedule": "exponential", "lr_end": 0.01, "ema": 0.0},
        },
        source="authors' code of WAE, github.com/tolstikhin/wae: config_celebA with --z_test gan, and its rate for "
        "WAE-GAN",
        deviations="beta is 0.05 there, for images in [-1, 1]; the code gives one weight, 100, for WAE-MMD and "
        "WAE-GAN, and the paper's for WAE-GAN was not found; the code's decoder begins on 8x8 and ends with a "
        "convolution without a stride; it adds noise of 0.01 to the encoder's images, fits the encoder to the prior's "
        "moments before training, and changes the rate once an epoch",
    ),
    "8gaussians": _points("8gaussians"),
    "25gaussians": _points("25gaussians"),
    "rings": _points("rings"),
}


def recipe(shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """Settings of a run with a budget of time on images of `shape`."""
    return {"beta": ("1", "of the SSE, beside a weight of 1 of the adversarial loss")}
