"""How well a model fits a 2-D density: gnELBO, KL and JSD as published (Daniel & Tamar 2021), and KL and JSD in nats.

The published numbers are neither in nats nor invariant: densities are normalized over the square that is measured, then
summed and divided by the number of histogram rows, so that their KL is the divergence times 1 / (rows * area of a bin),
6.25 on 8gaussians; points outside the square do not count; and a bin that the samples miss costs log(1e-14). They are
kept for comparison with the paper as `*_raw`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div

from genzoo.metrics.inputs import Points
from genzoo.metrics.registry import Result, Value, metric
from genzoo.noise import generator

BINS = 100  # bins a side (published code)
FLOOR = 1e-14  # added to a density before its logarithm (published code)
PSEUDO_COUNT = 0.5  # of every bin, in the corrected form (Jeffreys' prior)
DRAWS = 10  # repeated draws of points
N_RAW, N_CORRECTED, N_GRID_DATA = 5_000, 50_000, 12_800  # points per draw; published, ours, published


def histogram(points: Tensor, extent: float, bins: int = BINS) -> tuple[Tensor, int]:
    """Counts points [N, 2] in a square of half-width `extent`; returns float64 [bins, bins] and the points outside."""
    inside = points.double().cpu()
    inside = inside[(inside.abs() <= extent).all(dim=1)]
    index = ((inside + extent) * (bins / (2 * extent))).long().clamp(max=bins - 1)  # right edges as in numpy
    counts = torch.bincount(index[:, 0] * bins + index[:, 1], minlength=bins * bins).double().view(bins, bins)
    return counts, len(points) - len(inside)


def _density(points: Tensor, extent: float) -> Tensor:
    counts, _ = histogram(points, extent)
    return counts / counts.sum() / (2 * extent / BINS) ** 2


def kl_raw(real: Tensor, fake: Tensor, extent: float) -> float:
    """KL(real || fake) of two point sets [N, 2] as the published code computes it, from 5,000 points each."""
    return kl_div((_density(fake, extent) + FLOOR).log(), _density(real, extent), reduction="batchmean").item()


def jsd_raw(real: Tensor, fake: Tensor, extent: float) -> float:
    """Half of KL(mixture || real) + KL(mixture || fake), with swapped arguments as in the published code."""
    p, q = _density(real, extent), _density(fake, extent)
    mixture = (p + q) / 2
    return 0.5 * sum(kl_div((density + FLOOR).log(), mixture, reduction="batchmean").item() for density in (p, q))


def kl(real: Tensor, fake: Tensor, extent: float) -> float:
    """KL(real || fake) in nats over the bins and one for all points outside; each has a pseudo-count of 0.5."""
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
def grid_elbo(
    energy: Callable[[Tensor], Tensor], real: Tensor, extent: float, n_grid: int = 1024, chunk: int = 2**14
) -> dict[str, float]:
    """Compares a model's ELBO on the data with its ELBO all over the square.

    Args:
        energy: points [n, 2] -> KL + SSE of each, deterministic z, [n]: the negative ELBO without weights.
        real: N points of the data, [N, 2]; 12,800 in the published code.
        extent: half-width of the square.
        n_grid: points a side.
        chunk: points passed to `energy` at once.

    Returns:
        gnelbo_raw: the published grid-normalized ELBO: mean energy of the data / sum over grid and data.
        nll_grid: mean of -log p over the data in nats, p = exp(-energy) normalized over the grid; data outside the
            square counts, too.
    """
    line = torch.linspace(-extent, extent, n_grid, device=real.device)
    on_grid = torch.cat([energy(part).double() for part in torch.cartesian_prod(line, line).split(chunk)])
    on_data = torch.cat([energy(part).double() for part in real.split(chunk)])
    log_z = torch.logsumexp(-on_grid, dim=0) + 2 * torch.log((line[1] - line[0]).double())
    return {
        "gnelbo_raw": (on_data.mean() / (on_grid.sum() + on_data.sum())).item(),
        "nll_grid": (on_data.mean() + log_z).item(),
    }


@metric(
    "density2d",
    inputs=Points,
    values={
        "gnelbo_raw": Value("gnELBO, raw", "lower"),
        "kl_raw": Value("KL, raw", "lower"),
        "jsd_raw": Value("JSD, raw", "lower"),
        "nll_grid": Value("-log p on the grid, nats", "lower"),
        "kl": Value("KL, nats", "lower"),
        "jsd": Value("JSD, nats", "lower"),
    },
    definition="gnELBO and nll_grid on a 1024 x 1024 grid and 12,800 points (models with a Gaussian encoder only); "
    "raw KL and JSD as in the published code, 10 draws of 5,000; KL and JSD in nats, 10 draws of 50,000 "
    "(genzoo/metrics/density2d.py).",
    examples=("density2d",),
)
def density2d_metric(points: Points) -> Result:
    """Repeats the draws; `*_floor` in the details is the same number between two draws of the data."""
    grid = {}
    if points.energy is not None:
        data = points.real(N_GRID_DATA, generator(points.seed, "eval grid"))
        grid = grid_elbo(points.energy, data, points.extent)
    draws: dict[str, list[float]] = {}
    floors: dict[str, list[float]] = {}
    for i in range(DRAWS):
        samples = generator(points.seed, f"eval samples {i}")
        for n, divergences in (
            (N_RAW, {"kl_raw": kl_raw, "jsd_raw": jsd_raw}),
            (N_CORRECTED, {"kl": kl, "jsd": jsd}),
        ):
            real, other = (points.real(n, generator(points.seed, f"eval {s} {i}")) for s in ("real", "floor"))
            fake = points.generate(n, samples)
            for name, divergence in divergences.items():
                draws.setdefault(name, []).append(divergence(real, fake, points.extent))
                floors.setdefault(f"{name}_floor", []).append(divergence(real, other, points.extent))
    spreads = {name: float(np.std(values, ddof=1)) for name, values in draws.items()}
    details = {
        "n_real": [N_RAW, N_CORRECTED, N_GRID_DATA],
        "n_fake": [N_RAW, N_CORRECTED],
        "draws": DRAWS,
        "extent": points.extent,
        **{name: float(np.mean(values)) for name, values in floors.items()},
    }
    return Result(grid | {name: float(np.mean(values)) for name, values in draws.items()}, spreads, details)
