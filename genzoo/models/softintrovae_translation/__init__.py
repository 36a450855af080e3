"""SoftIntroVAETranslation, Soft-IntroVAE with two encoders, class and content, for image translation.

Daniel & Tamar, CVPR 2021, arXiv 2012.13253; where the paper gives no settings, ours.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.softintrovae.presets import SoftIntroVAEConfig, recipe, suggested
from genzoo.models.softintrovae_translation.presets import PRESETS, TranslationArch
from genzoo.spec import ModelSpec

__all__ = ["SPEC", "SoftIntroVAETranslation", "TranslationArch"]

if TYPE_CHECKING:
    from genzoo.models.softintrovae.objective import SoftIntroVAEObjective
    from genzoo.models.softintrovae_translation.objective import SoftIntroVAETranslation
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["SoftIntroVAETranslation"]})


def _model() -> "type[SoftIntroVAETranslation]":
    from genzoo.models.softintrovae_translation.objective import SoftIntroVAETranslation

    return SoftIntroVAETranslation


def _objective(*args: Any) -> "SoftIntroVAEObjective":
    from genzoo.models.softintrovae_translation.objective import SoftIntroVAEObjective

    return SoftIntroVAEObjective(*args)


SPEC = ModelSpec(
    name="softintrovae-translation",
    summary="Soft-IntroVAE with two encoders, class and content, whose latents can be exchanged",
    paper="Daniel & Tamar, CVPR 2021, arXiv 2012.13253; networks and settings of this application: ours",
    config=SoftIntroVAEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=TranslationArch,
    memory_savers=("objective.recompute",),
    suggested=suggested,
    recipe=recipe,
    warmup=lambda config: config.warmup,
)
