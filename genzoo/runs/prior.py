"""The fitted prior of a trained model, from its training data."""

from collections.abc import Iterator

import torch
from torch import Tensor

from genzoo.data import Dataset
from genzoo.data.batches import to_float
from genzoo.data.sets import EndlessSet
from genzoo.errors import UsageError
from genzoo.fitted import FittedPrior, fit, parse
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.generative import Generative
from genzoo.noise import generator

ENCODINGS = 10_000  # at most, where no number is given
CHUNK = 100  # items encoded at once


def fit_from(
    model: Generative,
    dataset: Dataset,
    prior: str = "gmm",
    n: int = ENCODINGS,
    seed: int = 0,
    progress: bool = False,
) -> FittedPrior:
    """Fits a model's prior to n items of a dataset chosen at random, or to all if it has fewer; see
    `Autoencoder.fit_prior`.

    Raises:
        UsageError: more components than items, or a model to which no prior can be fitted.
    """
    asked, items = parse(prior), n if dataset.size is None else min(n, dataset.size)
    if asked is not None and asked.kind == "gmm" and (asked.number or 0) > items:
        raise UsageError(
            f"{prior} has more components than the {items:,} encodings of {dataset.name}: take gmm:{items} or fewer."
        )
    model.fitted_prior = fit(encodings_of(model, dataset, n, seed), prior, seed, model.device, progress)
    return model.fitted_prior


def encodings_of(model: Generative, dataset: Dataset, n: int, seed: int) -> Tensor:
    """Encodes n items of a dataset chosen at random, or all if it has fewer; see `Autoencoder.encodings`.

    Raises:
        UsageError: a model to which no prior can be fitted.
    """
    if not isinstance(model, Autoencoder):
        raise UsageError(
            f"No prior can be fitted to {type(model).__name__}, as {model.unfittable}: take {model.prior.kind}."
        )
    n = n if dataset.size is None else min(n, dataset.size)
    return model.encodings(_batches(dataset, n, seed, model.device), seed)


def _batches(dataset: Dataset, n: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    rng = generator(seed, "fitted prior items")
    if isinstance(dataset, EndlessSet):
        yield from dataset.draw(n, rng).to(device).split(CHUNK)
        return
    for part in torch.randperm(dataset.size, generator=rng)[:n].split(CHUNK):
        yield to_float(dataset.batch(part.numpy()), device)
