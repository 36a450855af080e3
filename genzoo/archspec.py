"""The networks of a run as a frozen dataclass, checked by pydantic. No torch here, see `genzoo.spec`."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from genzoo.dataspec import Width, config

NormPlace = Annotated[
    Literal["after", "before"],
    Field(description="second norm of a residual block: after the addition (IntroVAE) or before it (Soft-IntroVAE)"),
]

OF_IMAGES = ("conv", "dcgan", "shuffle", "timm")  # genzoo's networks that take no points


def _prior(text: str) -> str:
    if re.fullmatch(r"normal|classes|mog:[1-9][0-9]{0,4}", text) is None:
        raise ValueError("the prior is normal, classes, or mog:K, a mixture of K Gaussians, e.g. mog:10")
    return text


@config
class ArchConfig:
    """The networks: what `genzoo.nn` builds for a data shape.

    A model with other defaults or further fields derives its own class, and names it in its `ModelSpec` and as its
    `arch_class`.
    """

    encoder: Annotated[
        str, Field(description="conv | shuffle (fast) | dcgan, dcgan:5 | mlp | timm:<name> | a plugin's backbone")
    ] = "conv"
    decoder: Annotated[
        str, Field(description="conv | shuffle (fast) | dcgan, dcgan:5 | mlp (points, vectors) | a plugin's backbone")
    ] = "conv"
    latent: Annotated[
        Literal["flat", "grid"],
        Field(description="flat: vectors of z_dim numbers; grid (conv, shuffle): z_dim channels on the smallest grid"),
    ] = "flat"
    z_dim: Annotated[int, Field(gt=0, le=2**20, description="latent dimensions, or channels of a grid")] = 128
    channels: Annotated[
        tuple[Width, ...],
        Field(
            min_length=1,
            max_length=16,
            description="conv, shuffle, dcgan: widths from image to latent; each entry halves the image once",
        ),
    ] = (64, 128, 256)
    hidden: Annotated[tuple[Width, ...], Field(description="mlp: hidden widths")] = (256, 256, 256, 256)
    norm: Annotated[Literal["batch", "group", "none"], Field(description="normalization in the conv stacks")] = "batch"
    output: Annotated[
        Literal["linear", "sigmoid", "tanh"],
        Field(description="last activation of the decoder; tanh is moved to [0, 1]; linear in the two papers"),
    ] = "linear"
    norm_place: NormPlace = "before"
    spectral_norm: Annotated[bool, Field(description="conv, shuffle: in the encoder (Miyato et al. 2018)")] = False
    shortcut: Annotated[
        Literal["identity", "projection"],
        Field(
            description="shortcut of a residual block between two equal entries of channels; projection: a 1x1 "
            "convolution, as where they differ (networks of IntroVAE's scripts)"
        ),
    ] = "identity"
    prior: Annotated[
        str,
        AfterValidator(_prior),
        Field(
            description="of the latents: normal, N(0, I); classes: a learned Gaussian per class of data.labels (ours); "
            "mog:K: a learned mixture of K Gaussians"
        ),
    ] = "normal"
    prior_clip: Annotated[
        bool,
        Field(
            description="softintrovae: log-variances of a learned prior are softly clipped to the range that they have "
            "when adversarial training begins (Athanasiadis et al. 2025)"
        ),
    ] = False
    conditional: Annotated[
        Literal["none", "concat"],
        Field(
            description="labels as inputs of the networks: none; concat: one-hot, beside the encoder's last features "
            "and beside z (an unused flag of Soft-IntroVAE's code); flat latents"
        ),
    ] = "none"
    pretrained: Annotated[bool, Field(description="timm trunks only: start from timm's pretrained weights")] = False

    @property
    def perceptrons(self) -> bool:
        """Whether all networks are multi-layer perceptrons."""
        return self.encoder == self.decoder == "mlp"

    @classmethod
    def fitted(
        cls, arch: Mapping[str, Any], shape: tuple[int, ...], made_for: tuple[int, int] | None
    ) -> tuple[dict[str, Any], str]:
        """Fits a preset's networks to data other than its own.

        Args:
            arch: the preset's values by field; fields that it leaves out have the class's defaults.
            shape: of one item: (C, H, W) or (D,).
            made_for: height and width that the preset was made for; None for points.

        Returns:
            The fields to change, and a note that says why; both empty where nothing is to be changed.
        """
        values = {**asdict(cls()), **arch}
        if len(shape) == 1:
            replaced = [side for side in ("encoder", "decoder") if values[side].partition(":")[0] in OF_IMAGES]
            bounded = {} if values["output"] == "linear" else {"output": "linear"}
            if not replaced:
                return bounded, "the data are points, which are not bounded to [0, 1]" if bounded else ""
            return {**dict.fromkeys(replaced, "mlp"), "z_dim": 2, **bounded}, (
                "the data are points: multi-layer perceptrons with z_dim 2; the preset's weights were not made for them"
            )
        own = tuple(values["channels"])
        channels = own if made_for in (None, shape[1:]) else fit_channels((shape[1], shape[2]), own)
        if channels == own:
            return {}, ""
        return {"channels": channels}, (
            f"arch.channels {','.join(map(str, channels))} reach a latent grid of 4 to 7 pixels "
            f"from {shape[1]}x{shape[2]} (ours)"
        )


@config
class CriticArch(ArchConfig):
    """Networks with a critic, which is of the encoder's kind and has its widths."""

    critic_norm: Annotated[
        Literal["batch", "group", "none"], Field(description="normalization in the conv stacks of the critic")
    ] = "none"


def fit_channels(size: tuple[int, int], channels: tuple[int, ...]) -> tuple[int, ...]:
    """Lengthens or shortens a list of widths until the smaller side ends at 4 to 7 pixels, as in the published stacks.

    The published lists grow towards higher resolutions by halving the first width (not below 16); the last widths are
    dropped first.
    """
    depth = max(1, (min(size) // 4).bit_length() - 1)
    while len(channels) < depth:
        channels = (max(16, channels[0] // 2), *channels)
    return channels[:depth]
