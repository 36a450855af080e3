"""Each problem is caused on purpose in the smallest run that shows it, and is the first that is named; healthy runs
stay silent.
"""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import same, tiny_run, weights
from PIL import Image

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import open_dataset
from genzoo.data.sets import ArraySet
from genzoo.models.introvae.objective import IntroVAEObjective
from genzoo.models.introvae.presets import IntroVAEConfig
from genzoo.objective import Spaces
from genzoo.runs.folder import RunFolder
from genzoo.signs import View
from genzoo.training import monitor
from genzoo.training.monitor import Monitor, Watch, diagnose, patience, read_findings
from genzoo.training.rules import batchnorm_mismatch

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = [
    "data.size=8x8", "arch.channels=8", "arch.z_dim=4", "train.batch=16", "train.lr=1e-3", "train.ema=0.9",
    "train.duration=80it", "train.snapshot_every=25%", "train.log_every=5", "train.prior=normal",
]  # fmt: skip
WARMUP = "objective.warmup=5it"
HEALTHY = {
    "vae": ["objective.beta=0.2", "objective.beta_rec=1"],
    "introvae": [WARMUP, "objective.margin=20", "objective.beta=10"],
    "softintrovae": [WARMUP, "objective.beta_kl=0.2", "objective.beta_rec=1", "objective.beta_neg=8"],
}


