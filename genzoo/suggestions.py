"""A preset for new data: statistics of a sample of it, and settings with a reason for each.

The rules come from published tables where there are any, and from the linear case where there are none: for
probabilistic PCA (Tipping & Bishop 1999), the optimum of a linear VAE with error weight beta / 2 SSE, exactly the
principal components of variance above 1 / beta are used, and KL = 1/2 sum ln(beta * variance) over them. Deep networks
need fewer, so these are upper guesses for latent dimensions.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from genzoo.archspec import fit_channels
from genzoo.controller import FIRST
from genzoo.data import look_for, peek
from genzoo.data.decoding import RESAMPLE
from genzoo.data.values import darkness
from genzoo.duration import as_time
from genzoo.errors import UsageError
from genzoo.metrics.symmetry import farther_mirrored
from genzoo.nn.conv import latent_grid
from genzoo.recipes import Line, few_lines, most_side, recipe_lines
from genzoo.settings import fields
from genzoo.spec import DataConfig, ModelSpec

SAMPLE = 512  # items that are looked at
SIDE = 32  # pixels per side at which principal components are computed: more hardly changes how many matter
EXPLAINED = 0.95  # share of the variance that the latent dimensions should carry
NEIGHBORS = 20  # of each item, that its intrinsic dimension is estimated by
PER_DIMENSION = 2.5  # latents per intrinsic dimension in the recipe: few items underestimate it, and encoders bend it
LATENTS = (32, 512)  # least and most in the recipe
SQUARE = 1.2  # longer over shorter side up to which images are cropped to squares
WIDTHS = {False: (16, 32, 64), True: (64, 128, 256)}  # of the conv stacks, without and with an accelerator
SIZES = {False: 64, True: 256}  # largest resolution proposed
POINT_BATCH, POINT_STEPS = 512, 10_000  # of points: the published 2-D batch, and a third of the published steps
EPOCHS = 250  # of images, as published for CIFAR-10
LENGTHS = {False: (100_000, 500_000), True: (300_000, 12_500_000)}  # least and most images in a run


@dataclass(frozen=True)
class Look:
    """Statistics of a sample of a dataset."""

    count: int | None  # items in the split; None = endless
    own: tuple[int, ...]  # median (C, H, W), with C = 1 if all of the sample are gray, or (D,)
    shape: tuple[int, ...]  # the same at the size to train on
    varies: bool  # images come in several sizes
    variances: np.ndarray  # principal variances of a sample, largest first, in units of the SSE at `shape`
    intrinsic: float  # dimension, see `intrinsic_dimension`
    mirrored: float | None = None  # of images, see `farther_mirrored`

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def size(self) -> tuple[int, int]:
        """Height, width to train on, of images."""
        return self.shape[1], self.shape[2]

    @property
    def components(self) -> int:
        """Principal components that carry EXPLAINED of the variance."""
        return int((np.cumsum(self.variances) < EXPLAINED * self.variances.sum()).sum()) + 1

    @property
    def detail(self) -> float:
        """Variance, in SSE, of the last of these components: what varies less may stay noise. For points a quarter of
        it, to separate clusters.
        """
        return float(max(self.variances[self.components - 1], 1e-9)) / (1 if self.is_image else 4)


def look(config: DataConfig, choose: Callable[[tuple[int, ...]], tuple[int, int]] | None = None) -> Look:
    """Looks at a sample of `config.name`; variances are those of images of the size that `choose` takes for their
    median (C, H, W), by default the median size.

    Raises:
        UsageError: as `peek`; or the data has no variance.
    """
    count, items = peek(config, SAMPLE)
    if items[0].ndim == 2:
        points = items[0]
        variances = _variances(points, 1.0)
        return Look(count, points.shape[1:], points.shape[1:], False, variances, intrinsic_dimension(points))
    _warn_of_dark(config, items)
    height, width = (int(np.median([item.shape[axis] for item in items])) for axis in (1, 2))
    gray = all((item[0] == item[1]).all() and (item[0] == item[2]).all() for item in items)
    own = (1 if gray else 3, height, width)
    shape = (own[0], *(choose(own) if choose else (height, width)))
    small = [min(SIDE, side) for side in shape[1:]]
    vectors = np.stack([_resized(item, small)[: shape[0]].ravel() for item in items])
    varies = len({item.shape for item in items}) > 1
    variances = _variances(vectors, math.prod(shape[1:]) / math.prod(small))
    mirrored = farther_mirrored(torch.from_numpy(vectors).view(-1, shape[0], *small))
    return Look(count, own, shape, varies, variances, intrinsic_dimension(vectors), mirrored)


def _warn_of_dark(config: DataConfig, items: Sequence[np.ndarray]) -> None:
    high = max(int(item.max()) for item in items)
    if darkness(high, 255) is not None and (dark := darkness(high, look_for(config).top)) is not None:
        warnings.warn(f"dark data: {dark[0]} give data.range={dark[1]:g}", stacklevel=2)


def _resized(item: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """uint8 [C, H, W] -> float [C, *size] in [0, 1]."""
    from PIL import Image

    image = Image.fromarray(item.transpose(1, 2, 0)).resize((size[1], size[0]), RESAMPLE)
    return np.asarray(image, dtype=np.float64).transpose(2, 0, 1) / 255


def _variances(vectors: np.ndarray, factor: float) -> np.ndarray:
    """Principal variances of [n, D], times `factor`: the pixels that each value stands for."""
    if len(vectors) < 2:
        raise UsageError("there is one item, and nothing to learn from how it varies: add data.")
    centered = vectors - vectors.mean(axis=0)
    variances = np.linalg.svd(centered, compute_uv=False) ** 2 / max(1, len(vectors) - 1) * factor
    if variances.sum() < 1e-9:
        raise UsageError("all items looked at are the same: there is nothing to learn from them; check the data.")
    return variances


def intrinsic_dimension(vectors: np.ndarray) -> float:
    """Estimates the dimension of the manifold that vectors [n, D] lie on, from distances to NEIGHBORS nearest others.

    Maximum likelihood (Levina & Bickel 2004), averaged over items as by MacKay & Ghahramani (2005), and at most D.
    Copies of an item do not count. Few items underestimate it: Pope et al. (2021) find 7 to 13 for MNIST, 11 to 26 for
    CIFAR-10.
    """
    vectors = np.unique(vectors.astype(np.float64), axis=0)
    n, most = vectors.shape
    if n < 3:
        return 1.0
    squares = (vectors**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * vectors @ vectors.T, 0))
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, : min(NEIGHBORS, n - 1)]
    ratios = np.log(nearest[:, -1:] / np.maximum(nearest[:, :-1], 1e-9))
    return float(min(most, 1 / max(ratios.mean(), 1e-9)))


def suggest_preset(
    spec: ModelSpec, config: DataConfig, res: tuple[int, int] | None, accelerated: bool
) -> tuple[Look, list[Line]]:
    """Returns statistics of the data, and a preset for it, setting by setting.

    Args:
        spec: the model; its `suggested` weights are the last lines.
        config: how the data is read.
        res: height, width in pixels; None chooses one.
        accelerated: whether there is a GPU to train on.

    Raises:
        UsageError: unreadable data, or a `res` that the networks cannot take.
    """
    stats = look(config, lambda own: res or _size(own, SIZES[accelerated]))
    if stats.is_image:
        lines = _image_lines(stats, stats.size, accelerated, None if res else f"with {_machine(accelerated)}")
        total, batch, schedule = _image_schedule(stats, accelerated)
    else:
        lines = _point_lines(stats)
        total, batch, schedule = _point_schedule(stats)
    few = few_lines(stats.count if stats.is_image else None, stats.mirrored)
    return stats, [*lines, *schedule, *_objective(spec, stats, total, batch), *few]


def suggest_recipe(
    spec: ModelSpec, config: DataConfig, res: tuple[int, int] | None, accelerated: bool, budget_s: float
) -> tuple[Look, list[Line]]:
    """Returns what `suggest_preset` does, for a run with a budget: what its length and speed do not decide.

    Args:
        spec: the model; its `recipe` is the last lines.
        config: how the data is read.
        res: height, width in pixels; None chooses one that suits the budget.
        accelerated: whether there is a GPU to train on.
        budget_s: seconds.

    Raises:
        UsageError: as `suggest_preset`.
    """
    most = most_side(budget_s, accelerated)
    stats = look(config, lambda own: res or _size(own, most))
    if not stats.is_image:
        return suggest_preset(spec, config, None, accelerated)
    lines = _image_lines(
        stats, stats.size, accelerated, None if res else f"{as_time(budget_s)} with {_machine(accelerated)}"
    )
    recipe = recipe_lines(spec, stats.shape, accelerated, budget_s, stats.count, stats.mirrored)
    recipe = [_latents(stats), *recipe]
    decided = {line.setting for line in recipe}
    return stats, [*(line for line in lines if line.setting not in decided), *recipe]


def _machine(accelerated: bool) -> str:
    return "a GPU" if accelerated else "no GPU"


def _size(shape: tuple[int, ...], most: int) -> tuple[int, int]:
    """The largest size, at most `most`, within the shorter side that halves down to 4 to 7 pixels, and the other side
    in proportion.
    """
    short, long = sorted(shape[1:])
    short = max(8, min(short, most))
    halvings = (short // 4).bit_length() - 1
    grid = short >> halvings
    other = grid if long / min(shape[1:]) <= SQUARE else max(grid, round(grid * long / min(shape[1:])))
    side, longer = grid << halvings, other << halvings
    return (side, longer) if shape[1] <= shape[2] else (longer, side)


def _image_lines(stats: Look, size: tuple[int, int], accelerated: bool, limit: str | None) -> list[Line]:
    """Lines of data and networks; `limit` says what bounds a size that was not asked for."""
    widths = fit_channels(size, WIDTHS[accelerated])
    latent_grid((stats.shape[0], *size), widths)  # refuses a size that cannot be halved so often
    z_dim = 2 ** min(9, max(3, math.ceil(math.log2(stats.components))))
    own = "x".join(map(str, stats.own[1:]))
    images = f"images have several sizes, median {own}" if stats.varies else f"images are {own}"
    bound = f"{images}; the largest that suits {limit}" if limit else f"as asked; {images}"
    gray = stats.shape[0] == 1
    latents = (
        f"{stats.components} principal components carry {EXPLAINED:.0%} of the variance; "
        "the next power of two, within 8 and 512"
    )
    halvings = (
        "each entry halves the image once, down to a grid of 4 to 7 pixels as in the published stacks; "
        f"widths for {_machine(accelerated)}"
    )
    return [
        Line("data.size", "x".join(map(str, size)), bound),
        Line("data.channels", str(stats.shape[0]), "all images looked at are gray" if gray else "color"),
        Line("arch.z_dim", str(z_dim), latents),
        Line("arch.channels", ",".join(map(str, widths)), halvings),
    ]


def _latents(stats: Look) -> Line:
    """The recipe's latent dimensions: fewer than principal components, as a fitted prior suffers from each."""
    least, most = LATENTS
    z_dim = min(most, max(least, 2 ** math.ceil(math.log2(PER_DIMENSION * stats.intrinsic))))
    why = f"{PER_DIMENSION} x the intrinsic dimension of a sample ({stats.intrinsic:.0f}), to the next power of two"
    return Line("arch.z_dim", str(z_dim), f"{why}, within {least} and {most}")


