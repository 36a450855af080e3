"""EBGAN (Zhao et al., ICLR 2017): the critic gives data a low energy and generated items one up to a margin; the
generator lowers the energy of its items.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from genzoo.archspec import CriticArch
from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.losses import pull_away
from genzoo.models.ebgan.presets import EBGANConfig
from genzoo.models.ebgan.signs import RULES
from genzoo.models.generative import Generative
from genzoo.nn.critics import EnergyAutoencoder
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Step, Update, detached, frozen, of_mean
from genzoo.signs import Rule


class EBGAN(Generative):
    """A decoder that generates, and an autoencoder that judges; its latents are not those of the decoder."""

    model_name = "ebgan"
    arch_class = CriticArch
    arch: CriticArch

    critic: EnergyAutoencoder

    def critics(self) -> dict[str, nn.Module]:
        return {"critic": EnergyAutoencoder(self.shape, self.arch)}


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    z: Tensor  # [N, *latent]


def energy(x: Tensor, reconstruction: Tensor) -> Tensor:
    """|Dec(Enc(x)) - x| of each item (Section 2.3): two [N, ...] -> [N]."""
    return torch.linalg.vector_norm((reconstruction - x).flatten(1), dim=1)


class EBGANObjective(Objective):
    """L_D and L_G of Section 2.1, one update of each network on the same generated items, and the pulling-away term of
    Section 2.4.
    """

    config: EBGANConfig

    @property
    def guides(self) -> dict[str, float]:
        return {"energy": self.config.margin}

    @property
    def signs(self) -> tuple[Rule, ...]:
        return RULES

    def draw(self, items: Items, noise: Noise) -> Batch:
        return Batch(items.x, self.spaces.prior.draw(noise, "prior", self.spaces.latent))

    def step(self, nets: EBGAN, batch: Batch, at: Progress) -> Step:
        c, x = self.config, batch.x
        if c.pull_away and at.batch < 2:
            raise UsageError(
                "objective.pull_away compares the items of a batch: set train.batch=2 or more, or leave it."
            )
        x_g = nets.decoder(batch.z)
        real, fake = (energy(y, nets.critic(y)[1]) for y in (x, x_g.detach()))
        hinge = (c.margin - fake).relu()
        loss = real.mean() + hinge.mean()  # L_D, a hinge per item
        logs = {"loss/critic": loss, "energy/real": real.mean(), "energy/sample": fake.mean()}
        yield Update(("critic",), loss, detached(logs | {"hinge/active": (hinge > 0).to(hinge.dtype).mean()}))

        with frozen(nets.critic):
            code, again = nets.critic(x_g)
            loss = energy(x_g, again).mean()  # L_G
        logs = {}
        if c.pull_away:
            logs["similarity/codes"] = alike = yield from self._pull_away(code, at.batch)
            loss = loss + c.pull_away * alike
        yield Update(("decoder",), loss, detached({"loss/decoder": loss} | logs))

    def _pull_away(self, code: Tensor, n: int) -> Step:
        """f_PT of the codes [N, Z] of this micro-batch, over all n items of the batch."""
        s = normalize(code, dim=1)
        return (yield from of_mean(lambda gram: pull_away(gram, n), s.T @ s / len(s)))
