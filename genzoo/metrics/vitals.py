"""Cheap signs of a model's health on a few fixed items: dimensionless, about 1 or below 1 for a healthy model."""

import torch
from torch import Tensor, nn

from genzoo.losses import sse
from genzoo.models.autoencoder import Autoencoder, Posterior
from genzoo.nn.batchnorm import batchnorms, disagreement

ACTIVE = 0.01  # variance of a latent unit's posterior mean over the data, above which the unit is in use (Burda et al. 2016, Section 5.2)


@torch.no_grad()
def vitals(model: Autoencoder, real: Tensor, z: Tensor, seen: Tensor | None = None) -> dict[str, float]:
    """Measures a model in eval mode.

    Args:
        real: [n, *shape], n >= 2, data that training does not see where there is any.
        z: [n, Z], draws of the prior.
        seen: [n, *shape], training data; None where `real` is training data itself.

    Returns:
        active: share of latent units in use; spread: root of the total variance of samples over that of real data;
        batchnorm (models with BatchNorm only): `batchnorm_gap` over the samples' rms spread;
        heldout: reconstruction error of `real` over that of `seen` (if given).
    """
    posterior, samples = model.encode(real).latent_dist, model.decode(z).sample
    mean = posterior.mean
    spread = _spread(samples)
    values = {"active": (mean.var(dim=0) > ACTIVE).float().mean().item(), "spread": spread / max(_spread(real), 1e-12)}
    if batchnorms(model.decoder):
        values["batchnorm"] = batchnorm_gap(model, posterior, z) / max(spread / samples[0].numel() ** 0.5, 1e-12)
    if seen is not None:
        errors = [sse(x, model(x).sample).mean().item() for x in (real, seen)]
        values["heldout"] = errors[0] / max(errors[1], 1e-12)
    return values


@torch.no_grad()
def batchnorm_gap(model: Autoencoder, posterior: Posterior, z: Tensor) -> float:
    """How far samples move when the decoder's BatchNorm takes its averages anew: rms, in units of the output.

    Anew over what training decodes, posterior samples alone or prior samples as well, whichever is nearer: running averages are between the
    two, and a model of a gap between posterior and prior is not ill for it.

    Args:
        posterior: of n >= 2 items.
        z: [n, Z], draws of the prior: the samples, and the posterior's noise.
    """
    encoded = posterior.mean + posterior.std * z
    return min(disagreement(model.decoder, z, batches) for batches in ([encoded], [encoded, z]))


def _spread(x: Tensor) -> float:
    """Root of the total variance: [n, ...] -> distance units."""
    return x.flatten(1).var(dim=0).sum().sqrt().item()


def matrix_sizes(model: nn.Module) -> dict[str, float]:
    """The Euclidean norm of each network's weight matrices and kernels, by network."""
    return {
        name: sum(p.detach().square().sum().item() for p in net.parameters() if p.ndim > 1) ** 0.5 for name, net in model.named_children()
    }
