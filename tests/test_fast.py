"""`--fast` and settings that are `auto`: decided by timing, recorded, and found again; nothing is asked of the CPU."""

import platform
from collections import Counter
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import ONCE, ROOT, TINY, as_options, same, tiny_run, weights

from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.configure import in_section
from genzoo.errors import UsageError
from genzoo.runs.folder import read_config
from genzoo.training.misfits import can_compile, may_pay_to_compile
from genzoo.training.threads import torch_threads, useful_threads
from genzoo.training.timing import LIMIT_S, StepTimes, time_steps
from genzoo.training.ways import Trial, checked, settled, try_ways, way

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
@pytest.mark.parametrize("drift", [-0.15, 1.0])
def test_a_machine_that_becomes_faster_or_slower_meanwhile_decides_nothing(drift):
    """Ways that are compared take turns: bf16 pays here, the second thread does, too."""
    machine = Machine(lambda c, late: (1 + drift * machine.now) * (0.02 if c.precision == "bf16" else 0.03) / c.threads)
    trials = try_ways(tiny_run("introvae", *AUTO), machine.rehearse, machine.clock)
    assert (trials.settings["precision"], trials.settings["threads"]) == ("bf16", 2)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("warmup", "early"), [("50%", 0.1), ("0", 0.3)])
def test_a_penalty_every_16_steps_counts_as_a_sixteenth(warmup, early):
    machine = Machine(None)
    trainer = machine.rehearse(tiny_run("introvae", "objective.r1=1", f"objective.warmup={warmup}"))

    def step(parts, at):
        late = not at.before(warmup)
        machine.now += 0.1 + late * (0.168 + 0.512 * at.every(16))

    trainer.iteration = step
    times = time_steps(trainer, 10, machine.clock)
    assert (times.warmup, times.late) == pytest.approx((early, 0.3))


@pytest.mark.usefixtures("two_threads")
def test_late_steps_decide_as_much_as_early_ones():
    trials, _ = tried(lambda c, late: {("fp32", False): 0.1, ("fp32", True): 0.3, ("bf16", False): 0.05}.get(
        (c.precision, late), 0.5
    ))  # fmt: skip
    assert trials.settings["precision"] == "fp32"


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("error", [RuntimeError, UsageError])
def test_a_step_that_cannot_be_compiled_is_left_out_and_says_why(error, monkeypatch):
    monkeypatch.setattr("genzoo.training.ways.may_pay_to_compile", lambda run, device: True)

    def cost(c, late):
        if c.compile:
            raise error("the compiler failed\nwith a long trace")
        return 0.1

    trials, _ = tried(cost, "train.duration=1M")
    assert trials.settings["compile"] is False
    assert str(trials).endswith("; not compiled: the compiler failed")
    assert str(tried(cost, "train.duration=100k")[0]).endswith("; compiling is for runs of 60min and more")


@pytest.mark.parametrize(
    ("budget", "duration", "graphs", "compiled", "chosen"),
    [
        (None, "10M", 0.5, 0.4, True),
        (None, "1M", 0.5, 0.4, "cudagraphs"),  # 10 minutes: too short for it
        (None, "10M", 0.5, 0.49, "cudagraphs"),  # too little to be worth a minute of compiling
        ("3min", "10M", 0.5, 0.4, "cudagraphs"),
        ("2h", "1M", 0.5, 0.4, True),
        ("3min", "1M", 1.0, 0.4, False),
    ],
)
def test_on_a_gpu_cuda_graphs_are_tried_before_the_compiler(budget, duration, graphs, compiled, chosen, monkeypatch):
    """Once the first rounds, in which they are recorded, have passed. Nothing here runs on a GPU but the choice."""
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: None)
    rounds = {"cudagraphs": 0}

    def cost(c, late):
        rounds["cudagraphs"] += c.compile == "cudagraphs"
        return {False: 1.0, "cudagraphs": graphs if rounds["cudagraphs"] > 8 else 9.0, True: compiled}[c.compile] / 100

    machine = Machine(cost)

    def rehearse(run):
        trainer = machine.rehearse(replace(run, train=replace(run.train, compile=False)))
        trainer.config = run
        trainer.iteration = lambda parts, at: setattr(machine, "now", machine.now + cost(run.train, at.step > 0))
        trainer.acc = SimpleNamespace(device=torch.device("cuda"), num_processes=1)
        return trainer

    settings = [
        *AUTO,
        "train.precision=bf16",
        "train.threads=1",
        f"train.duration={duration}",
        *([f"train.budget={budget}"] if budget else []),
    ]
    trials = try_ways(tiny_run("introvae", *settings), rehearse, machine.clock)
    assert trials.settings["compile"] == chosen
    assert "bf16, 1 thread, CUDA graphs: " in str(trials)