@pytest.fixture(scope="module", autouse=True)
def impatient():
    """Runs of 80 steps: a symptom counts after 12."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "SHORTEST", 12)
        yield


def trained(model, *settings, inject=None, change=None, out="run", data="digits"):
    """Trains and returns the findings; `inject` changes the trainer before, `change` the images, float [n, C, H, W]."""
    config = genzoo.resolve(model, data=data, settings=[*TINY, *HEALTHY[model], *settings])
    dataset = changed(open_dataset(config.data), change) if change else None
    trainer = Trainer(config, out=out, progress=False, dataset=dataset)
    if inject:
        inject(trainer)
    trainer.fit()
    return diagnose(Path(out))[0]


def changed(dataset, change):
    images = dataset.batch(range(dataset.size)).numpy().astype(np.float32) / 255
    return ArraySet("changed", "changed", np.moveaxis(change(images), 1, -1))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, impatient, one_thread):
    """`healthy(model)` is the folder of a healthy run, which is trained once."""

    @cache
    def folder(model):
        out = tmp_path_factory.mktemp("healthy") / "run"
        trained(model, out=out)
        return out

    return folder


@pytest.fixture(scope="module")
def sick(tmp_path_factory, impatient, one_thread):
    """The folder of a run whose margin is too small."""
    out = tmp_path_factory.mktemp("sick") / "run"
    trained("introvae", "objective.margin=0.1", out=out)
    return out


@pytest.mark.parametrize("model", ["vae", "introvae", "softintrovae"])
def test_a_healthy_run_stays_silent(model, healthy, capsys):
    assert diagnose(healthy(model))[0] == []
    assert main(["doctor", str(healthy(model))]) == 0
    assert "healthy" in capsys.readouterr().out


def test_a_run_that_is_too_short_is_not_called_healthy(capsys, monkeypatch):
    monkeypatch.setattr(monitor, "SHORTEST", 50)
    trainer = Trainer(tiny_run("introvae", "train.log_every=2"), out="run")
    trainer.fit()  # 12 steps, of which 2 are a warm-up; what the game does is looked at from step 4 + 100 + 50 on
    assert "too short to judge: after the last change of its losses, 142 more steps would be needed" in (
        trainer.watch.summary()
    )
    assert main(["doctor", "run"]) == 0
    assert "healthy" not in capsys.readouterr().out


@pytest.mark.parametrize("model", ["vae", "introvae", "softintrovae"])
def test_healthy_points_stay_silent(model, monkeypatch):
    monkeypatch.setattr(monitor, "SHORTEST", 50)  # as in real runs: it takes 100 steps until their samples spread
    settings = [
        "train.duration=150it",
        "train.batch=64",
        "arch.hidden=32,32",
        "train.log_every=5",
        "train.lr_drops=",
        "train.snapshot_every=20%",
    ]
    warmup = [] if model == "vae" else ["objective.warmup=20it"]
    Trainer(genzoo.resolve(model, data="rings", settings=[*settings, *warmup]), out="run", progress=False).fit()
    assert diagnose(Path("run"))[0] == []


@pytest.mark.parametrize(
    ("model", "settings", "problem", "figures"),
    [
        ("introvae", ["objective.margin=0.1"], "margin too small", "> m = 0.1, the hinge is not active"),
        ("introvae", ["objective.margin=5000"], "margin too large", "never comes near m = 5000"),
        (
            "softintrovae",
            ["objective.beta_neg=0.01", "objective.beta_rec=0.3"],
            "beta_neg too small",
            "the exponential is flat",
        ),
        ("softintrovae", ["objective.beta_neg=2000"], "beta_neg too large", "no adversarial signal"),
        (
            "introvae",
            ["train.lr=0.05", "train.snapshot_every=10it"],
            "learning rate too high",
            "the weights have grown",
        ),
        ("vae", ["objective.beta=100"], "posterior collapse", "carry nothing about the data"),
        ("vae", ["data.limit=4", "train.duration=120it", "train.lr=3e-3"], "overfit", "x that of training data"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_finding_is_the_problem(model, settings, problem, figures, capsys):
    findings = trained(model, *settings)
    assert findings[0].problem == problem
    assert figures in findings[0].text
    assert "objective." in findings[0].fix or "train." in findings[0].fix or "data." in findings[0].fix
    assert f"monitor: step {findings[0].began}: {problem}: " in capsys.readouterr().out


def test_batchnorm_whose_averages_stay_behind():
    def stuck(trainer):
        for model in (trainer.model, trainer.ema.module):
            for module in model.modules():
                if hasattr(module, "running_mean"):
                    module.momentum = 0.0

    assert trained("introvae", inject=stuck)[0].problem == "BatchNorm mismatch"


@pytest.mark.parametrize(
    ("change", "problem", "figures"),
    [
        (lambda x: x * 255, "wrong value range", "values from 0 to 255"),
        (lambda x: x * 2 - 1, "wrong value range", "values from -1 to 1"),
        (
            lambda x: np.broadcast_to(x[:1], x.shape).copy(),
            "constant data",
            "all 16 items of the first batch are the same",
        ),
        (
            lambda x: np.where(np.arange(len(x))[:, None, None, None] % 2, x, 0.5).astype(np.float32),
            "constant data",
            "have one color",
        ),
    ],
    ids=["0 to 255", "-1 to 1", "one image", "flat images"],
)
def test_bad_data_is_named_before_the_first_step(change, problem, figures):
    first = trained("introvae", "train.duration=4it", "train.snapshot_every=100%", change=change)[0]
    assert (first.problem, first.began) == (problem, 0)
    assert figures in first.text


def test_vectors_of_bytes_are_named():
    np.save("bytes.npy", np.random.default_rng(0).integers(0, 256, (64, 12)).astype(np.float32))
    settings = ["arch.encoder=mlp", "arch.decoder=mlp", "arch.hidden=8,8", "train.duration=4it", "train.batch=8"]
    settings += ["data.holdout=0"]
    Trainer(genzoo.resolve("vae", data="bytes.npy", settings=settings), out="run", progress=False).fit()
    assert diagnose(Path("run"))[0][0].problem == "wrong value range"


def introvae(margin):
    return IntroVAEObjective(IntroVAEConfig(margin=margin), Spaces((2,), (2,)))


def line(step, kl_fake, kl_real=5.0, **more):
    return {"step": step, "nimg": step, "loss/encoder": 1.0, "kl/real": kl_real, "kl/sample": kl_fake, **more}


def test_a_problem_begins_after_patience_and_ends_after_as_long():
    watching = Monitor(1000, introvae(10.0))
    assert watching.patience == patience(1000) == 20
    kls = [20.0 if 100 <= step < 300 else 8.0 for step in range(0, 600, 5)]
    events = [event for i, kl in enumerate(kls) for event in watching.observe(line(5 * i, kl))]
    begins, ends = events
    assert begins["problem"] == ends["problem"] == "margin too small"
    assert 120 <= begins["step"] <= 140
    assert 320 <= ends["step"] <= 340
    (found,) = read_findings(events)
    assert (found.began, found.ended) == (begins["step"], ends["step"])


def test_a_short_spike_and_the_first_steps_are_not_reported():
    for bad in (range(0, 40), range(200, 210)):
        watching = Monitor(1000, introvae(10.0))
        assert not [e for step in range(0, 600, 5) for e in watching.observe(line(step, 11.0 if step in bad else 8.0))]


def test_a_problem_that_causes_another_is_reported_alone():
    watching = Monitor(1000, introvae(4.0))
    events = [event for step in range(0, 600, 5) for event in watching.observe(line(step, 4.5, kl_real=30.0))]
    assert [event["problem"] for event in events] == ["margin too small"]


@pytest.mark.parametrize(("active", "named"), [(0.3, []), (0.02, ["margin too small"])])
def test_a_hinge_that_pushes_many_images_is_active_though_their_mean_is_above_it(active, named):
    watching = Monitor(1000, introvae(10.0))
    lines = (line(step, 10.5, **{"hinge/active": active}) for step in range(0, 600, 5))
    assert [event["problem"] for one in lines for event in watching.observe(one)] == named


def test_the_fix_names_the_setting_that_adjusts_itself():
    def fixes(**more):
        watching = Monitor(1000, introvae(10.0))
        return [event["fix"] for step in range(0, 600, 5) for event in watching.observe(line(step, 11.0, **more))]

    by_hand = "raise objective.margin above KL(real)"
    assert fixes() == [by_hand]
    assert fixes(**{"control/margin": 10.0}) == [
        f"objective.margin is auto and changes by itself, wait; if it does not end, {by_hand}"
    ]
    assert fixes(**{"control/beta_neg": 10.0}) == [by_hand]


def test_a_good_margin_that_the_encoder_overshoots_is_not_to_be_raised():
    watching = Monitor(1000, introvae(30.0))
    events = [event for step in range(0, 600, 5) for event in watching.observe(line(step, 80.0, kl_real=1.4))]
    assert [event["problem"] for event in events] == ["encoder runs away"]


def test_an_order_that_is_reversed_for_long():
    watching = Monitor(1000, introvae(10.0))
    events = [event for step in range(0, 600, 5) for event in watching.observe(line(step, 4.5, kl_real=30.0))]
    assert [event["problem"] for event in events] == ["order reversed"]


def test_averaged_weights_that_lag_and_a_decoder_of_one_image():
    for name, value, problem in (("average", 3.0, "average lags"), ("spread", 0.01, "decoder collapse")):
        watching = Monitor(1000, introvae(10.0))
        lines = [
            line(step, 5.0) if step % 50 else {"step": step, "nimg": step, f"vitals/{name}": value}
            for step in range(0, 600, 5)
        ]
        events = [event for one in lines for event in watching.observe(one)]
        assert [event["problem"] for event in events] == [problem]


def test_a_resumed_run_reports_the_same_events_once(sick):
    settings = ["objective.margin=0.1"]
    trained("introvae", *settings, "train.duration=60it", out="parts")
    trained("introvae", *settings, out="parts")
    whole, parts = (
        [json.loads(text) for text in Path(run, "events.jsonl").read_text().splitlines()] for run in (sick, "parts")
    )
    strip = [[event for event in events if event["kind"] != "run"] for events in (whole, parts)]
    assert strip[0] == strip[1] != []
    assert same(weights(sick), weights(Path("parts")))


def test_an_extended_run_reports_no_problem_twice():
    folder = RunFolder("run", tiny_run())
    folder.create()
    lines = [line(step, kl_fake=50.0) for step in range(0, 3000, 10)]
    for total, upto in ((2000, 200), (40_000, 300)):
        watch = Watch(folder, total, introvae(10.0))
        watch.begin(None)
        for new in lines[len(folder.log.read()) : upto]:
            folder.log.append(new)
            watch.observe(new)
    assert [finding.problem for finding in read_findings(folder.events.read())] == ["margin too small"]


def test_the_doctor_reads_a_run_that_had_no_monitor(sick, capsys):
    found = diagnose(shutil.copytree(sick, Path("run")))[0]
    Path("run/events.jsonl").unlink()
    assert diagnose(Path("run"))[0] == found
    assert main(["doctor", "run"]) == 1
    out = capsys.readouterr().out
    assert "margin too small" in out
    assert "raise objective.margin" in out


def test_the_doctor_refuses_what_is_not_a_run(capsys):
    Path("empty").mkdir()
    assert main(["doctor", "empty"]) == 2
    assert "contains no log.jsonl" in capsys.readouterr().err


@pytest.mark.rendered
def test_findings_are_marked_in_the_curves(sick):
    """Those of before the run was resumed, too."""
    shutil.copytree(sick, "sick")
    shutil.rmtree(f"sick/checkpoints/{80:09d}")
    trained("introvae", "objective.margin=0.1", out="sick")
    pixels = np.asarray(Image.open("sick/curves.png").convert("RGB")).astype(int)
    crimson = (abs(pixels - [220, 20, 60]).sum(axis=2) < 60).sum()
    assert crimson > 50


def test_vitals_are_in_the_log_and_about_one(healthy):
    lines = [json.loads(text) for text in (healthy("introvae") / "log.jsonl").read_text().splitlines()]
    vitals = [one for one in lines if "vitals/active" in one]
    assert len(vitals) == 4
    assert {name for name in vitals[0] if name.startswith("vitals/")} == {
        f"vitals/{name}" for name in ("active", "spread", "batchnorm", "heldout", "average", "growth")
    }
    assert all(0 <= value < 10 for one in vitals for name, value in one.items() if name.startswith("vitals/"))


def test_measuring_vitals_changes_no_weight():
    """The same run, with and without snapshots on the way."""
    trained("introvae", "train.duration=8it", "train.snapshot_every=3it", out="many")
    trained("introvae", "train.duration=8it", "train.snapshot_every=8it", out="one")
    assert all(
        torch.equal(a, b) for a, b in zip(weights(Path("many")).values(), weights(Path("one")).values(), strict=True)
    )


@pytest.mark.parametrize(
    ("sizes", "named"), [((2.2, 1.6), False), ((1.6, 1.6), True), ((1.4, 2.0), True), ((0.9, 0.8), False)]
)
def test_a_disagreement_of_batchnorm_that_falls_by_itself_is_ignored(sizes, named):
    view = View({}, {}, tuple({"vitals/batchnorm": size} for size in sizes))
    assert (batchnorm_mismatch(view) is not None) == named
