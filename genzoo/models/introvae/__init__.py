"""IntroVAE, introspective VAE: a hinge on the KL tells real images from generated ones. Huang et al., NeurIPS 2018, arXiv 1807.06358."""

import lazy_loader

from genzoo.models.introvae.presets import PRESETS, IntroVAEConfig, suggested
from genzoo.spec import ModelSpec

# The class and the objective need torch: they are imported when somebody asks for them.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"objective": ["IntroVAE", "IntroVAEObjective"]})

SPEC = ModelSpec(
    name="introvae",
    summary="introspective VAE: a hinge on the KL tells real images from generated ones",
    paper="Huang et al., NeurIPS 2018, arXiv 1807.06358",
    config=IntroVAEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=lambda: __getattr__("IntroVAE"),
    objective=lambda *args: __getattr__("IntroVAEObjective")(*args),
    arch={"norm_place": "after"},
    suggested=suggested,
)
