"""Two codes of one image: a pair of encoders, and a decoder in which one code becomes the map that is decoded and the
other modulates the decoder's blocks by AdaIN (adaptive instance normalization; Huang & Belongie, ICCV 2017).
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.nn.bounded import bounded
from genzoo.nn.checkpointing import checkpointed
from genzoo.nn.conv import ConvDecoder, ResidualBlock, latent_grid
from genzoo.nn.tables import DECODERS, ENCODERS
from genzoo.spec import ArchConfig

EPS = 1e-5  # added to variances, as in PyTorch's normalization layers


class AdaIN(nn.Module):
    """Normalizes each channel of each image over its pixels, then scales and shifts it by linear functions of a code:
    [N, C, H, W], [N, Z] -> [N, C, H, W].
    """

    def __init__(
        self,
        channels: int,  # C
        z_dim: int,  # Z
    ):
        super().__init__()
        self.affine = nn.Linear(z_dim, 2 * channels)  # the scale's difference from 1, then the shift

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.affine(code)[:, :, None, None].chunk(2, dim=1)
        var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(var + EPS) * (1 + scale) + shift


class AdaINDecoder(nn.Module):
    """[N, Z] -> [N, C, H, W]. The first `z_class` numbers of z modulate each residual block's output; a plain decoder
    decodes the others.
    """

    gradient_checkpointing = False  # diffusers' two attributes, see `genzoo.nn.checkpointing`
    _gradient_checkpointing_func: Callable[[nn.Module, Tensor], Tensor] = staticmethod(checkpointed)

    def __init__(
        self,
        decoder: ConvDecoder,  # of the other numbers, whose layers are taken over
        z_class: int,
    ):
        super().__init__()
        self.z_class = z_class
        self.head, self.main = decoder.head, decoder.main
        widths = {name: _block_width(stage) for name, stage in self.main.named_children()}
        self.modulations = nn.ModuleDict({name: AdaIN(width, z_class) for name, width in widths.items() if width})

    def forward(self, z: Tensor) -> Tensor:
        code, x = z[:, : self.z_class], self.head(z[:, self.z_class :])
        for name, stage in self.main.named_children():
            x = self._run(stage, x)
            if name in self.modulations:
                x = self.modulations[name](x, code)
        return x

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(stage, x)
        return stage(x)


def _block_width(stage: nn.Module) -> int:
    """The channels that a stage's residual block returns; 0 for a stage without one."""
    blocks = [module for module in stage.modules() if isinstance(module, ResidualBlock)]
    if not blocks:
        return 0
    last = blocks[-1].branch[-1]
    assert isinstance(last, nn.Conv2d)
    return last.out_channels


class TwoEncoders(nn.Module):
    """Two encoders of the same images, joined: [N, C, H, W] in [0, 1] -> mu, logvar: [N, Z] each, the class first."""

    def __init__(self, class_encoder: nn.Module, content_encoder: nn.Module):
        super().__init__()
        self.class_encoder, self.content_encoder = class_encoder, content_encoder

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        posteriors = self.class_encoder(x), self.content_encoder(x)
        return tuple(torch.cat(parts, dim=1) for parts in zip(*posteriors, strict=True))


def build_two_encoders(shape: tuple[int, ...], arch: ArchConfig, z_class: int) -> TwoEncoders:
    """Builds two networks of the kind that `arch.encoder` names: of `z_class` numbers, and of the rest of `arch.z_dim`.

    Raises:
        UsageError: as the networks themselves; or `arch.latent=grid`.
    """
    _check_flat(arch)
    sizes = z_class, arch.z_dim - z_class
    return TwoEncoders(*(ENCODERS.builder(arch.encoder)(shape, replace(arch, z_dim=size), 2) for size in sizes))


def build_adain_decoder(shape: tuple[int, ...], arch: ArchConfig, z_class: int) -> nn.Module:
    """Builds the decoder that `arch.decoder` names, modulated by the first `z_class` of `arch.z_dim` numbers: an
    `AdaINDecoder`, with the activation `arch.output`.

    Raises:
        UsageError: as the network itself; `arch.latent=grid`, a network without residual blocks, or one whose smallest
            map is a single pixel, over which nothing can be normalized.
    """
    _check_flat(arch)
    decoder = DECODERS.builder(arch.decoder)(shape, replace(arch, z_dim=arch.z_dim - z_class))
    if not isinstance(decoder, ConvDecoder):
        raise UsageError(
            f"arch.decoder={arch.decoder} has no residual blocks that a class could modulate: set arch.decoder=conv or "
            "arch.decoder=shuffle."
        )
    if latent_grid(shape, arch.channels) == (1, 1):
        raise UsageError(
            f"{len(arch.channels)} entries in arch.channels leave a content map of one pixel, which has nothing to "
            f"normalize: set arch.channels to {len(arch.channels) - 1} entries."
        )
    return bounded(AdaINDecoder(decoder, z_class), arch)


def _check_flat(arch: ArchConfig) -> None:
    if arch.latent == "grid":
        raise UsageError("arch.latent=grid has one kind of latent, and two encoders have two: set arch.latent=flat.")
