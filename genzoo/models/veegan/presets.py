"""VEEGAN's options and its presets."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class VEEGANConfig:
    """D(G(z), z) + weight |z - F(G(z))|^2 for decoder and reconstructor."""

    weight: Annotated[
        float,
        Field(
            ge=0,
            description="of the squared error of latents; 0.5: -log N(z; F(G(z)), I), as in the authors' notebook; "
            "1: the squared distance itself",
        ),
    ] = 0.5


ADAM = {"betas": (0.5, 0.999)}
PROTOCOL = "(Table 1: 2,500 samples, within 3 sigma of the nearest mode, mean of 5 runs)"
DEVIATIONS = (
    "genzoo's point set, which has another scale; all perceptrons have two hidden layers of 128 units, the critic a "
    "trunk for points and one for latents; the notebook's generator takes one more number of noise"
)


def _points(name: str) -> Preset:
    source = "ours: no settings are published for this set, and no search was made; the recipe is Soft-IntroVAE's"
    preset = points_preset(name, {}, source)
    return replace(preset, train={**preset.train, **ADAM})


def _published(name: str, expected: str) -> Preset:
    """The settings of the authors' notebook."""
    return Preset(
        data={"name": name},
        arch={"z_dim": 254, "encoder": "mlp", "decoder": "mlp", "hidden": (128, 128)},
        train={
            "batch": 500,
            "lr": 1e-3,
            **ADAM,
            "duration": "100000it",
            "snapshot_every": "10%",
            "log_every": 50,
            "ema": 0.0,
        },
        source="Srivastava et al. 2017, the authors' notebook for the ring, by its public copies",
        expected=f"{expected} {PROTOCOL}",
        deviations=DEVIATIONS,
    )


PRESETS = {
    "8gaussians": _points("8gaussians"),
    "25gaussians": _points("25gaussians"),
    "rings": _points("rings"),
    "8gaussians-notebook": _published("8gaussians", "8 of 8 modes, 52.9 % good samples"),
    "25gaussians-notebook": _published("25gaussians", "24.6 of 25 modes, 40 % good samples"),
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64), "output": "sigmoid"},
        train={"batch": 16, "lr": 5e-4, **ADAM, "duration": "32k", "ema": 0.995},
        source="ours: the quick start",
    ),
}
