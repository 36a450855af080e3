"""Multi-layer perceptrons for 2-D points and plain vectors (Soft-IntroVAE's 2-D experiments), with PyTorch's default initialisation."""

import math
from itertools import pairwise

from torch import Tensor, nn


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # no activation on the output


class MLPEncoder(nn.Module):
    """[N, *shape] -> mu, logvar: [N, Z] each."""

    def __init__(
        self,
        shape: tuple[int, ...],  # of one vector or image; flattened
        z_dim: int,  # Z
        hidden: tuple[int, ...] = (256, 256, 256, 256),  # widths, each followed by a ReLU
    ):
        super().__init__()
        self.main = _mlp((math.prod(shape), *hidden, 2 * z_dim))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.main(x.flatten(1)).chunk(2, dim=1)


class MLPDecoder(nn.Module):
    """[N, Z] -> [N, *shape]."""

    def __init__(
        self,
        shape: tuple[int, ...],  # of one vector or image
        z_dim: int,  # Z
        hidden: tuple[int, ...] = (256, 256, 256, 256),  # widths, each followed by a ReLU
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.main = _mlp((z_dim, *hidden, math.prod(shape)))

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z).unflatten(1, self.shape)