@pytest.mark.usefixtures("two_threads")
def test_slow_steps_are_timed_once_and_other_ways_left_out():
    trials, machine = tried(lambda c, late: 20.0)
    assert machine.now == 40.0  # one early and one late step
    assert machine.made == ["fp32, 2 threads"]
    assert "other ways would take more than 5 s" in str(trials)
    assert trials.best.times.late == 20.0


@pytest.mark.usefixtures("two_threads")
def test_slow_first_steps_decide_nothing():
    """They load or compile code."""
    taken = Counter[str]()

    def cost(c, late):
        taken[way(c)] += 1
        return 1.3 if taken[way(c)] <= 2 else 0.05 if c.precision == "bf16" else 0.1

    trials, machine = tried(cost)
    assert machine.made == ["fp32, 2 threads", "bf16, 2 threads", "bf16, 1 thread"]
    assert (trials.settings["precision"], trials.best.times.late) == ("bf16", pytest.approx(0.05))


@pytest.mark.usefixtures("two_threads")
def test_a_hopeless_way_is_taken_once():
    trials, machine = tried(lambda c, late: 30.0 if c.precision == "bf16" else 0.1)
    assert trials.settings["precision"] == "fp32"
    assert machine.now < 70.0  # one early and one late step of 30 s


@pytest.mark.usefixtures("two_threads")
def test_what_is_not_auto_is_left_alone():
    machine = Machine(lambda c, late: 0.1 if c.precision == "bf16" else 1.0)
    trials = try_ways(tiny_run("vae", "train.precision=auto", "train.threads=1"), machine.rehearse, machine.clock)
    assert machine.made == ["fp32, 1 thread", "bf16, 1 thread"]
    assert trials.settings["precision"] == "bf16"


@pytest.mark.parametrize(("budget_s", "timed_s"), [(180, 1.8), (36000, 15)])
def test_the_chosen_way_is_timed_again_for_a_share_of_the_budget_and_averaged(budget_s, timed_s):
    costs = {False: cycle([0.2, 0.1, 0.3]), True: cycle([2.0, 0.5, 0.4])}  # the medians are 0.2 and 0.5
    machine = Machine(lambda c, late: next(costs[late]) / 10)
    trial = Trial(machine.rehearse(tiny_run("introvae")), StepTimes(0.02, 0.05, 0.1))
    times = checked(trial, budget_s, machine.clock).times
    assert times.warmup == pytest.approx(0.02, rel=0.1)
    assert times.late == pytest.approx(0.0967, rel=0.15)
    assert machine.now == pytest.approx(timed_s, abs=0.3)


def test_timed_steps_load_their_batches():
    """Each another one, as in training: loading is part of what a step takes."""
    machine, seen = Machine(lambda c, late: 0.1), []
    trainer = machine.rehearse(tiny_run("introvae"))
    step = trainer.iteration
    trainer.iteration = lambda parts, at: (seen.append(parts[0].x.sum().item()), step(parts, at))
    time_steps(trainer, 2, machine.clock)
    assert len(set(seen)) > 10


