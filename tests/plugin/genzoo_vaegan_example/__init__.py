"""A third-party model of three networks: VAE/GAN (Larsen et al., ICML 2016), in its shortest form."""

import importlib
from typing import Annotated

from pydantic import Field

from genzoo.spec import ModelSpec, Preset, config


@config
class VAEGANConfig:
    """The decoder's balance between features and adversary, and the gate that keeps the players alike."""

    gamma: Annotated[float, Field(ge=0, le=1, description="weight of the feature error in the decoder's loss")] = 0.1
    equilibrium: Annotated[float, Field(gt=0, description="cost of a critic that cannot tell, about log 2")] = 0.68
    margin: Annotated[float, Field(ge=0, description="a player rests when a cost is so far from equilibrium")] = 0.35


SPEC = ModelSpec(
    name="vaegan-example",
    summary="VAE whose reconstructions are compared by a critic's features",
    paper="Larsen et al., ICML 2016, arXiv 1512.09300",
    config=VAEGANConfig,
    presets={
        "tiny": Preset(
            data={"name": "toyfaces", "size": (16, 16)},
            arch={"channels": (4, 8), "z_dim": 4, "norm": "none"},
            train={"batch": 8, "duration": "1k"},
            source="ours: a test",
        )
    },
    default_preset="tiny",
    model=lambda: importlib.import_module("genzoo_vaegan_example.objective").VAEGAN,
    objective=lambda *args: importlib.import_module("genzoo_vaegan_example.objective").VAEGANObjective(*args),
)
