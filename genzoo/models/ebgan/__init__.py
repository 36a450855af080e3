"""EBGAN, a GAN whose critic is an autoencoder: the error of a reconstruction is the energy of an item.

Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network", ICLR 2017.
"""

from typing import TYPE_CHECKING, Any

from genzoo.archspec import CriticArch
from genzoo.models.ebgan.presets import PRESETS, EBGANConfig, recipe, suggested
from genzoo.spec import ModelSpec

__all__ = ["EBGAN", "SPEC", "EBGANConfig", "EBGANObjective"]

if TYPE_CHECKING:
    from genzoo.models.ebgan.objective import EBGAN, EBGANObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["EBGAN", "EBGANObjective"]})


def _model() -> "type[EBGAN]":
    from genzoo.models.ebgan.objective import EBGAN

    return EBGAN


def _objective(*args: Any) -> "EBGANObjective":
    from genzoo.models.ebgan.objective import EBGANObjective

    return EBGANObjective(*args)


SPEC = ModelSpec(
    name="ebgan",
    summary="GAN whose critic is an autoencoder, its error an energy; no encoder for users",
    paper="Zhao et al., ICLR 2017, arXiv 1609.03126",
    config=EBGANConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=CriticArch,
    suggested=suggested,
    recipe=recipe,
)
