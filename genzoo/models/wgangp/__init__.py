"""WGAN-GP, a Wasserstein GAN whose critic has slope 1 by a penalty.

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, "Improved Training of Wasserstein GANs", NeurIPS 2017.
"""

from typing import TYPE_CHECKING, Any

from genzoo.archspec import CriticArch
from genzoo.models.wgangp.presets import PRESETS, WGANGPConfig
from genzoo.spec import ModelSpec

__all__ = ["SPEC", "WGANGP", "WGANGPConfig", "WGANGPObjective"]

if TYPE_CHECKING:
    from genzoo.models.wgangp.objective import WGANGP, WGANGPObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["WGANGP", "WGANGPObjective"]})


def _model() -> "type[WGANGP]":
    from genzoo.models.wgangp.objective import WGANGP

    return WGANGP


def _objective(*args: Any) -> "WGANGPObjective":
    from genzoo.models.wgangp.objective import WGANGPObjective

    return WGANGPObjective(*args)


SPEC = ModelSpec(
    name="wgangp",
    summary="Wasserstein GAN whose critic has slope 1 by a penalty; no encoder",
    paper="Gulrajani et al., NeurIPS 2017, arXiv 1704.00028",
    config=WGANGPConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=CriticArch,
)
