"""SoftIntroVAE, soft introspective VAE: an exponential of the ELBO replaces the hinge.

Daniel & Tamar, CVPR 2021, arXiv 2012.13253.
"""

from typing import TYPE_CHECKING, Any

from genzoo.models.softintrovae.presets import PRESETS, SoftIntroVAEConfig, recipe, suggested
from genzoo.spec import ModelSpec, PublishedProtocol

__all__ = ["SPEC", "SoftIntroVAE", "SoftIntroVAEConfig", "SoftIntroVAEObjective"]

if TYPE_CHECKING:
    from genzoo.models.softintrovae.objective import SoftIntroVAE, SoftIntroVAEObjective
else:  # the model and its objective need torch: they are imported on first use
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__, submod_attrs={"objective": ["SoftIntroVAE", "SoftIntroVAEObjective"]}
    )


def _model() -> "type[SoftIntroVAE]":
    from genzoo.models.softintrovae.objective import SoftIntroVAE

    return SoftIntroVAE


def _objective(*args: Any) -> "SoftIntroVAEObjective":
    from genzoo.models.softintrovae.objective import SoftIntroVAEObjective
    from genzoo.models.softintrovae.variants import BootstrapObjective

    return (BootstrapObjective if args[0].bootstrap else SoftIntroVAEObjective)(*args)


SPEC = ModelSpec(
    name="softintrovae",
    summary="soft introspective VAE: an exponential of the ELBO replaces the hinge",
    paper="Daniel & Tamar, CVPR 2021, arXiv 2012.13253",
    config=SoftIntroVAEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=_model,
    objective=_objective,
    memory_savers=("objective.recompute",),
    suggested=suggested,
    recipe=recipe,
    warmup=lambda config: config.warmup,
    protocols={
        "sintrovae2021": PublishedProtocol(
            word="fid",
            extractor="inception-pytorch",
            extractor_mode="train",
            batchnorm="batch",
            raw=True,
            batch=32,  # of the published score, on CIFAR-10
            truncated=True,
            shuffled=True,
            note="Extractor and model run in train mode on batches of the training's size, real images are shuffled, "
            "weights are not averaged and samples are truncated to 8 bits, as in Soft-IntroVAE's published code: "
            "comparable with its scores only.",
        )
    },
)
