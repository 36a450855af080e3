"""ALI and BiGAN: their step against a transcription, known mistakes, their option, and their runs."""

from typing import Any

import pytest
import reference_pairs
from relatives import STEPS, TOLERANCE, adams, apart, copied, drawn, model_of, objective_of, train

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = {
    "ali-conv": ("conv", {"form": "ali"}),
    "ali-mlp": ("mlp", {"form": "ali"}),
    "bigan-dcgan": ("dcgan", {"form": "bigan", "output": "sigmoid", "critic_norm": "batch"}),
    "bigan-mlp": ("mlp", {"form": "bigan"}),
}


def small(case: str, **arch: Any) -> tuple[Any, Any, str]:
    kind, networks = CASES[case]
    model = model_of("ali", kind, **networks | arch)
    return model, objective_of("ali", model), kind


def transcribed(model: Any, objective: Any, kind: str, mistake: str = "") -> list[dict[str, float]]:
    """Trains the model in place by the transcription; returns its curves."""
    optimizers, curves = adams(objective, model), []
    for number in range(STEPS):
        ((x, eps, z_p),) = drawn(objective, number, kind)
        bigan = model.arch.form == "bigan"
        curves.append(reference_pairs.ali(model, optimizers, x, eps, z_p, bigan=bigan, mistake=mistake))
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


@pytest.mark.parametrize(
    ("case", "mistake"),
    [
        ("ali-mlp", "p only"),
        ("ali-mlp", "saturating"),
        ("ali-mlp", "one noise"),
        ("ali-mlp", "variance"),
        ("ali-mlp", "critic first"),
        ("bigan-mlp", "helps"),
    ],
)
def test_known_mistakes_move_the_weights_elsewhere(case, mistake):
    ours, objective, kind = small(case)
    wrong = copied(ours)
    train(objective, ours, kind)
    transcribed(wrong, objective, kind, mistake)
    print(f"{case} {mistake}: {apart(wrong, ours):.2g}")
    assert apart(wrong, ours) > 1e-4
