"""The papers' convolutional stacks: a stem and residual blocks around average pooling, or nearest-neighbor upsampling.

All layers start from PyTorch's default initialization (Kaiming uniform with a = sqrt(5)), as in the published
Soft-IntroVAE code.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from genzoo.errors import UsageError
from genzoo.nn.batchnorm import BatchNorm2d
from genzoo.nn.checkpointing import checkpointed, cut_where_small
from genzoo.nn.tables import DECODERS, ENCODERS
from genzoo.spec import ArchConfig

SLOPE = 0.2  # of every LeakyReLU


def normalization(kind: str, channels: int) -> nn.Module:
    """Returns the layer that `arch.norm` names: batch | group | none."""
    if kind == "batch":
        return BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    return nn.Identity()


def _upsampled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _upsampled_conv3(x: Tensor, weight: Tensor) -> Tensor:
    """conv3x3 of the image at twice its size: [N, C, H, W], [out, C, 3, 3] -> [N, out, 2H, 2W].

    One transposed convolution with a 4x4 kernel, stride 2 and padding 1 is the same linear map, with 4 products where
    the plain one has 9. It pays off where the pixels outweigh making the kernel: on a CPU in fp32, from N H W = 8 C
    (timed for 64 to 512 channels). N is taken to be 24, which chooses as the batches of the published presets up to 128
    pixels do, because a layer whose form depended on N could not be exported with a dynamic batch. In bf16 on a CPU it
    does not pay off, and on a GPU it was not timed.
    """
    on_cpu = x.device.type in ("cpu", "meta")  # the meta device plans for a CPU
    exact = x.dtype != torch.bfloat16 and not torch.is_autocast_enabled("cpu")
    if not (on_cpu and exact and 24 * x.shape[2] * x.shape[3] >= 8 * x.shape[1]):
        return functional.conv2d(_upsampled(x), weight, padding=1)
    kernel = functional.pad(weight.transpose(0, 1).flip(2, 3), (1, 1, 1, 1))
    kernel = (  # the four neighbors of one pixel
        kernel[..., :-1, :-1] + kernel[..., 1:, :-1] + kernel[..., :-1, 1:] + kernel[..., 1:, 1:]
    )
    return functional.conv_transpose2d(x, kernel, stride=2, padding=1)


class ResidualBlock(nn.Module):
    """conv3-norm-LeakyReLU-conv3 plus a shortcut, then LeakyReLU; [N, C, H, W] -> [N, out, H, W], or [N, out, 2H, 2W].

    The second norm stands after the addition (IntroVAE's code) or on the branch, before it (Soft-IntroVAE's).
    """

    def __init__(
        self,
        in_channels: int,  # C
        out_channels: int,  # a 1x1 convolution on the shortcut where it differs from in_channels
        norm: str = "batch",  # batch | group | none
        norm_place: str = "before",  # after | before the addition
        upsamples: bool = False,  # to twice the height and width (nearest), before everything else
        projects: bool = False,  # a 1x1 convolution on the shortcut where the widths are equal, too
    ):
        super().__init__()
        self.upsamples = upsamples
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            normalization(norm, out_channels),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        self.shortcut = (
            nn.Conv2d(in_channels, out_channels, 1, bias=False)
            if projects or in_channels != out_channels
            else nn.Identity()
        )
        self.norm = normalization(norm, out_channels)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)
        self.norm_after = norm_place == "after"

    def forward(self, x: Tensor) -> Tensor:
        if self.upsamples:  # shortcut first: a 1x1 convolution of the small image is the same at a quarter of the cost
            weight = self.branch[0].weight
            assert isinstance(weight, Tensor)
            y, x = self.branch[1:](_upsampled_conv3(x, weight)), _upsampled(self.shortcut(x))
        else:
            y, x = self.branch(x), self.shortcut(x)
        return self.act(self.norm(y + x) if self.norm_after else self.norm(y) + x)


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns the shape of images as (C, H, W).

    Raises:
        UsageError: the data are not images.
    """
    if len(shape) != 3:
        raise UsageError(
            f"Convolutions need images, and this data has shape {shape}: set arch.encoder=mlp and arch.decoder=mlp."
        )
    return shape


