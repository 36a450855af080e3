"""VAE (Kingma & Welling, ICLR 2014) with the beta of Higgins et al. (ICLR 2017): the baseline, and the warm-up of the
introspective models.
"""

import math
from typing import NamedTuple

from torch import Tensor

from genzoo.controller import Calibration, Controller, Fixed
from genzoo.items import Items
from genzoo.models._elbo import elbo_step
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.vae.presets import VAEConfig
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Spaces, Step


class VAE(Autoencoder):
    """Encoder and decoder trained together on the evidence lower bound."""

    model_name = "vae"
    learns_prior = True
    passes_labels = True


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of the posterior sample
    labels: Tensor | None = None  # [N] int64


class VAEObjective(Objective):
    """-ELBO = beta_rec * SSE + beta * KL, one update of both networks."""

    config: VAEConfig

    def __init__(self, config: VAEConfig, spaces: Spaces):
        super().__init__(config, spaces)
        self.beta_rec: Controller = (
            Calibration(math.prod(spaces.shape), None) if config.beta_rec == "auto" else Fixed(config.beta_rec)
        )

    @property
    def controllers(self) -> dict[str, Controller]:
        return {"beta_rec": self.beta_rec} if self.config.beta_rec == "auto" else {}

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "objective.beta_rec"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        return Batch(items.x, noise.normal("eps", *self.spaces.latent), items.labels)

    def step(self, nets: VAE, batch: Batch, at: Progress) -> Step:
        beta_rec, beta_kl = self.beta_rec.value, self.config.beta
        yield from elbo_step(nets, batch.x, batch.eps, batch.labels, beta_rec=beta_rec, beta_kl=beta_kl)
