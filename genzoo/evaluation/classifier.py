"""A small residual classifier, trained once on a labeled dataset: features without a pretrained network.

It is kept in `<cache>/classifiers/<dataset>-<C>x<H>x<W>/`: weights as safetensors, and about.json with its test scores,
data and hash.
"""

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
from genzoo.data.batches import Batches, to_float
from genzoo.data.catalog import find_entry
from genzoo.data.labels import ONLY
from genzoo.data.opening import heldout_split, open_dataset
from genzoo.data.sets import Dataset, FiniteSet
from genzoo.errors import UsageError
from genzoo.files import digest, replacing
from genzoo.nn.conv import SLOPE, ResidualBlock
from genzoo.noise import generator
from genzoo.spec import DataConfig

WEIGHTS, ABOUT = "classifier.safetensors", "about.json"
WIDTHS = (32, 64, 128)  # of the three blocks; the last is the number of features
BATCH, PEAK_LR, WEIGHT_DECAY, SMOOTHING = 128, 0.1, 5e-4, 0.1  # SGD with Nesterov momentum 0.9, one cycle
IMAGES, EPOCHS = 400_000, 64  # length of training: so many images, but at most so many epochs
ONE_SIDED = ("digits", "mnist", "svhn")  # not mirrored, as it changes the class; nor are labels by factors


@dataclass(frozen=True)
class Head:
    """The network's output for one kind of label."""

    name: str
    classes: int  # 0 = a continuous factor, of which it predicts (value - mean) / std
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        return self.classes or 1


