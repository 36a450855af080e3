"""A small residual classifier, trained once on a labelled dataset and kept: features where no pretrained network is at hand.

Kept as `<cache>/classifiers/<dataset>-<C>x<H>x<W>/`: weights as safetensors, and about.json with its test scores, data and hash.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm

from genzoo import __version__
from genzoo.data import cache
from genzoo.data.base import Dataset, Labels
from genzoo.data.catalog import EMBEDDED, HUB
from genzoo.data.opening import heldout_split, open_dataset
from genzoo.errors import UsageError
from genzoo.nn.conv import SLOPE, ResidualBlock
from genzoo.noise import generator
from genzoo.spec import DataConfig
from genzoo.training.checkpoint import replacing
from genzoo.training.loader import Batches, as_real

WEIGHTS, ABOUT = "classifier.safetensors", "about.json"
WIDTHS = (32, 64, 128)  # of the three blocks; the last is the number of features
BATCH, PEAK_LR, WEIGHT_DECAY, SMOOTHING = 128, 0.1, 5e-4, 0.1  # SGD with Nesterov momentum 0.9, one cycle
IMAGES, EPOCHS = 400_000, 64  # seen in training: so many images, but no more than so many epochs
ONE_SIDED = ("digits", "mnist", "svhn")  # classes that a mirror changes; labels by factors, as gaze and parting, are not mirrored either


@dataclass(frozen=True)
class Head:
    """What the network says about one kind of label."""

    name: str
    classes: int  # number of classes; 0 = a continuous factor, of which it predicts (value - mean) / std
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        return self.classes or 1


class ResidualClassifier(nn.Module):
    """[N, C, H, W] in [0, 1] -> all heads' outputs [N, sum of widths]; `features` gives what the heads see, [N, 128]."""

    def __init__(
        self,
        shape: tuple[int, int, int],  # C, H, W; the stem brings the short side to 32 or less, the blocks work at 16, 8 and 4
        outputs: int,  # over all heads
    ):
        super().__init__()
        side, (a, b, c) = min(shape[1:]), WIDTHS
        stride = max(1, side // 32)
        self.trunk = nn.Sequential(
            nn.Conv2d(shape[0], a, 2 * stride + 1, stride, padding=stride, bias=False),
            nn.BatchNorm2d(a),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.MaxPool2d(2) if side >= 16 else nn.Identity(),
            ResidualBlock(a, a),
            nn.AvgPool2d(2),
            ResidualBlock(a, b),
            nn.AvgPool2d(2),
            ResidualBlock(b, c),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.heads = nn.Linear(c, outputs)

    def features(self, x: Tensor) -> Tensor:
        return self.trunk((x - 0.5) / 0.25)

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(self.features(x))


@dataclass(frozen=True)
class Classifier:
    """A trained classifier and what is known about it."""

    net: ResidualClassifier
    shape: tuple[int, int, int]
    digest: str  # sha256 of the weights file
    about: Mapping[str, Any]  # the whole of about.json; `test` has each head's accuracy, or R^2 for a continuous factor


def short_name(data: DataConfig) -> str:
    """The name a classifier goes by: `cifar10` for the catalogue's set and for any folder or hub repository of that name."""
    path = Path(os.path.expanduser(data.name))
    return (path.resolve().name if path.is_dir() else path.stem) if path.exists() else data.name.rpartition("/")[2].partition(":")[0]


def classifier_folder(data: DataConfig, *, seed: int = 0, progress: bool = True) -> Path:
    """Where the classifier of this dataset at this size is kept, whether it is there or not; opens the data only to learn its size."""
    name = short_name(data)
    entry = EMBEDDED.get(name) or HUB.get(name)
    size = data.size or (entry.size if entry else None) or open_dataset(data, progress=progress).shape[1:]
    suffix = f"-seed{seed}" if seed else ""
    return cache.root().parent / "classifiers" / f"{name}-{'x'.join(map(str, (data.channels, *size)))}{suffix}"


@torch.enable_grad()  # its first user is an evaluation, which computes none
def train_classifier(
    data: DataConfig, *, seed: int = 0, images: int | None = None, device: str | torch.device = "cpu", progress: bool = True
) -> Path:
    """Trains the classifier of a dataset, unless it is in the cache already; an interrupted training leaves nothing behind.

    Args:
        data: its split trains and what `heldout_split` says tests; its limit and mirror play no part.
        seed: of weights, order and augmentation; the same seed on the same machine gives the same weights.
        images: how many to see; by default 400,000, but at most 64 epochs. A kept classifier is reused whatever it has seen.

    Returns:
        the folder, for `load_classifier`.

    Raises:
        UsageError: no labels, no images, no split to test on, or data that cannot be opened.
    """
    folder = classifier_folder(data, seed=seed, progress=progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):  # whoever comes second waits, and finds it there
        if not (folder / ABOUT).exists():
            net, about = _train(replace(data, limit=None), seed, images, torch.device(device), progress)
            with replacing(folder) as temporary:
                save_file(net.state_dict(), temporary / WEIGHTS)
                about["digest"] = sha256(temporary / WEIGHTS)
                (temporary / ABOUT).write_text(json.dumps(about, indent=1))
    return folder


def load_classifier(folder: str | Path) -> Classifier:
    """Reads a trained classifier, in eval mode on the CPU. Raises UsageError where there is none or it is damaged."""
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise UsageError(f"there is no classifier in {folder}: train_classifier() makes one.")
    try:
        about = json.loads((folder / ABOUT).read_text())
        if sha256(folder / WEIGHTS) != about["digest"]:
            raise ValueError("the weights are not those that were saved")
        shape = tuple(about["shape"])
        net = ResidualClassifier(shape, sum(Head(**head).width for head in about["heads"]))
        net.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UsageError(f"the classifier {folder} is damaged ({error}): delete the folder, and it is trained again.") from error
    return Classifier(net.eval().requires_grad_(False), shape, about["digest"], about)


def _train(data: DataConfig, seed: int, images: int | None, device: torch.device, progress: bool) -> tuple[nn.Module, dict[str, Any]]:
    """One training, start to end: the network on the CPU, and about.json without the digest."""
    train = _labelled(open_dataset(data, progress=progress))
    held_out = heldout_split(data)
    if held_out is None:
        raise UsageError(f"{data.name} has no split to test a classifier on: give data.split=train[:n], and the rest tests it.")
    test = _labelled(open_dataset(data, held_out, progress))
    heads = [_head(name, values) for name, values in train[1].items()]
    targets = _targets(heads, train[1]).to(device)
    steps = max(1, (images or min(IMAGES, EPOCHS * train[0].size)) // BATCH)
    mirror = [head.name for head in heads] == ["class"] and short_name(data) not in ONE_SIDED
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ResidualClassifier(train[0].shape, sum(head.width for head in heads)).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=PEAK_LR, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps, pct_start=0.25)
    batches = Batches(train[0], seed=seed, batch=BATCH, start=0, stop=BATCH, mirror=mirror)
    for step in tqdm(range(steps), desc=f"training classifier:{short_name(data)}", disable=None if progress else True, leave=False):
        x = _jitter(as_real(batches[step], device), generator(seed, "jitter", step))
        loss = _loss(heads, net(x.contiguous(memory_format=torch.channels_last)), targets[batches.indices(step)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start
    about = {
        "data": short_name(data),
        "shape": train[0].shape,
        "heads": [asdict(head) for head in heads],
        "test": _scores(heads, _outputs(net.eval(), test[0], device), test[1]),
        "train_split": {"name": train[0].name, "images": train[0].size, "fingerprint": train[0].fingerprint},
        "test_split": {"name": test[0].name, "images": test[0].size, "fingerprint": test[0].fingerprint},
        "seed": seed,
        "images_seen": steps * BATCH,
        "seconds": round(seconds, 1),
        "device": device.type,
        "versions": {"genzoo": __version__, "torch": torch.__version__},
    }
    return net.cpu().to(memory_format=torch.contiguous_format), about


def _labelled(dataset: Dataset) -> tuple[Dataset, dict[str, np.ndarray]]:
    """The dataset and its labels by name; a single kind of label is called `class`."""
    if dataset.size is None or len(dataset.shape) != 3:
        raise UsageError(f"{dataset.name} holds no images: a classifier needs labelled images, such as digits, toyfaces or cifar10.")
    labels: Labels = dataset.labels()
    if labels is None:
        raise UsageError(f"{dataset.name} has no labels: train the classifier on a labelled set, such as digits, toyfaces or cifar10.")
    return dataset, dict(labels) if isinstance(labels, Mapping) else {"class": labels}


def _head(name: str, values: np.ndarray) -> Head:
    if np.issubdtype(values.dtype, np.floating):
        return Head(name, 0, float(values.mean()), float(values.std()))
    if values.min() < 0:
        raise UsageError(f"some images have no {name} (a negative number): choose a data.split in which all are labelled.")
    return Head(name, int(values.max()) + 1)


def _targets(heads: list[Head], labels: Mapping[str, np.ndarray]) -> Tensor:
    """One column a head, [n, heads] float32: class numbers (exact up to 2**24), or standardised values."""
    columns = [labels[head.name] if head.classes else (labels[head.name] - head.mean) / head.std for head in heads]
    return torch.from_numpy(np.stack(columns, 1).astype(np.float32))


def _loss(heads: list[Head], outputs: Tensor, targets: Tensor) -> Tensor:
    """The heads' mean: smoothed cross-entropy for classes, half the squared error for standardised values."""
    losses = []
    for head, output, target in zip(heads, outputs.split([head.width for head in heads], 1), targets.unbind(1), strict=True):
        if head.classes:
            losses.append(F.cross_entropy(output, target.long(), label_smoothing=SMOOTHING))
        else:
            losses.append(0.5 * F.mse_loss(output[:, 0], target))
    return torch.stack(losses).mean()


def _jitter(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shifts each image by up to an eighth of its short side, reflected at the border; [N, C, H, W] -> the same."""
    n, c, h, w = images.shape
    shift = min(h, w) // 8
    top, left = torch.randint(2 * shift + 1, (2, n, 1), generator=rng).to(images.device)
    rows, columns = top + torch.arange(h, device=images.device), left + torch.arange(w, device=images.device)
    padded = F.pad(images, [shift] * 4, mode="reflect")
    every, channel = torch.arange(n)[:, None, None, None], torch.arange(c)[:, None, None]
    return padded[every, channel, rows[:, None, :, None], columns[:, None, None, :]]


@torch.no_grad()
def _outputs(net: nn.Module, dataset: Dataset, device: torch.device) -> Tensor:
    """All heads' outputs for a whole dataset, [n, sum of widths] on the CPU."""
    parts = np.array_split(np.arange(dataset.size), -(-dataset.size // 500))
    return torch.cat([net(as_real(dataset.batch(part), device)).cpu() for part in parts])


def _scores(heads: list[Head], outputs: Tensor, labels: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Each head's accuracy in [0, 1], or R^2 (1 - squared error over variance) for a continuous factor."""
    scores = {}
    for head, output in zip(heads, outputs.split([head.width for head in heads], 1), strict=True):
        truth = labels[head.name]
        if head.classes:
            scores[head.name] = {"accuracy": float((output.argmax(1).numpy() == truth).mean())}
        else:
            error = output[:, 0].numpy() * head.std + head.mean - truth
            scores[head.name] = {"r2": float(1 - (error**2).mean() / truth.var())}
    return scores


def sha256(path: Path) -> str:
    """Hashes a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