def latent_grid(shape: tuple[int, ...], channels: tuple[int, ...]) -> tuple[int, int]:
    """Returns the height and width that remain of an image (C, H, W) after one halving per entry of `channels`.

    Raises:
        UsageError: the size cannot be halved so often; the message names sizes and widths that work.
    """
    _, height, width = image_shape(shape)
    step = 2 ** len(channels)
    if height % step or width % step:
        near = [max(step, round(side / step) * step) for side in (height, width)]
        depth = min((side & -side).bit_length() - 1 for side in (height, width))
        shorter = f", or set arch.channels to {depth} entries" if depth else ""
        raise UsageError(
            f"{len(channels)} entries in arch.channels halve the image {len(channels)} times, and {height}x{width} is "
            f"not divisible by {step}: use --res {near[0]}x{near[1]}{shorter}."
        )
    return height // step, width // step


class Stack(nn.Module):
    """What encoder and decoder share: `main`, and diffusers' two attributes of a network whose activations can be
    recomputed in backward.
    """

    main: nn.Sequential
    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[[nn.Module, Tensor], Tensor] = staticmethod(checkpointed)

    def run_main(self, x: Tensor, outputs: list[Tensor] | None = None) -> Tensor:
        """Returns main(x); appends what its entries return to `outputs`."""
        recomputes = self.gradient_checkpointing and torch.is_grad_enabled()
        if not recomputes and outputs is None:
            return self.main(x)
        for part in cut_where_small(self.main) if outputs is None else self.main:
            x = self._gradient_checkpointing_func(part, x) if recomputes else part(x)
            if outputs is not None:
                outputs.append(x)
        return x


class StackEncoder(Stack):
    """[N, C, H, W] in [0, 1] -> mu, logvar: [N, Z] each, or [N, Z, h, w] on a grid; or one tensor: a point code."""

    last_is_stage = False  # whether the last entry of `main` halves the image, too

    def __init__(
        self,
        main: nn.Sequential,  # from images to their smallest grid
        width: int,  # channels of the smallest grid
        smallest: tuple[int, int],  # its height and width
        z_dim: int,  # Z
        outputs: int = 2,  # 2: mu and logvar; 1: a point code
        grid: bool = False,  # latents on the smallest grid instead of flat ones
    ):
        super().__init__()
        self.main, self.outputs, self.grid = main, outputs, grid
        self.head = (
            nn.Conv2d(width, outputs * z_dim, 3, padding=1)
            if grid
            else nn.Linear(width * math.prod(smallest), outputs * z_dim)
        )

    def forward(self, x: Tensor, stages: bool = False) -> Tensor | tuple[Any, ...]:
        """Encodes images; with `stages`, returns the code and the outputs of all entries of `main` but the last (with
        `last_is_stage`, of all): a list of [N, c, h, w], those of the poolings in `ConvEncoder`.
        """
        outputs: list[Tensor] | None = [] if stages else None
        h = self.run_main(x, outputs)
        out = self.head(h if self.grid else h.flatten(1))
        code = out if self.outputs == 1 else out.chunk(self.outputs, dim=1)
        if outputs is None:
            return code
        return code, outputs if self.last_is_stage else outputs[:-1]


