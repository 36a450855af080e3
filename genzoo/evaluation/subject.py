"""What is scored: a trained model, or a folder of images."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Protocol as Interface

import torch
from torch import Tensor

from genzoo.data import open_dataset
from genzoo.data.batches import to_float
from genzoo.data.naming import IMAGES
from genzoo.data.sets import EndlessSet, FiniteSet
from genzoo.data.tree import files_under
from genzoo.errors import UsageError
from genzoo.evaluation.as_trained import class_numbers, run_as_in_training
from genzoo.evaluation.moments import is_statistics
from genzoo.evaluation.own_sizes import OwnSizes, open_at_own_sizes
from genzoo.evaluation.protocols import Protocol
from genzoo.factory import load
from genzoo.fitted import FittedPrior, select
from genzoo.metrics.inputs import BATCH
from genzoo.metrics.vitals import batchnorm_gap
from genzoo.models.absent import is_model_file, why_no_model
from genzoo.models.autoencoder import can_encode
from genzoo.models.generative import Generative
from genzoo.models.sources import find_config
from genzoo.nn.batchnorm import batch_statistics, batchnorms, recalibrate
from genzoo.noise import generator
from genzoo.runs.checkpoint import Checkpoints
from genzoo.runs.data import TrainedOn, trained_on
from genzoo.runs.folder import read_config, run_log
from genzoo.runs.names import CHECKPOINTS, CONFIG
from genzoo.runs.prior import fit_from
from genzoo.runs.scores import PREFIX
from genzoo.spec import DataConfig, RunConfig

N_RECALIBRATION = 5000  # images that BatchNorm is recalibrated on
ALARM = 0.05  # `batchnorm_gap` from which on a warning is printed, in units of the pixel range


Mine = Callable[[int], bool]  # whether this process needs the i-th batch


def every(_: int) -> bool:
    return True


class Subject(Interface):
    """Whatever can be sampled."""

    name: str
    device: torch.device
    run: RunConfig | None  # None for anything but a run folder
    folder: Path | None  # of the run
    images_seen: int | None  # in training; None if unknown
    weights: str  # "ema", "raw", "as saved" for a model without its run, "none" for a folder of images
    prior: str  # what samples are drawn from: "normal", "gmm:50"; "none" for a folder of images
    trained_on: TrainedOn | None  # None if unknown, and for a folder of images
    chosen_on: str | None  # the split by whose score these weights were chosen, for best/ of a run

    @property
    def model(self) -> Generative | None:
        """None for a folder of images."""
        ...

    def samples(self, n: int, seed: int, mine: Mine = every, batch: int = BATCH) -> Iterator[Tensor | list[Tensor]]:
        """Yields batches of float32, images in [0, 1]; those that are not `mine` are on the device `meta`. Images of
        different sizes, for extractors, come as lists.
        """
        ...

    def policy(self, protocol: Protocol, data: DataConfig) -> "AbstractContextManager[Subject]":
        """Returns the subject with prior and BatchNorm as a protocol asks; `data` is what the latter is computed on."""
        ...


class ModelSubject:
    """A trained model: a run folder, a `save_pretrained` folder or a hub id.

    Raises:
        UsageError: there is no model, or a run has no raw weights although they are asked for.
    """

    in_turn = False  # whether samples are of all classes in turn

    def __init__(self, path: str, device: torch.device, raw: bool = False):
        self.device = device
        folder = Path(find_config(path)[0])
        run = next((parent for parent in (folder, folder.parent) if (parent / CONFIG).exists()), None)
        newest = run is not None and folder.name == "model"  # best/ is of an earlier step, which is not recorded
        self.folder = run
        self.name = _name(path, folder, run)
        self.run = read_config(run) if run else None
        self.model: Generative = load(path)
        self.model.to(device=device)
        self.trained_on = trained_on(path, self.model)
        record = self.trained_on.record if self.trained_on and run and not newest else None
        self.chosen_on = record.chooses if record else None
        self.prior = self.model.prior.kind
        self._fitted: dict[str, FittedPrior] = {}  # what was not saved, by name
        averaged = self.run is not None and self.run.train.ema > 0
        self.weights = "as saved" if self.run is None else "ema" if averaged else "raw"
        self.images_seen = _images_seen(run) if run and newest else None
        if raw and run and self.weights != "raw":
            checkpoint = Checkpoints(run / CHECKPOINTS, keep=1).load_latest() if newest else None
            if checkpoint is None:
                raise UsageError(
                    f"{path} has no checkpoint with raw weights: leave `_raw` out of the protocol's name, or a paper's "
                    "ending that means them."
                )
            self.model.load_state_dict(checkpoint[1]["model"])
            self.weights = "raw"
            self.model.fitted_prior = None  # it was fitted to the encodings of the average

    def with_fitted_prior(self, protocol: Protocol, data: DataConfig) -> "ModelSubject":
        """Samples from the fitted prior that the protocol names, which is fitted to the run's training data where the
        model was saved without it, in the place of `data` if that is the same.

        Raises:
            UsageError: there is none, and no run that tells what to fit it to, or none can be fitted.
        """
        own, asked = protocol.name.removesuffix(f"_{protocol.fitted_prior}"), protocol.fitted_prior
        if why := self.model.unfittable:
            raise UsageError(f"{protocol.name}: {self.name} has no fitted prior, as {why}: take {own}.")
        other, saved = copy.copy(self), self.model.fitted_prior
        if asked == "fitted":
            asked = "gmm" if saved is None else saved.name
        if select(saved, asked) is None:
            if self.run is None:
                raise UsageError(
                    f"{protocol.name}: {self.name} was saved without the prior {asked}: give its run, or take {own}."
                )
            other.model = copy.copy(self.model)  # whose saved prior stays
            if asked not in self._fitted:
                assert self.trained_on is not None
                dataset = open_dataset(self.trained_on.located(data), progress=False)
                how = {"seed": self.run.train.seed, "labels": self.run.data.labels}
                self._fitted[asked] = fit_from(other.model, dataset, asked, **how)
            other.model.fitted_prior = self._fitted[asked]
        other.prior = other.model.prior_name(asked)
        return other

    @contextmanager
    def policy(self, protocol: Protocol, data: DataConfig) -> Iterator["ModelSubject"]:
        if protocol.weights == "raw" and self.weights == "as saved" and protocol.run_batch is None:
            raise UsageError(f"{protocol.name}: {self.name} was saved without its run: leave `_raw` out of the name.")
        if protocol.fitted_prior:
            yield self.with_fitted_prior(protocol, data)
        elif protocol.batchnorm == "ema" or not batchnorms(self.model):
            yield self
        elif protocol.batchnorm == "batch":
            with batch_statistics(self.model):
                yield self
        else:
            other = copy.copy(self)
            other.model = copy.deepcopy(self.model)
            dataset = _finite(data)
            images = dataset.batch(range(min(N_RECALIBRATION, dataset.size)))
            batches = [to_float(part, self.device) for part in images.split(BATCH)]
            recalibrate(other.model, lambda: run_as_in_training(other.model, batches))
            yield other

    @torch.no_grad()
    def samples(self, n: int, seed: int, mine: Mine = every, batch: int = BATCH) -> Iterator[Tensor]:
        for i, start in enumerate(range(0, n, batch)):
            size = min(batch, n - start)
            if mine(i):
                drawn = class_numbers(self.model, size, generator(seed, "eval labels", i))
                labels = self.model.classes_in_turn(size, start) if self.in_turn else drawn
                rng = generator(seed, "eval samples", i)
                yield self.model.sample(size, generator=rng, labels=labels, prior=self.prior)
            else:
                yield torch.empty(size, *self.model.shape, device="meta")

    @torch.no_grad()
    def batchnorm_alarm(self, data: DataConfig) -> str | None:
        """Returns a warning if samples change when BatchNorm's averages are recomputed, else None.

        Args:
            data: what the model decodes in training.
        """
        if not can_encode(self.model) or not batchnorms(self.model.decoder):
            return None
        if is_statistics(data):  # nothing to encode
            if self.run is None:
                return None
            data = self.run.data
        dataset, rng = _finite(data), generator(0, "batchnorm")
        chosen = torch.randperm(dataset.size, generator=rng)[:BATCH]
        z = self.model.draw_latents(len(chosen), rng, None).to(self.device)
        posterior = self.model.encode(to_float(dataset.batch(chosen.numpy()), self.device)).latent_dist
        gap = batchnorm_gap(self.model, posterior, z)
        if gap <= ALARM:
            return None
        return (
            f"BatchNorm's running averages and recomputed averages give different samples (rms {gap:.2f} of the pixel "
            f"range, above {ALARM}): compare this score with the same protocol ending in _bnbatch and _bnrecalibrated, "
            "or train longer."
        )


class FolderSubject:
    """A folder (or any dataset) of images."""

    model: Generative | None = None
    run: RunConfig | None = None
    folder: Path | None = None
    images_seen: int | None = None
    weights: str = "none"
    prior: str = "none"
    trained_on: TrainedOn | None = None
    chosen_on: str | None = None

    def __init__(self, path: str, device: torch.device, like: DataConfig):
        resolved = Path(path).expanduser().resolve()
        self.name, self.device = resolved.name, device
        whole = {"split": "train", "limit": None, "holdout": 0, "column": None, "labels": None}
        dataset = open_at_own_sizes(replace(like, name=str(resolved), **whole))
        if isinstance(dataset, EndlessSet) or not dataset.is_image:
            raise UsageError(f"{path} contains no images: give a folder of PNG or JPEG files, or a model.")
        self.dataset = dataset

    def samples(self, n: int, seed: int, mine: Mine = every, batch: int = BATCH) -> Iterator[Tensor | list[Tensor]]:
        if self.dataset.size < n:
            raise UsageError(
                f"{self.name} holds {self.dataset.size:,} images and the protocol takes {n:,}: "
                "add images, or name a smaller protocol."
            )
        chosen = torch.randperm(self.dataset.size, generator=generator(seed, "eval samples"))[:n]
        for i, part in enumerate(chosen.split(batch)):
            if not mine(i):
                yield torch.empty(len(part), *self.dataset.shape, device="meta")
            elif isinstance(self.dataset, OwnSizes):
                yield [to_float(image, self.device) for image in self.dataset.batch(part.numpy())]
            else:
                yield to_float(self.dataset.batch(part.numpy()), self.device)

    def policy(self, protocol: Protocol, data: DataConfig) -> "AbstractContextManager[FolderSubject]":
        if protocol.fitted_prior:
            raise UsageError(
                f"{protocol.name}: {self.name} is a folder of images: leave out _{protocol.fitted_prior}, "
                "or give a model."
            )
        if isinstance(self.dataset, OwnSizes) and protocol.extractor is None:
            raise UsageError(f"{protocol.name}: images of {self.name} have different sizes: give --res.")
        return nullcontext(self)


def open_subject(
    path: str, device: torch.device, raw: bool = False, like: DataConfig | None = None
) -> ModelSubject | FolderSubject:
    """Opens a model, or else a folder of images.

    Args:
        path: run folder, `save_pretrained` folder, hub id, or folder of images.
        raw: a run's trained weights instead of their average.
        like: the data that a folder's images are compared with, whose size and channels they take.

    Raises:
        UsageError: it is neither.
    """
    folder = Path(path).expanduser()
    if folder.exists() and not any((parent / "config.json").is_file() for parent in (folder, folder / "model")):
        if _is_of_model(folder):
            raise UsageError(why_no_model(folder))
        return FolderSubject(path, device, like or DataConfig())
    return ModelSubject(path, device, raw)


def _is_of_model(path: Path) -> bool:
    """Whether a path is of a run or a model, whatever is missing there, and not images."""
    if not path.is_dir():
        return is_model_file(path)
    return (path / CONFIG).exists() or (
        any(is_model_file(file) for file in path.iterdir()) and not any(files_under(path, IMAGES))
    )


def _name(path: str, folder: Path, run: Path | None) -> str:
    """What results call a model: `run`, `run/best`, `folder` or `owner/name`."""
    if run is None:
        return folder.resolve().name if folder.exists() else path
    return run.resolve().name if folder.name == "model" else f"{run.resolve().name}/{folder.name}"


def _images_seen(run: Path) -> int | None:
    """At the last snapshot, which is what model/ holds; the log may be further on."""
    lines = run_log(run).read()
    return max((line["nimg"] for line in lines if any(name.startswith(PREFIX) for name in line)), default=None)


def _finite(data: DataConfig) -> FiniteSet:
    dataset = open_dataset(data, progress=False)
    if not isinstance(dataset, FiniteSet):
        raise UsageError(f"{data.name} is endless, and BatchNorm is checked on a finite set: choose another protocol.")
    return dataset
