"""Multi-layer perceptrons for 2-D points and plain vectors (Soft-IntroVAE's 2-D experiments), with PyTorch's default
initialization.
"""

import math
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from genzoo.nn.tables import DECODERS, ENCODERS, check_flat
from genzoo.spec import ArchConfig


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # no activation on the output


class MLPEncoder(nn.Module):
    """[N, *shape] -> mu, logvar: [N, Z] each; or one such tensor, a point code."""

    def __init__(
        self,
        shape: tuple[int, ...],  # of one vector or image; flattened
        z_dim: int,  # Z
        hidden: tuple[int, ...] = (256, 256, 256, 256),  # widths, each followed by a ReLU
        outputs: int = 2,  # 2: mu and logvar; 1: a point code
    ):
        super().__init__()
        self.outputs = outputs
        self.main = _mlp((math.prod(shape), *hidden, outputs * z_dim))

    def forward(self, x: Tensor, stages: bool = False) -> Tensor | tuple[Any, ...]:
        """Encodes items; with `stages`, returns the code and the outputs of the hidden layers, a list of [N, width]."""
        h, outputs = x.flatten(1), list[Tensor]()
        for layer in self.main:
            h = layer(h)
            if isinstance(layer, nn.ReLU):
                outputs.append(h)
        code = h if self.outputs == 1 else h.chunk(self.outputs, dim=1)
        return (code, outputs) if stages else code


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


@ENCODERS.register("mlp")
def _encoder(shape: tuple[int, ...], arch: ArchConfig, outputs: int) -> MLPEncoder:
    check_flat(arch, "mlp")
    return MLPEncoder(shape, arch.z_dim, arch.hidden, outputs)


@DECODERS.register("mlp")
def _decoder(shape: tuple[int, ...], arch: ArchConfig) -> MLPDecoder:
    check_flat(arch, "mlp")
    return MLPDecoder(shape, arch.z_dim, arch.hidden)
