"""VAE (Kingma & Welling, ICLR 2014) with the beta of Higgins et al. (ICLR 2017): the baseline, and everybody's warm-up."""

from typing import NamedTuple

from torch import Tensor, nn

from genzoo.models.autoencoder import Autoencoder
from genzoo.models.vae.presets import VAEConfig
from genzoo.noise import Noise
from genzoo.objective import Progress, Step, elbo_step


class VAE(Autoencoder):
    """Encoder and decoder trained together on the evidence lower bound."""


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, Z], noise of the posterior sample


class VAEObjective:
    """-ELBO = beta_rec * SSE + beta * KL, one update of both networks."""

    def __init__(self, config: VAEConfig, shape: tuple[int, ...], z_dim: int):
        self.config, self.z_dim = config, z_dim
        self.guides: dict[str, float] = {}

    def draw(self, real: Tensor, noise: Noise) -> Batch:
        return Batch(real, noise.normal("eps", self.z_dim))

    def step(self, nets: nn.Module, batch: Batch, at: Progress) -> Step:
        yield from elbo_step(nets, batch.x, batch.eps, beta_rec=self.config.beta_rec, beta_kl=self.config.beta)
