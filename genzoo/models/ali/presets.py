"""ALI's and BiGAN's options and their presets."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from genzoo.archspec import CriticArch
from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class ALIArch(CriticArch):
    """The networks, whose codes and prior make the form."""

    form: Annotated[
        Literal["ali", "bigan"],
        Field(
            description="ali: Gaussian codes, prior N(0, I); bigan: point codes and a uniform prior, both in (-1, 1), "
            "and losses of half the size"
        ),
    ] = "ali"


@config
class ALIConfig:
    """L_D = -log D(x, E(x)) - log(1 - D(G(z), z)); encoder and decoder minimize it with exchanged labels."""

    weight: Annotated[
        float | None,
        Field(
            gt=0,
            description="of both losses, which matters beside train.weight_decay only; none: as the authors have it, "
            "1 in ALI and 1/2 in BiGAN",
        ),
    ] = None


PAPER = "Dumoulin et al. 2017, Appendix A, and the authors' code"
ADAM = {"betas": (0.5, 0.999)}  # the paper's beta_2 = 1e-3 is 1 - beta_2 in today's notation
DEVIATIONS = (
    "DCGAN's stacks with kernels of 4, one layer per halving, LeakyReLU of slope 0.2 in encoder and critic, weights of "
    "std 0.02; the critic has no dropout, and one hidden layer per latent and pair; the encoder's second output is "
    "the log-variance; the decoder's last bias starts at 0"
)


def _points(name: str, expected: str = "not found") -> Preset:
    source = "ours: the paper's 2-D settings were drawn at random; no search was made; the recipe is Soft-IntroVAE's"
    preset = points_preset(name, {}, source)
    return replace(preset, train={**preset.train, **ADAM}, expected=expected)


def _published(
    data: dict[str, Any], size: int, channels: tuple[int, ...], z_dim: int, norm: str, epochs: int, **more: str
) -> Preset:
    return Preset(
        data={**data, "size": (size, size)},
        arch={
            "encoder": "dcgan",
            "decoder": "dcgan",
            "z_dim": z_dim,
            "channels": channels,
            "output": "sigmoid",
            "critic_norm": norm,
        },
        objective={},
        train={"batch": 100, "lr": 1e-4, **ADAM, "duration": f"{epochs}ep", "ema": 0.0},
        **({"source": PAPER, "deviations": DEVIATIONS} | more),
    )


PRESETS = {
    "cifar10": _published(
        {"name": "cifar10"},
        32,
        (64, 128, 256),
        64,
        "none",
        6475,
        expected="Inception score 5.34 +- .05 (Warde-Farley & Bengio, ICLR 2017, as AGE's and WGAN-GP's papers quote "
        "it)",
        deviations=f"{DEVIATIONS}; LeakyReLU for the critic's maxout; the authors' script has 1000 epochs",
    ),
    "svhn": _published({"name": "svhn"}, 32, (64, 128, 256), 256, "batch", 100),
    "celeba64": _published(
        {"name": "celeba"},
        64,
        (64, 128, 256, 512),
        256,
        "batch",
        123,
        deviations=f"{DEVIATIONS}; how faces are cropped is not known: the whole width",
    ),
    "mnist-bigan": Preset(
        data={"name": "mnist", "channels": 1},  # without a size, by which `--res` would choose it
        arch={
            "form": "bigan",
            "encoder": "mlp",
            "decoder": "mlp",
            "z_dim": 50,
            "hidden": (1024, 1024),
            "output": "sigmoid",
        },
        train={
            "batch": 128,
            "lr": 2e-4,
            **ADAM,
            "weight_decay": 2.5e-5,
            "duration": "400ep",
            "lr_schedule": "exponential",
            "lr_from": "200ep",
            "lr_end": 0.01,
            "ema": 0.0,
        },
        source="Donahue et al. 2017, permutation-invariant MNIST: train_mnist.sh and README of the authors' code",
        expected="|x - G(E(x))| 5.95, and 9.60 for random pairs; accuracy of 1-NN 97.35 % in the features below the "
        "codes (their README, after 400 epochs)",
        deviations="no BatchNorm, ReLU for LeakyReLU, PyTorch's initialization; the critic has a trunk for the image "
        "and one for the latent",
    ),
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64), "output": "sigmoid"},
        train={"batch": 16, "lr": 5e-4, **ADAM, "duration": "32k", "ema": 0.995},
        source="ours: the quick start",
    ),
    "8gaussians": _points("8gaussians"),
    "25gaussians": _points(
        "25gaussians",
        expected="13.4 +- 5.8 of 25 modes have one of 10,000 samples (the paper's own grid, over 10 random settings)",
    ),
    "rings": _points("rings"),
}
