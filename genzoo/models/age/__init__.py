"""AGE, adversarial generator-encoder networks: an autoencoder that judges batches by a KL of their codes.

Ulyanov, Vedaldi & Lempitsky, AAAI 2018, arXiv 1704.02304.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.age.presets import PRESETS, AGEConfig, recipe
from genzoo.spec import ModelSpec

__all__ = ["AGE", "SPEC", "AGEConfig", "AGEObjective"]

if TYPE_CHECKING:
    from genzoo.models.age.objective import AGE, AGEObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["AGE", "AGEObjective"]})


def _model() -> "type[AGE]":
    from genzoo.models.age.objective import AGE

    return AGE


def _objective(*args: Any) -> "AGEObjective":
    from genzoo.models.age.objective import AGEObjective

    return AGEObjective(*args)


SPEC = ModelSpec(
    name="age",
    summary="adversarial generator-encoder networks: the KL of a batch's codes to the prior judges it",
    paper="Ulyanov, Vedaldi & Lempitsky, AAAI 2018, arXiv 1704.02304",
    config=AGEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    recipe=recipe,
)
