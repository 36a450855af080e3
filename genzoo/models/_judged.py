"""What models share that have a critic besides their encoder: its curves, and critics of pairs of an item and a latent
(ALI, Dumoulin et al., ICLR 2017).
"""

import math

import torch
from torch import Tensor, nn

from genzoo.archspec import CriticArch
from genzoo.models.autoencoder import Autoencoder
from genzoo.nn.critics import JointCritic


class JointlyJudged(Autoencoder):
    """An autoencoder whose critic judges pairs: an item with its code, and a latent with what is decoded from it."""

    arch_class = CriticArch

    critic: nn.Module

    def critics(self) -> dict[str, nn.Module]:
        assert isinstance(self.arch, CriticArch)
        return {"critic": JointCritic(self.shape, math.prod(self.latent_shape), self.arch)}


def judge_pairs(
    critic: nn.Module, encoded: tuple[Tensor, Tensor], decoded: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Judges pairs of both kinds in one pass, so that both have the same statistics of a BatchNorm.

    Args:
        critic: [N, *shape], [N, Z] -> [N].
        encoded: items and their codes, [N, *shape] and [N, *latent].
        decoded: what is decoded from latents, and the latents, alike.

    Returns:
        Logits of both, two [N].
    """
    x, z = (torch.cat(both) for both in zip(encoded, decoded, strict=True))
    q, p = critic(x, z.flatten(1)).chunk(2)
    return q, p


def judgments(**logits: Tensor) -> dict[str, Tensor]:
    """Mean probability that a critic gives items to be real, by kind of items, as curves `critic/<kind>`."""
    return {f"critic/{kind}": torch.sigmoid(value).mean() for kind, value in logits.items()}
