"""What is scored: a trained model, or a folder of anybody's images."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol as Shape

import torch
from torch import Tensor

from genzoo.data import open_dataset
from genzoo.errors import UsageError
from genzoo.metrics.protocols import Protocol
from genzoo.metrics.vitals import batchnorm_gap
from genzoo.models.autoencoder import Autoencoder, find_config
from genzoo.nn.batchnorm import batch_statistics, batchnorms, recalibrate
from genzoo.noise import generator
from genzoo.registry import load
from genzoo.spec import DataConfig, RunConfig
from genzoo.training.checkpoint import Checkpoints
from genzoo.training.loader import as_real
from genzoo.training.log import JsonLines
from genzoo.training.run import read_config

BATCH = 100  # images passed through a model at once; `_bnbatch` numbers depend on it
N_RECALIBRATION = 5000  # images that BatchNorm is recalibrated on
ALARM = 0.05  # `batchnorm_gap` that is worth a warning, in units of the pixel range


Mine = Callable[[int], bool]  # whether this process needs the i-th batch


def every(_: int) -> bool:
    return True


class Subject(Shape):
    """Whatever can be sampled."""

    name: str
    run: RunConfig | None  # None where it is not a run of ours
    images_seen: int | None
    weights: str  # "ema", "raw", or "as saved" where nobody knows

    def samples(self, n: int, seed: int, mine: Mine = every) -> Iterator[Tensor]:
        """Batches of float32, images in [0, 1]; those that are not `mine` come as empty tensors of their shape, on the device `meta`."""
        ...


class ModelSubject:
    """A trained model: a run folder, a `save_pretrained` folder or a hub id.

    Raises:
        UsageError: nothing loadable there, or no raw weights where they are asked for.
    """

    def __init__(self, path: str, device: torch.device, raw: bool = False):
        self.device = device
        folder = Path(find_config(path)[0])
        at = next((place for place in (folder, folder.parent) if (place / "run.json").exists()), None)
        newest = at is not None and folder.name == "model"  # and not best/, which is of an earlier step that nothing tells
        self.folder = at
        self.name = _name(path, folder, at)
        self.run = read_config(at) if at else None
        self.model: Autoencoder = load(path).to(device)
        averaged = self.run is not None and self.run.train.ema > 0
        self.weights = "as saved" if self.run is None else "ema" if averaged else "raw"
        self.images_seen = _images_seen(at) if newest else None
        if raw and self.weights != "raw":
            found = Checkpoints(at / "checkpoints", keep=1).load_latest() if newest else None
            if found is None:
                raise UsageError(f"{path} keeps no checkpoint with raw weights: leave `_raw` out of the protocol's name.")
            self.model.load_state_dict(found[1]["model"])
            self.weights = "raw"

    @contextmanager
    def policy(self, protocol: Protocol, data: DataConfig) -> Iterator["ModelSubject"]:
        """The model with BatchNorm as a protocol wants it; the data is what it is recalibrated on."""
        if protocol.batchnorm == "ema" or not batchnorms(self.model):
            yield self
        elif protocol.batchnorm == "batch":
            with batch_statistics(self.model):
                yield self
        else:
            other = copy.copy(self)
            other.model = copy.deepcopy(self.model)
            dataset = open_dataset(data, progress=False)
            images = dataset.batch(range(min(N_RECALIBRATION, dataset.size)))
            recalibrate(other.model, lambda: _play(other.model, [as_real(part, self.device) for part in images.split(BATCH)]))
            yield other

    @torch.no_grad()
    def samples(self, n: int, seed: int, mine: Mine = every) -> Iterator[Tensor]:
        for i, start in enumerate(range(0, n, BATCH)):
            size = min(BATCH, n - start)
            if mine(i):
                yield self.model.sample(size, generator=generator(seed, "eval samples", i))
            else:
                yield torch.empty(size, *self.model.shape, device="meta")

    @torch.no_grad()
    def batchnorm_alarm(self, data: DataConfig) -> str | None:
        """Says so when samples look different under statistics taken anew: what turns people's images to chaos after loading.

        Args:
            data: what the model decodes in training.
        """
        if not batchnorms(self.model.decoder):
            return None
        dataset, rng = open_dataset(data, progress=False), generator(0, "batchnorm")
        chosen = torch.randperm(dataset.size, generator=rng)[:BATCH]
        z = torch.randn(len(chosen), self.model.arch.z_dim, generator=rng).to(self.device)
        posterior = self.model.encode(as_real(dataset.batch(chosen.numpy()), self.device)).latent_dist
        found = batchnorm_gap(self.model, posterior, z)
        if found <= ALARM:
            return None
        return (
            f"BatchNorm's running averages and averages taken anew give different samples (rms {found:.2f} of the pixel range, "
            f"above {ALARM}): compare this score with the same protocol ending in _bnbatch and _bnrecalibrated, or train longer."
        )


class FolderSubject:
    """Images in a folder (or any dataset of them), whoever made them."""

    run = images_seen = None
    weights = "none"

    def __init__(self, path: str, device: torch.device, like: DataConfig):
        self.name, self.device = Path(path).expanduser().resolve().name, device
        self.dataset = open_dataset(DataConfig(name=str(Path(path).expanduser().resolve()), size=like.size, channels=like.channels))
        if self.dataset.size is None or len(self.dataset.shape) != 3:
            raise UsageError(f"{path} holds no images: give a folder of PNG or JPEG files, or a model.")

    def samples(self, n: int, seed: int, mine: Mine = every) -> Iterator[Tensor]:
        if self.dataset.size < n:
            raise UsageError(
                f"{self.name} holds {self.dataset.size:,} images and the protocol takes {n:,}: add images, or name a smaller protocol."
            )
        chosen = torch.randperm(self.dataset.size, generator=generator(seed, "eval samples"))[:n]
        for i, part in enumerate(chosen.split(BATCH)):
            if mine(i):
                yield as_real(self.dataset.batch(part.numpy()), self.device)
            else:
                yield torch.empty(len(part), *self.dataset.shape, device="meta")


def open_subject(path: str, device: torch.device, raw: bool = False, like: DataConfig | None = None) -> ModelSubject | FolderSubject:
    """Opens a model where there is one, else a folder of images.

    Args:
        path: run folder, `save_pretrained` folder, hub id, or folder of images.
        raw: a run's trained weights instead of their average.
        like: the data that a folder's images are compared with: they take its size and channels, where it says them.

    Raises:
        UsageError: neither.
    """
    folder = Path(path).expanduser()
    if folder.exists() and not any((place / "config.json").is_file() for place in (folder, folder / "model")):
        if (folder / "run.json").exists():
            raise UsageError(f"{path} holds no model yet: is the run still before its first snapshot?")
        return FolderSubject(path, device, like or DataConfig())
    return ModelSubject(path, device, raw)


def _name(path: str, folder: Path, run: Path | None) -> str:
    """How results call a model: `run`, `run/best`, `folder` or `owner/name`."""
    if run is None:
        return folder.resolve().name if folder.exists() else path
    return run.resolve().name if folder.name == "model" else f"{run.resolve().name}/{folder.name}"


def _images_seen(run: Path) -> int | None:
    """Of the last snapshot, which is what model/ holds; the log may be further on."""
    scored = (line["nimg"] for line in JsonLines(run / "log.jsonl").read() if any(name.startswith("score/") for name in line))
    return max(scored, default=None)


def _play(model: Autoencoder, batches: list[Tensor]) -> None:
    """Passes images through both networks as a step of training does: the decoder sees posterior and prior latents, the encoder all images."""
    rng = generator(0, "recalibration")
    for x in batches:
        posterior = model.encode(x).latent_dist
        reconstruction = model.decode(posterior.sample(rng)).sample
        sample = model.decode(torch.randn(len(x), model.arch.z_dim, generator=rng).to(x.device)).sample
        model.encode(reconstruction)
        model.encode(sample)
