"""Runs a protocol on a subject and records everything that decides the number."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genzoo.changes import changed_settings
from genzoo.data import facts, find_entry, list_datasets, open_dataset
from genzoo.data.batches import to_float
from genzoo.data.found import Found
from genzoo.data.sets import Dataset, EndlessSet, FiniteSet
from genzoo.dataspec import last_name
from genzoo.errors import UsageError
from genzoo.evaluation.classifier import Classifier
from genzoo.evaluation.drawing import batch_size, described, drawn
from genzoo.evaluation.extractors import Extractor, get_extractor
from genzoo.evaluation.features import Features, dataset_features, extract
from genzoo.evaluation.given import GivenLabels, sampled_as_asked
from genzoo.evaluation.heldout import how_read, how_resized, refuse_seen, split_of
from genzoo.evaluation.lines import ScoreLine
from genzoo.evaluation.moments import is_statistics, read_statistics
from genzoo.evaluation.own_sizes import OwnSizes, open_at_own_sizes
from genzoo.evaluation.protocols import Protocol
from genzoo.evaluation.refusal import refusal
from genzoo.evaluation.subject import Subject
from genzoo.metrics.inputs import (
    BATCH,
    ClassPair,
    Extracted,
    FeatureMoments,
    Images,
    Inputs,
    LabeledPair,
    Points,
    Reconstructions,
    RunLog,
    TrainingSet,
)
from genzoo.metrics.registry import Result
from genzoo.models.autoencoder import Autoencoder, can_encode
from genzoo.noise import generator
from genzoo.provenance import commit, device_name, versions
from genzoo.runs.folder import run_log
from genzoo.spec import DataConfig


@dataclass(frozen=True)
class Job:
    """One protocol, ready to run."""

    subject: Subject
    protocol: Protocol
    data: DataConfig
    seed: int = 0
    weights: Path | None = None  # of the extractor
    progress: bool = True
    memo: dict[Any, Any] = field(default_factory=dict, compare=False)  # features that protocols of one command share

    @cached_property
    def split(self) -> str:
        """The split of the data that the protocol's `train` or `test` means."""
        return split_of(self.protocol, self.data)

    def dataset(self) -> Dataset | OwnSizes:
        """Opens the split; for an extractor, images of several sizes keep their own where no size is configured."""
        opened = open_dataset if self.protocol.extractor is None else open_at_own_sizes
        return opened(self.data, self.split, self.progress)

    def images(self) -> FiniteSet:
        """The dataset, which must be of images of one size."""
        found = open_dataset(self.data, self.split, self.progress)
        self.check_images(found)
        assert isinstance(found, FiniteSet)
        return found

    def check_images(self, found: Dataset | OwnSizes) -> None:
        """Raises UsageError for a dataset of anything but images."""
        if isinstance(found, EndlessSet) or not found.is_image:
            raise UsageError(
                f"{self.protocol.name} is for images, and {self.data.name} contains none: "
                "choose other data with --data."
            )


def evaluate(job: Job) -> Result:
    """Runs a protocol.

    Raises:
        UsageError: the protocol does not fit the subject or the data, or something that it needs is missing.
    """
    if reason := refusal(job.protocol.metric, job.subject):
        raise UsageError(f"{job.protocol.name} {reason}.")
    refuse_seen(job.subject, job.protocol, job.data)
    with torch.no_grad(), job.subject.policy(job.protocol, job.data) as subject:
        inputs = _inputs(replace(job, subject=sampled_as_asked(subject, job.protocol)))
        found = job.protocol.metric.compute(inputs)
        return Result(found.values, found.spreads, {"prior": subject.prior, **inputs.details, **found.details})


