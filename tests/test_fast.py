"""`--fast` and settings that are `auto`: decided by timing, recorded, and found again; nothing is asked of the CPU."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import ROOT, TINY, as_options, same, tiny_run, weights

from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.configure import in_section
from genzoo.errors import UsageError
from genzoo.runs.folder import read_config
from genzoo.training.misfits import can_compile, may_pay_to_compile
from genzoo.training.timing import LIMIT_S, settled, torch_threads, try_ways, useful_threads, way

AUTO = ("train.precision=auto", "train.threads=auto", "train.compile=auto")


class Machine:
    """A clock, and steps that only advance it: by what each way costs on a machine that the test describes."""

    def __init__(self, cost):
        self.now, self.cost, self.made = 0.0, cost, list[str]()

    def clock(self) -> float:
        return self.now

    def rehearse(self, run):
        trainer = Trainer(run, out=f"rehearsal{len(self.made)}", progress=False)
        self.made.append(way(run.train))

        def step(parts, at):
            self.now += self.cost(run.train, at.step > 0)

        trainer.iteration = step
        return trainer


@pytest.fixture
def two_threads():
    with torch_threads(2):
        yield


def tried(cost, *settings: str, model: str = "introvae"):
    machine = Machine(cost)
    trials = try_ways(tiny_run(model, *AUTO, *settings), machine.rehearse, machine.clock)
    return trials, machine


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("bf16", "one_thread", "chosen"),
    [
        (0.5, 1.5, ("bf16", 2)),
        (0.5, 0.9, ("bf16", 1)),
        (2.0, 0.9, ("fp32", 1)),
        (2.0, 1.0, ("fp32", 2)),
        (0.98, 0.98, ("fp32", 2)),  # too little to be worth another rounding
    ],
)
def test_the_fastest_way_is_chosen(bf16, one_thread, chosen):
    def cost(c, late):
        return (0.3 if late else 0.1) * (bf16 if c.precision == "bf16" else 1) * (one_thread if c.threads == 1 else 1)

    trials, machine = tried(cost)
    assert (trials.settings["precision"], trials.settings["threads"]) == chosen
    assert trials.settings["compile"] is False
    assert machine.now < 1.5 * LIMIT_S
    assert str(trials).startswith("fp32, 2 threads: 100 ms a step in the warm-up, 300 ms later")
    assert str(trials).count("(chosen)") == 1


@pytest.mark.usefixtures("two_threads")
def test_late_steps_decide_as_much_as_early_ones():
    trials, _ = tried(lambda c, late: {("fp32", False): 0.1, ("fp32", True): 0.3, ("bf16", False): 0.05}.get(
        (c.precision, late), 0.5
    ))  # fmt: skip
    assert trials.settings["precision"] == "fp32"


@pytest.mark.usefixtures("two_threads")
def test_slow_steps_are_timed_once_and_other_ways_left_out():
    trials, machine = tried(lambda c, late: 20.0)
    assert machine.now == 40.0  # one early and one late step
    assert machine.made == ["fp32, 2 threads"]
    assert "other ways would take more than 5 s" in str(trials)
    assert trials.best.times.late == 20.0


@pytest.mark.usefixtures("two_threads")
def test_what_is_not_auto_is_left_alone():
    machine = Machine(lambda c, late: 0.1 if c.precision == "bf16" else 1.0)
    trials = try_ways(tiny_run("vae", "train.precision=auto", "train.threads=1"), machine.rehearse, machine.clock)
    assert machine.made == ["fp32, 1 thread", "bf16, 1 thread"]
    assert trials.settings["precision"] == "bf16"


def test_more_threads_are_used_only_where_they_help_one_convolution():
    class Busy:
        now = 0.0

        def __call__(self) -> float:
            self.now += 0.001 * torch.get_num_threads() ** 2
            return self.now

    class Idle(Busy):
        def __call__(self) -> float:
            self.now += 0.01 / torch.get_num_threads()
            return self.now

    assert [useful_threads(8, clock()) for clock in (Busy, Idle)] == [1, 8]


@pytest.mark.parametrize(
    ("model", "data", "settings", "able"),
    [
        ("vae", "rings", (), True),
        ("vae", "digits", (), False),
        ("vae", "rings", ("train.checkpointing=true",), False),
        ("softintrovae", "rings", ("objective.beta_neg=auto",), False),
    ],
)
def test_compiling_is_tried_for_perceptrons_and_where_a_step_can_be(model, data, settings, able, monkeypatch):
    run = resolve(model, data=data, settings=["arch.hidden=8", "train.batch=8", *settings])
    if data == "rings" and "train.checkpointing=true" in settings:
        objective = Trainer(resolve(model, data=data), out="run", progress=False).objective
    else:
        objective = Trainer(run, out="run", progress=False).objective
    cpu = torch.device("cpu")
    assert (can_compile(run.train, objective, 1) and may_pay_to_compile(run, cpu)) == able
    assert not can_compile(run.train, objective, world=2)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert not may_pay_to_compile(run, cpu)


def test_a_run_records_what_was_decided_and_resumes_with_it(capsys):
    config = tiny_run("vae", *AUTO)
    run = Trainer(config, out="run", progress=False).fit()
    assert "timed here: fp32, 1 thread:" in capsys.readouterr().out
    saved = read_config(run)
    assert saved is not None
    assert saved.train.precision in ("fp32", "bf16") and saved.train.threads == 1 and saved.train.compile is False
    assert "ms a step" in saved.notes[-1]
    again = Trainer(config, out="run", progress=False)
    assert again.config.train == saved.train
    assert "timed" not in capsys.readouterr().out


def test_what_was_recorded_is_taken_whatever_the_machine_is_now():
    other = {"precision": "bf16", "threads": 1, "compile": False}
    Trainer(in_section(tiny_run("vae"), "train", other), out="run", progress=False)

    def never(run, folder):
        raise AssertionError("timed again")

    found = settled(tiny_run("vae", *AUTO), Path("run"), never)
    assert {name: getattr(found.train, name) for name in other} == other
    with pytest.raises(UsageError, match="train.precision: bf16 -> fp32"):
        Trainer(tiny_run("vae"), out="run", progress=False)


def test_training_after_timing_equals_training_with_the_same_settings_by_hand():
    timed = Trainer(tiny_run("introvae", *AUTO), out="timed", progress=False)
    by_hand = replace(tiny_run("introvae"), train=timed.config.train)
    assert same(weights(timed.fit()), weights(Trainer(by_hand, out="hand", progress=False).fit()))


def test_threads_are_those_of_the_run_and_only_during_it(monkeypatch):
    seen = []
    trainer = Trainer(tiny_run("vae", "train.threads=1"), out="run", progress=False)
    step = trainer.train_step
    monkeypatch.setattr(trainer, "train_step", lambda *args: seen.append(torch.get_num_threads()) or step(*args))
    with torch_threads(2):
        trainer.fit()
        assert torch.get_num_threads() == 2
    assert set(seen) == {1}


def test_fast_is_short_for_auto(capsys):
    assert main(["train", "vae", *as_options(*TINY), "--fast", "--out", "run"]) == 0
    assert "timed here" in capsys.readouterr().out
    saved = read_config(Path("run"))
    assert saved is not None and saved.train.threads is not None


def test_no_processor_is_asked_what_it_can():
    for path in (ROOT / "genzoo" / "training").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in ("_is_amx", "_is_avx", "cpu.get_capab", "cpuinfo") if word in text], path
