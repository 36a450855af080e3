"""VEEGAN (Srivastava et al., NeurIPS 2017, arXiv 1705.07761): the critic estimates a log-density ratio of pairs, and a
reconstructor of latents keeps the generator from leaving out modes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from genzoo.items import Items
from genzoo.losses import bce_fake, bce_real, sse
from genzoo.models._judged import JointlyJudged, judge_pairs, judgments
from genzoo.models.veegan.presets import VEEGANConfig
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Step, Update, detached


class VEEGAN(JointlyJudged):
    """A decoder G, a critic of pairs, and the reconstructor F, which is the encoder: it learns to invert G."""

    model_name = "veegan"
    code = "point"


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of p(z | x) = N(F(x), I)
    z_p: Tensor  # [N, *latent], samples of the prior


class VEEGANObjective(Objective):
    """Algorithm 1: the critic D(x, z) learns log q(x | z) p(z) - log p(z | x) p(x), which the decoder minimizes on its
    own pairs; decoder and reconstructor minimize d(z, F(G(z))). All gradients belong to the weights before the step.
    """

    config: VEEGANConfig

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "objective.weight, of latents"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        latent = self.spaces.latent
        return Batch(items.x, noise.normal("eps", *latent), self.spaces.prior.draw(noise, "prior", latent))

    def step(self, nets: VEEGAN, batch: Batch, at: Progress) -> Step:
        x, z = batch.x, batch.z_p
        x_g = nets.decoder(z)
        with torch.no_grad():  # the critic does not train the reconstructor
            z_x = nets.encoder(x) + batch.eps
        q, p = judge_pairs(nets.critic, (x, z_x), (x_g, z))
        distance = sse(z, nets.encoder(x_g)).mean()

        loss_g = p.mean() + self.config.weight * distance  # of the logit: the estimate of the log-ratio
        loss_c = (bce_real(p) + bce_fake(q)).mean()  # label 1 is that of generated pairs
        logs = detached({"loss/generator": loss_g, "error/latent": distance, **judgments(real=-q, sample=-p)})
        yield Update(("encoder", "decoder"), loss_g, logs, keep_graph=True)
        yield Update(("critic",), loss_c, detached({"loss/critic": loss_c}))
