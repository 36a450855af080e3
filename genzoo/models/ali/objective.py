"""ALI (Dumoulin et al., ICLR 2017, arXiv 1606.00704) and BiGAN (Donahue et al., ICLR 2017, arXiv 1605.09782): encoder
and decoder make a critic mistake pairs of data and code for pairs of sample and latent, and the reverse.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from genzoo.items import Items
from genzoo.losses import bce_fake, bce_real, reparameterize
from genzoo.models._judged import JointlyJudged, judge_pairs, judgments
from genzoo.models.ali.presets import ALIArch, ALIConfig
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Step, Update, detached
from genzoo.priors import Prior


class UnitCode(nn.Module):
    """An encoder whose point codes lie in (-1, 1), as BiGAN's uniform prior: [N, *shape] -> [N, *latent]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(self.network(x)) - 1


class ALI(JointlyJudged):
    """Encoder and decoder that match the joint distribution of items and latents, in the form `arch.form`: ALI, with
    Gaussian codes and the prior N(0, I), or BiGAN, with point codes and a uniform prior.
    """

    model_name = "ali"
    arch_class = ALIArch
    arch: ALIArch

    def networks(self) -> dict[str, nn.Module]:
        if self.arch.form != "bigan":
            return super().networks()
        self.code = "point"
        nets = super().networks()
        return nets | {"encoder": UnitCode(nets["encoder"])}

    @property
    def prior(self) -> Prior:
        return Prior("uniform") if self.arch.form == "bigan" else super().prior


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of a Gaussian code
    z_p: Tensor  # [N, *latent], samples of the prior


class ALIObjective(Objective):
    """Algorithm 1 of ALI, with the generator's loss of its Section 2.1: the labels of both kinds of pairs are exchanged
    for encoder and decoder. Both updates belong to the weights before the step.
    """

    config: ALIConfig

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "there is none here: lower train.lr"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        latent = self.spaces.latent
        return Batch(items.x, noise.normal("eps", *latent), self.spaces.prior.draw(noise, "prior", latent))

    def step(self, nets: ALI, batch: Batch, at: Progress) -> Step:
        code = nets.encoder(batch.x)
        z = code if isinstance(code, Tensor) else reparameterize(code[0], code[1], batch.eps)
        x_p = nets.decoder(batch.z_p)
        q, p = judge_pairs(nets.critic, (batch.x, z), (x_p, batch.z_p))

        loss_g = self._weight * (bce_fake(q) + bce_real(p)).mean()
        loss_c = self._weight * (bce_real(q) + bce_fake(p)).mean()
        logs = detached({"loss/generator": loss_g, **judgments(real=q, sample=p)})
        yield Update(("encoder", "decoder"), loss_g, logs, keep_graph=True)
        yield Update(("critic",), loss_c, detached({"loss/critic": loss_c}))

    @property
    def _weight(self) -> float:
        """Of both losses: by the configuration, or by the form, which the prior tells apart."""
        own = 0.5 if self.spaces.prior.kind == "uniform" else 1.0
        return own if self.config.weight is None else self.config.weight
