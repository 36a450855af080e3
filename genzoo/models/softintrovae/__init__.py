"""SoftIntroVAE, soft introspective VAE: an exponential of the ELBO takes the hinge's place. Daniel & Tamar, CVPR 2021, arXiv 2012.13253."""

import lazy_loader

from genzoo.models.softintrovae.presets import PRESETS, SoftIntroVAEConfig, suggested
from genzoo.spec import ModelSpec

# The class and the objective need torch: they are imported when somebody asks for them.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"objective": ["SoftIntroVAE", "SoftIntroVAEObjective"]})

SPEC = ModelSpec(
    name="softintrovae",
    summary="soft introspective VAE: an exponential of the ELBO takes the hinge's place",
    paper="Daniel & Tamar, CVPR 2021, arXiv 2012.13253",
    config=SoftIntroVAEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=lambda: __getattr__("SoftIntroVAE"),
    objective=lambda *args: __getattr__("SoftIntroVAEObjective")(*args),
    suggested=suggested,
)
