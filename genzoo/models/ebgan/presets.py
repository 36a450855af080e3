"""EBGAN's options and its presets; `--res` takes the first row of that size."""

import math
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class EBGANConfig:
    """L_D and L_G of Section 2.1. The energy of an item is |Dec(Enc(x)) - x|, a Euclidean norm: for images in [0, 1]
    half of what it is for the same images in [-1, 1].
    """

    margin: Annotated[
        float, Field(gt=0, description="m, the energy up to which the critic raises that of generated items")
    ] = 10.0
    pull_away: Annotated[
        float, Field(ge=0, description="weight of the pulling-away term in the generator's loss (EBGAN-PT: 0.1)")
    ] = 0.0


BETAS = (0.5, 0.999)
MARGIN, VALUES = 10.0, 3 * 32 * 32  # of the quick start, and the values of its images


def _points(name: str) -> Preset:
    shared = points_preset(
        name,
        {"margin": 1, "pull_away": 0.1},
        "ours: no 2-D settings are published; networks and length of the other models, no search was made yet",
    )
    return replace(shared, arch={**shared.arch, "z_dim": 8}, train={**shared.train, "lr": 1e-3, "betas": BETAS})


PRESETS = {
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64)},
        objective={"margin": MARGIN, "pull_away": 0.1},
        train={"batch": 16, "lr": 1e-3, "betas": BETAS, "duration": "32k", "ema": 0.995},
        source="ours: the quick start",
    ),
    "mnist": Preset(
        data={"name": "mnist", "size": (28, 28), "channels": 1},
        arch={"z_dim": 100, "encoder": "mlp", "decoder": "mlp", "hidden": (512, 512), "output": "sigmoid"},
        objective={"margin": 10},
        train={"batch": 64, "lr": 1e-3, "ema": 0.0, "duration": "3M"},
        source="Zhao et al. 2017, grid search on MNIST: Adam, rate 1e-3, margin 10",
        deviations="authors' code not found; the paper searches over networks and does not say which is best, "
        "nor the range of its images: networks, batch, length and moments are ours, images lie in [0, 1]",
    ),
    "8gaussians": _points("8gaussians"),
    "25gaussians": _points("25gaussians"),
    "rings": _points("rings"),
}


def suggested(detail: float, shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """The margin for images of `shape`, whatever their finest detail."""
    return recipe(shape) if len(shape) == 3 else {}


def recipe(shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """Settings of a run with a budget of time on images of `shape`."""
    margin = MARGIN * (math.prod(shape) / VALUES) ** 0.5
    return {"margin": (f"{margin:.3g}", "energies are norms, which grow with the root of the number of values (ours)")}
