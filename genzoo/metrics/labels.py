"""Samples of given classes: how many a classifier names as the class that was asked for, and each class's distance.

The two are read together: a model that repeats one clear image of each class is named right, too.
"""

import warnings
from typing import Any

from torch import Tensor

from genzoo.errors import UsageError
from genzoo.metrics.frechet import Statistics, frechet_distance, statistics
from genzoo.metrics.inputs import LabeledPair
from genzoo.metrics.registry import Result, Value, metric


@metric(
    "labels",
    inputs=LabeledPair,
    values={
        "accuracy": Value("named as asked", "higher"),
        "accuracy_real": Value("named right, real images"),
        "frechet": Value("FD per class", "lower"),
    },
    definition="Share of {n} samples, as many of each class, that {extractor} names as the class they were drawn of, "
    "and of the {split} split that it names right; mean over the classes of the Fréchet distance between Gaussians "
    "fitted to its features of the samples of a class and of the images of that class in the split. Distances of few "
    "images are too large: compare those of equal numbers.",
    examples=("labels_classifier_mnist_10k_test",),
)
def labels_metric(pair: LabeledPair) -> Result:
    ((kind, names),) = pair.names.items()
    right, right_real = (
        probabilities[kind].argmax(dim=1) == labels
        for probabilities, labels in ((pair.fake, pair.fake_labels), (pair.real, pair.real_labels))
    )
    by_class: dict[str, dict[str, Any]] = {}
    with warnings.catch_warnings(record=True) as poor:  # each of few images, in one line
        warnings.simplefilter("always")
        for k in map(int, pair.fake_labels.unique()):
            fake, real = pair.fake_labels == k, pair.real_labels == k
            by_class[names[k]] = {
                "accuracy": _share(right[fake]),
                "accuracy_real": _share(right_real[real]),
                "frechet": frechet_distance(
                    _statistics(pair.real_features[real], names[k], "real images", pair.extractor),
                    _statistics(pair.fake_features[fake], names[k], "samples", pair.extractor),
                ),
                "n": int(fake.sum()),
                "n_real": int(real.sum()),
            }
    if poor:
        warnings.warn(f"{len(poor)} of {len(by_class)} classes, the first: {poor[0].message}", stacklevel=2)
    values = {
        "accuracy": _share(right),
        "accuracy_real": _share(right_real),
        "frechet": sum(found["frechet"] for found in by_class.values()) / len(by_class),
    }
    return Result(values, details={"labels": {kind: by_class}})


def _share(right: Tensor) -> float:
    return right.double().mean().item()


def _statistics(features: Tensor, name: str, what: str, extractor: str) -> Statistics:
    """Mean and covariance of the features of one class, [n, D].

    Raises:
        UsageError: there are fewer than 2 items.
    """
    if len(features) < 2:
        raise UsageError(
            f"There are {len(features)} {what} of class {name}, and its distance needs 2 or more: name a protocol with "
            "a larger number, or a split that has more of it, such as _train."
        )
    return statistics(features, extractor)
