"""VAE/GAN: three simultaneous updates from one forward pass; the decoder's and the critic's are gated."""

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, softplus

from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.models.autoencoder import Autoencoder
from genzoo.objective import Mean, Objective, Update, detached


class Critic(nn.Module):
    """[N, *shape] -> logit that an item is real [N], features [N, 64]."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.features, self.head = nn.Linear(prod(shape), 64), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x.flatten(1))
        return self.head(leaky_relu(features, 0.2)).flatten(), features


class VAEGAN(Autoencoder):
    """Encoder and decoder, and a critic whose features measure the reconstruction error."""

    model_name = "vaegan-example"

    critic: nn.Module

    def critics(self):
        return {"critic": Critic(self.shape)}


class Batch(NamedTuple):
    x: Tensor
    eps: Tensor
    z_p: Tensor


class VAEGANObjective(Objective):
    def draw(self, items, noise):
        z_p = self.spaces.prior.draw(noise, "prior", self.spaces.latent)
        return Batch(items.x, noise.normal("eps", *self.spaces.latent), z_p)

    def step(self, nets, batch, at):
        c = self.config
        mu, logvar = nets.encoder(batch.x)
        x_r, x_p = nets.decoder(reparameterize(mu, logvar, batch.eps)), nets.decoder(batch.z_p)
        (logit, features), (logit_p, _), (_, features_r) = nets.critic(batch.x), nets.critic(x_p), nets.critic(x_r)
        kl, error = kl_to_prior(mu, logvar).mean(), 0.5 * sse(features, features_r).mean()
        real, fake = softplus(-logit).mean(), softplus(logit_p).mean()
        costs = yield Mean(torch.stack([real, fake]))  # the gate is on the global batch
        critic_moves = (costs >= c.equilibrium - c.margin).all()
        decoder_moves = (costs <= c.equilibrium + c.margin).all()
        both = ~(critic_moves | decoder_moves)

        logs = detached({"loss/encoder": kl + error, "kl/real": kl, "error/features": error})
        yield Update(("encoder",), kl + error, logs, keep_graph=True)
        loss = c.gamma * error - (1 - c.gamma) * fake
        logs = detached({"loss/decoder": loss})
        yield Update(("decoder",), loss, logs, keep_graph=True, when=decoder_moves | both)
        yield Update(("critic",), real + fake, detached({"loss/critic": real + fake}), when=critic_moves | both)
