"""Cheap measurements of a model's health on a few fixed items: dimensionless, about 1 or below for a healthy model."""

import torch
from torch import Tensor, nn

from genzoo.losses import sse
from genzoo.models.autoencoder import Autoencoder, PointCode, Posterior, can_encode
from genzoo.models.generative import Generative
from genzoo.nn.batchnorm import batchnorms, disagreement

# A latent unit is active if its posterior mean has a larger variance over the data, in units of the prior's (Burda et
# al. 2016, Section 5.2, for N(0, I)).
ACTIVE = 0.01


@torch.no_grad()
def vitals(
    model: Generative, real: Tensor, samples: Tensor, z: Tensor, training: Tensor | None = None
) -> dict[str, float]:
    """Measures a model in eval mode.

    Args:
        model: with an encoder that takes no labels, or only `spread` is measured.
        real: [n, *shape], n >= 2, data that training does not use, if there is any.
        samples: [n, *shape], decoded from z.
        z: [n, *latent], draws of the prior.
        training: [n, *shape], training data; None if `real` is training data.

    Returns:
        spread: root of the total variance of samples over that of real data; active: share of active latent units;
        batchnorm (models with BatchNorm only): `batchnorm_gap` over the samples' rms spread; heldout: reconstruction
        error of `real` over that of `training` (if given).
    """
    spread = _spread(samples)
    values = {"spread": spread / max(_spread(real), 1e-12)}
    if not can_encode(model):
        return values
    posterior = model.encode(real).latent_dist
    least = ACTIVE * model.prior.variance(model.latent_shape)
    values["active"] = (posterior.mean.var(dim=0) > least).float().mean().item()
    if batchnorms(model.decoder):
        values["batchnorm"] = batchnorm_gap(model, posterior, z) / max(spread / samples[0].numel() ** 0.5, 1e-12)
    if training is not None:
        errors = [sse(x, model(x).sample).mean().item() for x in (real, training)]
        values["heldout"] = errors[0] / max(errors[1], 1e-12)
    return values


@torch.no_grad()
def batchnorm_gap(model: Autoencoder, posterior: Posterior | PointCode, z: Tensor) -> float:
    """How far samples move when the averages of the decoder's BatchNorm are recomputed: rms, in units of the output.

    Recomputed over what training decodes, posterior samples alone or prior samples as well, whichever is nearer:
    running averages lie between the two, and a gap between posterior and prior is not a problem of BatchNorm.

    Args:
        posterior: of n >= 2 items.
        z: [n, *latent], draws of the prior: the samples, and the noise of a Gaussian posterior.
    """
    encoded = posterior.mean + posterior.std * z if isinstance(posterior, Posterior) else posterior.mean
    return min(disagreement(model.decoder, z, batches) for batches in ([encoded], [encoded, z]))


def _spread(x: Tensor) -> float:
    """Root of the total variance: [n, ...] -> distance units."""
    return x.flatten(1).var(dim=0).sum().sqrt().item()


def matrix_sizes(model: nn.Module) -> dict[str, float]:
    """The Euclidean norm of each network's weight matrices and kernels, by network."""
    return {
        name: sum(p.detach().square().sum().item() for p in net.parameters() if p.ndim > 1) ** 0.5
        for name, net in model.named_children()
    }
