"""AAE (Makhzani et al. 2015, arXiv 1511.05644), and WAE-GAN (Tolstikhin et al., ICLR 2018, arXiv 1711.01558), which
trains the same networks on the same two losses in another order.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genzoo.items import Items
from genzoo.losses import bce_fake, bce_real, sse
from genzoo.models.aae.presets import AAEArch, AAEConfig
from genzoo.models.autoencoder import Autoencoder
from genzoo.nn.critics import Critic, latent_critic
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Spaces, Step, Update, detached, frozen
from genzoo.priors import Prior


class AAE(Autoencoder):
    """An autoencoder with point codes, and a critic that tells them from draws of the prior."""

    model_name = "aae"
    code = "point"
    arch_class = AAEArch

    arch: AAEArch
    critic: Critic

    def critics(self) -> dict[str, nn.Module]:
        return {"critic": latent_critic(math.prod(self.latent_shape), self.arch)}

    @property
    def prior(self) -> Prior:
        return Prior(scale=self.arch.prior_scale)


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    z_p: Tensor  # [N, *latent], samples of the prior


def log_density(z: Tensor, scale: float) -> Tensor:
    """log N(z; 0, scale^2 I), summed over latent dimensions: [N, *latent] -> [N]."""
    return -0.5 * ((z / scale).square() + math.log(2 * math.pi * scale**2)).flatten(1).sum(dim=1)


class AAEObjective(Objective):
    """Three updates in turn, of the encoder twice; with `form=wae`, two."""

    config: AAEConfig

    def __init__(self, config: AAEConfig, spaces: Spaces):
        super().__init__(config, spaces)
        self.optimizers: Mapping[str, tuple[str, ...]] = {"encoder": ("adversary",)} if config.form == "paper" else {}

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "objective.beta", "adversary": "objective.weight"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        return Batch(items.x, self.spaces.prior.draw(noise, "prior", self.spaces.latent))

    def step(self, nets: AAE, batch: Batch, at: Progress) -> Step:
        return self._wae(nets, batch) if self.config.form == "wae" else self._aae(nets, batch)

    def _aae(self, nets: AAE, batch: Batch) -> Step:
        """Reconstruction phase, then regularization phase: the critic, and the encoder against it."""
        error = sse(batch.x, nets.decoder(nets.encoder(batch.x))).mean()
        loss = self.config.beta * error
        yield Update(("encoder", "decoder"), loss, detached({"loss/reconstruction": loss, "error/sse": error}))

        z = nets.encoder(batch.x)  # codes of the updated encoder
        yield self._critic_update(nets, batch.z_p, z)
        loss = self._fooling(nets, z)
        yield Update(("encoder",), loss, detached({"loss/encoder": loss}), by="adversary")

    def _wae(self, nets: AAE, batch: Batch) -> Step:
        """Encoder and decoder together, then the critic, as in the authors' code."""
        z = nets.encoder(batch.x)
        error = sse(batch.x, nets.decoder(z)).mean()
        adversarial = self._fooling(nets, z)
        loss = self.config.beta * error + adversarial
        logs = {"loss/reconstruction": loss, "loss/encoder": adversarial, "error/sse": error}
        yield Update(("encoder", "decoder"), loss, detached(logs))

        with torch.no_grad():
            z = nets.encoder(batch.x)  # codes of the updated encoder
        yield self._critic_update(nets, batch.z_p, z)

    def _critic_update(self, nets: AAE, z_p: Tensor, z: Tensor) -> Update:
        """-log D(z_p) - log(1 - D(z)), for the critic."""
        real, fake = bce_real(self._logits(nets, z_p)).mean(), bce_fake(self._logits(nets, z.detach())).mean()
        loss = self.config.weight * (real + fake)
        return Update(("critic",), loss, detached({"loss/critic": loss}))

    def _fooling(self, nets: AAE, z: Tensor) -> Tensor:
        """-log D(z), for the encoder: the non-saturating loss."""
        with frozen(nets.critic):
            return self.config.weight * bce_real(self._logits(nets, z)).mean()

    def _logits(self, nets: AAE, z: Tensor) -> Tensor:
        logits = nets.critic(z)
        return logits + log_density(z, self.spaces.prior.scale) if self.config.log_prior else logits
