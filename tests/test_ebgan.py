"""EBGAN: its step is the paper's, no known mistake is its own, what the monitor says of its margin, what it refuses."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import reference_ebgan as reference
import torch
from helpers import same, tiny_run, weights
from relatives import LR, STEPS, TOLERANCE, apart, copied, drawn, model_of, objective_of, train
from torch import nn

from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.signs import View
from genzoo.training.monitor import Monitor

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "ebgan"
MARGIN = {"conv": 4.0, "dcgan": 0.26, "mlp": 0.215}  # between the energies of the generated items
WEIGHT = 0.7  # of the pulling-away term, large enough to be seen


def transcribed(start: nn.Module, kind: str, mistake: str | None = None, **config: Any) -> tuple[nn.Module, list]:
    """A copy of the model that the transcription trained, and its curves."""
    model = copied(start)
    objective = objective_of(NAME, model, **config)
    opt_g, opt_c = (torch.optim.Adam(net.parameters(), lr=LR) for net in (model.decoder, model.critic))
    how = {"margin": objective.config.margin, "weight": objective.config.pull_away, "mistake": mistake}
    curves = []
    for step in range(STEPS):
        (b,) = drawn(objective, step, kind)
        curves.append(reference.iteration(model.decoder, model.critic, opt_g, opt_c, b.x, b.z, **how))
    return model, curves


@pytest.mark.parametrize(
    ("kind", "arch"), [("conv", {}), ("dcgan", {"critic_norm": "group", "output": "tanh"}), ("mlp", {})]
)
def test_step_is_the_papers(kind: str, arch: dict[str, Any]):
    """Weights, BatchNorm's buffers and curves after six iterations are the transcription's."""
    config = {"margin": MARGIN[kind], "pull_away": WEIGHT}
    model = model_of(NAME, kind, **arch)
    theirs, expected = transcribed(model, kind, **config)
    start = copied(model)
    curves = train(objective_of(NAME, model, **config), model, kind)
    assert apart(model, theirs) < TOLERANCE
    assert min(apart(model.decoder, start.decoder), apart(model.critic, start.critic)) > LR
    for got, want in zip(curves, expected, strict=True):
        assert got == pytest.approx(want, rel=1e-8)
    active = [curve["hinge/active"] for curve in curves]
    assert 0 < sum(active) < len(active)  # both sides of the margin were met


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_two_micro_batches_are_the_batch(kind: str):
    whole, parts = (model_of(NAME, kind, norm="none") for _ in range(2))
    for model, micro in ((whole, 1), (parts, 2)):
        train(objective_of(NAME, model, margin=MARGIN[kind], pull_away=WEIGHT), model, kind, micro=micro)
    assert apart(parts, whole) < TOLERANCE


@pytest.mark.parametrize("mistake", reference.MISTAKES)
def test_known_mistake_is_not_ours(mistake: str):
    config = {"margin": MARGIN["mlp"], "pull_away": WEIGHT}
    model = model_of(NAME, "mlp")
    theirs, _ = transcribed(model, "mlp", mistake, **config)
    train(objective_of(NAME, model, **config), model, "mlp")
    distance = apart(model, theirs)
    print(f"{mistake}: {distance:.2g}")
    assert distance > 1e-3


def test_without_the_weight_there_is_no_pulling_away():
    model, theirs = model_of(NAME), None
    theirs, _ = transcribed(model, "conv", "no pulling-away", margin=MARGIN["conv"])
    curves = train(objective_of(NAME, model, margin=MARGIN["conv"]), model)
    assert apart(model, theirs) < TOLERANCE
    assert "similarity/codes" not in curves[0]


def view(m: float, real: float, fake: float, active: float) -> View:
    return View({"energy/real": real, "energy/sample": fake, "hinge/active": active}, {"energy": m})


@pytest.mark.parametrize(
    ("curves", "problem", "words"),
    [
        (
            view(1, 2, 3, 0.0),
            "margin too small",
            "m = 1 lies below the energies, 2 of data and 3",
        ),
        (
            view(30, 1, 2, 1.0),
            "margin too large",
            "m = 30 lies far above the energies, 1 of data and 2",
        ),
        (view(5, 1, 2, 1.0), None, ""),  # the hinge is always active, and the margin within reach
        (view(2, 1, 2, 0.5), None, ""),
        (View({"loss/critic": 1.0}, {"energy": 2}), None, ""),
    ],
)
def test_the_monitor_names_a_margin_outside_the_energies(curves: View, problem: str | None, words: str):
    rules = objective_of(NAME, model_of(NAME)).signs
    found = {rule.problem: text for rule in rules if (text := rule.symptom(curves)) is not None}
    assert list(found) == ([problem] if problem else [])
    assert words in found.get(problem, "")


def test_the_monitor_reads_the_margin_and_advises_what_the_model_has():
    """No advice about reconstructions or KLs, which there are none of."""
    objective = objective_of(NAME, model_of(NAME), margin=0.01)
    monitor = Monitor(1000, objective)
    line = {"nimg": 0, "loss/critic": 1.0, "energy/real": 2.0, "energy/sample": 3.0, "hinge/active": 0.0}
    alike = {"vitals/spread": 0.01}
    events = [event for step in range(400) for event in monitor.observe(line | alike | {"step": step})]
    fixes = {event["problem"]: event["fix"] for event in events}
    assert set(fixes) == {"margin too small", "decoder collapse"}
    assert fixes["decoder collapse"] == "lower train.lr, or raise objective.pull_away"
    assert "objective.margin" in fixes["margin too small"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache) -> Path:
    """A run of six steps, with checkpoints at the third and the last."""
    settings = ["train.duration=48", "train.snapshot_every=50%"]
    return Trainer(tiny_run(NAME, *settings), out=tmp_path_factory.mktemp("runs") / NAME, progress=False).fit()


def test_a_run_resumes_to_the_same_bits_and_cannot_encode(run, tmp_path, capsys):
    begun = tmp_path / "begun"
    shutil.copytree(run, begun)
    steps = sorted(path.name for path in (begun / "checkpoints").iterdir())
    assert len(steps) == 2
    shutil.rmtree(begun / "checkpoints" / steps[-1])
    assert main(["train", "--resume", str(begun)]) == 0
    assert same(weights(run), weights(begun))
    capsys.readouterr()
    assert main(["encode", str(begun)]) == 2
    assert "holds a EBGAN, which has no encoder" in capsys.readouterr().err


def test_a_compiled_step_is_the_eager_one(monkeypatch):
    monkeypatch.setattr("genzoo.training.iteration.COMPILER", None)
    settings = ("train.duration=3it", "train.snapshot_every=100%", "arch.hidden=8,8", "train.batch=16")
    found = []
    for compiled in ("false", "true"):
        config = resolve(NAME, data="8gaussians", settings=[*settings, f"train.compile={compiled}"])
        trainer = Trainer(config, out=compiled, progress=False)
        trainer.fit()
        found.append(trainer.model)
    assert apart(*found) < 1e-6


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("ebgan.toyfaces32 --set objective.margin=0", "objective.margin"),
        ("ebgan.toyfaces32 --set objective.pull_away=-1", "objective.pull_away"),
        (
            "ebgan.toyfaces32 --set train.batch=1 --set arch.norm=none",
            "objective.pull_away compares the items of a batch: set",
        ),
        ("ebgan.8gaussians --set arch.encoder=conv", "Convolutions need images"),
    ],
)
def test_bad_input_gets_one_line(options: str, error: str, capsys):
    assert main(["train", *options.split(), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert error in said and len(said.splitlines()) == 1
