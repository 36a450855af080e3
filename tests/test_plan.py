"""`--dry-run`: its estimate of memory against what tensors a real step makes, against what was measured, and its
advice.
"""

import importlib.util

import numpy as np
import pytest
import torch
from helpers import ROOT, tiny_run

from genzoo import Trainer, resolve
from genzoo.items import Items
from genzoo.training.memory import LiveBytes
from genzoo.training.plan import LIBRARIES, estimate, plan

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = ("objective.recompute=true", "train.checkpointing=true", "train.accumulate=2", "train.ema=0")
DEEP = ("data.size=32x32", "arch.channels=4,8")


def test_live_bytes_are_those_of_storages_alive():
    live = LiveBytes()
    weight = torch.zeros(100)
    live.count([weight, weight.view(10, 10)])
    assert live.now == 400
    with live:
        a = torch.zeros(1000)
        b = a.view(10, 100)[:5].relu_()  # the same storage
        assert live.now == 400 + 4000
        del a
        assert live.now == 400 + 4000  # b holds it
        c = b + 1
        del b
        assert (live.now, live.peak) == (400 + 2000, 400 + 6000)
    del c, weight
    assert (live.now, live.peak) == (0, 6400)


def made(trainer: Trainer) -> int:
    """The most bytes that the tensors of a real second step take at once."""
    batch = trainer.dataset.batch(np.arange(trainer.config.train.batch))
    trainer.step = 10
    trainer.train_step([Items(batch)], trainer.progress)
    live = LiveBytes()
    live.count(trainer.model.state_dict().values())
    live.count(
        value
        for optimizer in trainer.optimizers.values()
        for state in optimizer.state.values()
        for value in state.values()
    )
    live.count(trainer.ema.state_dict().values() if trainer.ema else ())
    before = live.now
    with live:
        trainer.train_step([Items(batch + 0)], trainer.progress)  # + 0: made within the count
    return live.peak - before


@pytest.mark.parametrize(
    ("model", "options"),
    [
        *(
            (model, options)
            for model in ("introvae", "softintrovae")
            for options in ((), OPTIONS[:1], OPTIONS[1:2], OPTIONS)
        ),
        *(("vae", options) for options in ((), OPTIONS[1:2], OPTIONS[1:])),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_the_estimate_counts_what_a_step_makes(model, options):
    run = tiny_run(model, *DEEP, *options)
    assert estimate(run).step == pytest.approx(made(Trainer(run, out="run")), rel=0.02)


@pytest.fixture(scope="module")
def whole():
    return estimate(tiny_run("introvae", *DEEP))


@pytest.mark.parametrize("option", OPTIONS)
def test_what_saves_memory_lowers_the_estimate(option, whole):
    part = estimate(tiny_run("introvae", *DEEP, option))
    assert part.total < whole.total
    assert (part.kept < whole.kept) == (option == "train.ema=0")


def test_what_is_kept():
    """Weights, two moments and the average, which has BatchNorm's buffers too, as the model has."""
    run = tiny_run("introvae")
    model = Trainer(run, out="run").model
    state = sum(value.nbytes for value in model.state_dict().values())
    weights = sum(p.nbytes for p in model.parameters())
    needs = estimate(run)
    assert needs.kept == 2 * state + 2 * weights
    assert needs.total > needs.kept + needs.step + LIBRARIES


def test_a_run_too_large_for_this_machine_gets_advice_on_what_to_set():
    run = resolve("introvae", settings=["data.size=64x64", "arch.channels=4", "arch.z_dim=4", "train.batch=1000000"])
    lines = plan(run).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("this machine has"))
    assert [line.split("  ")[-1] for line in lines[at + 1 : at + 4]] == [
        "--set objective.recompute=true",
        "--set train.checkpointing=true",
        "--set objective.recompute=true --set train.checkpointing=true",
    ]
    assert "this machine has" not in plan(tiny_run("introvae"))


def test_points_and_trunks_have_an_estimate_too():
    points = tiny_run("introvae", "data.name=8gaussians", "arch.encoder=mlp", "arch.decoder=mlp")
    trunk = tiny_run("introvae", "arch.encoder=timm:test_resnet", "data.size=32x32")
    assert 0 < estimate(points).step < estimate(trunk).step


def benchmark():
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("an sdist has no benchmarks")
    spec = importlib.util.spec_from_file_location("memory_benchmark", ROOT / "benchmarks" / "memory" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_estimate_is_within_a_fifth_of_what_was_measured():
    """For the small rows of benchmarks/memory; its README has all of them. At 32 x 32 and a batch of 32, the constants
    for libraries and the heap are most of the estimate, which is within 32 MiB there.
    """
    memory = benchmark()
    rows = [row for row in memory.rows() if row["side"] <= 64]
    assert rows
    for row in rows:
        needs = estimate(memory.configuration(row["side"], row["batch"], tuple(row["options"])))
        slack = 2**25 if (row["side"], row["batch"]) == (32, 32) else 0
        assert needs.total == pytest.approx(row["peak_bytes"], rel=0.2, abs=slack), row


def test_a_plan_warns_of_a_run_that_ends_in_its_warm_up():
    small = ("arch.channels=4", "arch.z_dim=4")
    plans = [plan(resolve("introvae", settings=[f"train.duration={n}", *small])) for n in ("10k", "20k", "2ep")]
    warned = "warning: the run ends after 10,000 images, in its warm-up of 18,000: no adversarial training; train for "
    assert plans[0].splitlines()[-1].startswith(f"{warned}longer, --images 36000, or shorten the warm-up of a new run")
    assert not any("warning" in text for text in plans[1:])
