"""The data of `genzoo ood`: held-out images that are like those of training, and others that are not."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genzoo.data import FiniteSet, heldout_split, open_dataset
from genzoo.data.sets import ArraySet, EndlessSet
from genzoo.data.survey import survey
from genzoo.dataspec import last_name
from genzoo.errors import UsageError
from genzoo.evaluation.heldout import seen_in_training
from genzoo.evaluation.subject import ModelSubject
from genzoo.noise import generator
from genzoo.spec import DataConfig

NOISE, CONSTANT = "noise", "constant"  # data that is made: uniform noise, and images of one gray each
BUILT_IN = (NOISE, CONSTANT)
LOOKED_AT = 16  # images whose size and mode are reported
# What holds for the training data only; of other data, all images that are not held out for scores count.
OTHER: dict[str, Any] = {"split": "train", "limit": None, "holdout": 0, "column": None, "labels": None}


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, as the model takes them.

    Attributes:
        name: of the data, without its place.
        split: None for what is made.
        images: uint8.
        note: how they were converted; "" where they were not.
    """

    name: str
    split: str | None
    images: FiniteSet
    note: str = ""

    def chosen(self, n: int, seed: int) -> Tensor:
        """Chooses n images by their numbers, or all where there are fewer: int64 [<= n]."""
        return torch.randperm(self.images.size, generator=generator(seed, "ood images"))[:n]

    def record(self, n: int) -> dict[str, Any]:
        """What a result line says of it; n images of it are scored."""
        split = {} if self.split is None else {"split": self.split}
        return {"name": self.name, **split, "n": n, "of": self.images.size, "fingerprint": self.images.fingerprint}

    def described(self, n: int) -> str:
        """`mnist, split test: 500 of 10,000 images`."""
        if self.split is None:
            return f"{self.name}: {n:,} images"
        converted = f"; {self.note}" if self.note else ""
        return f"{self.name}, split {self.split}: {n:,} of {self.images.size:,} images{converted}"


def open_inside(subject: ModelSubject, data: DataConfig, split_given: bool) -> ImageSet:
    """Opens held-out images.

    Args:
        subject: the model.
        data: what the images are of, read as in training.
        split_given: whether `data.split` is to be scored, rather than the split that is held out.

    Raises:
        UsageError: nothing is held out, the model was trained on some of them, or the data are no images.
    """
    split = data.split if split_given else heldout_split(data)
    if split is None:
        raise UsageError(
            f"{data.name} has no held-out split, and images of training say nothing here: name other images of the "
            "kind, --data, or a split, --set data.split=NAME."
        )
    if why := seen_in_training(subject.name, subject.trained_on, data, lambda: split):
        raise UsageError(f"{why}: leave out data.split, or name another.")
    return ImageSet(last_name(data.name), split, _images(data, split))


def open_outside(subject: ModelSubject, name: str, like: DataConfig, n: int, seed: int) -> ImageSet:
    """Opens, or makes, images that the model was not trained on, converted to its size and channels.

    Args:
        subject: the model.
        name: of the data, or one of `BUILT_IN`; a folder of such a name is given as ./noise.
        like: how images are read.
        n: how many are made.
        seed: of what is made.

    Raises:
        UsageError: there is no such data, it is no images, or it is what the model was trained on.
    """
    if name in BUILT_IN:
        return ImageSet(name, None, made(name, subject.model.shape, n, seed))
    data = replace(like, name=name, **OTHER)
    known = subject.trained_on
    if known is not None and known.difference(data) == "":
        raise UsageError(f"--out-data {name} is what {subject.name} was trained on: name other data.")
    split = heldout_split(data) or data.split
    images = _images(data, split)
    return ImageSet(last_name(name), split, images, _conversion(data, split))


def made(name: str, shape: tuple[int, ...], n: int, seed: int) -> ArraySet:
    """Makes n images of (C, H, W): uniform noise, independent in all pixels and channels; or of one gray each."""
    rng = generator(seed, f"ood {name}")
    sides = shape if name == NOISE else (1, 1, 1)
    pixels = torch.randint(256, (n, *sides), generator=rng, dtype=torch.uint8).expand(n, *shape)
    return ArraySet(name, f"{name}/{seed}", pixels.movedim(1, -1).numpy())


def _images(data: DataConfig, split: str) -> FiniteSet:
    found = open_dataset(data, split)
    if isinstance(found, EndlessSet) or not found.is_image:
        raise UsageError(f"{data.name} contains no images: name other data.")
    return found


def _conversion(data: DataConfig, split: str) -> str:
    """Says what images were before they were converted; "" where all that were looked at have the model's form."""
    seen = survey(replace(data, split=split, size=None), LOOKED_AT, progress=False)
    assert data.size is not None
    sizes, modes = sorted(set(seen.sizes)), sorted(seen.modes)
    gray = data.channels == 1
    if sizes == [data.size] and all((mode == "L") == gray for mode in modes):
        return ""
    shown = "x".join(map(str, sizes[0])) if len(sizes) == 1 else "several sizes"
    channels = f"{data.channels} channel{'s' * (data.channels > 1)}"
    return f"{shown} {'/'.join(modes)}, read as {'x'.join(map(str, data.size))} with {channels}, as the model's data"
