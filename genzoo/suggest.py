"""Sizes and weights for somebody's data: what a look at a sample of it says, and a preset of its own with a reason for each line.

The rules come from the published tables where there are any, and from the linear case where there are none: for probabilistic PCA (Tipping &
Bishop 1999), the optimum of a linear VAE with error weight beta / 2 SSE, exactly the principal components of variance above 1 / beta
are used, and KL = 1/2 sum ln(beta * variance) over them. Deep networks need fewer, so these are upper guesses for latent dimensions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genzoo.controller import FIRST
from genzoo.data import peek
from genzoo.data.images import RESAMPLE
from genzoo.errors import UsageError
from genzoo.nn.conv import latent_grid
from genzoo.resolve import fit_channels
from genzoo.settings import fields
from genzoo.spec import DataConfig, ModelSpec

LOOKED_AT = 512  # items
SIDE = 32  # pixels a side at which principal components are computed: more says little about how many matter
EXPLAINED = 0.95  # share of the variance that the latent dimensions should carry
SQUARE = 1.2  # longer over shorter side up to which images are cropped to squares
WIDTHS = {False: (16, 32, 64), True: (64, 128, 256)}  # of the conv stacks, without and with an accelerator
SIZES = {False: 64, True: 256}  # largest resolution proposed


@dataclass(frozen=True)
class Look:
    """What a sample of a dataset says."""

    count: int | None  # items in the split; None = endless
    own: tuple[int, ...]  # median (C, H, W) with C = 1 where all looked at are grey, or (D,)
    shape: tuple[int, ...]  # the same at the size that is trained on
    varies: bool  # images come in several sizes
    variances: np.ndarray  # principal variances of a sample, largest first, in units of the SSE at `shape`

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def components(self) -> int:
        """Principal components that carry EXPLAINED of the variance."""
        return int((np.cumsum(self.variances) < EXPLAINED * self.variances.sum()).sum()) + 1

    @property
    def detail(self) -> float:
        """Variance, in SSE, of the last of these components: what varies less may stay noise. Of points a quarter, to tell clusters apart."""
        return float(max(self.variances[self.components - 1], 1e-9)) / (1 if self.is_image else 4)


@dataclass(frozen=True)
class Line:
    """One setting that is suggested."""

    setting: str  # section.field
    value: str  # as --set takes it
    reason: str


def look(config: DataConfig, size: tuple[int, int] | None = None) -> Look:
    """Looks at a sample of `config.name`; variances are those of images of `size`, by default their own median one.

    Raises:
        UsageError: as `peek`; or the data has no variance.
    """
    count, items = peek(config, LOOKED_AT)
    if items[0].ndim == 2:
        return Look(count, items[0].shape[1:], items[0].shape[1:], False, _variances(items[0], 1.0))
    height, width = (int(np.median([item.shape[axis] for item in items])) for axis in (1, 2))
    grey = all((item[0] == item[1]).all() and (item[0] == item[2]).all() for item in items)
    shape = (1 if grey else 3, *(size or (height, width)))
    small = [min(SIDE, side) for side in shape[1:]]
    vectors = np.stack([_small(item, small)[: shape[0]].ravel() for item in items])
    varies = len({item.shape for item in items}) > 1
    return Look(count, (shape[0], height, width), shape, varies, _variances(vectors, math.prod(shape[1:]) / math.prod(small)))


def _small(item: np.ndarray, size: Sequence[int]) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(item.transpose(1, 2, 0)).resize((size[1], size[0]), RESAMPLE)
    return np.asarray(image, dtype=np.float64).transpose(2, 0, 1) / 255


def _variances(vectors: np.ndarray, factor: float) -> np.ndarray:
    """Principal variances of [n, D], times the pixels that each value stands for."""
    centred = vectors - vectors.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2 / max(1, len(vectors) - 1) * factor
    if variances.sum() < 1e-9:
        raise UsageError("all items looked at are the same: there is nothing to learn from them; check the data.")
    return variances


def suggest_preset(spec: ModelSpec, config: DataConfig, res: tuple[int, int] | None, accelerated: bool) -> tuple[Look, list[Line]]:
    """Returns what a look at the data says, and a preset for it, line by line.

    Args:
        spec: the model; its `suggested` weights are the last lines.
        config: how the data is read.
        res: height, width in pixels; None chooses one.
        accelerated: whether there is a GPU to train on.

    Raises:
        UsageError: unreadable data, or a `res` that the networks cannot take.
    """
    seen, lines = look(config), []
    if seen.is_image:
        size = res or _size(seen.own, accelerated)
        seen = look(config, size)
        lines += _image_lines(seen, size, accelerated, chosen=res is None)
    else:
        lines += _point_lines(seen)
    total, batch, length = _length(seen, accelerated)
    return seen, [*lines, batch, *length, *_objective(spec, seen, total, int(batch.value))]


def _size(shape: tuple[int, ...], accelerated: bool) -> tuple[int, int]:
    """The largest power of two that the shorter side has, the other side in proportion and a multiple of a quarter of it."""
    short, long = sorted(shape[1:])
    side = min(2 ** int(math.log2(max(8, short))), SIZES[accelerated])
    other = side if long / short <= SQUARE else max(side, round(4 * long / short) * side // 4)
    return (side, other) if shape[1] <= shape[2] else (other, side)


def _image_lines(seen: Look, size: tuple[int, int], accelerated: bool, chosen: bool) -> list[Line]:
    widths = fit_channels(size, WIDTHS[accelerated])
    latent_grid((seen.shape[0], *size), widths)  # refuses a size that cannot be halved so often
    z = 2 ** min(9, max(3, math.ceil(math.log2(seen.components))))
    own = "x".join(map(str, seen.own[1:]))
    varying = ", in several sizes" if seen.varies else ""
    machine = "a GPU" if accelerated else "no GPU"
    reason = (
        f"images are {own}{varying}; at most {SIZES[accelerated]} a side with {machine}"
        if chosen
        else f"as asked; images are {own}{varying}"
    )
    return [
        Line("data.size", "x".join(map(str, size)), reason),
        Line("data.channels", str(seen.shape[0]), "all images looked at are grey" if seen.shape[0] == 1 else "colour"),
        Line(
            "arch.z_dim",
            str(z),
            f"{seen.components} principal components carry {EXPLAINED:.0%} of the variance; the next power of two, within 8 and 512",
        ),
        Line(
            "arch.channels",
            ",".join(map(str, widths)),
            f"each entry halves the image once, down to a grid of 4 to 7 pixels as in the published stacks; widths for {machine}",
        ),
    ]


def _point_lines(seen: Look) -> list[Line]:
    z = seen.shape[0] if seen.shape[0] <= 3 else max(2, seen.components)
    why = "as many as coordinates" if seen.shape[0] <= 3 else f"principal components that carry {EXPLAINED:.0%} of the variance"
    networks = [Line(f"arch.{side}", "mlp", f"vectors of {seen.shape[0]} numbers") for side in ("encoder", "decoder")]
    return [*networks, Line("arch.z_dim", str(z), why)]


def _length(seen: Look, accelerated: bool) -> tuple[int, Line, list[Line]]:
    """Images in the run, and the lines of batch, length and rate."""
    if not seen.is_image:
        batch = min(512, seen.count // 4) if seen.count else 512
        steps = 10_000
        return (
            steps * batch,
            Line("train.batch", str(max(2, batch)), "Soft-IntroVAE's 2-D batch, or a quarter of the data"),
            [
                Line("train.duration", f"{steps}it", "a third of the published 30,000 steps, as in genzoo bench 2d"),
                Line("train.lr_drops", f"{steps * 4 // 5}it", "the rate falls to a tenth for the last fifth"),
                Line("train.log_every", "50", "losses of 50 steps a line"),
            ],
        )
    assert seen.count is not None
    wanted = 32 if max(seen.shape[1:]) <= 64 or not accelerated else 16
    batch = max(2, min(wanted, seen.count // 4))
    low, high = (300_000, 12_500_000) if accelerated else (100_000, 500_000)
    total = min(high, max(low, 250 * seen.count))
    bound = (
        ""
        if low < total < high
        else f", held to {'at least' if total == low else 'at most'} {total:,} images {'with' if accelerated else 'without'} a GPU"
    )
    lines = [Line("train.duration", str(total), f"250 epochs, as published for CIFAR-10, of {seen.count:,} images{bound}")]
    rate = ("2e-4", "both papers'") if accelerated else ("5e-4", "small networks and a short run; both papers have 2e-4")
    lines.append(Line("train.lr", *rate))
    return (
        total,
        Line(
            "train.batch",
            str(batch),
            f"Soft-IntroVAE's {'on CIFAR-10' if wanted == 32 else 'at 128 pixels'}; never over a quarter of the data",
        ),
        lines,
    )


def _objective(spec: ModelSpec, seen: Look, total: int, batch: int) -> list[Line]:
    """The warm-up, and what the model itself makes of the data's detail."""
    steps, epochs = 10 * FIRST, 2 * (seen.count or 0)
    wanted = "2ep" if epochs > steps * batch else f"{steps}it"
    warmup = wanted if max(epochs, steps * batch) <= total // 5 else "20%"
    why = f"2 epochs (IntroVAE's paper: 1-2) or {steps:,} steps, whichever is longer, but at most a fifth of the run"
    lines = [Line("objective.warmup", warmup, why)] if "warmup" in {name for name, *_ in fields(spec.config)} else []
    return lines + [Line(f"objective.{name}", *told) for name, told in spec.suggested(seen.detail, seen.shape).items()]
