"""A learned prior: Gaussians over latents that are trained with the networks, one per class or in a mixture."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from genzoo.losses import kl_to_prior, reparameterize
from genzoo.objective import frozen

COMPONENTS = "components"  # its name among the networks of a model


class LearnedPrior(nn.Module):
    """p(z | k) = N(mu_k, diag exp l_k), and p(z) their mixture with equal weights.

    With classes, k is the class of an item (ours). Without, it is the mixture of Athanasiadis et al., "Prior Learning
    in Introspective VAEs" (TMLR 2025), with equal weights. A single component begins as N(0, I), several with means
    drawn from it.

    Args:
        components: their number K.
        latent: shape of a latent.
        classes: whether the components are those of classes.
        clipped: whether log-variances are softly clipped, see `hold_range`.
    """

    bounds: Tensor  # [2, Z], lowest and highest log-variance of the components
    held: Tensor  # 0-d int64, 1 where they clip

    def __init__(self, components: int, latent: tuple[int, ...], classes: bool = False, clipped: bool = False):
        super().__init__()
        self.components, self.classes, self.clipped = components, classes, clipped
        size = components * math.prod(latent)
        # Flat, as optimizers of matrices would take [K, Z] for the weights of a layer.
        self.means = nn.Parameter(torch.randn(size) if components > 1 else torch.zeros(size))
        self.logvars = nn.Parameter(torch.zeros(size))
        if clipped:
            self.register_buffer("bounds", torch.zeros(2, math.prod(latent)))
            self.register_buffer("held", torch.zeros((), dtype=torch.int64))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Returns the means and log-variances of the components, two [K, Z]."""
        logvars = self.logvars.view(self.components, -1)
        if self.clipped:
            logvars = torch.where(self.held > 0, softly_clipped(logvars, *self.bounds), logvars)
        return self.means.view(self.components, -1), logvars

    @torch.no_grad()
    def hold_range(self, hold: bool) -> None:
        """Called at the beginning of each step: the bounds follow the components' log-variances up to the first step
        with `hold`, and clip them from then on. Without `clipped` it does nothing.
        """
        if self.clipped:
            now = torch.stack(torch.aminmax(self.logvars.view(self.components, -1), dim=0))
            self.bounds.copy_(torch.where(self.held > 0, self.bounds, now))
            if hold:
                self.held.fill_(1)

    def place(self, normal: Tensor, k: Tensor) -> Tensor:
        """Moves N(0, I) draws [N, *latent] to the components k, int64 [N]; differentiable in both parameters."""
        means, logvars = self()
        spread = torch.exp(0.5 * logvars[k]) * normal.flatten(1)
        return (means[k] + spread).view_as(normal)

    def walk(self, normal: Tensor, components: Sequence[int], steps: int) -> Tensor:
        """Moves one N(0, I) draw, [*latent], from component to component in equal steps: [steps, *latent].

        Means and log-variances in between are interpolated linearly.
        """
        means, logvars = interpolated(torch.stack(self(), dim=1)[list(components)], steps).unbind(1)
        return (means + torch.exp(0.5 * logvars) * normal.flatten()).view(steps, *normal.shape)

    def kl(self, mu: Tensor, logvar: Tensor, labels: Tensor | None = None, normal: Tensor | None = None) -> Tensor:
        """KL of Gaussian posteriors, two [N, *latent], to p(z | k) of their classes, int64 [N], in nats: [N].

        Without classes, or without labels, it is that to the mixture. It has no closed form: this is the upper bound
        -log sum_k w_k exp(-KL(q || p_k)) (the variational approximation of Hershey & Olsen 2007), which is exact for
        one component. With `normal`, N(0, I) draws [N, M, *latent], it is the mean of log q(z) - log p(z) over these M
        posterior samples, unbiased (Monte Carlo, as the paper has it).
        """
        if normal is not None:
            z = reparameterize(mu[:, None], logvar[:, None], normal)
            log_q = -0.5 * (logvar[:, None] + normal.square()).flatten(2).sum(2)
            return (log_q - self._log_density(z.flatten(0, 1)).view_as(log_q)).mean(dim=1)
        if labels is None or not self.classes:
            return math.log(self.components) - torch.logsumexp(-self.kls(mu, logvar), dim=1)
        means, logvars = self()
        return gaussian_kl(mu.flatten(1), logvar.flatten(1), means[labels], logvars[labels])

    def kls(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """KL of Gaussian posteriors, two [N, *latent], to each component, in nats: [N, K]."""
        return self._cross_entropy(mu, logvar.exp()) - 0.5 * (1 + logvar).flatten(1).sum(1, keepdim=True)

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z) of latents [N, *latent]: [N, K]."""
        return torch.softmax(-self._cross_entropy(z, torch.zeros_like(z)), dim=1)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of latents under the mixture, of all classes where it has them: [N, *latent] -> [N], of z's type."""
        return self._log_density(z) - 0.5 * z[0].numel() * math.log(2 * math.pi)

    def _log_density(self, z: Tensor) -> Tensor:
        """log p(z) of the mixture, without the constant -Z/2 log(2 pi): [N, *latent] -> [N]."""
        joint = -self._cross_entropy(z, torch.zeros_like(z))
        return torch.logsumexp(joint, dim=1) - math.log(self.components)

    def _cross_entropy(self, mu: Tensor, var: Tensor) -> Tensor:
        """-E log p(z | k) for z ~ N(mu, var), two [N, *latent], without the constant Z/2 log(2 pi): [N, K].

        A product of matrices, so that nothing of size N x K x Z is made. Computed in the type of mu.
        """
        mu, var = mu.flatten(1), var.flatten(1)
        means, logvars = (parameter.to(mu.dtype) for parameter in self())
        precision = torch.exp(-logvars)
        squares = (mu.square() + var) @ precision.T - 2 * mu @ (precision * means).T
        return 0.5 * (squares + (precision * means.square() + logvars).sum(1))


