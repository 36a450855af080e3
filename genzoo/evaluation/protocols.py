"""Protocols by name: everything that decides a score is part of the name or follows from it.

    WORD N _ SPLIT                  fid50k_train, rec10k_test: number of images and split; features are Inception's
    WORD _ EXTRACTOR _ N _ SPLIT    fd_classifier_cifar10_10k_test: a score of other features, under its own name;
                                    classes_classifier_mnist_10k_test: of what a classifier sees
    WORD                            density2d, speed

SPLIT is train, or test for the held-out split. Endings: `_gmm` and `_flow` sample a fitted prior, and `_fitted` the one
that the model was saved with (or else a mixture), where other protocols sample the model's own, as published scores do;
`_raw` scores the trained weights instead of their average; `_bnbatch` and `_bnrecalibrated` choose BatchNorm's
statistics; models add endings for how their paper's code scores.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from genzoo.errors import UsageError, did_you_mean, shown
from genzoo.metrics.inputs import ClassPair, Extracted
from genzoo.metrics.registry import Metric, Value, broken_plugins, list_metrics
from genzoo.registry import get_spec, list_models
from genzoo.spec import PublishedProtocol

BatchNormPolicy = Literal["ema", "batch", "recalibrate"]

_BATCHNORM: dict[str, BatchNormPolicy] = {"": "ema", "_bnbatch": "batch", "_bnrecalibrated": "recalibrate"}
_BATCHNORM_NOTES: dict[BatchNormPolicy, str] = {
    "ema": "",
    "batch": "BatchNorm uses each batch's own statistics.",
    "recalibrate": "BatchNorm is recalibrated.",
}
_FITTED = {
    "gmm": "the fitted prior, a mixture of Gaussians",
    "flow": "the fitted prior, a mixture of Gaussians that a flow refines",
    "fitted": "the fitted prior that the model was saved with, or else a mixture of Gaussians",
}
_COUNTED = re.compile(
    r"(?P<head>.+?)(?P<n>[1-9]\d*k?)_(?P<split>train|test)"
    r"(_(?P<published>[a-z0-9]+))??(?P<raw>_raw)?(?P<bn>_bnbatch|_bnrecalibrated)?(_(?P<fitted>gmm|flow|fitted))?"
)
_EXTRACTOR = re.compile(r"inception|(timm|classifier)_.+")


@dataclass(frozen=True)
class Protocol:
    """What is measured, on what, with what."""

    name: str
    metric: Metric
    extractor: str | None = None  # see genzoo.evaluation.extractors
    n: int = 0  # generated images, pairs of them, or images to reconstruct
    split: Literal["train", "test"] = "train"  # of the data; `test` is the held-out split, whatever its name
    weights: Literal["ema", "raw"] = "ema"
    batchnorm: BatchNormPolicy = "ema"  # of the model
    fitted_prior: str = ""  # gmm, flow or fitted, where samples are not drawn from the model's own prior
    extractor_mode: Literal["eval", "train"] = "eval"  # `train` only to reproduce published scores
    run_batch: int | None = None  # images at a time: as in the run's training, this many without a run; None: BATCH
    truncated: bool = False  # samples are truncated to 8 bits
    shuffled: bool = False  # real images in random order
    note: str = ""  # what differs from the metric's definition

    @property
    def definition(self) -> str:
        """One sentence or two for a report."""
        metric = self.metric.definition.format(n=f"{self.n:,}", split=self.split, extractor=self.extractor)
        prior = f"Samples are drawn from {_FITTED[self.fitted_prior]}." if self.fitted_prior else ""
        return " ".join(filter(None, (metric, prior, self.note or _BATCHNORM_NOTES[self.batchnorm])))

    @property
    def values(self) -> Mapping[str, Value]:
        """The numbers that it yields."""
        return self.metric.values

    def title(self, value: str) -> str:
        """How a table calls one of its values: `FID`, `FD cifar10 features`, `SSE`, `FID (gmm)` of a fitted prior."""
        found = self.values[value]
        prior = f" ({self.fitted_prior})" if self.fitted_prior else ""
        if self.extractor is None:
            return f"{found.title}{prior}"
        if self.extractor.startswith("inception"):
            return f"{found.inception or found.title}{prior}"
        name = self.extractor.partition(":")[2]
        if issubclass(self.metric.inputs, ClassPair):
            return f"{found.title} ({name} classes){prior}"
        return f"{found.title} {name} features{prior}"


def get_protocol(name: str) -> Protocol:
    """Parses a protocol's name.

    Raises:
        UsageError: there is no such protocol; the message suggests the nearest, and names broken plugins.
    """
    for installed in (False, True):  # other distributions are loaded only for names that genzoo does not have
        if (found := _parsed(name, list_metrics(installed))) is not None:
            return found
    broken = "".join(f" {line}" for line in broken_plugins())
    if yields := next((m.examples[0] for m in list_metrics() if name.lower() in m.values and m.examples), None):
        raise UsageError(f"{shown(name)} is a value of {yields}: name that. See `genzoo eval --list`.{broken}")
    raise UsageError(
        f"No protocol is called {shown(name)}.{did_you_mean(name, examples())} See `genzoo eval --list`.{broken}"
    )


def examples() -> list[str]:
    """Returns names of protocols, at least one of each metric and of each ending that a model adds."""
    names = [name for metric in list_metrics() for name in metric.examples]
    return names + [f"{published.word}50k_train_{ending}" for ending, published in _published().items()]


def _parsed(name: str, metrics: Iterable[Metric]) -> Protocol | None:
    metrics = list(metrics)
    for metric in metrics:
        if name == metric.word and not metric.inputs.counted:
            return Protocol(name, metric)
    match = _COUNTED.fullmatch(name)
    if match is None or (head := _head(name, match, [metric for metric in metrics if metric.inputs.counted])) is None:
        return None
    metric, extractor = head
    fitted = match["fitted"] or ""
    if fitted == "fitted" and match["raw"]:
        raise UsageError(f"{name}: the saved prior is of averaged weights: write _raw_gmm or _raw_flow.")
    if fitted and (match["bn"] or match["published"]):
        raise UsageError(f"{name}: _{fitted} goes with no other way to run the model: leave one of the endings out.")
    protocol = Protocol(
        name,
        metric,
        extractor,
        n=_count(match["n"]),
        split="train" if match["split"] == "train" else "test",
        weights="raw" if match["raw"] else "ema",
        batchnorm=_BATCHNORM[match["bn"] or ""],
        fitted_prior=fitted,
    )
    return _as_published(protocol, match) if match["published"] else protocol


def _head(name: str, match: re.Match[str], metrics: Iterable[Metric]) -> tuple[Metric, str | None] | None:
    """Finds the metric and the extractor that the part before the number means."""
    for metric in metrics:
        extracted = issubclass(metric.inputs, Extracted)
        if extracted and match["head"] == metric.inception:
            return metric, "inception"
        if not extracted and match["head"] == metric.word:
            return metric, None
        extractor = match["head"].removeprefix(f"{metric.word}_").removesuffix("_")
        if extracted and match["head"] == f"{metric.word}_{extractor}_" and _EXTRACTOR.fullmatch(extractor):
            if issubclass(metric.inputs, ClassPair) and not extractor.startswith("classifier_"):
                example = next(iter(metric.examples), f"{metric.word}_classifier_digits_1k_test")
                raise UsageError(f"{name}: only a classifier names classes: write it as in {example}.")
            if extractor == "inception" and metric.inception is not None:
                own = f"{metric.inception}{match['n']}_{match['split']}"
                raise UsageError(f"{name}: on Inception's features it is called {own}.")
            return metric, extractor.replace("_", ":", 1)
    return None


def _as_published(protocol: Protocol, match: re.Match[str]) -> Protocol | None:
    """Applies the ending that a model adds; None if no model does, or if the ending does not go with the rest."""
    published = _published().get(match["published"])
    if published is None or match["head"] != published.word or match["bn"]:
        return None
    return replace(
        protocol,
        extractor=published.extractor,
        extractor_mode=published.extractor_mode,
        batchnorm=published.batchnorm,
        weights="raw" if published.raw else protocol.weights,
        run_batch=published.batch,
        truncated=published.truncated,
        shuffled=published.shuffled,
        note=published.note,
    )


def _published() -> dict[str, PublishedProtocol]:
    """What models add, by ending; a model that cannot be loaded adds nothing."""
    found: dict[str, PublishedProtocol] = {}
    for model in list_models():
        with suppress(UsageError):
            found |= get_spec(model).protocols
    return found


def _count(text: str) -> int:
    return int(text[:-1]) * 1000 if text.endswith("k") else int(text)
