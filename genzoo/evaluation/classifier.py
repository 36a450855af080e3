"""A small residual classifier of a labeled dataset: features without a pretrained network, and names of what is seen.

It is kept in `<cache>/classifiers/<dataset>-<C>x<H>x<W>/`, which has a hash of the content in its name if the data are
the user's own: weights as safetensors, and about.json with its test scores, temperatures, data and hash. Those of
toyfaces, mnist and cifar10 come with genzoo, in `classifiers/` beside this file: training is deterministic on one
machine only, and distances on features of two classifiers cannot be compared.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from genzoo.data import cache
from genzoo.data.catalog import find_entry
from genzoo.data.opening import describe, is_own, open_dataset
from genzoo.errors import UsageError
from genzoo.files import as_written, digest, utf8_path
from genzoo.nn.conv import SLOPE, ResidualBlock
from genzoo.spec import DataConfig

WEIGHTS, ABOUT = "classifier.safetensors", "about.json"
INCLUDED = Path(__file__).parent / "classifiers"
_FOLDER = re.compile(r"(?P<name>.+?)(-[0-9a-f]{8})?(?P<shape>-\d+x\d+x\d+(-seed\d+)?)")
WIDTHS = (32, 64, 128)  # of the three blocks; the last is the number of features


@dataclass(frozen=True)
class Head:
    """The network's output for one kind of label."""

    name: str
    classes: int  # 0 = a continuous factor, of which it predicts (value - mean) / std
    mean: float = 0.0
    std: float = 1.0
    names: tuple[str, ...] = ()  # of the classes

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
    folder: Path
    shape: tuple[int, ...]  # C, H, W
    heads: tuple[Head, ...]
    digest: str  # sha256 of the weights file
    about: Mapping[str, Any]  # about.json; `test` has each head's accuracy, or R^2 of a continuous factor

    def probabilities(self, features: Tensor) -> dict[str, Tensor]:
        """Returns the calibrated probabilities of the classes, for each kind of label that has classes.

        Args:
            features: [N, 128] of `net.features`.

        Returns:
            float32 [N, classes] by the name of the label.

        Raises:
            UsageError: the classifier has no temperatures, because an older genzoo trained it.
        """
        if (temperatures := self.about.get("temperatures")) is None:
            raise UsageError(
                f"The classifier of {self.about['data']} was trained by an older genzoo and is not calibrated: delete "
                f"{self.folder}, and it is trained again."
            )
        outputs = self.net.heads(features.to(self.net.heads.weight)).split([head.width for head in self.heads], 1)
        found = zip(self.heads, outputs, strict=True)
        return {head.name: (z / temperatures[head.name]).softmax(1) for head, z in found if head.classes}


def short_name(data: DataConfig) -> str:
    """Returns the name of a classifier: `cifar10` for the catalog's dataset and for any folder of that name."""
    path = Path(os.path.expanduser(data.name))
    if path.exists():
        return path.resolve().name if path.is_dir() else path.stem
    return data.name.rpartition("/")[2].partition(":")[0]


def included_classifier(name: str) -> Path | None:
    """Returns the folder of a classifier that comes with genzoo: `toyfaces`, `mnist` or `cifar10`."""
    return next((folder for folder in INCLUDED.iterdir() if folder.name.rpartition("-")[0] == name), None)


def classifier_folder(data: DataConfig, *, seed: int = 0, progress: bool = True) -> Path:
    """Returns where the classifier of this dataset at this size is kept; opens the data only if its size is unknown."""
    name = short_name(data)
    entry = find_entry(name)
    size = data.size or (entry.size if entry else None) or open_dataset(data, progress=progress).shape[1:]
    suffix = f"-seed{seed}" if seed else ""
    content = f"-{describe(data).identity[:8]}" if is_own(data) else ""
    shape = "x".join(map(str, (data.channels, *size)))
    return cache.root().parent / "classifiers" / f"{name}{content}-{shape}{suffix}"


def namesakes(folder: Path) -> list[Path]:
    """Returns the classifiers of the same name and size that were trained on other data."""
    parts = _FOLDER.fullmatch(folder.name)
    if parts is None or not folder.parent.is_dir():
        return []
    alike = re.compile(rf"{re.escape(parts['name'])}(-[0-9a-f]{{8}})?{re.escape(parts['shape'])}")
    return sorted(path for path in folder.parent.iterdir() if path != folder and alike.fullmatch(path.name))


def load_classifier(folder: str | Path) -> Classifier:
    """Reads a trained classifier, in eval mode on the CPU. Raises UsageError if there is none or it is damaged."""
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise UsageError(f"There is no classifier in {folder}: create it with train_classifier().")
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if not as_written(about) or digest(folder / WEIGHTS) != about["digest"]:
            raise ValueError("another content than was saved")
        shape = tuple(about["shape"])
        heads = tuple(Head(**head | {"names": tuple(head.get("names", ()))}) for head in about["heads"])
        net = ResidualClassifier(shape, sum(head.width for head in heads))
        with utf8_path(folder / WEIGHTS) as path:
            net.load_state_dict(load_file(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"The classifier {folder} is damaged ({error}): delete the folder, and it is trained again."
        ) from error
    return Classifier(net.eval().requires_grad_(False), folder, shape, heads, about["digest"], about)
