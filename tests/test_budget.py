"""`--budget`: from a time to a run, by measurements with a clock that the tests hold."""

import json
import signal
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, as_options, environment, read_log, same, weights
from PIL import Image

from genzoo import Trainer
from genzoo.budgets import ask, planned, standing_lines
from genzoo.cli import main
from genzoo.duration import as_time, in_seconds, is_time
from genzoo.errors import UsageError
from genzoo.recipes import recipe_lines, texts
from genzoo.registry import get_spec
from genzoo.runs.checkpoint import Checkpoints
from genzoo.runs.folder import read_config
from genzoo.training.budget import LAST, Costs, Pace, by_clock, count_snapshots, most_steps, plan_run
from genzoo.training.log import progress_bar
from genzoo.training.schedule import Schedule

SMALL = [text for text in TINY if not text.startswith(("train.duration", "train.snapshot_every", "train.ema"))]
SMALL += ["train.prior=normal"]
TICK = 0.5  # seconds of a step: about a hundred fit into a minute


class Clock:
    """Advances by the same time whenever it is read."""

    def __init__(self, tick: float):
        self.tick, self.now = tick, 0.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@cache
def plan(*more: str, model: str = "introvae", budget: str = "60s", tick: float = TICK):
    """A tiny run with a budget, on a machine on which everything takes as long as the clock ticks."""
    wanted = ask(model, budget, settings=[*SMALL, *more])
    return planned(wanted, "none", began=0.0, progress=False, clock=Clock(tick))


# ---- the text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("3min", 180), ("1.5h", 5400), ("2h30min", 9000), ("1h1min1s", 3661)]
)
def test_a_time_is_read(text, seconds):
    assert in_seconds(text) == seconds
    assert is_time(text)


