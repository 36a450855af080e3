"""A third-party generator without an encoder: WGAN-GP (Gulrajani et al., NeurIPS 2017)."""

import importlib
from typing import Annotated

from pydantic import Field

from genzoo.spec import ModelSpec, Preset, config


@config
class WGANGPConfig:
    """A critic with a gradient penalty, updated more often than the generator."""

    penalty: Annotated[float, Field(ge=0, description="weight of the gradient penalty")] = 10.0
    critic_steps: Annotated[int, Field(gt=0, description="critic updates per iteration, each on new real items")] = 2
    every: Annotated[int, Field(gt=0, description="iterations per generator update")] = 2


SPEC = ModelSpec(
    name="wgangp-example",
    summary="Wasserstein GAN with a gradient penalty",
    paper="Gulrajani et al., NeurIPS 2017, arXiv 1704.00028",
    config=WGANGPConfig,
    presets={
        "tiny": Preset(
            data={"name": "toyfaces", "size": (16, 16)},
            arch={"channels": (4, 8), "z_dim": 4, "norm": "none"},
            train={"batch": 8, "duration": "1k", "betas": (0.5, 0.9)},
            source="ours: a test",
        )
    },
    default_preset="tiny",
    model=lambda: importlib.import_module("genzoo_wgangp.objective").WGANGP,
    objective=lambda *args: importlib.import_module("genzoo_wgangp.objective").WGANGPObjective(*args),
)
