"""Networks that every model shares: an encoder maps data to (mu, logvar), a decoder maps latents to data."""

from torch import nn

from genzoo.errors import UsageError
from genzoo.nn.conv import ConvDecoder, ConvEncoder, ResidualBlock
from genzoo.nn.mlp import MLPDecoder, MLPEncoder
from genzoo.spec import ArchConfig

__all__ = ["ConvDecoder", "ConvEncoder", "MLPDecoder", "MLPEncoder", "ResidualBlock", "build_decoder", "build_encoder"]


def build_encoder(shape: tuple[int, ...], arch: ArchConfig) -> nn.Module:
    """Builds the encoder for data of `shape`: (C, H, W) for images, (D,) for vectors.

    Raises:
        UsageError: the network cannot take that shape; the message names a shape or an option that works.
    """
    if arch.encoder == "mlp":
        return MLPEncoder(shape, arch.z_dim, arch.hidden)
    if arch.encoder.startswith("timm:"):
        from genzoo.nn.trunk import TrunkEncoder

        return TrunkEncoder(_image(shape), arch.z_dim, arch.encoder.removeprefix("timm:"), arch.pretrained)
    if arch.encoder == "conv":
        return ConvEncoder(_image(shape), arch.z_dim, arch.channels, arch.norm, arch.norm_place)
    raise UsageError(f"Unknown encoder {arch.encoder!r}: set arch.encoder to conv, mlp or timm:<name>, e.g. timm:resnet18.")


def build_decoder(shape: tuple[int, ...], arch: ArchConfig) -> nn.Module:
    """Builds the decoder for data of `shape`; see `build_encoder`."""
    if arch.decoder == "mlp":
        return MLPDecoder(shape, arch.z_dim, arch.hidden)
    return ConvDecoder(_image(shape), arch.z_dim, arch.channels, arch.norm, arch.norm_place)


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UsageError(f"Convolutions need images, and this data has shape {shape}: set arch.encoder=mlp and arch.decoder=mlp.")
    return shape
