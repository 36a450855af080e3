"""WGAN-GP: several critic updates on fresh real items per iteration, a generator update at every n-th."""

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genzoo.models.generative import Generative
from genzoo.objective import Fresh, Objective, Update, detached, frozen


class WGANGP(Generative):
    """A decoder that samples the prior, and a critic without normalization; nothing encodes."""

    model_name = "wgangp-example"

    critic: nn.Module

    def critics(self):
        return {
            "critic": nn.Sequential(nn.Flatten(), nn.Linear(prod(self.shape), 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
        }


class Batch(NamedTuple):
    x: Tensor
    z: Tensor  # of the critic's update
    z_g: Tensor  # of the generator's
    alpha: Tensor  # [N, 1], where between real and generated items the slope is measured


class WGANGPObjective(Objective):
    def __init__(self, config, spaces):
        super().__init__(config, spaces)
        self.fresh = config.critic_steps - 1

    def draw(self, items, noise):
        z, z_g = (self.spaces.prior.draw(noise, stream, self.spaces.latent) for stream in ("critic", "generator"))
        return Batch(items.x, z, z_g, noise.uniform("alpha", 1))

    def step(self, nets, batch, at):
        for i in range(self.config.critic_steps):
            if i:
                batch = yield Fresh()
            with torch.no_grad():
                x_g = nets.decoder(batch.z)
            alpha = batch.alpha.view(-1, *[1] * (batch.x.ndim - 1))
            between = torch.lerp(batch.x, x_g, alpha).requires_grad_()
            (slope,) = torch.autograd.grad(nets.critic(between).sum(), between, create_graph=True)
            penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
            distance = nets.critic(batch.x).mean() - nets.critic(x_g).mean()
            loss = self.config.penalty * penalty - distance
            yield Update(("critic",), loss, detached({"loss/critic": loss, "critic/distance": distance}))
        if at.every(self.config.every):
            with frozen(nets.critic):
                loss = -nets.critic(nets.decoder(batch.z_g)).mean()
            yield Update(("decoder",), loss, detached({"loss/decoder": loss}))
