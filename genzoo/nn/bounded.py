"""A decoder whose outputs are bounded to [0, 1], as those of most GANs are."""

import torch
from torch import Tensor, nn

from genzoo.spec import ArchConfig


class Bounded(nn.Module):
    """The outputs of a decoder, [N, *latent] -> [N, *shape], in [0, 1].

    Args:
        network: the decoder.
        kind: `sigmoid`, or `tanh`, which is moved from [-1, 1], where the papers have their images.
    """

    def __init__(self, network: nn.Module, kind: str):
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, z: Tensor) -> Tensor:
        out = self.network(z)
        return torch.sigmoid(out) if self.kind == "sigmoid" else (torch.tanh(out) + 1) / 2

    def extra_repr(self) -> str:
        return self.kind


def bounded(decoder: nn.Module, arch: ArchConfig) -> nn.Module:
    """Returns the decoder with the activation `arch.output` behind it."""
    return decoder if arch.output == "linear" else Bounded(decoder, arch.output)
