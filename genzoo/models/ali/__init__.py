"""ALI, adversarially learned inference, and BiGAN: a critic judges pairs of an item and a latent.

Dumoulin et al., ICLR 2017, arXiv 1606.00704; Donahue, Krähenbühl & Darrell, ICLR 2017, arXiv 1605.09782.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.ali.presets import PRESETS, ALIArch, ALIConfig
from genzoo.spec import ModelSpec

__all__ = ["ALI", "SPEC", "ALIArch", "ALIConfig", "ALIObjective"]

if TYPE_CHECKING:
    from genzoo.models.ali.objective import ALI, ALIObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"objective": ["ALI", "ALIObjective"]})


def _model() -> "type[ALI]":
    from genzoo.models.ali.objective import ALI

    return ALI


def _objective(*args: Any) -> "ALIObjective":
    from genzoo.models.ali.objective import ALIObjective

    return ALIObjective(*args)


SPEC = ModelSpec(
    name="ali",
    summary="adversarially learned inference, or BiGAN: a critic judges pairs of an image and a latent",
    paper="Dumoulin et al., ICLR 2017, arXiv 1606.00704; Donahue et al., ICLR 2017, arXiv 1605.09782",
    config=ALIConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    arch=ALIArch,
)
