"""What a snapshot measures: evaluators that yield (name, value) from fixed items and latents."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genzoo.data import Dataset, open_dataset
from genzoo.data.batches import as_real, to_float
from genzoo.data.sets import some
from genzoo.items import Items
from genzoo.metrics.sliced import sliced_wasserstein
from genzoo.metrics.vitals import matrix_sizes, vitals
from genzoo.models.generative import Generative
from genzoo.noise import generator
from genzoo.spec import RunConfig

N_SCORED = (32, 256, 2048)  # items on each side of the score: at least, at most for images, for points
SCORED_VALUES = 2**22  # pixel values that the score may decode, so that large images are not scored longer than trained
CHUNK = 32  # images decoded at once
N_VITALS = 64  # items whose vitals are measured: thirteen passes of so many, forward only, at each snapshot
SCORE = "score/sliced_wasserstein"  # lower is better; decides which weights are the best


@dataclass(frozen=True)
class Fixed:
    """Real items and latents that stay the same for a whole run, so that progress can be watched."""

    real: Items  # n of them, float, held out where the source has a held-out split, else training data
    z: Tensor  # [n, *latent], draws of the prior
    labels: Tensor | None  # [n] int64, classes in turn, for conditional models
    training: Tensor | None  # [N_VITALS, *shape], training data; None where `real` is that itself


@dataclass(frozen=True)
class Weights:
    """The two sets of weights of a run, in eval mode."""

    shown: Generative  # the average where there is one: what people will load
    raw: Generative  # as trained


Evaluator = Callable[[Weights, Fixed], Iterator[tuple[str, float]]]


def n_scored(shape: tuple[int, ...]) -> int:
    """How many samples, and as many real items, the score compares."""
    fewest, most, points = N_SCORED
    return points if len(shape) == 1 else min(most, max(fewest, SCORED_VALUES // math.prod(shape)))


def fixed_items(config: RunConfig, dataset: Dataset, heldout: str | None, model: Generative) -> Fixed:
    """Draws a run's fixed items, on the model's device; `heldout` is the split that the real ones come from, if any."""
    seed, n, labels = config.train.seed, n_scored(dataset.shape), config.data.labels
    source = open_dataset(config.data, split=heldout, progress=False) if heldout else dataset
    real = as_real(some(source, n, generator(seed, "fixed"), labels), model.device)
    training = some(dataset, N_VITALS, generator(seed, "fixed seen")) if heldout else None
    turns = model.classes_in_turn(len(real))
    z = model.draw_latents(len(real), generator(seed, "fixed latents"), turns).to(model.device)
    turns = None if turns is None else turns.to(model.device)
    return Fixed(real, z, turns, None if training is None else to_float(training.x, model.device))


@torch.no_grad()
def samples_of(model: Generative, fixed: Fixed, n: int | None = None) -> Tensor:
    """Decodes the first n fixed latents, or all: [n, *shape], not clamped."""
    z, labels = fixed.z[:n], None if fixed.labels is None else fixed.labels[:n]
    size = CHUNK if model.is_image else len(z)
    parts = [None] * -(-len(z) // size) if labels is None else labels.split(size)
    return torch.cat([model.decode(one, part).sample for one, part in zip(z.split(size), parts, strict=True)])


def score(model: Generative, fixed: Fixed) -> float:
    """Sliced Wasserstein distance between samples and real items; lower is better."""
    samples = samples_of(model, fixed)
    return sliced_wasserstein(fixed.real.x, samples.clamp(0, 1) if model.is_image else samples)


def scores(weights: Weights, fixed: Fixed) -> Iterator[tuple[str, float]]:
    """The shown weights' score and, where they are an average, its ratio to the raw weights' score."""
    shown = score(weights.shown, fixed)
    yield SCORE, shown
    if weights.shown is not weights.raw:
        yield "vitals/average", shown / max(score(weights.raw, fixed), 1e-12)


def shown_vitals(weights: Weights, fixed: Fixed) -> Iterator[tuple[str, float]]:
    """The vitals of the shown weights; see `genzoo.metrics.vitals`."""
    samples = samples_of(weights.shown, fixed, N_VITALS)
    found = vitals(weights.shown, fixed.real.x[:N_VITALS], samples, fixed.z[:N_VITALS], fixed.training)
    yield from ((f"vitals/{name}", value) for name, value in found.items())


class Growth:
    """Evaluator: how many times the weights have grown since the start, of the network that has grown the most."""

    def __init__(self, first: dict[str, float]):
        self._first = first

    def __call__(self, weights: Weights, fixed: Fixed) -> Iterator[tuple[str, float]]:
        sizes = matrix_sizes(weights.raw)
        yield "vitals/growth", max(size / self._first[name] for name, size in sizes.items() if self._first[name])
