"""Runs a protocol on a subject; every number comes with all that decides it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genzoo.data import heldout_split, open_dataset
from genzoo.data.base import Dataset
from genzoo.data.points import EXTENT, draw
from genzoo.errors import UsageError
from genzoo.metrics import density2d
from genzoo.metrics.protocols import Protocol
from genzoo.metrics.subject import BATCH, ModelSubject, Subject
from genzoo.noise import generator
from genzoo.provenance import commit, device_name, versions
from genzoo.resolve import changed_settings
from genzoo.spec import DataConfig
from genzoo.training.loader import as_real
from genzoo.training.log import JsonLines

DRAWS = 10  # repeated draws of the 2-D metrics
N_RAW, N_CORRECTED, N_GRID_DATA = 5_000, 50_000, 12_800  # points per draw; published, ours, published


@dataclass
class Outcome:
    """What a protocol found: values, their spread over repeated draws, and what decided them."""

    values: dict[str, float]
    spreads: dict[str, float] = field(default_factory=dict)  # sample standard deviation over draws within one model
    details: dict[str, Any] = field(default_factory=dict)


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

    @property
    def split(self) -> str:
        """The split that stands for the protocol's: what the run trained on, or what it left out."""
        if self.protocol.split == "train":
            return self.data.split
        if (found := heldout_split(self.data)) is None:
            raise UsageError(f"{self.data.name} has no held-out split: name a protocol that ends in _train, or set data.split=train[:N].")
        return found

    @property
    def model(self) -> ModelSubject:
        if not isinstance(self.subject, ModelSubject):
            raise UsageError(
                f"{self.protocol.name} needs a model, and {self.subject.name} is a folder of images: take fid, fd, kid or prdc."
            )
        return self.subject

    def dataset(self) -> Dataset:
        return open_dataset(self.data, split=self.split, progress=self.progress)

    def images(self) -> Dataset:
        """The dataset, which must be of images."""
        if len((found := self.dataset()).shape) != 3:
            raise UsageError(f"{self.protocol.name} is for images, and {self.data.name} holds none: name other --data.")
        return found

    def real(self) -> Iterator[Tensor]:
        """Up to n images of the split, a seeded choice, in batches [BATCH, C, H, W] in [0, 1]."""
        dataset = self.images()
        chosen = torch.randperm(dataset.size, generator=generator(self.seed, "eval real"))[: self.protocol.n]
        for part in chosen.split(BATCH):
            yield as_real(dataset.batch(part.numpy()), self.subject.device)


def evaluate(job: Job) -> Outcome:
    """Runs a protocol.

    Raises:
        UsageError: the protocol does not fit the subject or the data, or something it needs is missing.
    """
    point_metric = job.protocol.metric == "density2d"
    if isinstance(job.subject, ModelSubject) and point_metric == job.subject.model.is_image and job.protocol.metric != "speed":
        raise UsageError(
            f"{job.protocol.name} is for {'points' if point_metric else 'images'}, and {job.subject.name} is a model of others."
        )
    with torch.no_grad():
        if not isinstance(job.subject, ModelSubject):
            return _METRICS[job.protocol.metric](job)
        with job.subject.policy(job.protocol, job.data) as subject:
            return _METRICS[job.protocol.metric](replace(job, subject=subject))


def result_line(job: Job) -> dict[str, Any]:
    """Runs a protocol and returns the line for a results file: values, and every field that decides them."""
    began = time.monotonic()
    outcome = evaluate(job)
    subject, run = job.subject, job.subject.run
    return {
        "kind": "score",
        "run": subject.name,
        "model": run.model if run else subject.name,
        "overrides": changed_settings(run) if run else {},
        "data": job.data.name if job.data.name in EXTENT else Path(job.data.name).name,
        "split": job.split,
        "resolution": list(job.dataset().shape[1:]) or None,  # (H, W); points have none
        "seed": run.train.seed if run else None,
        "images_seen": subject.images_seen,
        "protocol": job.protocol.name,
        "values": outcome.values,
        "spreads": outcome.spreads,
        "details": {
            "definition": job.protocol.definition,
            "n_fake": job.protocol.n,
            "weights": subject.weights,
            "batchnorm": job.protocol.batchnorm,
            "eval_seed": job.seed,
            **outcome.details,
        },
        "commit": commit(),
        "versions": versions(),
        "device": device_name(subject.device),
        "seconds": round(time.monotonic() - began, 1),
    }


