"""VAE/GAN: its step against a transcription, known mistakes, its options, and its runs."""

from typing import Any

import pytest
import reference_vaegan
from relatives import STEPS, TOLERANCE, adams, apart, copied, drawn, model_of, objective_of, train

from genzoo.signs import View

pytestmark = pytest.mark.usefixtures("one_thread")

GAMMA = 0.05
CASES = {  # options of the objective, of the networks, and the transcription's depth
    "paper-conv": ("conv", {"form": "paper"}, {}, 2),
    "paper-mlp": ("mlp", {"form": "paper", "depth": 1}, {}, 1),
    "official-dcgan": ("dcgan", {"form": "official", "depth": 2}, {"critic_norm": "batch", "output": "tanh"}, 2),
    "official-mlp": ("mlp", {"form": "official"}, {}, 2),
    "gated-shuffle": ("shuffle", {"form": "paper", "gate": True, "equilibrium": 0.69, "margin": 0.05}, {}, 1),
}


def options_of(objective: Any, depth: int) -> dict[str, Any]:
    """What the transcription needs to know of a configuration."""
    c = objective.config
    official = c.form == "official"
    gate = official if c.gate is None else c.gate
    chosen = {"gamma": c.gamma, "depth": depth, "equilibrium": c.equilibrium, "margin": c.margin}
    return {**chosen, "official": official, "gate": gate}


def transcribed(model: Any, objective: Any, kind: str, depth: int, mistake: str = "") -> list[dict[str, float]]:
    """Trains the model in place by the transcription; returns its curves."""
    optimizers, curves = adams(objective, model), []
    for number in range(STEPS):
        ((x, eps, z_p),) = drawn(objective, number, kind)
        options = options_of(objective, depth)
        curves.append(reference_vaegan.iteration(model, optimizers, x, eps, z_p, mistake=mistake, **options))
    return curves


def small(case: str, **arch: Any) -> tuple[Any, Any, str, int]:
    kind, config, networks, depth = CASES[case]
    model = model_of("vaegan", kind, **networks | arch)
    return model, objective_of("vaegan", model, gamma=GAMMA, **config), kind, depth


@pytest.mark.parametrize("case", CASES)
def test_six_steps_are_the_transcriptions(case):
    ours, objective, kind, depth = small(case)
    theirs = copied(ours)
    logged, expected = train(objective, ours, kind), transcribed(theirs, objective, kind, depth)
    assert apart(ours, theirs) < TOLERANCE
    for a, b in zip(logged, expected, strict=True):
        assert {name: a[name] for name in b} == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_two_micro_batches_are_the_batch(case):
    ours, objective, kind, _ = small(case, norm="none", critic_norm="none")
    parts = copied(ours)
    train(objective, ours, kind)
    train(objective, parts, kind, micro=2)
    assert apart(parts, ours) < TOLERANCE


def test_the_monitor_knows_a_critic_that_wins():
    (rule,) = small("paper-mlp")[1].signs
    assert rule.symptom(View({"critic/sample": 0.01}, {})) is None
    assert rule.symptom(View({"kl/real": 1.0}, {})) is None
    assert "5e-06" in (rule.symptom(View({"critic/sample": 5e-6}, {})) or "")


MISTAKES = [
    ("paper-mlp", "helps"),
    ("paper-mlp", "cancels"),
    ("paper-mlp", "pixels"),
    ("paper-mlp", "mean"),
    ("official-mlp", "saturates"),
    ("paper-mlp", "critic learns features"),
    ("paper-mlp", "encoder fooled"),
    ("official-mlp", "moved"),
    ("gated-shuffle", "ungated"),
    ("paper-mlp", "no reconstructions"),
]


@pytest.mark.parametrize(("case", "mistake"), MISTAKES)
def test_known_mistakes_move_the_weights_elsewhere(case, mistake):
    ours, objective, kind, depth = small(case)
    wrong = copied(ours)
    train(objective, ours, kind)
    transcribed(wrong, objective, kind, depth, mistake)
    print(f"{case} {mistake}: {apart(wrong, ours):.2g}")
    assert apart(wrong, ours) > 1e-4
