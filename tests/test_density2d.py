"""The 2-D metrics against numpy's histograms, the published formulas and distributions whose divergence is known."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div

from genzoo.data import find_entry, open_dataset
from genzoo.metrics import density2d
from genzoo.noise import generator
from genzoo.spec import DataConfig


def published(real, fake, extent):
    """FACTS of the published code: density histograms, log(hist + 1e-14), batchmean; JSD from the two halves."""
    edges = [[-extent, extent]] * 2
    p, q = (torch.tensor(np.histogram2d(*x.numpy().T, bins=100, density=True, range=edges)[0]) for x in (real, fake))
    kl = kl_div(torch.log(q + 1e-14), p, reduction="batchmean").item()
    halves = [kl_div(torch.log(h + 1e-14), 0.5 * (p + q), reduction="batchmean").item() for h in (p, q)]
    return kl, sum(halves) / 2


@pytest.mark.parametrize("name", ["8gaussians", "rings"])
def test_raw_forms_are_the_published_ones(name):
    real, fake = (open_dataset(DataConfig(name=name)).draw(5000, generator(seed, "points")) for seed in (0, 1))
    fake = fake + 0.05 * torch.randn(fake.shape, generator=generator(2, "blur"))
    extent = find_entry(name).extent
    kl, jsd = published(real.double(), fake.double(), extent)
    assert density2d.kl_raw(real, fake, extent) == pytest.approx(kl, rel=1e-9)
    assert density2d.jsd_raw(real, fake, extent) == pytest.approx(jsd, rel=1e-9)


def test_histogram_counts_everything_once():
    points = torch.tensor([[-2.0, -2.0], [2.0, 2.0], [0.0, 0.0], [2.1, 0.0], [0.0, -50.0]])
    counts, outside = density2d.histogram(points, 2.0, bins=4)
    assert outside == 2 and counts.sum() == 3 and counts[0, 0] == counts[3, 3] == counts[2, 2] == 1


def test_the_corrected_kl_is_in_nats():
    """Uniform on the square against uniform on its left half: KL = log 2."""
    n = 2_000_000
    square = torch.rand(n, 2, generator=generator(0, "a")) * 2 - 1
    half = torch.rand(n, 2, generator=generator(0, "b")) * torch.tensor([1.0, 2.0]) - 1
    assert density2d.kl(half, square, 1.0) == pytest.approx(math.log(2), abs=0.02)
    mixture = {"left": 0.75, "right": 0.25}
    expected = 0.5 * (0.5 * math.log(0.5 / mixture["left"]) + 0.5 * math.log(0.5 / mixture["right"])) + 0.5 * math.log(
        1 / mixture["left"]
    )
    assert density2d.jsd(half, square, 1.0) == pytest.approx(expected, abs=0.01)


def test_points_outside_the_square_cost_in_the_corrected_form_only():
    real = torch.rand(20_000, 2, generator=generator(0, "a")) * 2 - 1
    fake = torch.rand(20_000, 2, generator=generator(1, "a")) * 2 - 1
    strayed = torch.cat([fake, torch.full((20_000, 2), 9.0)])
    assert density2d.kl_raw(real, strayed, 1.0) == density2d.kl_raw(real, fake, 1.0)
    assert density2d.kl(real, strayed, 1.0) > density2d.kl(real, fake, 1.0) + 0.5


def test_grid_elbo_of_a_known_density():
    """Energy |x|^2 / 2 is a standard normal: -log p has mean 1 + log(2 pi) on its own samples."""
    real = torch.randn(200_000, 2, generator=generator(0, "normal"))
    found = density2d.grid_elbo(lambda x: x.square().sum(dim=1) / 2, real, 8.0, n_grid=256)
    assert found["nll_grid"] == pytest.approx(1 + math.log(2 * math.pi), abs=0.01)


def test_gnelbo_is_the_published_quotient():
    real = open_dataset(DataConfig(name="8gaussians")).draw(300, generator(0, "points"))
    line = torch.linspace(-2, 2, 32)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(-1, 2)
    energy = lambda x: (x - 0.3).square().sum(dim=1) + 0.1  # noqa: E731
    everything = torch.cat([energy(grid), energy(real)]).double().sum()
    expected = (energy(real).double() / everything).mean().item()
    assert density2d.grid_elbo(energy, real, 2.0, n_grid=32)["gnelbo_raw"] == pytest.approx(expected, rel=1e-6)