def result_line(job: Job) -> ScoreLine:
    """Runs a protocol and returns the line for a results file.

    Raises:
        UsageError: as `evaluate`.
    """
    start = time.monotonic()
    found = evaluate(job)
    subject, run = job.subject, job.subject.run
    of_images = not is_statistics(job.data)
    return ScoreLine(
        run=subject.name,
        model=run.model if run else subject.name,
        overrides=changed_settings(run) if run else {},
        data=last_name(job.data.name),
        split=job.split if of_images else None,
        found=_facts(job) if of_images else {},
        resolution=(job.dataset().shape[1:] or None) if of_images else None,
        seed=run.train.seed if run else None,
        images_seen=subject.images_seen,
        protocol=job.protocol.name,
        values=dict(found.values),
        spreads=dict(found.spreads),
        details={
            "definition": job.protocol.definition,
            "n_fake": job.protocol.n,
            "weights": subject.weights,
            "batchnorm": _batchnorm(job.protocol, subject),
            "eval_seed": job.seed,
            **described(job.protocol, subject),
            **(how_read(subject, job.data, job.split) if of_images else {}),
            **found.details,
        },
        commit=commit(),
        versions=versions(),
        device=device_name(subject.device),
        seconds=round(time.monotonic() - start, 1),
    )


def _facts(job: Job) -> dict[str, Any]:
    """What was found where the data is."""
    dataset = job.dataset()
    return (Found(items=dataset.size) if isinstance(dataset, OwnSizes) else facts(dataset)).to_json()


def _batchnorm(protocol: Protocol, subject: Subject) -> str:
    """Which statistics normalize: running averages (`ema`), unless the run or the protocol says otherwise."""
    run = subject.run
    saved = run is not None and run.train.recalibrate and (subject.weights != "raw" or not run.train.ema)
    return "recalibrated" if saved and protocol.batchnorm == "ema" else protocol.batchnorm


def _inputs(job: Job) -> Inputs:
    """Prepares what the metric asks for."""
    asked = job.protocol.metric.inputs
    if issubclass(asked, Extracted):
        return _extracted(job, asked)
    if issubclass(asked, Images):
        return _images(job, asked)
    if issubclass(asked, Points):
        return _points(job)
    assert issubclass(asked, RunLog) and job.subject.folder is not None, asked
    return RunLog(seed=job.seed, run=job.subject.name, lines=run_log(job.subject.folder).read())


def _extracted(job: Job, asked: type[Extracted]) -> Extracted:
    """Extracts features of the real split (or takes them from the cache) and of the samples, and names their classes
    if asked.
    """
    p = job.protocol
    assert p.extractor is not None
    weights = None if p.extractor.startswith("classifier:") else job.weights  # genzoo trains classifiers itself
    extractor = get_extractor(
        p.extractor, weights=weights, device=job.subject.device, progress=job.progress, data=job.data
    )
    how: dict[str, Any] = {"mode": p.extractor_mode, "progress": job.progress}
    order: dict[str, Any] = {"seed": job.seed, "batch": batch_size(p, job.subject), "shuffled": p.shuffled}
    given = None
    if (known := read_statistics(job.data, p, extractor)) is not None:
        n_real, real = known.n, Features(torch.empty(0, extractor.dim), known.statistics.extractor)
    else:
        dataset = job.dataset()
        job.check_images(dataset)
        n_real = min(p.n, dataset.size or p.n)
        if issubclass(asked, LabeledPair):  # wrong labels are refused before anything slow
            given = GivenLabels(job.subject, job.data, job.split, _classifier(extractor))
        real = dataset_features(extractor, job.data, job.split, n_real, **order, **how)
    key = (extractor.identity(p.extractor_mode), p.n, p.weights, p.batchnorm, job.subject.prior, p.truncated)
    if (key := (*key, *order.values(), given is None)) not in job.memo:
        job.memo[key] = extract(extractor, drawn(p, job.subject, job.seed), total=p.n, **how)
    fake = job.memo[key]
    assert real.extractor == fake.extractor
    details: dict[str, Any] = {
        "extractor": extractor.name,
        "extractor_hash": extractor.digest,
        "resize": how_resized(job.subject, job.data, extractor.resize),
        "n_real": n_real,
        "extractor_precision": extractor.best_precision(p.extractor_mode),
    }
    if known is not None:
        details |= known.details
    options: dict[str, Any] = {"seed": job.seed, "details": details, "extractor": real.extractor}
    if not issubclass(asked, ClassPair):
        return FeatureMoments(**options, known=known and known.statistics, real=real.values, fake=fake.values)
    classifier = _classifier(extractor)
    pair = ClassPair(
        **options,
        names={head.name: head.names for head in classifier.heads if head.classes},
        real=classifier.probabilities(real.values),
        fake=classifier.probabilities(fake.values),
    )
    return pair if given is None else given.labeled(pair, real.values, fake.values)


