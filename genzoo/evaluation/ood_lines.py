"""Result lines of `genzoo ood`: how well a score tells two sets of images apart, with everything that decides it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.dataclasses import dataclass
from torch import Tensor

from genzoo.changes import changed_settings
from genzoo.data.sets import facts
from genzoo.dataspec import reading
from genzoo.evaluation.lines import Line
from genzoo.evaluation.ood import BATCH, JUDGES, SCORES
from genzoo.evaluation.ood_data import ImageSet
from genzoo.evaluation.subject import ModelSubject
from genzoo.metrics.detection import RESAMPLES, detection
from genzoo.metrics.likelihood import RATE, STEPS
from genzoo.provenance import commit, device_name, versions
from genzoo.spec import DataConfig


@dataclass(frozen=True, kw_only=True)
class OodLine(Line):
    """One score of a model, for images like its training data against others."""

    kind = "ood"

    run: str
    model: str
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)  # of a run's preset
    seed: int | None = None  # of the training run
    images_seen: int | None = None
    score: str
    values: dict[str, float]  # auroc, aupr, fpr95: see `genzoo.metrics.detection`
    intervals: dict[str, tuple[float, float]]  # of the values: bootstrap, 95 %
    means: dict[str, float]  # of the score, of the images `in` and `out`
    spreads: dict[str, float]  # standard deviations of it
    data: dict[str, Any]  # of the images in: name, split, how many of how many, fingerprint
    out_data: dict[str, Any]  # of the images out
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    commit: str | None = None
    versions: dict[str, Any] = dataclasses.field(default_factory=dict)
    device: str | None = None
    seconds: float | None = None  # of the whole command


@dataclasses.dataclass(frozen=True)
class Scored:
    """Images and their scores."""

    images: ImageSet
    scores: Mapping[str, Tensor]  # name -> [n]

    @property
    def n(self) -> int:
        return len(next(iter(self.scores.values())))

    @property
    def record(self) -> dict[str, Any]:
        """What a result line says of the images."""
        converted = {"converted": self.images.note} if self.images.note else {}
        return self.images.record(self.n) | converted | {"found": facts(self.images.images).to_json()}


def compare(
    subject: ModelSubject, inside: Scored, outside: Scored, data: DataConfig, variance: float | None, seed: int
) -> Iterator[OodLine]:
    """Yields a line for each score.

    Args:
        subject: the model.
        inside: held-out images that are like its training data.
        outside: other images, with the same scores.
        data: how images are read.
        variance: of the decoder; None where no score needs one.
        seed: of the choice of images, the noise and the bootstrap.
    """
    run, defaults = subject.run, reading(DataConfig())
    protocol = {
        "eval_seed": seed,
        "weights": subject.weights,
        "batch": BATCH,
        "bootstrap": RESAMPLES,
        "read": {key: value for key, value in reading(data).items() if value != defaults[key]},
    }
    for name in inside.scores:
        pair = {"in": inside.scores[name], "out": outside.scores[name]}
        found = detection(pair["in"], pair["out"], seed)
        details = {**protocol, "definition": SCORES[name].title}
        if SCORES[name].needs == "variance":
            details["variance"] = variance
        if SCORES[name].needs in ("posterior", "variance") and subject.model.prior.learned:
            details["prior"] = subject.model.arch.prior
        if name == "regret":
            details |= {"steps": STEPS, "rate": RATE, "draws": JUDGES}
        yield OodLine(
            run=subject.name,
            model=run.model if run else subject.name,
            overrides=changed_settings(run) if run else {},
            seed=run.train.seed if run else None,
            images_seen=subject.images_seen,
            score=name,
            values=dict(found.values),
            intervals=dict(found.intervals),
            means={side: values.mean().item() for side, values in pair.items()},
            spreads={side: values.std(correction=0).item() for side, values in pair.items()},
            data=inside.record,
            out_data=outside.record,
            details=details,
            commit=commit(),
            versions=versions(),
            device=device_name(subject.device),
        )