def interpolated(rows: Tensor, steps: int) -> Tensor:
    """Moves linearly from row to row in equal steps, the first and the last included: [L, *], L > 1 -> [steps, *]."""
    along = torch.linspace(0, len(rows) - 1, steps, dtype=rows.dtype, device=rows.device)
    before = along.long().clamp(max=len(rows) - 2)
    return rows[before].lerp(rows[before + 1], (along - before).view(-1, *[1] * (rows.ndim - 1)))


def softly_clipped(x: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """x - softplus(x - highest) + softplus(lowest - x), [K, Z] by bounds [Z]: about x between them, and never beyond.

    The softplus is 1/b log(1 + exp(b x)) with b = 10 / (highest - lowest), as in the code of Athanasiadis et al. 2025.
    Where the bounds are equal, it is their value.
    """
    sharpness = 10 / (highest - lowest + 1e-8)
    over = functional.softplus(sharpness * (x - highest)) / sharpness
    under = functional.softplus(sharpness * (lowest - x)) / sharpness
    return torch.where(highest == lowest, highest, x - over + under)


def gaussian_kl(mu: Tensor, logvar: Tensor, other_mu: Tensor, other_logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(other_mu, exp(other_logvar))) in nats, four [N, Z] -> [N]."""
    scaled = (mu - other_mu) * torch.exp(-0.5 * other_logvar)
    return kl_to_prior(scaled, logvar - other_logvar)


def learned_prior(nets: nn.Module) -> LearnedPrior | None:
    """Returns the learned prior among a model's networks, None where the prior is N(0, I)."""
    found = getattr(nets, COMPONENTS, None)
    return found if isinstance(found, LearnedPrior) else None


def prior_kl(
    prior: LearnedPrior | None,
    mu: Tensor,
    logvar: Tensor,
    labels: Tensor | None = None,
    normal: Tensor | None = None,
) -> Tensor:
    """KL of Gaussian posteriors, two [N, *latent], to a prior, see `LearnedPrior.kl`; None stands for N(0, I): [N]."""
    return kl_to_prior(mu, logvar) if prior is None else prior.kl(mu, logvar, labels, normal)


def placed(prior: LearnedPrior | None, normal: Tensor, k: Tensor | None) -> Tensor:
    """Makes latents of N(0, I) draws, two [N, *latent]; a learned prior moves them to the components k, int64 [N]."""
    if prior is None:
        return normal
    assert k is not None, "drawn by genzoo.priors.Prior.draw_component"
    return prior.place(normal, k)


def fixed_prior(prior: LearnedPrior | None) -> AbstractContextManager[None]:
    """Freezes a learned prior, which is to follow the posteriors of real data only."""
    return nullcontext() if prior is None else frozen(prior)


def cooperating(prior: LearnedPrior | None) -> tuple[str, ...]:
    """Names what is trained with a decoder: itself and, where the prior is learned, its components."""
    return ("decoder",) if prior is None else ("decoder", COMPONENTS)
