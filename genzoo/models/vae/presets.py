"""The VAE's options and its presets."""

from typing import Annotated, Literal

from pydantic import Field

from genzoo.models._classes import class_presets
from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class VAEConfig:
    """-ELBO = beta_rec * SSE + beta * KL."""

    beta: Annotated[float, Field(ge=0, description="weight of the KL to the prior (Higgins et al. 2017)")] = 1.0
    beta_rec: Annotated[
        Annotated[float, Field(ge=0)] | Literal["auto"],
        Field(
            description="weight of the SSE; 0.5 is a Gaussian likelihood of unit variance; auto: that of the variance "
            "that the data have around their reconstructions (sigma-VAE)"
        ),
    ] = 0.5


def _points(name: str, beta: float) -> Preset:
    source = "ours: no 2-D settings are published; beta by the search of benchmarks/2d, the rest is Soft-IntroVAE's"
    return points_preset(name, {"beta": beta, "beta_rec": 1.0}, source)


PRESETS = {
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64)},
        objective={"beta": 0.1, "beta_rec": 1},
        train={"batch": 16, "lr": 1e-3, "duration": "32k", "ema": 0.995},
        source="ours: the quick start",
    ),
    "8gaussians": _points("8gaussians", 0.05),
    "2spirals": _points("2spirals", 0.1),
    "checkerboard": _points("checkerboard", 0.2),
    "rings": _points("rings", 0.2),
    **class_presets({"beta": 2, "beta_rec": "auto"}, "weights as in genzoo's recipe of runs with a budget"),
}


def suggested(detail: float, shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """Weights for data whose finest detail varies by `detail` (SSE).

    A Gaussian decoder of that variance has beta / beta_rec = 2 variance.
    """
    return {
        "beta_rec": ("1", "the other weight is relative to it"),
        "beta": (f"{2 * detail:.2g}", f"2 x {detail:.2g}, the variance (SSE) of the finest detail to learn"),
    }


def recipe(shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """Settings of a run with a budget of time on images of `shape`."""
    return {
        "beta": ("2", "twice the evidence lower bound's: latents closer to the prior"),
        "beta_rec": ("auto", "calibrated: the variance that the data have around their reconstructions"),
    }
