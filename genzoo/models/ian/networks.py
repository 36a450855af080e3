"""IAN's networks: a trunk that both judges and encodes, a head for either, built from genzoo's encoders."""

import math
from dataclasses import replace

from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.models.ian.presets import IANArch
from genzoo.nn import build_encoder
from genzoo.nn.conv import StackEncoder
from genzoo.nn.mlp import MLPEncoder

CLASSES = 3  # of the discriminator: real, reconstruction, sample


class Trunk(nn.Module):
    """[N, *shape] -> the outputs of all stages, the last one being what the heads take.

    Args:
        shape: of one item.
        arch: `arch.encoder` and its widths are the trunk's.

    Raises:
        UsageError: a network that has no stages.
    """

    def __init__(self, shape: tuple[int, ...], arch: IANArch):
        super().__init__()
        encoder = build_encoder(shape, replace(arch, latent="flat"), outputs=1)
        if isinstance(encoder, StackEncoder):
            self.main, last, self.channels = encoder.main, encoder.head, arch.channels[-1]
        elif isinstance(encoder, MLPEncoder):
            self.main, last = nn.Sequential(nn.Flatten(), *encoder.main[:-1]), encoder.main[-1]
            self.channels = arch.hidden[-1]
        else:
            raise UsageError(
                f"A trunk needs stages, and {type(encoder).__name__} has none: set arch.encoder=conv, shuffle, dcgan "
                "or mlp."
            )
        assert isinstance(last, nn.Linear)
        self.features = last.in_features  # of the last stage, flat

    def forward(self, x: Tensor) -> list[Tensor]:
        stages = list[Tensor]()
        for layer in self.main:
            x = layer(x)
            if not isinstance(layer, nn.Linear | nn.Flatten):
                stages.append(x)
        return stages


class Head(nn.Module):
    """The encoder's own layers: a trunk's last stage -> mu, logvar: [N, *latent] each.

    Args:
        features: of the last stage, flat.
        width: of the hidden layer.
        latent: shape of one latent.
    """

    def __init__(self, features: int, width: int, latent: tuple[int, ...]):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(features, width), nn.ELU(), nn.Linear(width, 2 * math.prod(latent))
        )
        self.latent = latent

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_sigma = self.layers(h).unflatten(1, (2, *self.latent)).unbind(1)
        return mu, 2 * log_sigma


class Discriminator(nn.Module):
    """A trunk's last stage, averaged over the grid -> logits of three classes, [N, 3]."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, CLASSES, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(h.flatten(2).mean(dim=2) if h.ndim > 2 else h)
