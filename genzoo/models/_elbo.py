"""The plain VAE's update: the baseline, and the warm-up of every introspective model."""

from torch import Tensor

from genzoo.losses import reparameterize, sse
from genzoo.models.autoencoder import Autoencoder
from genzoo.nn.labeled import with_labels
from genzoo.nn.mixture import cooperating, learned_prior, prior_kl
from genzoo.objective import Step, Update, detached


def elbo_step(
    nets: Autoencoder,
    x: Tensor,
    eps: Tensor,
    labels: Tensor | None = None,
    *,
    beta_rec: float,
    beta_kl: float,
    normal: Tensor | None = None,
) -> Step:
    """One update of encoder, decoder and learned prior on beta_rec * SSE + beta_kl * KL, which is by Monte Carlo
    with `normal`, see `LearnedPrior.kl`.
    """
    prior = learned_prior(nets)
    mu, logvar = with_labels(nets.encoder, labels)(x)
    error = sse(x, with_labels(nets.decoder, labels)(reparameterize(mu, logvar, eps))).mean()
    kl_real = prior_kl(prior, mu, logvar, labels, normal)
    loss = beta_rec * error + beta_kl * kl_real.mean()
    logs = {"loss/elbo": loss, **kl_logs("real", kl_real), "error/sse": error}
    yield Update(("encoder", *cooperating(prior)), loss, detached(logs))


def kl_logs(items: str, kl: Tensor) -> dict[str, Tensor]:
    """Mean and standard deviation over a micro-batch of the KL per item, [N], as `kl/<items>` and `spread/<items>`."""
    return {f"kl/{items}": kl.mean(), f"spread/{items}": kl.detach().std(correction=0)}
