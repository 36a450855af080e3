"""Networks that every model shares: an encoder maps data to latents, a decoder maps latents to data."""

from torch import nn

from genzoo.nn.bounded import bounded
from genzoo.nn.conv import ConvDecoder, ConvEncoder, ResidualBlock, latent_grid
from genzoo.nn.dcgan import DCGANDecoder, DCGANEncoder
from genzoo.nn.mlp import MLPDecoder, MLPEncoder
from genzoo.nn.shuffle import ShuffleDecoder, ShuffleEncoder
from genzoo.nn.spectral import spectrally_normalized
from genzoo.nn.tables import DECODERS, ENCODERS, check_pretrained
from genzoo.spec import ArchConfig

__all__ = [
    "DECODERS",
    "ENCODERS",
    "ConvDecoder",
    "ConvEncoder",
    "DCGANDecoder",
    "DCGANEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "ResidualBlock",
    "ShuffleDecoder",
    "ShuffleEncoder",
    "build_decoder",
    "build_encoder",
    "check_backbones",
    "check_pretrained",
    "latent_shape",
]


def build_encoder(shape: tuple[int, ...], arch: ArchConfig, outputs: int = 2) -> nn.Module:
    """Builds the encoder that `arch.encoder` names; see `genzoo.nn.tables.EncoderBuilder`.

    Raises:
        UsageError: unknown name (with suggestions), or the network cannot take that shape.
    """
    encoder = ENCODERS.builder(arch.encoder)(shape, arch, outputs)
    return spectrally_normalized(encoder, arch.encoder) if arch.spectral_norm else encoder


def build_decoder(shape: tuple[int, ...], arch: ArchConfig) -> nn.Module:
    """Builds the decoder that `arch.decoder` names, with the activation `arch.output`; see `build_encoder`."""
    return bounded(DECODERS.builder(arch.decoder)(shape, arch), arch)


def latent_shape(shape: tuple[int, ...], arch: ArchConfig) -> tuple[int, ...]:
    """Returns the shape of one latent: (Z,), or (Z, h, w) on the grid that `arch.channels` leave of the image."""
    return (arch.z_dim,) if arch.latent == "flat" else (arch.z_dim, *latent_grid(shape, arch.channels))


def check_backbones(arch: ArchConfig) -> None:
    """Refuses unknown networks without building any.

    Raises:
        UsageError: there is no such network, or timm has no such trunk or weights; with suggestions.
    """
    ENCODERS.builder(arch.encoder)
    DECODERS.builder(arch.decoder)
    if arch.encoder.partition(":")[0] == "timm":
        from genzoo.nn.trunk import check_name, trunk_name

        check_name(trunk_name(arch))


@ENCODERS.register("timm")
def _trunk(shape: tuple[int, ...], arch: ArchConfig, outputs: int) -> nn.Module:
    from genzoo.nn.trunk import trunk_encoder  # timm takes seconds to import

    return trunk_encoder(shape, arch, outputs)
