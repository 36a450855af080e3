"""IntroVAE, introspective VAE: a hinge on the KL separates real images from generated ones.

Huang et al., NeurIPS 2018, arXiv 1807.06358.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.introvae.presets import PRESETS, IntroVAEArch, IntroVAEConfig, recipe, suggested
from genzoo.spec import ModelSpec

__all__ = ["SPEC", "IntroVAE", "IntroVAEArch", "IntroVAEConfig", "IntroVAEObjective"]

if TYPE_CHECKING:
    from genzoo.models.introvae.objective import IntroVAE, IntroVAEObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__, submod_attrs={"objective": ["IntroVAE", "IntroVAEObjective"]}
    )


def _model() -> "type[IntroVAE]":
    from genzoo.models.introvae.objective import IntroVAE

    return IntroVAE


def _objective(*args: Any) -> "IntroVAEObjective":
    from genzoo.models.introvae.objective import IntroVAEObjective

    return IntroVAEObjective(*args)


SPEC = ModelSpec(
    name="introvae",
    summary="introspective VAE: a hinge on the KL separates real images from generated ones",
    paper="Huang et al., NeurIPS 2018, arXiv 1807.06358",
    config=IntroVAEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=IntroVAEArch,
    memory_savers=("objective.recompute",),
    suggested=suggested,
    recipe=recipe,
    warmup=lambda config: config.warmup,
)
