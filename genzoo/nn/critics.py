"""Networks that judge: a critic of items, of latents, of pairs of both, and an autoencoder whose error is an energy.

Introspective models need none, as their encoder judges. A critic is of the kind that `arch.encoder` names, with a
single output, and `arch.critic_norm` in place of `arch.norm`.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.archspec import CriticArch
from genzoo.errors import UsageError
from genzoo.nn import build_decoder, build_encoder
from genzoo.nn.conv import SLOPE, StackEncoder
from genzoo.nn.mlp import MLPEncoder


class Critic(nn.Module):
    """[N, *shape] -> logits [N]: high where an item looks real.

    Args:
        shape: of one item, or of one flat latent.
        arch: the model's; its encoder's kind, widths and `critic_norm` are the critic's.
    """

    def __init__(self, shape: tuple[int, ...], arch: CriticArch):
        super().__init__()
        self.network = build_encoder(shape, replace(_critics(arch), z_dim=1), outputs=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).flatten()

    def with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the logits and the outputs of the network's stages, from the item on; see `StackEncoder`.

        Raises:
            UsageError: the network does not return any.
        """
        if not isinstance(self.network, StackEncoder | MLPEncoder):
            raise UsageError(
                f"The critic's features are compared, and {type(self.network).__name__} has no stages: set "
                "arch.encoder=conv, shuffle or dcgan."
            )
        logits, stages = self.network(x, stages=True)
        return logits.flatten(), stages


class JointCritic(nn.Module):
    """[N, *shape], [N, Z] -> logits [N]: high where an item and a latent belong together as an encoder's do.

    Both have a trunk of their own, whose outputs a perceptron of two layers joins (ALI, Dumoulin et al. 2017).
    """

    def __init__(
        self,
        shape: tuple[int, ...],  # of one item
        z_dim: int,  # Z
        arch: CriticArch,  # as for `Critic`
        width: int = 256,  # of each trunk's output, and of the perceptron
    ):
        super().__init__()
        self.of_x = build_encoder(shape, replace(_critics(arch), z_dim=width), outputs=1)
        self.of_z = nn.Sequential(nn.Linear(z_dim, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width))
        self.head = nn.Sequential(
            nn.LeakyReLU(SLOPE), nn.Linear(2 * width, width), nn.LeakyReLU(SLOPE), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.head(torch.cat([self.of_x(x), self.of_z(z)], dim=1)).flatten()


class EnergyAutoencoder(nn.Module):
    """[N, *shape] -> codes [N, Z], and reconstructions [N, *shape], whose error is an energy (EBGAN, Zhao et al. 2017).

    Args:
        shape: of one item.
        arch: the model's; both networks are of its kinds, with `critic_norm`.
    """

    def __init__(self, shape: tuple[int, ...], arch: CriticArch):
        super().__init__()
        self.encoder = build_encoder(shape, _critics(arch), outputs=1)
        self.decoder = build_decoder(shape, _critics(arch))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(x)
        return code, self.decoder(code)


def latent_critic(z_dim: int, arch: CriticArch) -> Critic:
    """Builds a critic of flat latents, [N, Z] -> [N], a perceptron with the widths `arch.hidden`."""
    return Critic((z_dim,), replace(arch, encoder="mlp"))


def _critics(arch: CriticArch) -> Any:
    """The settings of a critic's networks."""
    return replace(arch, latent="flat", norm=arch.critic_norm)