def _features(job: Job) -> tuple[Any, Any, dict[str, Any]]:
    """Features of the real split and of the samples, and what they were made with."""
    from genzoo.metrics.extractors import get_extractor
    from genzoo.metrics.features import dataset_features, extract, is_mine

    p = job.protocol
    own = None if p.extractor.startswith("classifier:") else job.weights  # a classifier is the harness's own
    extractor = get_extractor(p.extractor, weights=own, device=job.subject.device, progress=job.progress, data=job.data)
    n_real = min(p.n, job.images().size)
    real = dataset_features(extractor, job.data, job.split, n_real, seed=job.seed, batch=BATCH, mode=p.features, progress=job.progress)
    key = (extractor.mark(p.features), p.n, p.weights, p.batchnorm, job.seed)
    if key not in job.memo:
        samples = job.subject.samples(p.n, job.seed, is_mine)
        job.memo[key] = extract(extractor, samples, mode=p.features, total=p.n, progress=job.progress)
    fake = job.memo[key]
    details = {"extractor": extractor.name, "extractor_hash": extractor.digest, "resize": extractor.resize, "n_real": n_real}
    details["extractor_precision"] = extractor.best_precision(p.features)
    return real, fake, details


def _frechet(job: Job) -> Outcome:
    from genzoo.metrics.frechet import frechet_distance, statistics

    real, fake, details = _features(job)
    a, b = (statistics(f.values, f.extractor) for f in (real, fake))
    return Outcome({"frechet": frechet_distance(a, b)}, details=details)


def _kernel(job: Job) -> Outcome:
    from genzoo.metrics.kernel import kernel_distance

    real, fake, details = _features(job)
    mean, spread = kernel_distance(real.values, fake.values, seed=job.seed)
    return Outcome({"kernel": mean}, {"kernel": spread}, details)


def _prdc(job: Job) -> Outcome:
    from genzoo.metrics.prdc import prdc

    real, fake, details = _features(job)
    return Outcome(prdc(real.values, fake.values), details=details)


def _diversity(job: Job) -> Outcome:
    from genzoo.metrics.diversity import describe, ms_ssim, random_pairs

    dataset = job.images()
    if min(job.protocol.n, dataset.size) < 2:
        raise UsageError(f"{job.protocol.name}: diversity and its standard error take at least 2 pairs, of at least 2 real images.")
    generated = job.subject.samples(2 * job.protocol.n, job.seed)  # samples are independent: neighbours make random pairs
    fake = torch.cat([ms_ssim(a[: len(b)], b) for a, b in (batch.chunk(2) for batch in generated)])
    pairs = zip(*(numbers.split(BATCH) for numbers in random_pairs(dataset.size, job.protocol.n, job.seed)), strict=True)
    real = torch.cat([ms_ssim(*(as_real(dataset.batch(i.numpy()), job.subject.device) for i in pair)) for pair in pairs])
    error = fake.std().item() / len(fake) ** 0.5
    how = describe(tuple(dataset.shape[1:]))
    details = {"n_real": 2 * job.protocol.n, "n_fake": 2 * job.protocol.n, "ms_ssim": how, "standard_error": error}
    return Outcome({"ms_ssim": fake.mean().item(), "ms_ssim_real": real.mean().item()}, details=details)


def _reconstruction(job: Job) -> Outcome:
    from genzoo.losses import sse
    from genzoo.metrics.reconstruction import psnr, ssim

    model = job.model.model
    rows = [(sse(x, again), psnr(x, again), ssim(x, again)) for x, again in ((x, model.reconstruct(x)) for x in job.real())]
    values = [torch.cat(column) for column in zip(*rows, strict=True)]
    means = {name: value.mean().item() for name, value in zip(("sse", "psnr", "ssim"), values, strict=True)}
    return Outcome(means, details={"n_real": len(values[0]), "n_fake": 0})


def _lpips(job: Job) -> Outcome:
    from genzoo.metrics.reconstruction import lpips

    values = torch.cat([lpips(x, job.model.model.reconstruct(x)) for x in job.real()])
    return Outcome({"lpips": values.mean().item()}, details={"n_real": len(values), "n_fake": 0})


