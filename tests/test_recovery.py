"""A broken step: the run goes back, changes one thing by the ladder, reports it, and ends like an uninterrupted run."""

import json
import math
from pathlib import Path

import pytest
import torch
from helpers import ONCE, same, tiny_run, weights

import genzoo
from genzoo import Trainer
from genzoo.data import open_dataset
from genzoo.data.embedded.points import PointSet
from genzoo.data.sets import ArraySet
from genzoo.errors import RunStopped
from genzoo.items import Items
from genzoo.noise import generator
from genzoo.training.log import Broken, Window
from genzoo.training.recovery import Ladder

pytestmark = pytest.mark.usefixtures("one_thread")

SAVED = ("train.snapshot_every=4it", "train.prior=normal")


def read(run: str, name: str) -> list[dict]:
    return [json.loads(line) for line in (Path(run) / name).read_text().splitlines()]


def troubles(run: str) -> list[dict]:
    return [event for event in read(run, "events.jsonl") if event["kind"] == "trouble"]


def poison(trainer: Trainer, *, steps: set[int], times: int) -> Trainer:
    """The first `times` times that one of these steps is run, its images are NaN."""
    real_step, left = trainer.train_step, [times]

    def poisoned(parts, at):
        if at.step in steps and left[0]:
            left[0] -= 1
            parts = [Items(torch.full(items.x.shape, math.nan)) for items in parts]
        return real_step(parts, at)

    trainer.train_step = poisoned
    return trainer


@pytest.mark.parametrize("model", ["vae", "introvae", "softintrovae"])
def test_a_broken_step_is_redrawn_and_the_log_records_it(model, capsys):
    run = poison(Trainer(tiny_run(model, *SAVED, "train.log_every=1"), out="run"), steps={6}, times=1).fit()
    (event,) = troubles("run")
    assert (event["step"], event["at"], event["rung"], event["did"]) == (
        4,
        6,
        1,
        "other data and noise for steps 6 to 6",
    )
    assert [line["step"] for line in event["dropped"]] == [5, 6]
    assert "Back to step 4 with other data and noise" in capsys.readouterr().out
    lines = read("run", "log.jsonl")
    assert [line["step"] for line in lines if "kl/real" in line] == list(range(1, 13))
    assert all(math.isfinite(value) for line in lines for value in line.values() if not isinstance(value, str))
    assert all(value.isfinite().all() for value in weights(run).values())


def test_without_a_checkpoint_it_starts_over():
    poison(Trainer(tiny_run("introvae", *SAVED), out="run"), steps={1}, times=1).fit()
    (event,) = troubles("run")
    assert (event["step"], event["did"]) == (0, "other data and noise for steps 0 to 1")
    twice = poison(Trainer(tiny_run("introvae", *SAVED), out="twice"), steps={1}, times=1).fit()
    assert same(weights(Path("run")), weights(twice))


def test_the_ladder_is_climbed_and_ends_with_the_diagnosis():
    trainer = poison(Trainer(tiny_run("introvae", *SAVED), out="run"), steps={6}, times=100)
    with pytest.raises(
        RunStopped, match=r"loss/encoder is nan in the encoder phase of step 6\. .*Last good checkpoint: step 4"
    ):
        trainer.fit()
    events = troubles("run")
    assert [event.get("rung") for event in events] == [1, 2, 3, None]
    assert [event["did"].partition(" ")[0] for event in events] == ["other", "learning", "gradients", "stopped"]


@pytest.mark.parametrize(("times", "kept"), [(2, "lr_factor"), (3, "clip")])
def test_a_run_killed_after_a_recovery_ends_as_if_it_had_not_been(times, kept, finished):
    """What the ladder has changed is in the checkpoint: the resumed run has it, and ends bit-identical to the run that
    went on.
    """
    whole = poison(Trainer(tiny_run("introvae", *SAVED), out="whole"), steps={6}, times=times).fit()
    killed = poison(Trainer(tiny_run("introvae", *SAVED), out="killed"), steps={6}, times=times)
    real_step = killed.train_step

    def until_nine(parts, at):
        if at.step == 9:
            raise KeyboardInterrupt
        return real_step(parts, at)

    killed.train_step = until_nine
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    resumed = Trainer(tiny_run("introvae", *SAVED), out="killed")
    run = resumed.fit()
    assert getattr(resumed.ladder, kept) != getattr(Ladder(), kept)
    assert same(weights(run), weights(whole))
    assert [event["did"] for event in troubles("killed")] == [event["did"] for event in troubles("whole")]
    assert not same(weights(run), weights(finished()))


