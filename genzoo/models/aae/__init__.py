"""AAE, adversarial autoencoder: a critic of latents brings the codes to the prior; WAE-GAN as a setting.

Makhzani et al. 2015, arXiv 1511.05644; Tolstikhin et al., ICLR 2018, arXiv 1711.01558.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.aae.presets import PRESETS, AAEArch, AAEConfig, recipe
from genzoo.spec import ModelSpec

__all__ = ["AAE", "SPEC", "AAEArch", "AAEConfig", "AAEObjective"]

if TYPE_CHECKING:
    from genzoo.models.aae.objective import AAE, AAEObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["AAE", "AAEObjective"]})


def _model() -> "type[AAE]":
    from genzoo.models.aae.objective import AAE

    return AAE


def _objective(*args: Any) -> "AAEObjective":
    from genzoo.models.aae.objective import AAEObjective

    return AAEObjective(*args)


SPEC = ModelSpec(
    name="aae",
    summary="adversarial autoencoder: a critic of latents brings the codes to the prior",
    paper="Makhzani et al. 2015, arXiv 1511.05644; WAE-GAN: Tolstikhin et al., ICLR 2018",
    config=AAEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=AAEArch,
    recipe=recipe,
)
