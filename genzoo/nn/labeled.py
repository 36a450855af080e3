"""Networks that take labels in the one-hot form of Soft-IntroVAE's code (Daniel & Tamar 2021), `arch.conditional`.

Theirs: a flag of the networks, `conditional`, by which a vector is appended to the encoder's flat features before the
last linear layer, and to z before the decoder's first one. Their training code never sets it. Ours: the vector is the
one-hot label, samples have the labels of the step's real items, and the encoder judges them with these; any network
with flat latents takes part; and the encoder's part for the label begins at zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.nn import build_decoder, build_encoder
from genzoo.nn.mixture import interpolated
from genzoo.spec import ArchConfig


class LabeledEncoder(nn.Module):
    """An encoder whose last linear layer also takes a one-hot label: [N, *shape], int64 [N] -> (mu, logvar), [N, Z]
    each, or one such tensor, a point code.

    A one-hot vector picks one column of that layer's matrix, so that these columns are added to what the network
    returns, and are kept here.

    Args:
        network: an encoder without labels.
        classes: their number K.
        outputs: 2 for (mu, logvar), 1 for a point code.
        z_dim: Z.
    """

    def __init__(self, network: nn.Module, classes: int, outputs: int, z_dim: int):
        super().__init__()
        self.network, self._shape = network, (classes, outputs, z_dim)
        self.columns = nn.Parameter(torch.zeros(classes * outputs * z_dim))  # flat, as in `genzoo.nn.mixture`

    def forward(self, x: Tensor, labels: Tensor, stages: bool = False) -> Any:
        """With `stages`, returns the network's stages, too; see `ConvEncoder`."""
        out, features = self.network(x, stages=True) if stages else (self.network(x), [])
        columns = self.columns.view(self._shape)[labels].unbind(1)
        out = out + columns[0] if isinstance(out, Tensor) else tuple(a + b for a, b in zip(out, columns, strict=True))
        return (out, features) if stages else out


class LabeledDecoder(nn.Module):
    """A decoder of [z, one-hot label]: [N, Z], int64 [N] -> [N, *shape].

    Args:
        network: a decoder of [N, Z + K].
        classes: their number K.
    """

    def __init__(self, network: nn.Module, classes: int):
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.network(torch.cat([z, self._one_hot(z)[labels]], dim=1))

    def walk(self, z: Tensor, classes: Sequence[int]) -> Tensor:
        """Decodes latents [steps, Z] with labels that move from class to class in equal steps: [steps, *shape].

        In between, z gets a mixture of two one-hot labels, which is not seen in training.
        """
        return self.network(torch.cat([z, interpolated(self._one_hot(z)[list(classes)], len(z))], dim=1))

    def _one_hot(self, z: Tensor) -> Tensor:
        """The labels of all classes, [K, K], in the type of z."""
        return torch.eye(self.classes, dtype=z.dtype, device=z.device)


def build_labeled(shape: tuple[int, ...], arch: ArchConfig, outputs: int, classes: int) -> dict[str, nn.Module]:
    """Builds the encoder and the decoder of `arch.conditional=concat`.

    Raises:
        UsageError: latents on a grid, or as `build_encoder`.
    """
    if arch.latent != "flat":
        raise UsageError(
            "arch.conditional=concat appends labels to flat latents: set arch.latent=flat, or arch.prior=classes in "
            "place of arch.conditional."
        )
    wider = replace(arch, z_dim=arch.z_dim + classes)
    return {
        "encoder": LabeledEncoder(build_encoder(shape, arch, outputs), classes, outputs, arch.z_dim),
        "decoder": LabeledDecoder(build_decoder(shape, wider), classes),
    }


def with_labels(network: nn.Module, labels: Tensor | None) -> Callable[..., Any]:
    """Returns the network without its argument for labels: one that takes labels gets these, int64 [N]."""
    return partial(network, labels=labels) if isinstance(network, LabeledEncoder | LabeledDecoder) else network
