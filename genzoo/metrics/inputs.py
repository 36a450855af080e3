"""What a metric can ask for: the class of its argument declares it, and `genzoo.evaluation.evaluate` prepares it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from genzoo.noise import generator

if TYPE_CHECKING:
    from genzoo.metrics.frechet import Statistics
    from genzoo.models.autoencoder import Autoencoder

BATCH = 100  # images that are generated or compared at once; scores with batch statistics depend on it


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What all metrics get."""

    kind: ClassVar[Literal["images", "points"] | None] = None  # of the data; None = any
    counted: ClassVar[bool] = False  # whether a protocol's name states a number of images and a split

    seed: int  # of all random choices
    details: Mapping[str, Any] = field(default_factory=dict)  # how the inputs were made, for the result line


@dataclass(frozen=True, kw_only=True)
class Extracted(Inputs):
    """What an extractor, which a protocol's name states, makes of real and of generated images."""

    kind = "images"
    counted = True

    extractor: str  # its name, the hash of its weights and its resize


@dataclass(frozen=True, kw_only=True)
class FeaturePair(Extracted):
    """Features of real and of generated images by one extractor."""

    real: Tensor  # [N, D] float32
    fake: Tensor  # [M, D] float32


@dataclass(frozen=True, kw_only=True)
class FeatureMoments(FeaturePair):
    """The same, for a metric that needs only mean and covariance of the real ones, which a file may hold."""

    known: "Statistics | None" = None  # of the real features; `real` has no rows then


@dataclass(frozen=True, kw_only=True)
class ClassPair(Extracted):
    """Calibrated probabilities of classes for real and for generated images by one classifier.

    Labels of several kinds (factors) have classes of their own; a dataset with one kind of label calls it `class`.
    """

    names: Mapping[str, Sequence[str]]  # of the classes, by kind of label
    real: Mapping[str, Tensor]  # kind of label -> [N, classes] float32
    fake: Mapping[str, Tensor]  # kind of label -> [M, classes] float32


@dataclass(frozen=True, kw_only=True)
class LabeledPair(ClassPair):
    """The same for one kind of label and samples of given classes, with the features, and with the class of each image:
    its label, or what a sample was drawn of. All classes of the model are drawn in turn.
    """

    real_features: Tensor  # [N, D] float32
    fake_features: Tensor  # [M, D] float32
    real_labels: Tensor  # [N] int64, by the order of `names`
    fake_labels: Tensor  # [M] int64


@dataclass(frozen=True, kw_only=True)
class Images(Inputs):
    """Real images, and as many generated ones as a metric wants."""

    kind = "images"
    counted = True

    n: int  # in the protocol's name
    size: int  # images in the split
    shape: tuple[int, ...]  # C, H, W
    take: Callable[[Tensor], Tensor]  # indices [m] below `size` -> real images [m, C, H, W] in [0, 1]
    generate: Callable[[int], Iterator[Tensor]]  # number -> batches of generated images [<= BATCH, C, H, W] in [0, 1]

    def real(self) -> Iterator[Tensor]:
        """Yields n random images of the split, or all if it has fewer, in batches [<= BATCH, C, H, W]."""
        chosen = torch.randperm(self.size, generator=generator(self.seed, "eval real"))[: self.n]
        return (self.take(part) for part in chosen.split(BATCH))


@dataclass(frozen=True, kw_only=True)
class TrainingSet(Images):
    """All training images, held-out ones, and the features of the model that was trained on the former."""

    heldout: Callable[[int], Iterator[Tensor]]  # number -> batches of random held-out images, all if there are fewer
    encode: Callable[[Tensor], Tensor] | None  # images [n, C, H, W] -> posterior means [n, D]; None without an encoder

    def all(self) -> Iterator[Tensor]:
        """Yields all images of the split in order, in batches."""
        return (self.take(part) for part in torch.arange(self.size).split(10 * BATCH))


@dataclass(frozen=True, kw_only=True)
class Reconstructions(Images):
    """Real images and a model that encodes and decodes them."""

    model: "Autoencoder"


@dataclass(frozen=True, kw_only=True)
class Posteriors(Reconstructions):
    """Real images and a model whose encoder outputs a Gaussian posterior."""


@dataclass(frozen=True, kw_only=True)
class Points(Inputs):
    """Points of a 2-D density and of a model of it."""

    kind = "points"

    extent: float  # half-width of the square that is measured, centered at 0
    real: Callable[[int, Generator], Tensor]  # number, generator -> independent draws of the density, [n, 2]
    generate: Callable[[int, Generator], Tensor]  # the same of the model
    energy: Callable[[Tensor], Tensor] | None  # points [n, 2] -> KL + SSE, [n]; None without a Gaussian encoder


@dataclass(frozen=True, kw_only=True)
class RunLog(Inputs):
    """The log of a training run."""

    run: str  # its name
    lines: Sequence[Mapping[str, Any]]
