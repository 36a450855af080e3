"""What samples show: how surely a classifier names their classes, and whether each class is as frequent as in the data.

Samples that no class fits, and classes that a model leaves out or overdoes, are seen here by their names. The two are
read together: a model that repeats one clear image is named surely, too.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.metrics.inputs import ClassPair
from genzoo.metrics.registry import Result, Value, metric

SURE = 0.9  # confidence above which an image counts as named surely


@dataclass(frozen=True)
class Named:
    """How a classifier names a set of images, for one kind of label."""

    sure: float  # share of images whose most probable class has a probability above `SURE`
    shares: Tensor  # share of images that each class is the most probable of, float64 [classes]

    @property
    def entropy(self) -> float:
        """Entropy of the shares in nats; log(classes) if all are equal."""
        return torch.special.entr(self.shares).sum().item()


def named(probabilities: Tensor) -> Named:
    """Counts the classes of images by their probabilities [N, classes].

    Raises:
        UsageError: there are no images.
    """
    if not len(probabilities):
        raise UsageError("There are no images whose classes could be counted: give at least one.")
    confidence, classes = probabilities.max(dim=1)
    shares = torch.bincount(classes, minlength=probabilities.shape[1]).double() / len(probabilities)
    return Named((confidence > SURE).double().mean().item(), shares)


@metric(
    "classes",
    inputs=ClassPair,
    values={
        "sure": Value("sure", "higher"),
        "sure_real": Value("sure, real images"),
        "share_gap": Value("largest share gap", "lower"),
        "share_min": Value("smallest share", "none"),
        "share_max": Value("largest share", "none"),
        "entropy": Value("entropy of shares, nats", "none"),
    },
    definition=f"Share of {{n}} samples, and of the {{split}} split, whose class {{extractor}} names with a calibrated "
    f"confidence above {SURE}, as a mean over kinds of labels; the largest absolute difference between the shares of a "
    "class in samples and in that split; for one kind of label the smallest and largest share of a class in samples, "
    "and the entropy of the shares.",
    examples=("classes_classifier_toyfaces_10k_test",),
)
def classes_metric(pair: ClassPair) -> Result:
    if not pair.names:
        raise UsageError(f"{pair.extractor} has no classes, only continuous factors: take a classifier of classes.")
    found = {kind: (named(pair.fake[kind]), named(pair.real[kind])) for kind in pair.names}
    gaps = {kind: (fake.shares - real.shares).abs().max().item() for kind, (fake, real) in found.items()}
    values = {
        "sure": sum(fake.sure for fake, _ in found.values()) / len(found),
        "sure_real": sum(real.sure for _, real in found.values()) / len(found),
        "share_gap": max(gaps.values()),
    }
    if len(found) == 1:
        ((only, _),) = found.values()
        values |= {
            "share_min": only.shares.min().item(),
            "share_max": only.shares.max().item(),
            "entropy": only.entropy,
        }
    by_kind = {
        kind: {
            "sure": fake.sure,
            "sure_real": real.sure,
            "gap": gaps[kind],
            "shares": dict(zip(pair.names[kind], fake.shares.tolist(), strict=True)),
            "shares_real": dict(zip(pair.names[kind], real.shares.tolist(), strict=True)),
        }
        for kind, (fake, real) in found.items()
    }
    return Result(values, details={"classes": by_kind})
