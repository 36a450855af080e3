"""How well a model fits a 2-D point set: Soft-IntroVAE's gnELBO, KL and JSD as its published code computes them, and as the words mean them.

The published numbers are neither in nats nor invariant: densities are normalised over the square that is measured, then summed and divided
by the number of histogram rows, so that its KL is the divergence times 1 / (rows * area of a bin), 6.25 on 8gaussians; points outside
the square vanish; and a bin that the samples miss costs log(1e-14). They are kept for comparison with the paper under `*_raw`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import kl_div

BINS = 100  # bins a side (published code)
FLOOR = 1e-14  # added to a density before its logarithm (published code)
PSEUDO_COUNT = 0.5  # of every bin, in the corrected form (Jeffreys' prior)


def histogram(points: Tensor, extent: float, bins: int = BINS) -> tuple[Tensor, int]:
    """Counts points [N, 2] in a square of half-width `extent`: float64 [bins, bins] and the number of points outside."""
    inside = points.double().cpu()
    inside = inside[(inside.abs() <= extent).all(dim=1)]
    place = ((inside + extent) * (bins / (2 * extent))).long().clamp(max=bins - 1)  # the last bin holds its right edge, as numpy's does
    counts = torch.bincount(place[:, 0] * bins + place[:, 1], minlength=bins * bins).double().view(bins, bins)
    return counts, len(points) - len(inside)


def _density(points: Tensor, extent: float) -> Tensor:
    counts, _ = histogram(points, extent)
    return counts / counts.sum() / (2 * extent / BINS) ** 2


def kl_raw(real: Tensor, fake: Tensor, extent: float) -> float:
    """KL(real || fake) of two point sets [N, 2] as Soft-IntroVAE's code reports it, for 5,000 points each and `extent` = 2 * scale."""
    return kl_div((_density(fake, extent) + FLOOR).log(), _density(real, extent), reduction="batchmean").item()


def jsd_raw(real: Tensor, fake: Tensor, extent: float) -> float:
    """Half of KL(mixture || real) + KL(mixture || fake), as Soft-IntroVAE's code has it: the arguments of each KL are exchanged."""
    p, q = _density(real, extent), _density(fake, extent)
    mixture = (p + q) / 2
    return 0.5 * sum(kl_div((density + FLOOR).log(), mixture, reduction="batchmean").item() for density in (p, q))


def kl(real: Tensor, fake: Tensor, extent: float) -> float:
    """KL(real || fake) in nats over the bins and one more for all that lies outside; every bin has half a pseudo-count."""
    p, q = _probabilities(real, extent), _probabilities(fake, extent)
    return _kl(p, q)


def jsd(real: Tensor, fake: Tensor, extent: float) -> float:
    """Jensen-Shannon divergence in nats, in [0, log 2], over the same bins as `kl`."""
    p, q = _probabilities(real, extent), _probabilities(fake, extent)
    mixture = (p + q) / 2
    return 0.5 * (_kl(p, mixture) + _kl(q, mixture))


def _probabilities(points: Tensor, extent: float) -> Tensor:
    counts, outside = histogram(points, extent)
    counts = torch.cat([counts.flatten(), counts.new_tensor([outside])]) + PSEUDO_COUNT
    return counts / counts.sum()


def _kl(p: Tensor, q: Tensor) -> float:
    return (p * (p / q).log()).sum().item()


@torch.no_grad()
def grid_elbo(energy: Callable[[Tensor], Tensor], real: Tensor, extent: float, n_grid: int = 1024, chunk: int = 2**14) -> dict[str, float]:
    """What a model's ELBO says of the data, against what it says of every place in the square.

    Args:
        energy: points [n, 2] -> KL + SSE of each, deterministic z, [n]: the negative ELBO without weights.
        real: N points of the data, [N, 2]; the published code takes 12,800.
        extent: half-width of the square.
        n_grid: points a side.
        chunk: points passed to `energy` at once.

    Returns:
        gnelbo_raw: Soft-IntroVAE's grid-normalised ELBO: mean energy of the data / sum over grid and data; lower is better.
        nll_grid: mean of -log p over the data in nats, p = exp(-energy) normalised over the grid (data outside the square counts too).
    """
    line = torch.linspace(-extent, extent, n_grid, device=real.device)
    on_grid = torch.cat([energy(part).double() for part in torch.cartesian_prod(line, line).split(chunk)])
    on_data = torch.cat([energy(part).double() for part in real.split(chunk)])
    log_z = torch.logsumexp(-on_grid, dim=0) + 2 * torch.log((line[1] - line[0]).double())
    return {"gnelbo_raw": (on_data.mean() / (on_grid.sum() + on_data.sum())).item(), "nll_grid": (on_data.mean() + log_z).item()}