def _point_lines(stats: Look) -> list[Line]:
    few = stats.shape[0] <= 3
    z_dim = stats.shape[0] if few else max(2, stats.components)
    why = "as many as coordinates" if few else f"principal components that carry {EXPLAINED:.0%} of the variance"
    networks = [Line(f"arch.{side}", "mlp", f"vectors of {stats.shape[0]} numbers") for side in ("encoder", "decoder")]
    return [*networks, Line("arch.z_dim", str(z_dim), why)]


def _point_schedule(stats: Look) -> tuple[int, int, list[Line]]:
    """Items in the run, the batch, and the lines of batch, length and rate."""
    batch = max(2, min(POINT_BATCH, stats.count // 4) if stats.count else POINT_BATCH)
    lines = [
        Line("train.batch", str(batch), "the published 2-D batch, or a quarter of the data"),
        Line("train.duration", f"{POINT_STEPS}it", "a third of the published 30,000 steps, as in genzoo bench 2d"),
        Line("train.lr_drops", f"{POINT_STEPS * 4 // 5}it", "the rate falls to a tenth for the last fifth"),
        Line("train.log_every", "50", "losses of 50 steps per line"),
    ]
    return POINT_STEPS * batch, batch, lines


def _image_schedule(stats: Look, accelerated: bool) -> tuple[int, int, list[Line]]:
    """Images in the run, the batch, and the lines of batch, length and rate."""
    assert stats.count is not None
    small = max(stats.shape[1:]) <= 64 or not accelerated
    batch = max(2, min(32 if small else 16, stats.count // 4))
    least, most = LENGTHS[accelerated]
    total = min(most, max(least, EPOCHS * stats.count))
    held = "at least" if total == least else "at most"
    bound = f", held to {held} {total:,} images {'with' if accelerated else 'without'} a GPU"
    length = f"{EPOCHS} epochs, as published for CIFAR-10, of {stats.count:,} images"
    published = f"as published {'for CIFAR-10' if small else 'at 128 pixels'}; never over a quarter of the data"
    rate = ("2e-4", "as published") if accelerated else ("5e-4", "small networks and a short run; published: 2e-4")
    lines = [
        Line("train.batch", str(batch), published),
        Line("train.duration", str(total), length if least < total < most else length + bound),
        Line("train.lr", *rate),
    ]
    return total, batch, lines


def _objective(spec: ModelSpec, stats: Look, total: int, batch: int) -> list[Line]:
    """The warm-up, and the model's own weights for data of this detail."""
    steps, epochs = 10 * FIRST, 2 * (stats.count or 0)
    wanted = "2ep" if epochs > steps * batch else f"{steps}it"
    warmup = wanted if max(epochs, steps * batch) <= total // 5 else str(total // 5)  # a share could not be extended
    why = f"2 epochs (published: 1-2) or {steps:,} steps, whichever is longer, but at most a fifth of the run"
    lines = [Line("objective.warmup", warmup, why)] if "warmup" in {name for name, *_ in fields(spec.config)} else []
    weights = spec.suggested(stats.detail, stats.shape)
    return lines + [Line(f"objective.{name}", value, reason) for name, (value, reason) in weights.items()]
