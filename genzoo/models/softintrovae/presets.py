"""Soft-IntroVAE's options and its presets; `--res` takes the first row of that size."""

import math
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from genzoo.duration import Duration
from genzoo.models._fields import PENALTY_EVERY, R1, R2, DiffAug, EncoderSteps, PenaltyEvery
from genzoo.models._points import points_preset
from genzoo.spec import Preset, config


@config
class SoftIntroVAEConfig:
    """Weights in the two ELBOs (Section 4 of the paper); all errors are SSE per image, scaled by s = 1 / (C H W)."""

    form: Annotated[
        Literal["paper", "official"],
        Field(
            description="generated images are prior samples (paper), or reconstructions and prior samples, averaged "
            "(official: published code)"
        ),
    ] = "official"
    beta_kl: Annotated[
        float, Field(ge=0, description="weight of the KL of real images, and of generated ones in the decoder")
    ] = 1.0
    beta_rec: Annotated[
        Annotated[float, Field(ge=0)] | Literal["auto"],
        Field(
            description="weight of the reconstruction errors; authors: at most beta_kl; auto: calibrated to beta_kl in "
            "the warm-up (sigma-VAE), then held"
        ),
    ] = 1.0
    calibration: Annotated[
        float,
        Field(
            gt=0,
            description="factor on beta_rec=auto: 1 = sigma-VAE; below it, latents are closer to the prior and "
            "reconstructions less sharp",
        ),
    ] = 1.0
    beta_neg: Annotated[
        Annotated[float, Field(ge=0)] | Literal["auto"],
        Field(
            description="weight of generated images' KL in the encoder; authors: about z_dim or more; auto: from the "
            "warm-up, then adjusted slowly"
        ),
    ] = 256.0
    gamma_r: Annotated[
        float,
        Field(
            ge=0,
            description="weight of generated images' reconstruction error in the decoder; skipped if rounding hides it",
        ),
    ] = 1e-8
    warmup: Annotated[Duration, Field(description="plain VAE before adversarial training starts")] = "0"
    units: Annotated[
        Literal["value", "image"],
        Field(
            description="losses of adversarial training per value of an image (published: scaled by s), or per image, "
            "as the warm-up's are: an optimizer's averages then go on at the same scale"
        ),
    ] = "value"
    recompute: Annotated[
        bool,
        Field(
            description="decode again for the decoder's step: less memory, same weights; BatchNorm counts these images "
            "twice"
        ),
    ] = False
    economy: Annotated[
        bool,
        Field(
            description="generated images are not decoded again in the exponential, which keeps their KL only "
            "(ours): fewer passes"
        ),
    ] = False
    bootstrap: Annotated[
        bool,
        Field(
            description="generated images are decoded again by the decoder as it was when the epoch began (authors' "
            "bootstrap code, with gamma_r=1)"
        ),
    ] = False
    distance: Annotated[
        Literal["kl", "as"],
        Field(
            description="what tells generated images from real ones: their KL, or at first the distance between "
            "posteriors of reconstructions and of samples (as: AS-IntroVAE), and more and more the KL"
        ),
    ] = "kl"
    prior_samples: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="arch.prior=mog:K: posterior samples per item that the KL is averaged over (Athanasiadis et "
            "al. 2025: 100); 0: an upper bound without samples",
        ),
    ] = 0
    prior_entropy: Annotated[
        float,
        Field(
            ge=0,
            description="arch.prior=mog:K: weight in the encoder of the entropy of mean responsibilities, so that no "
            "component is left out (Athanasiadis et al. 2025)",
        ),
    ] = 0.0
    feature_loss: Annotated[
        float,
        Field(
            ge=0,
            description="conv, shuffle: weight in the encoder of the distance between its own features of an image and "
            "of the reconstruction (RA, which has 0.005)",
        ),
    ] = 0.0
    diffaug: DiffAug = False
    r1: R1 = 0.0
    r2: R2 = 0.0
    penalty_every: PenaltyEvery = PENALTY_EVERY
    encoder_steps: EncoderSteps = 1


CODE = "Daniel & Tamar 2021, published code and its table of hyper-parameters"
DROP = {"lr_drops": ("350ep",), "lr_factor": 0.1}


def _points(name: str, kl: float, rec: float, neg: float) -> Preset:
    return points_preset(name, {"beta_kl": kl, "beta_rec": rec, "beta_neg": neg, "warmup": "2000it"}, CODE)


def _images(
    data: dict[str, Any],
    size: int,
    channels: tuple[int, ...],
    z_dim: int,
    betas: tuple[float, float, float],
    batch: int,
    **more: str,
) -> Preset:
    return Preset(
        data={**data, "size": (size, size)},
        arch={"z_dim": z_dim, "channels": channels},
        objective=dict(zip(("beta_kl", "beta_rec", "beta_neg"), betas, strict=True)),
        train={"batch": batch, "duration": "250ep", **DROP, "ema": 0.0},  # the code has no average of the weights
        **({"source": CODE} | more),
    )


