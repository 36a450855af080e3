"""Which prior a model is sampled from."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.fitted import knows, parse, select

if TYPE_CHECKING:
    from genzoo.models.generative import Generative


def resolve_prior(model: "Generative", prior: str | None, of_classes: bool) -> str:
    """See `Generative.prior_name`."""
    own, fitted = model.prior.kind, model.fitted_prior
    without_classes = of_classes and not model.conditional and not knows(fitted, len(model.classes))
    if prior is None:
        return own if fitted is None or without_classes else fitted.name
    if prior == own:
        return own
    if parse(prior) is None:
        raise UsageError(
            f"There is no prior {prior!r}: take {own}, the model's own, or gmm, gmm:K, flow or flow:N, fitted ones."
        )
    if model.unfittable:
        raise UsageError(f"{type(model).__name__} has no fitted prior, as {model.unfittable}: take {own}.")
    if fitted is None:
        raise UsageError(f"This model has no fitted prior: call fit_prior(batches of training data), or take {own}.")
    if without_classes:
        raise UsageError(f"The prior {prior} was fitted without classes: leave out the labels, or take {own}.")
    if (found := select(fitted, prior)) is None:
        raise UsageError(f'The fitted prior is {fitted.name}: call fit_prior(batches, "{prior}") for {prior}.')
    return found.name


def draw_latents(
    model: "Generative",
    n: int,
    generator: torch.Generator | None,
    labels: Tensor | None,
    prior: str | None,
    temperature: float,
) -> Tensor:
    """See `Generative.latents`."""
    if not 0 <= temperature < math.inf:
        raise UsageError(f"The temperature {temperature:g} is not a number from 0 on: take 1, or 0.8 for less variety.")
    name = model.prior_name(prior, of_classes=labels is not None)
    if (fitted := select(model.fitted_prior, name)) is not None:
        return fitted.sample(n, model.latent_shape, generator, temperature, labels)
    if temperature != 1 and (model.prior.kind != "normal" or model.conditional):
        raise UsageError(
            f"A temperature scales fitted priors, and N(0, I) of models without labels; here the prior is {name}: "
            "leave it at 1."
        )
    return temperature * model.draw_latents(n, generator, labels)
