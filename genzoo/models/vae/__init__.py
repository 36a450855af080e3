"""VAE, variational autoencoder with a weighted KL (beta-VAE). Kingma & Welling, ICLR 2014; Higgins et al., ICLR 2017."""

import lazy_loader

from genzoo.models.vae.presets import PRESETS, VAEConfig, suggested
from genzoo.spec import ModelSpec

# The class and the objective need torch: they are imported when somebody asks for them.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"objective": ["VAE", "VAEObjective"]})

SPEC = ModelSpec(
    name="vae",
    summary="variational autoencoder with a weighted KL (beta-VAE)",
    paper="Kingma & Welling, ICLR 2014; Higgins et al., ICLR 2017",
    config=VAEConfig,
    presets=PRESETS,
    default_preset="toyfaces32",
    model=lambda: __getattr__("VAE"),
    objective=lambda *args: __getattr__("VAEObjective")(*args),
    suggested=suggested,
)
