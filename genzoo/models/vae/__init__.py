"""VAE, variational autoencoder with a weighted KL (beta-VAE).

Kingma & Welling, ICLR 2014; Higgins et al., ICLR 2017.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.vae.presets import PRESETS, VAEConfig, recipe, suggested
from genzoo.spec import ModelSpec

__all__ = ["SPEC", "VAE", "VAEConfig", "VAEObjective"]

if TYPE_CHECKING:
    from genzoo.models.vae.objective import VAE, VAEObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["VAE", "VAEObjective"]})


def _model() -> "type[VAE]":
    from genzoo.models.vae.objective import VAE

    return VAE


def _objective(*args: Any) -> "VAEObjective":
    from genzoo.models.vae.objective import VAEObjective

    return VAEObjective(*args)


SPEC = ModelSpec(
    name="vae",
    summary="variational autoencoder with a weighted KL (beta-VAE)",
    paper="Kingma & Welling, ICLR 2014; Higgins et al., ICLR 2017",
    config=VAEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    suggested=suggested,
    recipe=recipe,
)
