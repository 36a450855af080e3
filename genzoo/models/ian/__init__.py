"""IAN, introspective adversarial network: the encoder and a discriminator of three classes share a trunk.

Brock, Lim, Ritchie & Weston, ICLR 2017, arXiv 1609.07093.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.ian.presets import PRESETS, IANArch, IANConfig, recipe
from genzoo.spec import ModelSpec

__all__ = ["IAN", "SPEC", "IANArch", "IANConfig", "IANObjective"]

if TYPE_CHECKING:
    from genzoo.models.ian.objective import IAN, IANObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["IAN", "IANObjective"]})


def _model() -> "type[IAN]":
    from genzoo.models.ian.objective import IAN

    return IAN


def _objective(*args: Any) -> "IANObjective":
    from genzoo.models.ian.objective import IANObjective

    return IANObjective(*args)


SPEC = ModelSpec(
    name="ian",
    summary="introspective adversarial network: encoder and discriminator share a trunk",
    paper="Brock, Lim, Ritchie & Weston, ICLR 2017, arXiv 1609.07093",
    config=IANConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=IANArch,
    recipe=recipe,
)
