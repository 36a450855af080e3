"""A fast pair of networks: the papers' residual blocks, arranged so that none works at full resolution.

Half of the published decoder's arithmetic is its last block and the image convolution, on the largest feature maps,
where a CPU is also least efficient. Here the encoder begins by folding 4x4 pixels into channels (`pixel_unshuffle`),
the decoder ends by unfolding them (`pixel_shuffle`, Shi et al., CVPR 2016), and a stage changes the resolution before
its block instead of after it.

`arch.channels` counts halvings as for the papers' stacks. Its first entry is the width of the decoder's thin tail at
full resolution; the others are those of the blocks, from a quarter of the resolution on.
"""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from genzoo.nn.conv import SLOPE, ConvDecoder, ConvEncoder, ResidualBlock, image_shape, normalization
from genzoo.nn.tables import DECODERS, ENCODERS
from genzoo.spec import ArchConfig


def _fold(widths: int) -> int:
    """Pixels a side that are folded into channels: two halvings, or the only one."""
    return 4 if widths > 1 else 2


class ShuffleEncoder(ConvEncoder):
    """As `ConvEncoder`: pixel_unshuffle, then one block per width but the first, after the pooling."""

    @staticmethod
    def _blocks(
        image_channels: int, channels: tuple[int, ...], norm: str, norm_place: str, projects: bool
    ) -> OrderedDict[str, nn.Module]:
        fold, widths = _fold(len(channels)), channels[1:] or channels
        blocks = OrderedDict[str, nn.Module](
            stem=nn.Sequential(
                nn.PixelUnshuffle(fold),
                nn.Conv2d(fold * fold * image_channels, widths[0], 3, padding=1, bias=False),
                normalization(norm, widths[0]),
                nn.LeakyReLU(SLOPE, inplace=True),
            ),
            block1=ResidualBlock(widths[0], widths[0], norm, norm_place),
        )
        for i, (before, after) in enumerate(pairwise(widths), start=2):
            block = ResidualBlock(before, after, norm, norm_place, projects=projects)
            blocks[f"block{i}"] = nn.Sequential(nn.AvgPool2d(2), block)
        return blocks


class ShuffleDecoder(ConvDecoder):
    """As `ConvDecoder`: one block per width but the last, after the upsampling, then pixel_shuffle and the thin tail,
    without which samples show a grid and lose thin lines.
    """

    @staticmethod
    def _blocks(
        image_channels: int, widths: tuple[int, ...], norm: str, norm_place: str, projects: bool
    ) -> OrderedDict[str, nn.Module]:
        fold, tail, widths = _fold(len(widths)), widths[-1], widths[:-1] or widths
        blocks = OrderedDict[str, nn.Module](block1=ResidualBlock(widths[0], widths[0], norm, norm_place))
        for i, (before, after) in enumerate(pairwise(widths), start=2):
            blocks[f"block{i}"] = ResidualBlock(before, after, norm, norm_place, upsamples=True, projects=projects)
        blocks["unfold"] = nn.Sequential(
            nn.Conv2d(widths[-1], fold * fold * tail, 3, padding=1),
            nn.PixelShuffle(fold),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        blocks["image"] = nn.Conv2d(tail, image_channels, 3, padding=1)
        return blocks


@ENCODERS.register("shuffle")
def _encoder(shape: tuple[int, ...], arch: ArchConfig, outputs: int) -> ShuffleEncoder:
    grid = arch.latent == "grid"
    projects, norms = arch.shortcut == "projection", (arch.norm, arch.norm_place)
    return ShuffleEncoder(image_shape(shape), arch.z_dim, arch.channels, *norms, outputs, grid, projects)


@DECODERS.register("shuffle")
def _decoder(shape: tuple[int, ...], arch: ArchConfig) -> ShuffleDecoder:
    grid = arch.latent == "grid"
    projects = arch.shortcut == "projection"
    return ShuffleDecoder(image_shape(shape), arch.z_dim, arch.channels, arch.norm, arch.norm_place, grid, projects)
