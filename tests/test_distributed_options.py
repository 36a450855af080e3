"""Options on two processes: one pair goes through all of them, and its networks are those of one process."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import environment, same
from option_steps import ALL, ALL_NORMALIZED, OPTIONS, PLAIN, accelerator, cases, trained
from safetensors.torch import load_file
from torch import Tensor
from warm import ended

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-11  # of a weight, in float64: sums in another order
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def both(tmp_path_factory, warm) -> Path:
    """The folder with the networks that two processes ended each case with."""
    folder = tmp_path_factory.mktemp("both")
    code = "from option_steps import save_all; save_all()"
    for rank in ended(warm.on_two(["-c", code], folder, environment(OMP_NUM_THREADS="1"))):
        assert rank.returncode == 0, rank.stderr
    return folder


@pytest.fixture(scope="module")
def alone() -> Callable[[str, str], State]:
    """Trains a case in this process."""
    return cache(lambda model, case: trained(model, case, accelerator()))


def replicas(folder: Path, model: str, case: str) -> State:
    """What both processes ended with, after making sure that it is the same bits."""
    first, second = (load_file(folder / f"{model}-{case}-rank{rank}.safetensors") for rank in (0, 1))
    assert same(first, second)
    return first


def distance(a: State, b: State) -> float:
    if a.keys().isdisjoint(b):  # other networks
        return float("inf")
    return max((a[name] - b[name]).abs().max().item() for name in a.keys() & b.keys() if a[name].is_floating_point())


@pytest.mark.parametrize(("model", "case"), cases(ALL))
def test_two_processes_equal_one(both, alone, model, case):
    whole = alone(model, case)
    found = replicas(both, model, case)
    assert found.keys() == whole.keys()
    assert distance(found, whole) < TOLERANCE


@pytest.mark.parametrize(("model", "case"), [pair for pair in cases(ALL) if pair[1] != "recompute"])
def test_each_option_changes_the_steps(alone, model, case):
    """So the test above compares them."""
    assert distance(alone(model, case), alone(model, PLAIN)) > 1e4 * TOLERANCE


@pytest.mark.parametrize("model", OPTIONS)
def test_with_batchnorm_both_processes_have_the_same_bits(both, model):
    """Each normalizes by its own part of the batch."""
    assert all(torch.isfinite(value).all() for value in replicas(both, model, ALL_NORMALIZED).values())
