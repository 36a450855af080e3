"""A model run as a step of training runs it, for the statistics of BatchNorm."""

import torch
from torch import Tensor

from genzoo.models.autoencoder import can_encode
from genzoo.models.generative import Generative
from genzoo.noise import generator


def class_numbers(model: Generative, n: int, rng: torch.Generator) -> Tensor | None:
    """Draws class numbers for a conditional model, all classes equally likely, int64 [n]; None for any other."""
    return torch.randint(len(model.classes), (n,), generator=rng) if model.conditional else None


def run_as_in_training(model: Generative, batches: list[Tensor]) -> None:
    """Runs the networks on what a step of training does: posterior and prior latents, then real and decoded items."""
    rng = generator(0, "recalibration")
    for x in batches:
        if can_encode(model):
            posterior = model.encode(x).latent_dist
            reconstruction = model.decode(posterior.sample(rng)).sample
            z = model.draw_latents(len(x), rng, None).to(x.device)
            sample = model.decode(z).sample
            model.encode(reconstruction)
            model.encode(sample)
        else:
            model.sample(len(x), generator=rng, labels=class_numbers(model, len(x), rng), prior=model.prior.kind)