def _classifier(extractor: Extractor) -> Classifier:
    assert extractor.classifier is not None, extractor.name  # a protocol of classes has no other extractor
    return extractor.classifier


def _images(job: Job, asked: type[Images]) -> Images:
    dataset, subject = job.images(), job.subject

    def take(indices: Tensor) -> Tensor:
        return to_float(dataset.batch(indices.numpy()), subject.device)

    def generate(n: int) -> Iterator[Tensor]:
        for batch in subject.samples(n, job.seed):
            assert isinstance(batch, Tensor)  # images of different sizes were refused
            yield batch

    options: dict[str, Any] = {
        "seed": job.seed,
        "n": job.protocol.n,
        "size": dataset.size,
        "shape": dataset.shape,
        "take": take,
        "generate": generate,
    }
    if issubclass(asked, TrainingSet):
        model = subject.model
        encode = model.features if model is not None and can_encode(model) else None
        return asked(heldout=_heldout(job), encode=encode, **options)
    if issubclass(asked, Reconstructions):
        assert subject.model is not None and can_encode(subject.model)
        return asked(model=subject.model, **options)
    return asked(**options)


def _heldout(job: Job) -> Callable[[int], Iterator[Tensor]]:
    """Reads held-out images, for a protocol that compares with training images."""
    if job.protocol.split != "train":
        raise UsageError(
            f"{job.protocol.name}: samples can be copies of training images only: end the protocol's name in _train."
        )
    other = replace(job, protocol=replace(job.protocol, split="test"))
    refuse_seen(other.subject, other.protocol, other.data)
    dataset = other.images()
    chosen = torch.randperm(dataset.size, generator=generator(job.seed, "eval held out"))
    return lambda n: (to_float(dataset.batch(p.numpy()), job.subject.device) for p in chosen[:n].split(BATCH))


def _points(job: Job) -> Points:
    """Draws from the density itself, even if a run was limited to a few of its points."""
    model, device = job.subject.model, job.subject.device
    assert model is not None
    density, extent = _density(job)

    def real(n: int, rng: torch.Generator) -> Tensor:
        return density.draw(n, rng).to(device)

    def generate(n: int, rng: torch.Generator) -> Tensor:
        return model.sample(n, generator=rng, prior=job.subject.prior)

    energy = model.energy if isinstance(model, Autoencoder) and model.has_energy else None
    return Points(seed=job.seed, extent=extent, real=real, generate=generate, energy=energy)


def _density(job: Job) -> tuple[EndlessSet, float]:
    """Opens the endless 2-D set that was trained on; returns it with the half-width of the square to measure it in."""
    entry = find_entry(job.data.name)
    if entry is not None and entry.extent is not None:
        density = open_dataset(replace(job.data, limit=None), split=job.split, progress=job.progress)
        if isinstance(density, EndlessSet):
            return density, entry.extent
    densities = ", ".join(other.name for other in list_datasets() if other.extent is not None)
    raise UsageError(
        f"{job.protocol.name} is defined on 2-D densities, and {job.data.name} is not one: choose from {densities}."
    )
