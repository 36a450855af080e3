"""WGAN-GP (Gulrajani et al., NeurIPS 2017): a critic with slope 1 estimates the Wasserstein distance of samples to
data, and the generator lowers the estimate.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from genzoo.archspec import CriticArch
from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.losses import gradient_penalty
from genzoo.models.generative import Generative
from genzoo.models.wgangp.presets import WGANGPConfig
from genzoo.models.wgangp.signs import RULES
from genzoo.nn.batchnorm import batchnorms
from genzoo.nn.critics import Critic
from genzoo.noise import Noise
from genzoo.objective import Fresh, Objective, Progress, Spaces, Step, Update, detached, frozen
from genzoo.signs import Rule


class WGANGP(Generative):
    """A decoder that generates, and a critic that judges each item alone; nothing encodes."""

    model_name = "wgangp"
    arch_class = CriticArch
    arch: CriticArch

    critic: Critic

    def critics(self) -> dict[str, nn.Module]:
        return {"critic": Critic(self.shape, self.arch)}

    def check_parts(self) -> None:
        super().check_parts()
        if batchnorms(self.critic):
            raise UsageError(
                "WGAN-GP penalizes the critic's slope at each item alone, and BatchNorm mixes items: set "
                "arch.critic_norm=none or group, and arch.encoder=conv, shuffle, dcgan or mlp."
            )


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    z: Tensor  # [N, *latent], of the critic's update
    alpha: Tensor  # [N, 1] in [0, 1), where between real and generated items the slope is measured
    z_g: Tensor | None  # [N * generator_batch, *latent], of the generator's update; of a step's first batch only


class WGANGPObjective(Objective):
    """Algorithm 1; the Adam of a run moves the networks."""

    config: WGANGPConfig

    def __init__(self, config: WGANGPConfig, spaces: Spaces):
        super().__init__(config, spaces)
        self.fresh = config.n_critic - 1
        if config.dequantize and not spaces.is_image:
            raise UsageError("objective.dequantize=true is for images of 8 bits: leave it out for points.")

    @property
    def signs(self) -> tuple[Rule, ...]:
        return RULES

    def draw(self, items: Items, noise: Noise) -> Batch:
        latent, prior, x = self.spaces.latent, self.spaces.prior, items.x
        z = prior.draw(noise, "critic", latent)
        z_g = None
        if noise.part == 0:
            z_g = prior.draw(noise, "generator", (self.config.generator_batch, *latent)).flatten(0, 1)
        if self.config.dequantize:
            x = (255 * x + noise.uniform("dequantize", *x.shape[1:])) / 256
        return Batch(x, z, noise.uniform("alpha", 1), z_g)

    def step(self, nets: WGANGP, batch: Batch, at: Progress) -> Step:
        z_g = batch.z_g
        for k in range(self.config.n_critic):
            if k:
                batch = yield Fresh()  # line 4: a new real batch
            yield self._critic_update(nets, batch)

        with frozen(nets.critic):
            loss = -nets.critic(nets.decoder(z_g)).mean()  # lines 11 and 12
        yield Update(("decoder",), loss, detached({"loss/decoder": loss}))

    def _critic_update(self, nets: WGANGP, batch: Batch) -> Update:
        """Lines 4 to 9: -(the estimate of the distance) + lambda (slope - 1)^2."""
        c = self.config
        with torch.no_grad():
            x_g = nets.decoder(batch.z)
        real, fake = nets.critic(torch.cat([batch.x, x_g])).chunk(2)
        distance = real.mean() - fake.mean()
        penalty = gradient_penalty(nets.critic, batch.x, x_g, batch.alpha, c.slope).mean()
        loss = c.penalty * penalty - distance
        logs = {"loss/critic": loss, "critic/distance": distance, "critic/penalty": penalty}
        return Update(("critic",), loss, detached(logs))
