"""The stacks of DCGAN (Radford et al., ICLR 2016): strided convolutions and transposed ones, without residual blocks.

Many relatives of the introspective models have them: AGE with kernels of 4, `arch.encoder=dcgan`; VAE/GAN, WGAN-GP and
IAN with kernels of 5, `dcgan:5`. As in their codes, weights start from N(0, 0.02^2), and gains of BatchNorm from
N(1, 0.02^2).
"""

from itertools import pairwise

from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.nn.conv import SLOPE, Stack, StackEncoder, image_shape, latent_grid, normalization
from genzoo.nn.tables import DECODERS, ENCODERS
from genzoo.spec import ArchConfig

STD = 0.02  # of the weights


def _start(module: nn.Module) -> None:
    """Draws the initial weights of one layer."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, STD)


class DCGANEncoder(StackEncoder):
    """One strided convolution per width, each with a norm, except the first, and a LeakyReLU."""

    last_is_stage = True

    def __init__(
        self,
        shape: tuple[int, int, int],  # C, H, W of the images; H and W divisible by 2 ** len(channels)
        z_dim: int,  # Z
        channels: tuple[int, ...],  # widths from image to latent
        norm: str = "batch",  # batch | group | none
        outputs: int = 2,  # 2: mu and logvar; 1: a point code
        grid: bool = False,  # latents on the smallest grid instead of flat ones
        kernel: int = 4,  # 4 | 5
    ):
        smallest = latent_grid(shape, channels)
        main = nn.Sequential()
        for i, (before, after) in enumerate(pairwise((shape[0], *channels)), start=1):
            layer = nn.Conv2d(before, after, kernel, stride=2, padding=(kernel - 1) // 2, bias=i == 1 or norm == "none")
            normed = normalization(norm if i > 1 else "none", after)
            main.add_module(f"down{i}", nn.Sequential(layer, normed, nn.LeakyReLU(SLOPE, inplace=True)))
        super().__init__(main, channels[-1], smallest, z_dim, outputs, grid)
        self.apply(_start)


class DCGANDecoder(Stack):
    """[N, Z], or [N, Z, h, w] on a grid -> [N, C, H, W]: one transposed convolution per width, with norms and ReLUs."""

    def __init__(
        self,
        shape: tuple[int, int, int],  # C, H, W of the images; H and W divisible by 2 ** len(channels)
        z_dim: int,  # Z
        channels: tuple[int, ...],  # as the encoder's, from image to latent
        norm: str = "batch",  # batch | group | none
        grid: bool = False,  # latents on the smallest grid instead of flat ones
        kernel: int = 4,  # 4 | 5
    ):
        super().__init__()
        height, width = latent_grid(shape, channels)
        widths, bias = channels[::-1], norm == "none"
        self.head = nn.Sequential(
            nn.Conv2d(z_dim, widths[0], 3, padding=1, bias=bias)
            if grid
            else nn.Sequential(
                nn.Linear(z_dim, widths[0] * height * width, bias=bias), nn.Unflatten(1, (widths[0], height, width))
            ),
            normalization(norm, widths[0]),
            nn.ReLU(inplace=True),
        )
        self.main = nn.Sequential()
        for i, (before, after) in enumerate(pairwise((*widths, shape[0])), start=1):
            last = i == len(widths)
            layer = nn.ConvTranspose2d(
                before, after, kernel, 2, (kernel - 1) // 2, output_padding=kernel % 2, bias=bias or last
            )
            ending = [] if last else [normalization(norm, after), nn.ReLU(inplace=True)]
            self.main.add_module(f"up{i}", nn.Sequential(layer, *ending))
        self.apply(_start)

    def forward(self, z: Tensor) -> Tensor:
        return self.run_main(self.head(z))


def _kernel(name: str) -> int:
    """The side of the kernels that `dcgan` or `dcgan:5` means.

    Raises:
        UsageError: another number.
    """
    kernels = {"dcgan": 4, "dcgan:4": 4, "dcgan:5": 5}
    if name not in kernels:
        raise UsageError(f"There is no network {name!r}: dcgan has kernels of 4, and dcgan:5 of 5.")
    return kernels[name]


@ENCODERS.register("dcgan")
def _encoder(shape: tuple[int, ...], arch: ArchConfig, outputs: int) -> DCGANEncoder:
    grid, kernel = arch.latent == "grid", _kernel(arch.encoder)
    return DCGANEncoder(image_shape(shape), arch.z_dim, arch.channels, arch.norm, outputs, grid, kernel)


@DECODERS.register("dcgan")
def _decoder(shape: tuple[int, ...], arch: ArchConfig) -> DCGANDecoder:
    grid, kernel = arch.latent == "grid", _kernel(arch.decoder)
    return DCGANDecoder(image_shape(shape), arch.z_dim, arch.channels, arch.norm, grid, kernel)