PRESETS = {
    "cifar10": _images(
        {"name": "cifar10"},
        32,
        (64, 128, 256),
        128,
        (1, 1, 256),
        32,
        expected="FID 25.86 (one user's measurement of the published checkpoint by pytorch-fid, Inception in eval mode "
        "and bilinear resize; genzoo's fid resizes as clean-fid does), 4.37 (the code's own protocol, "
        "fid50k_train_sintrovae2021)",
    ),
    "svhn": _images({"name": "svhn"}, 32, (64, 128, 256), 128, (1, 1, 256), 32),
    "mnist": _images(
        {"name": "mnist", "channels": 1},
        28,
        (64, 128),
        32,
        (1, 1, 256),
        128,
        deviations="the author later advised beta_neg = 128; the command in the authors' README trains 200 epochs, 250 "
        "here",
    ),
    "fashion-mnist": _images(
        {"name": "fashion_mnist", "channels": 1},
        28,
        (64, 128),
        32,
        (1, 1, 256),
        128,
        deviations="the author later advised beta_neg = 128",
    ),
    "monsters128": _images(
        {"mirror": True},
        128,
        (64, 128, 256, 512, 512),
        128,
        (0.2, 0.2, 256),
        16,
        deviations="the Digital Monsters images are on no hub: give --data FOLDER; the authors also shift "
        "them by up to 5 pixels over white and change their hue; the main function of their file has 400 epochs, "
        "beta_kl 1, beta_neg 256 and beta_rec 1, here 250 epochs and the betas of their table",
    ),
    "celebahq256": _images(
        {"name": "celeba-hq", "mirror": True},
        256,
        (64, 128, 256, 512, 512, 512),
        256,
        (0.5, 1, 1024),
        8,
        deviations="the authors give beta_kl 0.5, beta_rec 1.0 in one place (used here) and 1.0, 0.5 in another; they "
        "train on every image of their folder, here on 29,000",
    ),
    "8gaussians": _points("8gaussians", 0.3, 0.2, 0.9),
    "2spirals": _points("2spirals", 0.5, 0.2, 1.0),
    "checkerboard": _points("checkerboard", 0.1, 0.2, 0.2),
    "rings": _points("rings", 0.2, 0.2, 1.0),
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64)},
        objective={"beta_kl": 0.1, "beta_rec": 1, "beta_neg": 32, "warmup": "18k"},
        train={"batch": 16, "lr": 5e-4, "duration": "32k", "ema": 0.995},
        source="ours: the quick start",
    ),
}


def _of_classes(name: str) -> Preset:
    """A preset with a learned Gaussian per class of its data."""
    own = PRESETS[name]
    return replace(
        own,
        data={**own.data, "labels": "label"},
        arch={**own.arch, "prior": "classes"},
        source=f"ours: softintrovae.{name} with one learned Gaussian per class, arch.prior=classes",
        expected="none: class-conditional training is not published",
        deviations="; ".join(text for text in ("the prior is ours", own.deviations) if text != "none known"),
    )


PRESETS |= {f"{name}-classes": _of_classes(name) for name in ("mnist", "cifar10")}


def suggested(detail: float, shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """Weights for data of `shape` whose finest detail varies by `detail` (SSE).

    A Gaussian decoder of that variance has beta_kl / beta_rec = 2 variance. And beta_kl stays under 0.1 / s, with
    s = 1 / (C H W) or 1/2: no beta_neg lets the exponential balance above 1 / (2 e s beta_kl) nats (controllers.py).
    """
    most = 0.1 * (math.prod(shape) if len(shape) == 3 else 2)
    beta_kl = min(2 * detail, most)
    finest = f"{detail:.2g} is the variance (SSE) of the finest detail to learn"
    return {
        "beta_kl": (f"{beta_kl:.2g}", f"the smaller of 2 x {detail:.2g} and 0.1 / s = {most:.2g}; {finest}"),
        "beta_rec": (f"{beta_kl / (2 * detail):.2g}", f"beta_kl / (2 x {detail:.2g})"),
        "beta_neg": ("auto", "balanced at the KL that real images have in the warm-up, then adjusted slowly"),
    }


def recipe(shape: tuple[int, ...]) -> dict[str, tuple[str, str]]:
    """Settings of a run with a budget of time on images of `shape`."""
    return {
        "form": ("paper", "samples alone count as generated: a third less work"),
        "beta_kl": ("0.02", "the scale of all weights"),
        "beta_rec": ("auto", "calibrated to beta_kl in the warm-up, then held"),
        "calibration": ("0.5", "half of that weight: latents closer to the prior"),
        "beta_neg": ("auto", "balanced at the KL that real images have in the warm-up, then adjusted slowly"),
        "warmup": ("80%", "late and calm adversarial training"),
        "units": ("image", "gradients stay as large as the warm-up's, whose averages the optimizer has"),
    }
