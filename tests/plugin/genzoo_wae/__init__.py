"""A third-party model: WAE-MMD (Tolstikhin et al., ICLR 2018), in two files."""

import importlib
from typing import Annotated

from pydantic import Field

from genzoo.spec import ModelSpec, Preset, config


@config
class WAEConfig:
    """Reconstruction error plus the weighted MMD between codes and prior."""

    mmd_weight: Annotated[float, Field(ge=0, description="weight of the maximum mean discrepancy")] = 10.0


SPEC = ModelSpec(
    name="wae",
    summary="Wasserstein autoencoder with a maximum mean discrepancy",
    paper="Tolstikhin et al., ICLR 2018, arXiv 1711.01558",
    config=WAEConfig,
    presets={
        "tiny": Preset(
            data={"name": "toyfaces", "size": (16, 16)},
            arch={"channels": (4, 8), "z_dim": 4},
            train={"batch": 8, "duration": "1k"},
            source="ours: a test",
        )
    },
    default_preset="tiny",
    model=lambda: importlib.import_module("genzoo_wae.objective").WAE,
    objective=lambda *args: importlib.import_module("genzoo_wae.objective").WAEObjective(*args),
)
