"""VEEGAN: a reconstructor of latents against the loss of modes.

Srivastava, Valkov, Russell, Gutmann & Sutton, NeurIPS 2017, arXiv 1705.07761.
"""

from typing import TYPE_CHECKING, Any

from genzoo.archspec import CriticArch
from genzoo.models.veegan.presets import PRESETS, VEEGANConfig
from genzoo.spec import ModelSpec

__all__ = ["SPEC", "VEEGAN", "VEEGANConfig", "VEEGANObjective"]

if TYPE_CHECKING:
    from genzoo.models.veegan.objective import VEEGAN, VEEGANObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["VEEGAN", "VEEGANObjective"]})


def _model() -> "type[VEEGAN]":
    from genzoo.models.veegan.objective import VEEGAN

    return VEEGAN


def _objective(*args: Any) -> "VEEGANObjective":
    from genzoo.models.veegan.objective import VEEGANObjective

    return VEEGANObjective(*args)


SPEC = ModelSpec(
    name="veegan",
    summary="GAN with a reconstructor of latents; a critic judges pairs of an image and a latent",
    paper="Srivastava et al., NeurIPS 2017, arXiv 1705.07761",
    config=VEEGANConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=CriticArch,
)