class ResidualClassifier(nn.Module):
    """[N, C, H, W] in [0, 1] -> the outputs of all heads [N, sum of widths]; `features` are their input, [N, 128]."""

    def __init__(
        self,
        shape: tuple[int, ...],  # C, H, W; the stem reduces the short side to 32 or less, the blocks to 16, 8 and 4
        outputs: int,  # of all heads
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
    """A trained classifier with its record."""

    net: ResidualClassifier
    shape: tuple[int, ...]  # C, H, W
    digest: str  # sha256 of the weights file
    about: Mapping[str, Any]  # about.json; `test` has each head's accuracy, or R^2 of a continuous factor


def short_name(data: DataConfig) -> str:
    """Returns the name of a classifier: `cifar10` for the catalog's dataset and for any folder of that name."""
    path = Path(os.path.expanduser(data.name))
    if path.exists():
        return path.resolve().name if path.is_dir() else path.stem
    return data.name.rpartition("/")[2].partition(":")[0]


def classifier_folder(data: DataConfig, *, seed: int = 0, progress: bool = True) -> Path:
    """Returns where the classifier of this dataset at this size is kept; opens the data only if its size is unknown."""
    name = short_name(data)
    entry = find_entry(name)
    size = data.size or (entry.size if entry else None) or open_dataset(data, progress=progress).shape[1:]
    suffix = f"-seed{seed}" if seed else ""
    return cache.root().parent / "classifiers" / f"{name}-{'x'.join(map(str, (data.channels, *size)))}{suffix}"


@torch.enable_grad()  # it is called within evaluations, which disable gradients
def train_classifier(
    data: DataConfig,
    *,
    seed: int = 0,
    images: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Path:
    """Trains the classifier of a dataset, unless it is in the cache; an interrupted training leaves nothing behind.

    Args:
        data: trained on its split, tested on its held-out split; its limit and mirror are ignored.
        seed: of weights, order and augmentation; the same seed on the same machine gives the same weights.
        images: length of training; by default 400,000, but at most 64 epochs. A cached classifier of another length is
            used.
        device: to train on.
        progress: whether to show a progress bar.

    Returns:
        the folder, for `load_classifier`.

    Raises:
        UsageError: there are no labels, no images or no held-out split, or the data cannot be opened.
    """
    folder = classifier_folder(data, seed=seed, progress=progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):  # a second process waits, then finds it
        if not (folder / ABOUT).exists():
            net, about = _train(replace(data, limit=None), seed, images, torch.device(device), progress)
            with replacing(folder) as temporary:
                save_file(net.state_dict(), temporary / WEIGHTS)
                about["digest"] = digest(temporary / WEIGHTS)
                (temporary / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return folder


def load_classifier(folder: str | Path) -> Classifier:
    """Reads a trained classifier, in eval mode on the CPU. Raises UsageError if there is none or it is damaged."""
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise UsageError(f"There is no classifier in {folder}: create it with train_classifier().")
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if digest(folder / WEIGHTS) != about["digest"]:
            raise ValueError("other weights than were saved")
        shape = tuple(about["shape"])
        net = ResidualClassifier(shape, sum(Head(**head).width for head in about["heads"]))
        net.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"The classifier {folder} is damaged ({error}): delete the folder, and it is trained again."
        ) from error
    return Classifier(net.eval().requires_grad_(False), shape, about["digest"], about)


def _train(
    data: DataConfig, seed: int, images: int | None, device: torch.device, progress: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """Trains a network; returns it on the CPU, and about.json without the digest."""
    train = _labeled(open_dataset(data, progress=progress))
    held_out = heldout_split(data)
    if held_out is None:
        raise UsageError(
            f"{data.name} has no split to test a classifier on: set data.split=train[:n], and the rest tests it."
        )
    test = _labeled(open_dataset(data, held_out, progress))
    heads = [_head(name, values) for name, values in train[1].items()]
    targets = _targets(heads, train[1]).to(device)
    steps = max(1, (images or min(IMAGES, EPOCHS * train[0].size)) // BATCH)
    mirror = [head.name for head in heads] == ["class"] and short_name(data) not in ONE_SIDED
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ResidualClassifier(train[0].shape, sum(head.width for head in heads))
    net.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=PEAK_LR, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps, pct_start=0.25)
    batches = Batches(train[0], seed=seed, batch=BATCH, start=0, stop=BATCH, mirror=mirror)
    for step in tqdm(
        range(steps), desc=f"training classifier:{short_name(data)}", disable=None if progress else True, leave=False
    ):
        x = _jitter(to_float(batches[step][0].x, device), generator(seed, "jitter", step))
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


def _labeled(dataset: Dataset) -> tuple[FiniteSet, dict[str, np.ndarray]]:
    """Returns the dataset and its labels by name; a single kind of label is called `class`."""
    if not isinstance(dataset, FiniteSet) or not dataset.is_image:
        raise UsageError(
            f"{dataset.name} contains no images: train the classifier on labeled images, such as digits or cifar10."
        )
    labels = dataset.labels()
    if not labels:
        raise UsageError(
            f"{dataset.name} has no labels: train the classifier on labeled images, such as digits or cifar10."
        )
    return dataset, {"class": labels[ONLY]} if list(labels) == [ONLY] else dict(labels)


def _head(name: str, values: np.ndarray) -> Head:
    if np.issubdtype(values.dtype, np.floating):
        return Head(name, 0, float(values.mean()), float(values.std()))
    if values.min() < 0:
        raise UsageError(f"Some images have no {name} (a negative number): choose a data.split in which all have one.")
    return Head(name, int(values.max()) + 1)


def _targets(heads: list[Head], labels: Mapping[str, np.ndarray]) -> Tensor:
    """One column per head, [n, heads] float32: class numbers (exact up to 2**24), or standardized values."""
    columns = [labels[head.name] if head.classes else (labels[head.name] - head.mean) / head.std for head in heads]
    return torch.from_numpy(np.stack(columns, 1).astype(np.float32))


def _loss(heads: list[Head], outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over heads: smoothed cross-entropy for classes, half the squared error for standardized values."""
    losses = []
    for head, output, target in zip(
        heads, outputs.split([head.width for head in heads], 1), targets.unbind(1), strict=True
    ):
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
def _outputs(net: nn.Module, dataset: FiniteSet, device: torch.device) -> Tensor:
    """Returns the outputs of all heads for a whole dataset, [n, sum of widths] on the CPU."""
    parts = np.array_split(np.arange(dataset.size), -(-dataset.size // 500))
    return torch.cat([net(to_float(dataset.batch(part), device)).cpu() for part in parts])


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
