"""The plain VAE's update: the baseline, and the warm-up of every introspective model."""

from torch import Tensor

from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.models.autoencoder import Autoencoder
from genzoo.objective import Step, Update, detached


def elbo_step(
    nets: Autoencoder, x: Tensor, eps: Tensor, *, beta_rec: float, beta_kl: float, seen: Tensor | None = None
) -> Step:
    """One update of encoder and decoder on beta_rec * SSE + beta_kl * KL; the encoder gets `seen` in place of x."""
    mu, logvar = nets.encoder(x if seen is None else seen)
    error = sse(x, nets.decoder(reparameterize(mu, logvar, eps))).mean()
    kl_real = kl_to_prior(mu, logvar)
    loss = beta_rec * error + beta_kl * kl_real.mean()
    logs = {"loss/elbo": loss, **kl_logs("real", kl_real), "error/sse": error}
    yield Update(("encoder", "decoder"), loss, detached(logs))


def kl_logs(items: str, kl: Tensor) -> dict[str, Tensor]:
    """Mean and standard deviation over a micro-batch of the KL per item, [N], as `kl/<items>` and `spread/<items>`."""
    return {f"kl/{items}": kl.mean(), f"spread/{items}": kl.detach().std(correction=0)}
