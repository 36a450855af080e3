"""Trains the classifier of a labeled dataset and calibrates it on held-out items.

From 64 pixels on it sees half of its images at half the resolution, enlarged as the extractor enlarges them: one
classifier then scores models at both resolutions. Trained on 64x64 toy faces only, it took none of those at 32x32 to
be without glasses.

The test scores are accuracies over the whole held-out split. Temperatures are fitted to every second item of it, and
the other half tests them: training items would not do, as the network has seen them.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from genzoo import __version__
from genzoo.data.batches import Batches, to_float
from genzoo.data.opening import heldout_split, open_dataset
from genzoo.data.sets import Dataset, FiniteSet
from genzoo.dataspec import ONLY
from genzoo.duration import as_time
from genzoo.errors import UsageError
from genzoo.evaluation.calibration import calibration_error, fit_temperature
from genzoo.evaluation.classifier import ABOUT, WEIGHTS, Head, ResidualClassifier, classifier_folder, short_name
from genzoo.files import digest, replacing, sealed
from genzoo.noise import generator
from genzoo.progress import bar, write_line
from genzoo.spec import DataConfig

BATCH, PEAK_LR, WEIGHT_DECAY, SMOOTHING = 128, 0.1, 5e-4, 0.1  # SGD with Nesterov momentum 0.9, one cycle
IMAGES, EPOCHS = 400_000, 64  # length of training: so many images, but at most so many epochs
LEAST_STEPS = 5  # that the learning rate's cycle can be divided into
LEAST_HELD_OUT = 2  # items: one half fits temperatures, the other tests them
TIMED = 1, 6  # steps by which the time of all is estimated: from the one to the other
TWO_SIZES = 64  # pixels of the short side from which on half of the images are seen at half the resolution
ONE_SIDED = ("digits", "mnist", "svhn")  # not mirrored, as it changes the class; nor are labels by factors


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
        progress: whether to show a progress bar, and to say what is trained and for how long.

    Returns:
        the folder, for `load_classifier`.

    Raises:
        UsageError: there are no labels, no or too few images, or no held-out split, or the data cannot be opened.
    """
    folder = classifier_folder(data, seed=seed, progress=progress)
    if (folder / ABOUT).exists():
        return folder  # without the lock, which takes a folder that can be written
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):  # a second process waits, then finds it
        if not (folder / ABOUT).exists():
            if progress:
                text = f"classifier:{short_name(data)} is trained first: once, then it is kept in {folder}"
                write_line(text, error=True)
            net, about = _train(replace(data, limit=None), seed, images, torch.device(device), progress)
            with replacing(folder) as temporary:
                save_file(net.state_dict(), temporary / WEIGHTS)
                about["digest"] = digest(temporary / WEIGHTS)
                (temporary / ABOUT).write_text(json.dumps(sealed(about), indent=1), encoding="utf-8")
    return folder


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
    steps = _steps(train[0], test[0], images)
    heads = [_head(train[0], name, values) for name, values in train[1].items()]
    targets = _targets(heads, train[1]).to(device)
    mirror = [head.name for head in heads] == ["class"] and short_name(data) not in ONE_SIDED
    coarse = min(train[0].shape[1:]) >= TWO_SIZES
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ResidualClassifier(train[0].shape, sum(head.width for head in heads))
    net.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=PEAK_LR, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    rise = 0.25 if steps >= LEAST_STEPS else 0.3  # a quarter of four steps is the first one, and takes no time
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps, pct_start=rise)
    batches = Batches(train[0], seed=seed, batch=BATCH, start=0, stop=BATCH, mirror=mirror)
    name, announce = f"classifier:{short_name(data)}", _Announcement(steps) if progress else None
    for step in bar(range(steps), name, shown=progress, logged=True, leave=False, unit="step"):
        if announce is not None:
            announce(step)
        x = _jitter(to_float(batches[step][0].x, device), generator(seed, "jitter", step))
        if coarse:
            half = torch.rand(len(x), 1, 1, 1, generator=generator(seed, "coarse", step)) < 0.5
            x = torch.where(half.to(device), halved(x), x)
        loss = _loss(heads, net(x.contiguous(memory_format=torch.channels_last)), targets[batches.indices(step)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start
    outputs = _outputs(net.eval(), test[0], device)
    outputs_halved = _outputs(net, test[0], device, halve=True) if coarse else None
    about = {
        "data": short_name(data),
        "shape": train[0].shape,
        "heads": [asdict(head) for head in heads],
        "test": _scores(heads, outputs, test[1]),
        "test_halved": None if outputs_halved is None else _scores(heads, outputs_halved, test[1]),
        **_calibration(heads, outputs, outputs_halved, test[1]),
        "train_split": {"name": train[0].name, "images": train[0].size, "fingerprint": train[0].fingerprint},
        "test_split": {"name": test[0].name, "images": test[0].size, "fingerprint": test[0].fingerprint},
        "seed": seed,
        "images_seen": steps * BATCH,
        "seconds": round(seconds, 1),
        "device": device.type,
        "versions": {"genzoo": __version__, "torch": torch.__version__},
    }
    return net.cpu().to(memory_format=torch.contiguous_format), about


def _steps(train: FiniteSet, test: FiniteSet, images: int | None) -> int:
    """Returns the number of training steps.

    Raises:
        UsageError: that are too few, or too few items are held out; the message names the smallest number that works.
    """
    steps = max(1, (images or min(IMAGES, EPOCHS * train.size)) // BATCH)
    if images is None and steps < LEAST_STEPS:
        least = -(-LEAST_STEPS * BATCH // EPOCHS)
        raise UsageError(
            f"{train.name} has {train.size:,} labeled images to train a classifier on, and it needs at least {least}: "
            "give more data, or choose an extractor that is trained already, such as timm:resnet18."
        )
    if test.size < LEAST_HELD_OUT:
        raise UsageError(
            f"{test.name} has {test.size:,} labeled images to test a classifier on, and it needs at least "
            f"{LEAST_HELD_OUT}: hold out more, with data.split=train[:n]."
        )
    return steps


class _Announcement:
    """Says, after a few steps, how long all of them take."""

    def __init__(self, steps: int) -> None:
        self._steps, self._began = steps, 0.0

    def __call__(self, step: int) -> None:
        first, last = TIMED
        if step == first:  # the one before loaded its code
            self._began = time.perf_counter()
        if step == last:
            seconds = (time.perf_counter() - self._began) / (last - first) * (self._steps - step)
            write_line(f"{self._steps:,} steps, about {as_time(seconds)} from here on this machine", error=True)


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


def _head(dataset: FiniteSet, name: str, values: np.ndarray) -> Head:
    if np.issubdtype(values.dtype, np.floating):
        return Head(name, 0, float(values.mean()), float(values.std()) or 1.0)  # a constant factor is predicted as 0
    if values.min() < 0:
        raise UsageError(f"Some images have no {name} (a negative number): choose a data.split in which all have one.")
    classes = int(values.max()) + 1
    return Head(name, classes, names=dataset.classes(name if name in dataset.labels() else ONLY)[:classes])


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


def halved(images: Tensor) -> Tensor:
    """Reduces images [N, C, H, W] in [0, 1] to half the resolution, and enlarges them again."""
    small = F.avg_pool2d(images, 2, ceil_mode=True)
    return F.interpolate(small, images.shape[2:], mode="bilinear", align_corners=False)


@torch.no_grad()
def _outputs(net: nn.Module, dataset: FiniteSet, device: torch.device, halve: bool = False) -> Tensor:
    """Returns the outputs of all heads for a whole dataset, [n, sum of widths] on the CPU."""
    parts = np.array_split(np.arange(dataset.size), -(-dataset.size // 500))
    batches = (to_float(dataset.batch(part), device) for part in parts)
    return torch.cat([net(halved(x) if halve else x).cpu() for x in batches])


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


def _calibration(
    heads: list[Head], outputs: Tensor, outputs_halved: Tensor | None, labels: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Fits a temperature per label that has classes, and measures the error of the confidence on other items."""
    found: dict[str, dict[str, float]] = {"temperatures": {}, "calibration_error": {}}
    widths = [head.width for head in heads]
    seen = [part.split(widths, 1) for part in (outputs, outputs_halved) if part is not None]
    for i, head in enumerate(heads):
        if head.classes:
            targets = torch.from_numpy(np.asarray(labels[head.name], np.int64))
            known = (targets >= 0) & (targets < head.classes)
            logits = torch.stack([part[i][known] for part in seen], dim=1)  # [items, resolutions, classes]
            targets = targets[known, None].expand(-1, len(seen))
            temperature = fit_temperature(logits[::2].flatten(0, 1), targets[::2].flatten())
            tested = (logits[1::2].flatten(0, 1) / temperature).softmax(dim=1)
            found["temperatures"][head.name] = temperature
            found["calibration_error"][head.name] = calibration_error(tested, targets[1::2].flatten())
    return found