@pytest.mark.parametrize("text", ["", "3", "3m", "min", "0s", "-3min", "3 weeks", "30min2h", "2M", "5%"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match=r"write seconds \(90s\), minutes \(3min\) or hours"):
        in_seconds(text)


@pytest.mark.parametrize("text", ["5000", "20k", "2M", "3ep", "500it", "5%"])
def test_no_duration_in_images_is_a_time(text):
    assert not is_time(text)


def test_a_time_is_shown_rounded_up_so_that_it_can_be_typed():
    assert [as_time(s) for s in (0.2, 46.1, 120, 121, 3600, 7200, 9000.5)] == [
        "1s", "47s", "120s", "3min", "60min", "2h", "2h31min"
    ]  # fmt: skip
    assert all(s <= in_seconds(as_time(s)) <= s + 60 for s in np.linspace(1, 20_000, 300))


# ---- arithmetic


def test_steps_and_snapshots_fill_the_budget():
    """By hand: 98 % of 180 s less 20 s passed leaves 156.4 s, which has room for 6 snapshots of 1 s, the last one 2 s.
    Steps take .7 x 20 + .3 x 60 = 32 ms.
    """
    costs = Costs(warmup=0.02, late=0.06, snapshot=1.0)
    found = plan_run("3min", 20.0, costs, lambda steps: round(0.7 * steps))
    assert found.snapshots == 6
    assert found.steps % 6 == 0
    assert found.steps == pytest.approx((0.98 * 180 - 20 - 7) / 0.032, abs=6)


@pytest.mark.parametrize("budget", ["30s", "3min", "30min", "3h", "20h"])
@pytest.mark.parametrize("warmup", [0, 0.3, 1000])
@pytest.mark.parametrize("snapshot", [0.1, 3.0])
def test_the_sum_of_all_costs_is_just_below_the_budget(budget, warmup, snapshot):
    def warmup_steps(steps: int) -> int:
        return round(warmup * steps) if isinstance(warmup, float) else warmup

    costs = Costs(warmup=0.013, late=0.045, snapshot=snapshot, start=1.0)
    found = plan_run(budget, 12.0, costs, warmup_steps)
    before = min(found.steps, warmup_steps(found.steps))
    total = 13.0 + before * 0.013 + (found.steps - before) * 0.045
    total += (found.snapshots + LAST + by_clock(in_seconds(budget), found.snapshots, 10)) * snapshot
    assert 0.85 * in_seconds(budget) < total <= in_seconds(budget)


@pytest.mark.parametrize(("seconds", "planned"), [(150, 1), (600, 10), (3600, 2), (36_000, 20), (36_000, 1)])
def test_snapshots_by_the_clock_are_those_of_the_schedule(seconds, planned, monkeypatch):
    now = 0
    monkeypatch.setattr("genzoo.training.schedule.time.monotonic", lambda: now)
    schedule, taken = Schedule(every_steps=seconds // planned, minutes=10), 0
    schedule.start(0.0)
    for now in range(1, seconds + 1):  # a step takes a second
        if schedule.due(now):
            schedule.taken()
            taken += 1
    assert by_clock(seconds, planned, 10) == pytest.approx(taken - planned, abs=1)  # it waits for the end of a step


def test_snapshots_that_the_user_chose_are_paid_for():
    costs = Costs(warmup=0.01, late=0.01, snapshot=1.0)
    few, many = (plan_run("3min", 0.0, costs, lambda n: 0, chosen=lambda n, k=k: k) for k in (1, 100))
    assert (few.snapshots, many.snapshots) == (1, 100)
    assert few.steps - many.steps == pytest.approx(99 / 0.01, abs=1)
    every = plan("train.snapshot_every=10%", tick=TICK / 2).config.train
    assert every.snapshot_every == "10%" and int(every.duration) < int(plan(tick=TICK / 2).config.train.duration)


def test_a_warm_up_takes_the_time_of_its_own_steps():
    costs = Costs(warmup=0.01, late=0.1, snapshot=0.1)
    short, long = (plan_run("3min", 0.0, costs, lambda n, share=share: round(share * n)).steps for share in (0.1, 0.9))
    assert long > 4 * short


def test_a_budget_that_is_too_short_is_refused_with_the_least_that_works():
    costs = Costs(warmup=0.1, late=0.4, snapshot=4.0)
    with pytest.raises(UsageError, match=r"--budget 30s is too short: .* give at least 53s\.$"):
        plan_run("30s", 15.0, costs, lambda steps: 0)
    assert plan_run("53s", 15.0, costs, lambda steps: 0).steps >= 50
    with pytest.raises(UsageError, match="give at least"):
        plan_run("10s", 15.0, costs, lambda steps: 0)  # passed before it was measured


def test_expensive_snapshots_are_few():
    assert [count_snapshots(160, cost) for cost in (0.1, 1.5, 4, 100)] == [6, 6, 4, 1]
    assert count_snapshots(10_000, 0.1) == 20


def test_the_largest_number_of_steps_is_found():
    assert [most_steps(s, lambda n: 0.5 * n) for s in (0.4, 0.5, 0.9, 7.0, 1000)] == [0, 1, 1, 14, 2000]


# ---- being late


class Stopwatch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_run_that_slows_down_says_so_once():
    clock = Stopwatch()
    pace, said = Pace("100s", began=0.0, clock=clock), []
    for step, clock.now in ((10, 20.0), (20, 29.0), (30, 38.0), (40, 68.0), (50, 98.0), (100, 250.0)):
        said.append(pace.late(step, 100))
    assert [bool(text) for text in said] == [False, False, False, True, False, False]
    assert said[3] is not None and "ends after 4:08 instead of 100s" in said[3]


def test_a_run_with_a_single_snapshot_says_so_at_its_end():
    clock = Stopwatch()
    for clock.now, late in ((108.0, False), (112.0, True)):
        assert bool(Pace("100s", began=0.0, clock=clock).late(50, 50)) == late
    assert Pace(None, began=0.0, clock=clock).late(50, 50) is None


def test_time_of_earlier_processes_counts():
    clock = Stopwatch()
    pace = Pace("3min", began=5.0, clock=clock)
    pace.start(earlier=60.0)
    clock.now = 25.0
    assert pace.left() == "1:40 left of 3min"
    clock.now = 195.0
    assert pace.left() == "1:10 over 3min"


def test_the_bar_shows_the_time_left(capsys):
    clock = Stopwatch()
    with progress_bar("run", 0, 100, True, Pace("3min", 0.0, clock)) as bar:
        clock.now = 30.0
        bar.refresh()
    assert "2:30 left of 3min" in capsys.readouterr().err
    with progress_bar("run", 0, 100, True, Pace(None, 0.0, clock)) as bar:
        bar.refresh()
    assert "left of" not in capsys.readouterr().err


def test_a_late_run_writes_an_event(capsys):
    found = plan()
    Trainer(found.config, out="run", progress=False, began=-1e6).fit()
    events = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events].count("budget") == 1
    assert capsys.readouterr().out.count("its schedule stays") == 1


# ---- planning


def test_a_plan_decides_length_schedule_and_way_and_gives_reasons():
    found = plan("train.device=cpu", "train.prior=auto")
    c = found.config.train
    assert (c.budget, c.lr_schedule, c.compile) == ("60s", "cosine", False)
    assert c.precision in ("fp32", "bf16") and isinstance(c.threads, int)
    assert found.config.objective.warmup == "80%"
    shown = {line.setting: line for line in found.lines}
    assert shown["train.duration"].value == c.duration
    assert "500 ms a step" in shown["train.precision"].reason
    assert all(line.reason for line in found.lines)
    assert "planned for a budget of 60s" in found.config.notes[-1]
    steps = int(c.duration) // 8
    assert 20 < steps * TICK < 60  # every step takes a tick
    trainer = Trainer(found.config, out="run", progress=False)
    assert trainer.total_steps == steps
    assert trainer.total_steps % trainer.schedule.every_steps == 0


def test_a_slower_machine_trains_less():
    assert int(plan().config.train.duration) < 0.6 * int(plan(tick=TICK / 2).config.train.duration)


def test_what_the_user_sets_wins():
    found = plan("train.precision=fp32", "train.ema=0.5", "objective.warmup=40it", "train.threads=1", "arch.z_dim=3")
    c = found.config
    assert (c.train.precision, c.train.ema, c.train.threads, c.objective.warmup, c.arch.z_dim) == (
        "fp32", 0.5, 1, "40it", 3
    )  # fmt: skip
    assert not {"train.ema", "objective.warmup"} & {line.setting for line in found.lines}


def test_points_keep_their_schedule_as_shares():
    """The preset: 30,000 steps, a warm-up of 2,000, rates that drop at 10,000 and 15,000."""
    wanted = ask("softintrovae", "60s", data="rings", settings=["arch.hidden=8,8", "train.batch=16"])
    c = planned(wanted, "run", 0.0, False, Clock(0.05)).config
    assert (c.objective.warmup, c.train.lr_drops) == ("6.67%", ("33.33%", "50.00%"))
    assert (c.train.batch, c.train.lr, c.arch.z_dim) == (16, 2e-4, 2)
    assert int(c.train.duration) % 16 == 0


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (["--budget", "soon"], "write seconds (90s)"),
        (["--budget", "3min", "--images", "5k"], "not allowed with"),
        (["--budget", "3min", "--epochs", "5"], "not allowed with"),
        (["--budget", "3min", "--set", "train.duration=5k"], "leave out either --budget or --set train.duration"),
        (["--set", "train.budget=3min"], "give --budget TIME"),
        (["--budget", "1s"], "give at least"),
        (["--budget", "3min", "--out", "afile/run"], "choose another with --out"),
        (["--budget", "3min", "--data", "./missing"], "no file or folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_with_the_fix(args, fix, capsys):
    Path("afile").write_text("")
    assert main(["train", "vae", *as_options(*SMALL), *args]) == 2
    err = capsys.readouterr().err.strip()
    assert fix in err and len(err.splitlines()) == 1
    assert not Path("runs").exists()


def test_measuring_leaves_no_trace_in_the_weights():
    """The planned run equals one whose settings are given by hand, before which nothing was measured."""
    found = plan()
    by_hand = Trainer(found.config, out="hand", progress=False).fit()
    torch.manual_seed(123)
    wanted = ask("introvae", "60s", settings=SMALL)
    again = planned(wanted, "run", 0.0, False, Clock(TICK)).config
    assert replace(again, notes=()) == replace(found.config, notes=())
    assert same(weights(by_hand), weights(Trainer(again, out="run", progress=False).fit()))


# ---- resuming


def interrupt(config, step: int, out: str) -> None:
    """Trains to a step, and stops as Ctrl-C does."""
    trainer = Trainer(config, out=out, progress=False)
    train_step = trainer.train_step

    def until(parts, at):
        if at.step == step:
            signal.raise_signal(signal.SIGINT)
        return train_step(parts, at)

    trainer.train_step = until
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


def test_an_interrupted_run_goes_on_with_the_same_numbers_and_measures_nothing():
    found = plan()
    whole = Trainer(found.config, out="whole", progress=False).fit()
    interrupt(found.config, 30, "run")
    assert 0 < read_log(Path("run"))[-1]["step"] < Trainer(found.config, out="whole", progress=False).total_steps
    clock = Clock(7.0)  # a machine that would be planned for otherwise
    again = planned(ask("introvae", "60s", settings=SMALL), "run", 0.0, False, clock)
    assert clock.now == 0
    assert (again.config, again.lines) == (found.config, [])
    assert same(weights(whole), weights(Trainer(again.config, out="run", progress=False).fit()))


def test_another_budget_and_other_settings_are_refused_and_listed():
    Trainer(plan().config, out="run", progress=False)
    wanted = ask("introvae", "2min", settings=[*SMALL, "train.lr=1e-4"])
    with pytest.raises(UsageError) as refused:
        Trainer(planned(wanted, "run", 0.0, False, Clock(TICK)).config, out="run", progress=False)
    listed = str(refused.value).splitlines()[1:]
    assert [line.strip() for line in listed] == ["train.budget: 60s -> 2min", "train.lr: 0.01 -> 0.0001"]


def test_a_run_in_the_home_folder_is_found_again(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    Trainer(plan().config, out="~/run", progress=False)
    again = planned(ask("introvae", "60s", settings=SMALL), "~/run", 0.0, False, Clock(7.0))
    assert (again.config, again.lines) == (plan().config, [])


def test_the_run_of_another_model_is_refused_with_its_differences(capsys):
    Trainer(plan(model="vae").config, out="run", progress=False)
    args = ["introvae", *as_options(*SMALL, "objective.warmup=500it"), "--budget", "60s", "--out", "run"]
    assert main(["train", *args]) == 2
    assert "run holds a run with other settings" in capsys.readouterr().err


@pytest.mark.process
def test_kill_minus_nine_and_the_same_command(tmp_path, genzoo_process):
    """The plan is made here, with a clock of our own; the command finds it in the folder, and is killed on its way."""
    often = "train.snapshot_every=25it"
    found = plan(often, tick=TICK / 2)
    Trainer(found.config, out="run", progress=False)
    command = ["train", "introvae", *as_options(*SMALL, often), "--budget", "60s", "--out", "run"]
    killed = genzoo_process(command, cwd=tmp_path, env=environment())
    saved, deadline = Checkpoints(tmp_path / "run" / "checkpoints", keep=2), time.monotonic() + 120
    while len(saved.steps()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    done = genzoo_process(command, cwd=tmp_path, env=environment()).completed()
    assert done.returncode == 0, done.stderr
    assert "timed" not in done.stdout
    whole = Trainer(found.config, out="whole", progress=False).fit()
    assert same(weights(whole), weights(Path("run")))
    assert read_config(whole) == read_config(Path("run"))


# ---- data of one's own


def pictures(folder: str, gray: bool, size: tuple[int, int] = (24, 24)) -> str:
    Path(folder).mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        image = rng.uniform(0.3, 0.7) + rng.uniform(-0.3, 0.3) * np.linspace(-1, 1, size[1]) * np.ones(size)
        pixels = np.stack([image, image, image if gray else 1 - image], axis=-1)
        Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(f"{folder}/{i:03}.png")
    return folder


@pytest.mark.parametrize("gray", [True, False])
def test_a_budget_alone_picks_everything_for_a_folder(gray):
    wanted = ask("introvae", "60s", data=pictures("mine", gray))
    found = planned(wanted, "run", 0.0, False, Clock(TICK)).config
    assert (found.data.size, found.data.channels) == ((24, 24), 1 if gray else 3)
    assert (found.arch.z_dim, found.train.batch, found.objective.margin) == (32, 8, "auto")
    assert found.objective.warmup == "80%"
    assert read_config(Trainer(found, out="run", progress=False).folder.path) == found


def test_a_resolution_that_is_asked_for_is_taken():
    found = ask("vae", "3min", (16, 16), pictures("mine", True))
    assert found.resolve(texts(standing_lines(found))).data.size == (16, 16)


def test_longer_budgets_take_larger_images():
    folder = pictures("mine", False, (100, 120))
    sizes = []
    for budget in ("3min", "30min", "10h"):
        wanted = ask("vae", budget, data=folder, settings=["train.device=cpu"])
        sizes.append(wanted.resolve(texts(standing_lines(wanted))).data.size)
    assert sizes == [(32, 32), (64, 64), (96, 96)]


def test_the_recipe_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    batches = []
    for settings in (["train.device=cpu"], []):
        wanted = ask("vae", "3min", data="toyfaces", settings=settings)
        batches.append(wanted.resolve(texts(standing_lines(wanted))).train.batch)
    assert batches == [32, 512]


def test_a_batch_fits_the_data_and_several_processes():
    def batch(side: int, count: int | None) -> str:
        lines = recipe_lines(get_spec("vae"), (3, side, side), True, 600, count)
        return {line.setting: line.value for line in lines}["train.batch"]

    assert [batch(32, None), batch(48, None), batch(64, None), batch(256, None)] == ["512", "224", "128", "32"]
    assert [batch(32, 1000), batch(32, 30), batch(32, 5)] == ["248", "7", "2"]
    limited = ask("vae", "3min", data="toyfaces", settings=["data.limit=60"])
    assert limited.resolve(texts(standing_lines(limited))).train.batch == 8


def test_a_rate_stays_with_its_optimizer():
    wanted = ask("vae", "3min", settings=["train.optimizer=adam"])
    c = wanted.resolve(texts(standing_lines(wanted))).train
    assert (c.optimizer, c.lr) == ("adam", wanted.resolve([]).train.lr) and c.lr < 1e-2


def test_suggest_shows_what_train_takes(capsys):
    folder = pictures("mine", True)
    assert main(["suggest", "introvae", "--data", folder, "--budget", "30min"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == f"genzoo train introvae --data {folder} --budget 30min"
    wanted = ask("introvae", "30min", data=folder)
    assert all(f"  {text} " in shown for text in texts(standing_lines(wanted)))
    assert main(["suggest", "introvae", "--data", folder, "--budget", "soon"]) == 2


def test_a_bare_model_has_three_minutes(monkeypatch):
    from genzoo import budgets

    seen = []

    def stop(wanted, *_):
        seen.append(wanted.budget)
        raise UsageError("seen")

    monkeypatch.setattr(budgets, "planned", stop)
    for args in ([], ["--seed", "3"], ["--out", "run"], ["--set", "arch.z_dim=8"]):
        assert main(["train", "introvae", *args]) == 2
    assert seen == ["3min"] * 4
    for args in (["introvae.toyfaces32"], ["introvae", "--res", "32"], ["introvae", "--images", "5k"]):
        assert main(["train", *args, "--dry-run"]) == 0
    assert len(seen) == 4


def test_widths_grow_with_the_budget():
    def widths(budget_s, accelerated=False):
        lines = recipe_lines(get_spec("vae"), (3, 32, 32), accelerated, budget_s)
        return next(line.value for line in lines if line.setting == "arch.channels")

    assert [widths(seconds) for seconds in (60, 300, 600, 10_800)] == ["16,48,96"] * 2 + ["16,64,128"] * 2
    assert widths(180, accelerated=True) == "16,192,384"