class ConvEncoder(StackEncoder):
    """The papers' encoder: a stem and residual blocks, each followed by a halving, and a last block."""

    def __init__(
        self,
        shape: tuple[int, int, int],  # C, H, W of the images; H and W divisible by 2 ** len(channels)
        z_dim: int,  # Z
        channels: tuple[int, ...],  # widths; the stem has the first, each entry is followed by a halving
        norm: str = "batch",  # batch | group | none
        norm_place: str = "before",  # see ResidualBlock
        outputs: int = 2,  # 2: mu and logvar; 1: a point code
        grid: bool = False,  # latents on the smallest grid instead of flat ones
        projects: bool = False,  # see ResidualBlock: between two entries of `channels`
    ):
        smallest = latent_grid(shape, channels)
        main = nn.Sequential(self._blocks(shape[0], channels, norm, norm_place, projects))
        super().__init__(main, channels[-1], smallest, z_dim, outputs, grid)

    @staticmethod
    def _blocks(
        image_channels: int, channels: tuple[int, ...], norm: str, norm_place: str, projects: bool
    ) -> OrderedDict[str, nn.Module]:
        """The layers between image and head, which halve the image once per width."""
        blocks = OrderedDict[str, nn.Module](
            stem=nn.Sequential(
                nn.Conv2d(image_channels, channels[0], 5, padding=2, bias=False),
                normalization(norm, channels[0]),
                nn.LeakyReLU(SLOPE, inplace=True),
                nn.AvgPool2d(2),
            )
        )
        for i, (before, after) in enumerate(pairwise(channels), start=1):
            block = ResidualBlock(before, after, norm, norm_place, projects=projects)
            blocks[f"down{i}"] = nn.Sequential(block, nn.AvgPool2d(2))
        blocks["last"] = ResidualBlock(channels[-1], channels[-1], norm, norm_place)
        return blocks


class ConvDecoder(Stack):
    """[N, Z], or [N, Z, h, w] on a grid -> [N, C, H, W]; no output activation, as every published beta and margin
    assumes.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],  # C, H, W of the images; H and W divisible by 2 ** len(channels)
        z_dim: int,  # Z
        channels: tuple[int, ...],  # as the encoder's, from image to latent
        norm: str = "batch",  # batch | group | none
        norm_place: str = "before",  # see ResidualBlock
        grid: bool = False,  # latents on the smallest grid instead of flat ones
        projects: bool = False,  # see ResidualBlock: between two entries of `channels`
    ):
        super().__init__()
        height, width = latent_grid(shape, channels)
        widths = channels[::-1]
        self.head = (
            nn.Sequential(nn.Conv2d(z_dim, widths[0], 3, padding=1), nn.ReLU())
            if grid
            else nn.Sequential(
                nn.Linear(z_dim, widths[0] * height * width), nn.ReLU(), nn.Unflatten(1, (widths[0], height, width))
            )
        )
        self.main = nn.Sequential(self._blocks(shape[0], widths, norm, norm_place, projects))

    @staticmethod
    def _blocks(
        image_channels: int, widths: tuple[int, ...], norm: str, norm_place: str, projects: bool
    ) -> OrderedDict[str, nn.Module]:
        """The layers between head and image, which double the grid once per width, from latent to image."""
        blocks = OrderedDict[str, nn.Module]()
        for i, (before, after) in enumerate(zip((widths[0], *widths), widths, strict=False), start=1):
            between = i > 1  # two entries; the first block has the last entry on both sides
            block = ResidualBlock(before, after, norm, norm_place, upsamples=between, projects=projects and between)
            blocks[f"up{i}"] = nn.Sequential(block)
        blocks["last"] = ResidualBlock(widths[-1], widths[-1], norm, norm_place, upsamples=True)
        blocks["image"] = nn.Conv2d(widths[-1], image_channels, 5, padding=2)
        return blocks

    def forward(self, z: Tensor) -> Tensor:
        return self.run_main(self.head(z))


@ENCODERS.register("conv")
def _encoder(shape: tuple[int, ...], arch: ArchConfig, outputs: int) -> ConvEncoder:
    grid = arch.latent == "grid"
    projects, norms = arch.shortcut == "projection", (arch.norm, arch.norm_place)
    return ConvEncoder(image_shape(shape), arch.z_dim, arch.channels, *norms, outputs, grid, projects)


@DECODERS.register("conv")
def _decoder(shape: tuple[int, ...], arch: ArchConfig) -> ConvDecoder:
    grid = arch.latent == "grid"
    projects = arch.shortcut == "projection"
    return ConvDecoder(image_shape(shape), arch.z_dim, arch.channels, arch.norm, arch.norm_place, grid, projects)