def test_the_ladder_never_loosens_a_clip_that_was_asked_for(monkeypatch):
    clips, real = [], torch.nn.utils.clip_grads_with_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grads_with_norm_", lambda p, clip, norm: (clips.append(clip), real(p, clip, norm))
    )
    trainer = Trainer(tiny_run("vae", "train.clip=0.5", "train.duration=8"), out="run")
    trainer.ladder.clip = {"encoder": 2.0, "decoder": 0.1}
    trainer.fit()
    assert sorted(clips) == [0.1, 0.5]


def test_zero_rungs_stop_at_once():
    with pytest.raises(RunStopped, match="of step 6"):
        poison(Trainer(tiny_run("introvae", *SAVED, "train.recover=0"), out="run"), steps={6}, times=1).fit()


def test_exploded_weights_are_restored():
    trainer = Trainer(
        tiny_run(
            "introvae", "train.duration=240", "train.log_every=1", "train.snapshot_every=10it", "train.prior=normal"
        ),
        out="run",
    )
    real_step = trainer.train_step

    def blown(parts, at):
        if at.step == 25 and not trainer.ladder.rung:
            with torch.no_grad():
                for p in trainer.model.decoder.parameters():
                    p.mul_(100)
        return real_step(parts, at)

    trainer.train_step = blown
    trainer.fit()
    (event,) = troubles("run")
    assert (event["step"], event["at"]) == (20, 25)
    assert "and was at most" in event["text"]
    lines = [line["error/sse"] for line in read("run", "log.jsonl") if "error/sse" in line]
    assert max(lines) < 10 * lines[0]


def test_bad_items_are_named_and_left_out():
    images = torch.rand(64, 3, 16, 16)
    images[[5, 17]] = math.nan
    dataset = ArraySet("mine", "mine", images.movedim(1, -1).numpy())
    trainer = Trainer(tiny_run("introvae", *ONCE), out="run", dataset=dataset)
    trainer.fit()
    events = troubles("run")
    assert {event["problem"] for event in events} == {"non-finite data"}
    assert trainer.ladder.left_out == [5, 17]
    assert trainer.ladder.rung == 0
    assert "items of this batch hold NaN or infinity (dataset: items" in events[0]["text"]
    assert "left out" in events[-1]["did"]


def test_data_that_is_bad_throughout_stops_the_run():
    dataset = ArraySet("mine", "mine", torch.full((64, 16, 16, 3), math.nan).numpy())
    trainer = Trainer(tiny_run("introvae", *ONCE), out="run", dataset=dataset)
    with pytest.raises(RunStopped, match="8 of 8 items of this batch hold NaN"):
        trainer.fit()


def test_one_bad_draw_of_endless_points_is_redrawn():
    class Bad(PointSet):
        """The draw of step 3 contains a NaN."""

        def draw(self, n, rng):
            points = super().draw(n, rng)
            if rng.initial_seed() == generator(0, "data", 3).initial_seed():
                points[1] = math.nan
            return points

    settings = ["train.duration=8it", "objective.warmup=2it", "train.batch=32", "arch.hidden=16,16"]
    run = genzoo.resolve("softintrovae", data="rings", settings=settings)
    trainer = Trainer(run, out="run", dataset=Bad("rings", open_dataset(run.data).draw))
    trainer.fit()
    (event,) = troubles("run")
    assert (event["problem"], event["rung"], event["at"]) == ("non-finite data", 1, 3)


def window(size: float, before: int = 20, usual: float = 1.0) -> Window:
    found = Window([{"step": i, "loss/all": usual, "gradient/net": usual} for i in range(before)])
    for step in (30, 31):
        found.add(
            step,
            [
                (
                    ("net",),
                    {"loss/all": torch.tensor(usual), "gradient/net": torch.tensor(size if step == 31 else usual)},
                )
            ],
        )
    return found


def test_a_short_spike_is_not_an_error_and_the_first_steps_may_do_anything():
    window(1e9).fetch(lambda values: values)
    lasting = window(1e9, usual=1.0)
    lasting._steps = lasting._steps[1:]
    with pytest.raises(Broken, match="gradient/net is 1e\\+09 or more"):
        lasting.fetch(lambda values: values)
    early = window(1e9, before=5)
    early._steps = early._steps[1:]
    early.fetch(lambda values: values)


def test_a_later_failure_begins_at_the_first_rung():
    ladder = Ladder()
    for step, rung in ((10, 1), (10, 2), (15, 3), (40, 1)):
        ladder.climb(step - 2, step, interval=20, lines=[])
        assert ladder.rung == rung
    assert ladder.lr_factor == 0.5
    assert ladder.seed(7, 9) == 7 + (1 << 32) != ladder.seed(7, 11) == 7
