"""VAEGAN, VAE/GAN: a VAE whose reconstructions are compared by a critic's features.

Larsen, Sønderby, Larochelle & Winther, ICML 2016, arXiv 1512.09300.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.vaegan.presets import PRESETS, VAEGANArch, VAEGANConfig
from genzoo.spec import ModelSpec

__all__ = ["SPEC", "VAEGAN", "VAEGANArch", "VAEGANConfig", "VAEGANObjective"]

if TYPE_CHECKING:
    from genzoo.models.vaegan.objective import VAEGAN, VAEGANObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["VAEGAN", "VAEGANObjective"]})


def _model() -> "type[VAEGAN]":
    from genzoo.models.vaegan.objective import VAEGAN

    return VAEGAN


def _objective(*args: Any) -> "VAEGANObjective":
    from genzoo.models.vaegan.objective import VAEGANObjective

    return VAEGANObjective(*args)


SPEC = ModelSpec(
    name="vaegan",
    summary="VAE and GAN in one: the critic judges images, and its features measure reconstructions",
    paper="Larsen et al., ICML 2016, arXiv 1512.09300",
    config=VAEGANConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=VAEGANArch,
)