def _latent(job: Job) -> Outcome:
    model = job.model.model
    rows = []
    for x in job.real():
        score = model.score(x)
        rows.append((score["kl"], model.encode(model.reconstruct(x)).latent_dist.kl(), -(score["sse"] / 2 + score["kl"])))
    kl_real, kl_reconstruction, elbo = (torch.cat(column).mean().item() for column in zip(*rows, strict=True))
    n = sum(len(row[0]) for row in rows)
    kl_sample = torch.cat([model.encode(x).latent_dist.kl() for x in job.subject.samples(n, job.seed)]).mean().item()
    values = {"kl_real": kl_real, "kl_reconstruction": kl_reconstruction, "kl_sample": kl_sample, "elbo": elbo}
    return Outcome(values, details={"n_real": n, "n_fake": n})


def _density2d(job: Job) -> Outcome:
    """Repeated draws, each with its floor: the same number between two draws of the data."""
    model, data = job.model.model, job.data.name
    if data not in EXTENT:
        raise UsageError(f"density2d knows the squares of {', '.join(EXTENT)}, and {data} is none of them.")
    extent = EXTENT[data]

    def points(stream: str, n: int) -> Tensor:  # of the density itself, however few of them a run was limited to
        return draw(data, n, generator(job.seed, f"eval {stream}")).to(job.subject.device)

    draws: dict[str, list[float]] = {}
    for i in range(DRAWS):
        rng = generator(job.seed, f"eval samples {i}")
        for n, metrics in (
            (N_RAW, {"kl_raw": density2d.kl_raw, "jsd_raw": density2d.jsd_raw}),
            (N_CORRECTED, {"kl": density2d.kl, "jsd": density2d.jsd}),
        ):
            real, again, fake = points(f"real {i}", n), points(f"floor {i}", n), model.sample(n, generator=rng)
            for name, metric in metrics.items():
                draws.setdefault(name, []).append(metric(real, fake, extent))
                draws.setdefault(f"{name}_floor", []).append(metric(real, again, extent))
    means = {name: float(np.mean(values)) for name, values in draws.items()}
    floors = {name: means.pop(name) for name in list(means) if name.endswith("_floor")}
    energy = lambda x: (score := model.score(x))["kl"] + score["sse"]  # noqa: E731
    grid = density2d.grid_elbo(energy, points("grid", N_GRID_DATA), extent)
    spreads = {name: float(np.std(draws[name], ddof=1)) for name in means}
    details = {"n_real": [N_RAW, N_CORRECTED, N_GRID_DATA], "n_fake": [N_RAW, N_CORRECTED], "draws": DRAWS, "extent": extent, **floors}
    return Outcome(grid | means, spreads, details)


def _speed(job: Job) -> Outcome:
    """From the log: the first tenth of the run is left out, as is everything in the warm-up, whose steps log no second phase."""
    if job.subject.run is None:
        raise UsageError(f"speed is read from a run's log, and {job.subject.name} is no run folder.")
    lines = JsonLines(job.model.folder / "log.jsonl").read()
    phases = max((sum(name.startswith("loss/") for name in line) for line in lines), default=0)
    steps = [line for line in lines if sum(name.startswith("loss/") for name in line) == phases]
    steps = steps[max(1, len(steps) // 10) - 1 :]
    seconds = steps[-1]["seconds"] - steps[0]["seconds"] if phases and len(steps) > 1 else 0
    if not seconds:
        raise UsageError(f"{job.subject.name} is too short to time: train more steps, or set train.log_every=1.")
    values = {"images_per_second": (steps[-1]["nimg"] - steps[0]["nimg"]) / seconds, "peak_memory_gib": steps[-1]["peak_gib"]}
    return Outcome(values, details={"n_real": 0, "n_fake": 0, "steps": steps[-1]["step"] - steps[0]["step"]})


_METRICS: dict[str, Callable[[Job], Outcome]] = {
    "frechet": _frechet,
    "kernel": _kernel,
    "prdc": _prdc,
    "diversity": _diversity,
    "reconstruction": _reconstruction,
    "lpips": _lpips,
    "latent": _latent,
    "density2d": _density2d,
    "speed": _speed,
}
