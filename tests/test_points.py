"""2-D point sets: the modes, cells, radii and noise of the published toy data."""

import math

import pytest
import torch
from torch import Tensor

from genzoo.data import find_entry, open_dataset
from genzoo.spec import DataConfig

N = 20_000
EXTENTS = {"8gaussians": 2, "25gaussians": 8, "2spirals": 4, "checkerboard": 4, "rings": 4}  # published


def _points(name: str, n: int = N, seed: int = 0) -> Tensor:
    return open_dataset(DataConfig(name=name)).draw(n, torch.Generator().manual_seed(seed))


def _published(name: str, n: int) -> Tensor:
    """The published samplers of the sets that are one formula (Soft-IntroVAE's `sample_2d_data`), in float64,
    transcribed.
    """
    g = torch.Generator().manual_seed(99)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=g, dtype=torch.float64)

    noise = torch.randn((n, 2), generator=g, dtype=torch.float64)
    if name == "2spirals":
        t = torch.sqrt(rand(n // 2)) * 540 * (2 * math.pi) / 360
        x, y = -torch.cos(t) * t + rand(n // 2) * 0.5, torch.sin(t) * t + rand(n // 2) * 0.5
        return torch.cat([torch.stack([x, y], 1), torch.stack([-x, -y], 1)]) / 3 + 0.1 * noise
    if name == "rings":
        t = torch.linspace(0, 2 * math.pi, n // 4 + 1, dtype=torch.float64)[:-1]
        circles = torch.cat([torch.stack([torch.cos(t), torch.sin(t)], 1) * r for r in (1.0, 0.75, 0.5, 0.25)]) * 3.0
        return circles[torch.randint(0, n, (n,), generator=g)] + 0.08 * noise
    x = rand(n) * 4 - 2
    y = rand(n) - torch.randint(0, 2, (n,), generator=g) * 2 + x.floor() % 2
    return torch.stack([x, y], 1) * 2


@pytest.mark.parametrize("name", EXTENTS)
@pytest.mark.parametrize("n", [0, 1, 7, 512])
def test_shape_and_type(name, n):
    points = _points(name, n)
    assert points.shape == (n, 2)
    assert points.dtype == torch.float32


@pytest.mark.parametrize("name", EXTENTS)
def test_all_randomness_comes_from_the_generator(name):
    torch.manual_seed(0)
    first = _points(name, 100, seed=3)
    torch.manual_seed(1)
    assert torch.equal(first, _points(name, 100, seed=3))
    assert not torch.equal(first, _points(name, 100, seed=4))
    data, generator = open_dataset(DataConfig(name=name)), torch.Generator().manual_seed(3)
    data.draw(100, generator)
    assert not torch.equal(first, data.draw(100, generator))  # endless: the stream goes on


@pytest.mark.parametrize("name", EXTENTS)
def test_points_lie_within_the_extent_and_balance_around_zero(name):
    points = _points(name)
    assert points.abs().max() < EXTENTS[name] + 1e-6
    assert (points.mean(0).abs() < 5 * points.std(0) / math.sqrt(N)).all()


def test_extents_are_the_published_ones():
    assert {name: find_entry(name).extent for name in EXTENTS} == EXTENTS


@pytest.mark.parametrize(
    ("name", "centers", "sigma"),
    [
        (
            "8gaussians",
            [(2 * math.cos(k * math.pi / 4) / 1.414, 2 * math.sin(k * math.pi / 4) / 1.414) for k in range(8)],
            0.02 / 1.414,
        ),
        (
            "25gaussians",
            [(2 * i / 2.828 * 2, 2 * j / 2.828 * 2) for i in range(-2, 3) for j in range(-2, 3)],
            0.05 / 2.828 * 2,
        ),
    ],
)
def test_modes(name, centers, sigma):
    distance, mode = torch.cdist(_points(name), torch.tensor(centers)).min(1)
    assert distance.max() < 6 * sigma
    assert distance.square().mean().sqrt().item() == pytest.approx(sigma * math.sqrt(2), rel=0.02)
    share = mode.bincount(minlength=len(centers)) / N
    expected = 1 / len(centers)
    assert (share - expected).abs().max() < 5 * math.sqrt(expected / N)


def test_checkerboard_fills_its_dark_cells_and_no_others():
    cells = (_points("checkerboard") / 2).floor().long()
    assert (cells.sum(1) % 2 == 0).all()
    share = ((cells[:, 0] + 2) * 4 + cells[:, 1] + 2).bincount(minlength=16) / N
    assert (share[share > 0] - 1 / 8).abs().max() < 0.012
    assert (share > 0).sum() == 8


def test_rings_have_four_radii():
    points = _points("rings")
    radii = torch.tensor([0.75, 1.5, 2.25, 3.0])
    off, ring = (points.norm(dim=1, keepdim=True) - radii).abs().min(1)
    assert off.square().mean().sqrt().item() == pytest.approx(0.08, rel=0.03)
    assert (ring.bincount(minlength=4) / N - 0.25).abs().max() < 0.015
    quadrant = (points > 0).long() @ torch.tensor([1, 2])
    assert (quadrant.bincount(minlength=4) / N - 0.25).abs().max() < 0.015


def test_spirals_have_two_equal_arms():
    points = _points("2spirals", 1001)
    torch.manual_seed(0)
    nearest = (
        torch.cdist(points, _published("2spirals", 8000).float()).min(1).indices
    )  # the second half is the second arm
    assert abs((nearest < 4000).sum().item() - 500.5) < 25


@pytest.mark.parametrize("name", ["2spirals", "checkerboard", "rings"])
def test_same_histogram_as_the_published_formula(name):
    def histogram(points: Tensor) -> Tensor:
        cells = ((points.double() + EXTENTS[name]) / (2 * EXTENTS[name]) * 20).floor().clamp(0, 19).long()
        return (cells[:, 0] * 20 + cells[:, 1]).bincount(minlength=400).double()

    ours, theirs = histogram(_points(name, 100_000)), histogram(_published(name, 100_000))
    seen = ours + theirs > 0
    chi_square = ((ours - theirs).square() / (ours + theirs))[seen].sum().item()
    freedom = seen.sum().item() - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)
