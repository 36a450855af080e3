"""The recipe of a run with a budget of time: all that does not depend on measurements of the machine.

This file has what all models share; a model's own weights are its `ModelSpec.recipe`, in its presets.py. On data of
one's own, `genzoo.suggestions` adds size, latent dimensions and weights. Points in the plane keep their presets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from genzoo.archspec import fit_channels
from genzoo.spec import ModelSpec

# Largest resolution proposed for images, by budget in seconds, without and with an accelerator.
SIDES = {False: ((600, 32), (7200, 64), (float("inf"), 128)), True: ((600, 64), (7200, 128), (float("inf"), 256))}
BATCH = 32
GPU_PIXELS = 512 * 32**2  # of a batch on a GPU: a step takes as long with 512 images of 32 x 32 as with 64
TAIL = 16  # width of the fast networks at full resolution
# Width of the fast networks on the smallest grid, by budget in seconds, without and with an accelerator; halved with
# each doubling of the grid, down to LEAST.
WIDEST = {False: ((300, 96), (float("inf"), 128)), True: ((float("inf"), 384),)}
LEAST = 16
EMA = 0.9999  # grows with the run: over the last ninth of the steps so far, see `WeightAverage`
FEW = 3000  # images, up to which they are few
FEW_WIDEST = 128  # width on the smallest grid for these, also on a GPU
ONE_SIDED = 0.65  # share of images that are farther from others when mirrored, above which none is: see `metrics`
QUICK = "3min"  # the quick start


@dataclass(frozen=True)
class Line:
    """One suggested setting."""

    setting: str  # section.field
    value: str  # as --set takes it
    reason: str


def recipe_lines(
    spec: ModelSpec,
    shape: tuple[int, ...],
    accelerated: bool,
    budget_s: float,
    count: int | None = None,
    mirrored: float | None = None,
) -> list[Line]:
    """Returns the settings of a run on images of `shape` (C, H, W); none for points.

    Args:
        spec: the model.
        shape: of one item.
        accelerated: whether there is a GPU to train on.
        budget_s: seconds.
        count: images in the data, where it is known: a batch takes at most a quarter of them.
        mirrored: see `few_lines`.
    """
    if len(shape) == 1:
        return []
    size = max(BATCH, min(512, GPU_PIXELS // (shape[1] * shape[2]))) if accelerated else BATCH
    batch = "takes a GPU no longer than a small one" if accelerated else "small, as steps are scarcer than images"
    if count is not None and count // 4 < size:
        size, batch = max(2, count // 4), f"at most a quarter of {count:,} images"
    size -= size % 8 if size > 8 else 0  # several processes share it
    widest = _until(WIDEST[accelerated], budget_s)
    widths = "every stage takes about the same time"
    if is_few(count) and widest > FEW_WIDEST:
        widest, widths = FEW_WIDEST, f"small networks for {count:,} images"
    lines = [
        Line("arch.encoder", "shuffle", "fast: no block works above a quarter of the resolution"),
        Line("arch.decoder", "shuffle", "as the encoder"),
        Line("arch.channels", _widths((shape[1], shape[2]), widest), widths),
        Line("arch.norm_place", "before", "normalized in the residual branch: calmer than after the addition"),
        Line("train.batch", str(size), batch),
        Line("train.optimizer", "muon", "orthogonalized updates, as steps are few"),
        Line("train.lr", "1e-2", "muon's rate, which is larger than Adam's"),
        Line("train.lr_schedule", "cosine", "ends with the run"),
        Line("train.ema", str(EMA), "averages over the last ninth of the steps so far"),
        Line("train.recalibrate", "true", "saved weights normalize real images as training does"),
        Line("train.log_every", "20", "losses of 20 steps per line"),
    ]
    lines += [Line(f"objective.{name}", value, why) for name, (value, why) in spec.recipe(shape).items()]
    return [*lines, *few_lines(count, mirrored)]


def is_few(count: int | None) -> bool:
    """Whether so many images are few; an unknown number is not."""
    return count is not None and count <= FEW


def few_lines(count: int | None, mirrored: float | None) -> list[Line]:
    """Returns what few images need besides: mirrored ones. DiffAugment is not among it, see benchmarks/few.

    Args:
        count: images in the data; None where it is unknown.
        mirrored: share of them that are farther from the others when they are mirrored, see
            `genzoo.metrics.symmetry`; None where it is unknown.
    """
    if not is_few(count) or mirrored is None or mirrored > ONE_SIDED:
        return []
    why = f"{count:,} images, and mirrored ones are like them: {mirrored:.0%} are farther from the others"
    return [Line("data.mirror", "true", f"{why}; false for text")]


def _widths(size: tuple[int, int], widest: int) -> str:
    """Returns `arch.channels` of the fast networks: as many halvings as the papers' stacks would have."""
    halvings = len(fit_channels(size, (LEAST,)))
    blocks = [max(LEAST, widest >> i) for i in reversed(range(halvings - 1))]
    return ",".join(map(str, (TAIL, *blocks) if blocks else (widest,)))


def most_side(budget_s: float, accelerated: bool) -> int:
    """Returns the largest resolution that is proposed for a budget, in pixels per side."""
    return _until(SIDES[accelerated], budget_s)


def _until(table: Sequence[tuple[float, int]], budget_s: float) -> int:
    """The entry of the first budget in `table` that is not exceeded."""
    return next(value for seconds, value in table if budget_s <= seconds)


def without(lines: Sequence[Line], chosen: Sequence[str]) -> list[Line]:
    """Leaves out what the user has chosen, `section.field=value` texts; with an optimizer, the rate of another one, and
    with a weight, the factor on a calibrated one.
    """
    keys = {text.partition("=")[0] for text in chosen}
    keys |= {"train.lr"} if "train.optimizer" in keys else set()
    keys |= {"objective.calibration"} if keys & {"objective.beta", "objective.beta_rec"} else set()
    return [line for line in lines if line.setting not in keys]


def texts(lines: Sequence[Line]) -> list[str]:
    """Returns the settings as `--set` takes them."""
    return [f"{line.setting}={line.value}" for line in lines]


def table(lines: Sequence[Line]) -> list[str]:
    """Returns the lines as text, the reasons in a column."""
    wide = max((len(text) for text in texts(lines)), default=0)
    return [f"  {text:<{wide}}  {line.reason}" for text, line in zip(texts(lines), lines, strict=True)]
