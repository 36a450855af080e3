"""The monitor's rules about training itself: pure functions of a run's recent vitals, each with its threshold and fix.

The figures in brackets are what healthy runs showed: 21 runs of 10,000 steps on 2-D sets, CIFAR-10, digits
(benchmarks/doctor). Rules about latents are in `genzoo.signs`, a model's own in its folder.
"""

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from genzoo.data.values import darkness
from genzoo.signs import LEARNING_RATE, POSTERIOR, RUNS_AWAY, SAMPLES_ALIKE, Rule, View

GROWTH = 0.045  # of the weights' norm, per root of steps, as in a random walk [0.034 and less; 30-fold rates: 0.06 up]
MISMATCH = 1.0  # disagreement of BatchNorm over the samples' spread [at most 0.6 once settled; frozen averages: 3.4 up]
# Of the snapshot before: a disagreement that falls faster is a young run's [4.1 and 2.2 at first, a quarter at the
# next].
HEALING = 0.9
OVERFIT = 2.0  # held-out over training error [at most 1.14]
WORSE_AVERAGE = 1.3  # score of the averaged weights over that of the raw ones [images: at most 1.06]

SCORE_NOISE = 0.01  # of the score: the least standard deviation that is assumed [512 images: 0.003; 256: 0.01]
BEYOND = 3.0  # standard deviations of the score by which a change counts
WORSE_FOR = 3  # snapshots

MISMATCHED, OVERFITS = "BatchNorm mismatch", "overfit"

VECTOR_SIZE = 10.0  # root mean square of vectors above which they were not scaled to about one [2-D sets: at most 3]
FLAT_SHARE = 0.1  # of the images of a batch


def learning_rate_too_high(view: View) -> str | None:
    growths = [(line["step"], line["vitals/growth"]) for line in view.vitals if "vitals/growth" in line]
    if len(growths) < 2 or any(growth < 1 + GROWTH * step**0.5 for step, growth in growths):
        return None
    return f"the weights have grown {growths[-1][1]:.2g}-fold by step {growths[-1][0]:,}"


def batchnorm_mismatch(view: View) -> str | None:
    size = view.lowest("vitals/batchnorm")
    if size is None or size <= MISMATCH:
        return None
    before, now = (line["vitals/batchnorm"] for line in view.vitals)
    if now <= HEALING * before:
        return None
    return f"running averages and those of what training decodes give samples that differ by {now:.2g} of their spread"


def overfit(view: View) -> str | None:
    ratio = view.lowest("vitals/heldout")
    return f"held-out error {ratio:.2f} x that of training data" if ratio is not None and ratio > OVERFIT else None


def average_lags(view: View) -> str | None:
    ratio = view.lowest("vitals/average")
    if ratio is None or ratio <= WORSE_AVERAGE:
        return None
    return f"the averaged weights score {ratio:.2f} x the distance of the raw ones"


def score_noise(scores: Sequence[tuple[int, float]]) -> float:
    """Standard deviation of a run's score around its trend: from its second differences, of which a slope has none.

    The median leaves out the jumps of a few snapshots.
    """
    values = [score for _, score in scores]
    bends = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    of_bends = statistics.median(bends) / 0.6745 / 6**0.5 if bends else 0.0  # of normal noise
    return max(of_bends, SCORE_NOISE * values[-1])


def getting_worse(view: View) -> str | None:
    if len(view.scores) <= WORSE_FOR:
        return None
    earlier, recent = view.scores[:-WORSE_FOR], view.scores[-WORSE_FOR:]
    nimg, best = min(earlier, key=lambda pair: pair[1])
    if min(score for _, score in recent) <= best + BEYOND * score_noise(view.scores):
        return None
    return (
        f"since {nimg:,} images, whose weights best/ holds, the score has risen from {best:.3g} to "
        f"{recent[-1][1]:.3g}; the last {WORSE_FOR} snapshots are all worse"
    )


def still_improving(scores: Sequence[tuple[int, float]], budget: str | None = None, fixed: bool = False) -> str | None:
    """What a finished run could gain by more training, in one line: its score in its last quarter and the one before.

    Args:
        scores: (images seen, score) of all snapshots, newest last.
        budget: of the run, if it has one.
        fixed: whether its settings depend on its length, so that it cannot be prolonged.
    """
    k = max(2, len(scores) // 4)
    if len(scores) < 2 * k:
        return None
    before, last = (statistics.mean(score for _, score in part) for part in (scores[-2 * k : -k], scores[-k:]))
    if last >= before - BEYOND * score_noise(scores) * (2 / k) ** 0.5:
        return None
    nimg = scores[-1][0]
    longer = f"--images {2 * nimg} {'and another --out' if fixed else 'goes on from here'}"
    if budget is not None:
        longer = f"a longer --budget than {budget} and another --out"
    return (
        f"still improving: the score fell by {1 - last / before:.0%} over the last {nimg - scores[-k - 1][0]:,} of "
        f"{nimg:,} images. Train longer: the same command with {longer}."
    )


RULES = (
    Rule(LEARNING_RATE, learning_rate_too_high, "lower train.lr by 10"),
    Rule(
        MISMATCHED,
        batchnorm_mismatch,
        "raise train.batch, or set arch.norm=group",
        (RUNS_AWAY, POSTERIOR, SAMPLES_ALIKE, LEARNING_RATE),
    ),
    Rule(
        OVERFITS,
        overfit,
        "add data, set data.mirror=true, or stop earlier: best/ holds the weights of the lowest score",
        (LEARNING_RATE,),
    ),
    Rule("average lags", average_lags, "lower train.ema, or train longer", (LEARNING_RATE,)),
    Rule(
        "getting worse",
        getting_worse,
        "try best/, and lower train.lr or stop earlier next time",
        (LEARNING_RATE, POSTERIOR, RUNS_AWAY, SAMPLES_ALIKE, MISMATCHED, OVERFITS),
    ),
)


def data_findings(batch: Tensor, top: float = 255) -> list[tuple[str, str, str]]:
    """Checks a batch as the dataset gives it, uint8 or float [n, ...]: (problem, figures, fix) of what is wrong.

    Args:
        top: what 255 stands for in images, see `Found.top`.
    """
    found = []
    x, is_image = batch.float(), batch.ndim == 4
    low, high, size = x.min().item(), x.max().item(), x.square().mean().sqrt().item()
    if is_image and batch.is_floating_point() and (low < -0.01 or high > 1.01):
        figures = f"images hold values from {low:.3g} to {high:.3g}"
        found.append(("wrong value range", figures, "scale them to [0, 1]: x / 255, or (x + 1) / 2"))
    if not is_image and size > VECTOR_SIZE:
        figures = f"vectors hold values from {low:.3g} to {high:.3g}"
        found.append(("wrong value range", figures, "scale them to about one, e.g. x / 255"))
    if batch.dtype == torch.uint8 and is_image and (dark := darkness(high, top)) is not None:
        found.append(("dark data", dark[0], f"give data.range={dark[1]:g}"))
    items = x.flatten(1)
    flat = int((items.amax(dim=1) == items.amin(dim=1)).sum()) if is_image else 0
    if len(batch) > 1 and bool((batch == batch[:1]).all()):
        figures = f"all {len(batch)} items of the first batch are the same"
        found.append(("constant data", figures, "check the files of data.name"))
    elif flat > FLAT_SHARE * len(batch):
        figures = f"{flat} of {len(batch)} images of the first batch have one color"
        found.append(("constant data", figures, "remove them from data.name"))
    return found
