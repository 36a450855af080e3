"""WGAN-GP's options and its presets; `--res` takes the first row of that size."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class WGANGPConfig:
    """Algorithm 1: n_critic updates of the critic, each on new real items and new latents, then one of the generator
    (the decoder).
    """

    n_critic: Annotated[
        int, Field(gt=0, le=100, description="critic updates for each of the generator, each on new real items")
    ] = 5
    penalty: Annotated[float, Field(ge=0, description="lambda, weight of the gradient penalty (toy data: 0.1)")] = 10.0
    slope: Annotated[
        float,
        Field(
            gt=0,
            description="slope of the critic that is not penalized. Images lie in [0, 1]: 2 is the 1 of the papers, "
            "whose images lie in [-1, 1]",
        ),
    ] = 1.0
    generator_batch: Annotated[
        int, Field(gt=0, le=100, description="latents per real item in the generator's update (authors' ResNet: 2)")
    ] = 1
    dequantize: Annotated[
        bool,
        Field(
            description="real images of 8 bits get uniform noise as wide as one of their 256 steps (authors' ResNet)"
        ),
    ] = False


CODE = "authors' code (igul222/improved_wgan_training)"
RANGE = "networks see images in [0, 1] instead of [-1, 1], which objective.slope=2 accounts for in the penalty"
START = "initial weights are PyTorch's or DCGAN's, in the code He's and Glorot's"
BETAS = (0.5, 0.9)


def _points(name: str) -> Preset:
    """As many real points as the 2-D presets of the other models, and their networks."""
    shared = points_preset(
        name,
        {"penalty": 0.1},
        "ours: penalty and moments of the authors' toy code, networks and number of points of the other models; no "
        "search was made yet",
    )
    train = {"duration": "6000it", "lr_drops": (), "lr": 5e-4, "lr_schedule": "linear", "betas": BETAS}
    return replace(shared, train={**shared.train, **train})


def _toy_code(name: str, scale: str) -> Preset:
    return Preset(
        data={"name": name},
        arch={"z_dim": 2, "encoder": "mlp", "decoder": "mlp", "hidden": (512, 512, 512)},
        objective={"penalty": 0.1},
        train={"batch": 256, "duration": "100000it", "lr": 1e-4, "betas": BETAS, "ema": 0.0, "log_every": 50},
        source=f"{CODE}, gan_toy.py",
        deviations=f"{scale}initial weights are PyTorch's, in the code He's; the code's first iteration has no update "
        "of the generator",
    )


def _cifar10(channels: tuple[int, ...], networks: str, objective: dict[str, Any], **more: Any) -> Preset:
    train = {"batch": 64, "ema": 0.0, **more.pop("train")}
    return Preset(
        data={"name": "cifar10", "size": (32, 32)},
        arch={"encoder": networks, "decoder": networks, "channels": channels, "z_dim": 128, "output": "tanh"},
        objective={"slope": 2, **objective},
        train=train,
        **more,
    )


PRESETS = {
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64)},
        objective={"n_critic": 2, "slope": 2},
        train={"batch": 16, "lr": 1e-3, "betas": BETAS, "duration": "64k", "ema": 0.995},
        source="ours: the quick start",
    ),
    "cifar10": _cifar10(
        (128, 256, 512),
        "dcgan:5",
        {},
        train={"duration": "200000it", "lr": 1e-4, "betas": BETAS},
        source=f"{CODE}, gan_cifar.py",
        deviations=f"{RANGE}; {START}; the code's first iteration has no update of the generator",
    ),
    "cifar10-resnet": _cifar10(
        (128, 128, 128),
        "conv",
        {"generator_batch": 2, "dequantize": True},
        train={"duration": "100000it", "lr": 2e-4, "betas": (0.0, 0.9), "lr_schedule": "linear"},
        source=f"{CODE}, gan_cifar_resnet.py without labels",
        expected="of the paper's networks: Inception score 7.86 +- .07 (paper); FID 22.29 +- .06, Inception score 7.33 "
        "(mimicry's re-implementation after 100,000 steps, 50,000 samples against 50,000 training images, by TTUR's "
        "code and its resize; genzoo's fid resizes as clean-fid does)",
        deviations=f"{RANGE}; {START}; residual networks are genzoo's, of the same widths: activations after the "
        "blocks (LeakyReLU), one more block in the decoder, no block without a halving in the critic, whose last map "
        "is not averaged",
    ),
    "8gaussians": _points("8gaussians"),
    "25gaussians": _points("25gaussians"),
    "rings": _points("rings"),
    "8gaussians-official": _toy_code("8gaussians", ""),
    "25gaussians-official": _toy_code("25gaussians", "points are twice as far apart as the code's; "),
}
