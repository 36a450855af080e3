"""VEEGAN: its step against a transcription, known mistakes, and its runs."""

from typing import Any

import pytest
import reference_pairs
from relatives import STEPS, TOLERANCE, adams, apart, copied, drawn, model_of, objective_of, train

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = {"conv": ("conv", {}), "mlp": ("mlp", {}), "shuffle": ("shuffle", {"critic_norm": "batch"})}
WEIGHT = 0.7


def small(case: str, **arch: Any) -> tuple[Any, Any, str]:
    kind, networks = CASES[case]
    model = model_of("veegan", kind, **networks | arch)
    return model, objective_of("veegan", model, weight=WEIGHT), kind


def transcribed(model: Any, objective: Any, kind: str, mistake: str = "") -> list[dict[str, float]]:
    """Trains the model in place by the transcription; returns its curves."""
    optimizers, curves = adams(objective, model), []
    for number in range(STEPS):
        ((x, eps, z),) = drawn(objective, number, kind)
        curves.append(reference_pairs.veegan(model, optimizers, x, eps, z, weight=WEIGHT, mistake=mistake))
    return curves


@pytest.mark.parametrize("case", CASES)
def test_six_steps_are_the_transcriptions(case):
    ours, objective, kind = small(case)
    theirs = copied(ours)
    logged, expected = train(objective, ours, kind), transcribed(theirs, objective, kind)
    assert apart(ours, theirs) < TOLERANCE
    for a, b in zip(logged, expected, strict=True):
        assert {name: a[name] for name in b} == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_two_micro_batches_are_the_batch(case):
    ours, objective, kind = small(case, norm="none", critic_norm="none")
    parts = copied(ours)
    train(objective, ours, kind)
    train(objective, parts, kind, micro=2)
    assert apart(parts, ours) < TOLERANCE


@pytest.mark.parametrize("mistake", ["labels", "encoder fooled", "mean", "no noise", "softplus", "data"])
def test_known_mistakes_move_the_weights_elsewhere(mistake):
    ours, objective, kind = small("mlp")
    wrong = copied(ours)
    train(objective, ours, kind)
    transcribed(wrong, objective, kind, mistake)
    print(f"{mistake}: {apart(wrong, ours):.2g}")
    assert apart(wrong, ours) > 1e-4