def test_slow_steps_are_not_checked_again():
    machine = Machine(lambda c, late: 1.0)
    trial = Trial(machine.rehearse(tiny_run("introvae")), StepTimes(1.0, 1.0, 2.0))
    assert checked(trial, 180, machine.clock) is trial
    assert machine.now == 0.0
    assert checked(trial, 1800, machine.clock) is not trial


PAGE_FAULTS = """
import ctypes, resource
from genzoo.training.memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def step():
    blocks = [ctypes.c_void_p(libc.malloc(2**23)) for _ in range(16)]
    for block in blocks:
        libc.memset(block, 1, 2**23)
    for block in reversed(blocks):
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if HOW == "keep":
    keep_freed_memory()
print(*(step() for _ in range(5)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have their own rules")
def test_memory_that_a_step_frees_is_kept_for_the_next(genzoo_command):
    def faults(how: str) -> int:
        ran = genzoo_command(["-c", f"HOW = {how!r}\n{PAGE_FAULTS}"])
        counts = [int(text) for text in ran.stdout.split()]
        return counts[-1] - counts[-2]

    assert faults("keep") < 50 < faults("give back") / 2


def test_more_threads_are_timed_unless_they_slow_one_convolution_down():
    class Busy:
        now = 0.0

        def __call__(self) -> float:
            self.now += 0.001 * torch.get_num_threads() ** 2
            return self.now

    class Idle(Busy):
        def __call__(self) -> float:
            self.now += 0.01 / torch.get_num_threads()
            return self.now

    class Waking(Idle):  # the first ones are disturbed
        read = 0

        def __call__(self) -> float:
            self.read += 1
            self.now += 0.1 if 1 < self.read < 9 else 0.0
            return super().__call__()

    class Even(Busy):  # as fast with any number, give or take
        def __call__(self) -> float:
            self.now += 0.01 * (1 + 0.1 * torch.get_num_threads())
            return self.now

    assert [useful_threads(8, clock()) for clock in (Busy, Idle, Waking, Even)] == [1, 8, 8, 8]


@pytest.mark.parametrize(
    ("model", "data", "settings", "able"),
    [
        ("vae", "rings", (), True),
        ("vae", "digits", (), False),
        ("vae", "rings", ("train.checkpointing=true",), False),
        ("softintrovae", "rings", ("objective.beta_neg=auto",), True),
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


@pytest.mark.usefixtures("one_thread")
def test_a_run_records_what_was_decided_and_resumes_with_it(capsys):
    config = tiny_run("vae", *AUTO, "train.duration=24", *ONCE)
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
    timed = Trainer(tiny_run("introvae", *AUTO, "train.duration=32", *ONCE), out="timed", progress=False)
    by_hand = replace(tiny_run("introvae"), train=timed.config.train)
    assert same(weights(timed.fit()), weights(Trainer(by_hand, out="hand", progress=False).fit()))


def test_threads_are_those_of_the_run_and_only_during_it(monkeypatch):
    seen = []
    trainer = Trainer(tiny_run("vae", "train.threads=1", "train.duration=24", *ONCE), out="run", progress=False)
    step = trainer.train_step
    monkeypatch.setattr(trainer, "train_step", lambda *args: seen.append(torch.get_num_threads()) or step(*args))
    with torch_threads(2):
        trainer.fit()
        assert torch.get_num_threads() == 2
    assert set(seen) == {1}


def test_fast_is_short_for_auto(capsys):
    assert main(["train", "vae", *as_options(*TINY, "train.duration=8", *ONCE), "--fast", "--out", "run"]) == 0
    assert "timed here" in capsys.readouterr().out
    saved = read_config(Path("run"))
    assert saved is not None and saved.train.threads is not None


def test_no_processor_is_asked_what_it_can():
    for path in (ROOT / "genzoo" / "training").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in ("_is_amx", "_is_avx", "cpu.get_capab", "cpuinfo") if word in text], path
