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
from genzoo.metrics.pyramid import Reference
from genzoo.metrics.sliced import sliced_wasserstein
from genzoo.metrics.vitals import matrix_sizes, vitals
from genzoo.models.generative import Generative
from genzoo.noise import generator
from genzoo.spec import RunConfig

N_SCORED = (32, 512, 2048)  # items on each side of the score: at least, at most for images, for points
SCORED_VALUES = 2**22  # pixel values that the score may decode, so that large images are not scored longer than trained
CHUNK = 32  # images decoded at once
N_AVERAGE = 128  # items by which the averaged weights are compared with the raw ones
N_VITALS = 64  # items whose vitals are measured: thirteen passes of so many, forward only, at each snapshot


@dataclass(frozen=True)
class Fixed:
    """Real items and latents that stay the same for a whole run, so that progress can be watched."""

    real: Items  # n of them, float, held out where the source has a held-out split, else training data
    z: Tensor  # [n, *latent], draws of the model's own prior
    draws: tuple[Tensor, Tensor]  # [n] and [n, *latent], what a fitted prior makes its latents of
    labels: Tensor | None  # [n] int64, classes in turn, for conditional models
    training: Tensor | None  # [N_VITALS, *shape], training data; None where `real` is that itself
    reference: Reference | None  # `real` as samples are compared with it, if they are images


@dataclass(frozen=True)
class Weights:
    """The two sets of weights of a run, in eval mode."""

    shown: Generative  # the average where there is one: what people will load
    raw: Generative  # as trained


Evaluator = Callable[[Weights, Fixed], Iterator[tuple[str, float]]]


def score_name(shape: tuple[int, ...]) -> str:
    """The score's name in the log; lower is better, and the lowest decides which weights are the best."""
    return "score/sliced_wasserstein" if len(shape) == 1 else "score/pyramid_frechet"


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
    rng = generator(seed, "fixed draws")
    draws = torch.rand(len(real), generator=rng), torch.randn(len(real), *model.latent_shape, generator=rng)
    seen = None if training is None else to_float(training.x, model.device)
    finite = real.x[real.x.flatten(1).isfinite().all(dim=1)]  # bad items are reported when they are trained on
    return Fixed(real, z, draws, turns, seen, Reference(finite) if model.is_image else None)


def latents_of(model: Generative, fixed: Fixed) -> Tensor:
    """Returns what `model.sample` would decode: the fixed draws as latents of its fitted prior, or else `fixed.z`."""
    return fixed.z if model.fitted_prior is None else model.fitted_prior.at(*fixed.draws).to(fixed.z.device)


@torch.no_grad()
def decoded(model: Generative, z: Tensor, fixed: Fixed, n: int | None = None) -> Tensor:
    """Decodes the first n fixed latents, or all: [n, *shape], not clamped."""
    z, labels = z[:n], None if fixed.labels is None else fixed.labels[:n]
    size = CHUNK if model.is_image else len(z)
    parts = [None] * -(-len(z) // size) if labels is None else labels.split(size)
    return torch.cat([model.decode(one, part).sample for one, part in zip(z.split(size), parts, strict=True)])


def score(model: Generative, z: Tensor, fixed: Fixed, n: int | None = None) -> float:
    """Distance between samples (n, or all) and real items, named by `score_name`; lower is better."""
    samples = decoded(model, z, fixed, n)
    if fixed.reference is not None:
        return fixed.reference.distance(samples.nan_to_num().clamp(0, 1))
    return sliced_wasserstein(fixed.real.x[:n], samples)


def scores(weights: Weights, fixed: Fixed) -> Iterator[tuple[str, float]]:
    """The score of what people get and, where the shown weights are an average, its ratio to the raw weights' score,
    both from the model's own prior: a fitted one is of the shown weights only.
    """
    yield score_name(weights.shown.shape), score(weights.shown, latents_of(weights.shown, fixed), fixed)
    if weights.shown is not weights.raw:
        n = N_AVERAGE if weights.shown.is_image else None
        shown, raw = (score(model, fixed.z, fixed, n) for model in (weights.shown, weights.raw))
        yield "vitals/average", shown / max(raw, 1e-12)


def shown_vitals(weights: Weights, fixed: Fixed) -> Iterator[tuple[str, float]]:
    """The vitals of the shown weights; see `genzoo.metrics.vitals`."""
    samples = decoded(weights.shown, fixed.z, fixed, N_VITALS)
    found = vitals(weights.shown, fixed.real.x[:N_VITALS], samples, fixed.z[:N_VITALS], fixed.training)
    yield from ((f"vitals/{name}", value) for name, value in found.items())


class Growth:
    """Evaluator: how many times the weights have grown since the start, of the network that has grown the most.

    Yields nothing with muon and its variants: the orthogonalized updates have a fixed size, so that weights grow in
    healthy runs, too (6-fold in 490 steps), and the monitor's threshold does not hold.
    """

    def __init__(self, model: Generative, optimizer: str):
        self._first = {} if "muon" in optimizer else matrix_sizes(model)

    def __call__(self, weights: Weights, fixed: Fixed) -> Iterator[tuple[str, float]]:
        if not self._first:
            return
        sizes = matrix_sizes(weights.raw)
        yield "vitals/growth", max(size / self._first[name] for name, size in sizes.items() if self._first[name])
