"""The fitted prior of a trained model, from its training data."""

from collections.abc import Iterator

import torch
from torch import Tensor

from genzoo.data import Dataset
from genzoo.data.batches import to_float
from genzoo.data.sets import EndlessSet
from genzoo.errors import UsageError
from genzoo.mixture import Mixture
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.generative import Generative
from genzoo.noise import generator

ENCODINGS = 10_000  # at most, where no number is given
CHUNK = 100  # items encoded at once


def fit_from(
    model: Generative, dataset: Dataset, components: int | None = None, n: int = ENCODINGS, seed: int = 0
) -> Mixture:
    """Fits a model's prior to n items of a dataset chosen at random, or to all if it has fewer; see `fit_prior`.

    Raises:
        UsageError: more components than items, or a model to which no prior can be fitted.
    """
    if not isinstance(model, Autoencoder):
        raise UsageError(
            f"No prior can be fitted to {type(model).__name__}, as {model.unfittable}: take {model.prior.kind}."
        )
    n = n if dataset.size is None else min(n, dataset.size)
    if components is not None and components > n:
        raise UsageError(
            f"gmm:{components} has more components than the {n:,} encodings of {dataset.name}: take gmm:{n} or fewer."
        )
    return model.fit_prior(_batches(dataset, n, seed, model.device), components, seed)


def _batches(dataset: Dataset, n: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    rng = generator(seed, "fitted prior items")
    if isinstance(dataset, EndlessSet):
        yield from dataset.draw(n, rng).to(device).split(CHUNK)
        return
    for part in torch.randperm(dataset.size, generator=rng)[:n].split(CHUNK):
        yield to_float(dataset.batch(part.numpy()), device)
