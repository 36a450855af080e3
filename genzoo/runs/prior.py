"""The fitted prior of a trained model, from its training data."""

import torch
from torch import Tensor

from genzoo.data import Dataset
from genzoo.data.batches import to_float
from genzoo.data.sets import EndlessSet, class_numbers
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
    labels: str | None = None,
) -> FittedPrior:
    """Fits a model's prior to n items of a dataset chosen at random, or to all if it has fewer; see
    `Autoencoder.fit_prior`.

    Args:
        model: whose prior it is.
        dataset: training data.
        prior: `gmm`, `gmm:K`, `flow` or `flow:N`.
        n: items.
        seed: of all choices.
        progress: show a bar while a flow is trained.
        labels: name of the labels whose classes the model's own prior has.

    Raises:
        UsageError: more components than items, or a model to which no prior can be fitted.
    """
    asked, items = parse(prior), n if dataset.size is None else min(n, dataset.size)
    if asked is not None and asked.kind == "gmm" and (asked.number or 0) > items:
        raise UsageError(
            f"{prior} has more components than the {items:,} encodings of {dataset.name}: take gmm:{items} or fewer."
        )
    encodings, classes = encodings_of(model, dataset, n, seed, labels)
    model.fitted_prior = fit(encodings, prior, seed, model.device, progress, classes)
    return model.fitted_prior


def encodings_of(
    model: Generative, dataset: Dataset, n: int, seed: int, labels: str | None = None
) -> tuple[Tensor, Tensor | None]:
    """Encodes n items of a dataset chosen at random, or all if it has fewer; see `Autoencoder.encodings`.

    Returns:
        Encodings, [N, *latent]; their class numbers, int64 [N], where the model's own prior has these classes.

    Raises:
        UsageError: a model to which no prior can be fitted.
    """
    if not isinstance(model, Autoencoder):
        raise UsageError(
            f"No prior can be fitted to {type(model).__name__}, as {model.unfittable}: take {model.prior.kind}."
        )
    n = n if dataset.size is None else min(n, dataset.size)
    rng = generator(seed, "fitted prior items")
    if isinstance(dataset, EndlessSet):
        return model.encodings(dataset.draw(n, rng).to(model.device).split(CHUNK), seed), None
    chosen = torch.randperm(dataset.size, generator=rng)[:n]
    batches = (to_float(dataset.batch(part.numpy()), model.device) for part in chosen.split(CHUNK))
    encodings = model.encodings(batches, seed)
    if labels is None or model.prior.kind != "classes" or dataset.classes(labels) != model.classes:
        return encodings, None
    return encodings, torch.from_numpy(class_numbers(dataset, labels))[chosen]
