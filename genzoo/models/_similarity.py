"""The distance of AS-IntroVAE (Lu et al., ACML 2022, arXiv 2206.13903) between the posteriors of reconstructions and of
samples, and the share that the KL has beside it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from genzoo.duration import Duration, in_images
from genzoo.errors import UsageError
from genzoo.objective import Progress, detached
from genzoo.priors import Prior

Posteriors = tuple[Tensor, Tensor]  # mean and log-variance, two [N, *latent]


def refuse_distance(distance: str, form: str, prior: Prior) -> None:
    """Refuses the distance where one of the two kinds of generated images does not count, or where latents are not
    around N(0, I).

    Raises:
        UsageError: that is so.
    """
    if distance == "as" and form != "official":
        raise UsageError(
            f"objective.distance=as compares reconstructions with samples, and objective.form={form} judges samples "
            "only: set objective.form=official, or leave it out."
        )
    if distance == "as" and prior.learned:
        raise UsageError(
            "objective.distance=as squashes latents into (-1, 1), where N(0, I) has most of its mass, and the "
            f"components of arch.prior={prior.kind} may lie elsewhere: leave one of the two out."
        )


def adversarial_similarity(a: Posteriors, b: Posteriors) -> Tensor:
    """Mean of k(a, a) + k(b, b) - 2 k(a, b) over all pairs of items and over latent dimensions: a scalar, 0 for a = b.

    k(i, j) = exp(-(mu_i - mu_j)^2 / (2 (v_i + v_j))) / sqrt(v_i + v_j) per dimension, where means and log-variances are
    squashed by tanh. An item is paired with itself, too, as in the published code.
    """
    squashed_a, squashed_b = ([torch.tanh(part).flatten(1) for part in posteriors] for posteriors in (a, b))
    return _kernel(squashed_a, squashed_a) + _kernel(squashed_b, squashed_b) - 2 * _kernel(squashed_a, squashed_b)


def _kernel(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Mean of k over pairs and dimensions of two squashed posteriors, [N, Z] each."""
    (mu, logvar), (other_mu, other_logvar) = a, b
    variance = logvar.exp()[:, None] + other_logvar.exp()
    return (torch.exp(-0.5 * (mu[:, None] - other_mu).square() / variance) * variance.rsqrt()).mean()


def annealed_scores(
    kls: Sequence[Tensor], posteriors: Sequence[Posteriors], c: Tensor, share: float
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """c KL + (1 - c) share dis of reconstructions and of samples, in place of the two KLs; and the curves of dis and c.

    Args:
        kls: of both kinds, [N] or means.
        posteriors: of both kinds, which dis compares.
        c: 0-d, see `annealing`.
        share: 1 for the encoder, 1/2 for the decoder, which averages over both kinds.
    """
    distance = adversarial_similarity(*posteriors)
    curves = detached({"similarity/distance": distance, "similarity/annealing": c})
    return [c * kl + (1 - c) * share * distance for kl in kls], curves


def annealing(at: Progress, warmup: Duration, like: Tensor) -> Tensor:
    """c = tanh(5 t / T), 0-d: t is what has passed of adversarial training, and T its length.

    The published code has no warm-up; that adversarial training begins with c = 0 after one is ours.
    """
    begun = in_images(warmup, batch=at.batch * at.parts, epoch=at.epoch_nimg, total=at.total_nimg) / at.total_nimg
    return torch.tanh(like.new_zeros(()) + 5 * (at.share - begun) / (1 - begun))
