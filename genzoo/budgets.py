"""A run with a budget of time: from how long one wants to wait to a configuration, by measuring on this machine.

What is decided is saved in run.json as ordinary settings. The same command finds them there and measures nothing, so
that a resumed run is exact.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from genzoo.configure import bare_presets, data_shape, resolve
from genzoo.data.catalog import find_entry
from genzoo.duration import in_images, in_seconds
from genzoo.errors import UsageError
from genzoo.recipes import Line, recipe_lines, texts, without
from genzoo.registry import get_spec, split_name
from genzoo.runs.folder import RunFolder, read_config
from genzoo.settings import fields, show
from genzoo.spec import RunConfig
from genzoo.suggestions import suggest_recipe
from genzoo.training.budget import Costs, plan_run
from genzoo.training.costs import time_flow, time_snapshot
from genzoo.training.fitting import flow_steps
from genzoo.training.launch import alike
from genzoo.training.trainer import Trainer
from genzoo.training.ways import Trials, checked, open_settings, try_ways

LENGTH = ("train.duration", "train.snapshot_every")  # what a plan decides besides `auto` settings


@dataclass(frozen=True)
class Ask:
    """A run to plan.

    Attributes:
        budget: as `in_seconds` reads it.
        resolve: makes the configuration from settings that are weaker than the user's own.
        chosen: the user's own, `section.field=value`.
        own_data: whether the data is neither the preset's nor another preset's, so that a look at it decides sizes and
            weights.
    """

    budget: str
    resolve: Callable[[Sequence[str]], RunConfig]
    chosen: Sequence[str] = ()
    own_data: bool = False

    @property
    def seconds(self) -> float:
        return in_seconds(self.budget)


def ask(
    model: str, budget: str, res: tuple[int, int] | None = None, data: str | None = None, settings: Sequence[str] = ()
) -> Ask:
    """Returns the run that `genzoo train` means by these options.

    Raises:
        UsageError: the budget is not a time.
    """
    in_seconds(budget)
    spec, preset = split_name(model)
    own = preset is None and data not in (None, *(row.data.get("name") for row in bare_presets(spec).values()))
    if own:
        model = f"{spec.name}.{spec.default_preset}"  # named, as there is nothing to say of its choice
    if own and res is not None:  # the data decides the rest, and no preset that was made for this size
        settings, res = [f"data.size={res[0]}x{res[1]}", *settings], None
    return Ask(
        budget, lambda weaker: resolve(model, res=res, data=data, settings=[*weaker, *settings]), tuple(settings), own
    )


@dataclass(frozen=True)
class Planned:
    """A planned run."""

    config: RunConfig
    lines: list[Line]  # what was decided, with reasons; empty for a run that is resumed


def planned(
    wanted: Ask,
    out: str | Path | None,
    began: float,
    progress: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Planned:
    """Plans a run so that it ends with its budget, or finds the plan of the run in its folder.

    Args:
        wanted: what is to be planned.
        out: the run folder; None = the default one.
        began: when the budget's time began, by `clock`.
        progress: show bars while data are decoded.
        clock: seconds.

    Raises:
        UsageError: a length is given besides the budget, the budget is too short, or the run cannot be trained.
    """
    keys = {text.partition("=")[0] for text in wanted.chosen}
    for key in ("train.duration", "train.budget"):
        if key in keys:
            raise UsageError(f"--budget decides train.duration: leave out either --budget or --set {key}.")
    lines = standing_lines(wanted)
    config = wanted.resolve(texts(lines))
    folder = Path(out).expanduser() if out is not None else RunFolder.default(config)
    saved = read_config(folder)
    if saved is not None:
        kept = _kept(config, saved)
        return Planned(replace(wanted.resolve(texts([*lines, *kept])), notes=saved.notes), [])
    _refuse_unwritable(folder)
    with tempfile.TemporaryDirectory() as temporary:
        makes = list[float]()  # seconds that it takes to make a trainer

        def rehearse(run: RunConfig) -> Trainer:
            before = clock()
            trainer = Trainer(run, tempfile.mkdtemp(dir=temporary), progress)
            if progress and not makes:
                trainer.acc.print(f"Timing steps and a snapshot, to plan a run of {wanted.budget} ...")
            makes.append(clock() - before)
            return trainer

        trials = try_ways(config, rehearse, clock)
        if len(makes) == 1 and config.train.measure:  # it may have trained a classifier
            rehearse(config)
        measured = _plan(wanted, lines, trials, makes[-1], began, clock)
    decided = {line.setting for line in measured.lines}
    lines = without([*(line for line in lines if line.setting not in decided), *measured.lines], wanted.chosen)
    config = wanted.resolve(texts(lines))
    return Planned(replace(config, notes=(*config.notes, measured.note)), lines)


def standing_lines(wanted: Ask) -> list[Line]:
    """Returns what does not depend on measurements: the recipe and, for data of one's own, what a look at it says."""
    base = wanted.resolve([])
    accelerated = torch.accelerator.is_available() and base.train.device != "cpu"
    spec = get_spec(base.model.partition(".")[0])
    if wanted.own_data:
        sized = any(text.startswith("data.size=") for text in wanted.chosen)
        data, size = replace(base.data, size=None), base.data.size if sized else None
        _, lines = suggest_recipe(spec, data, size, accelerated, wanted.seconds)
    else:
        shape = (2,) if is_points(base) else data_shape(base)
        lines = recipe_lines(spec, shape, accelerated, wanted.seconds, base.data.limit)
    ways = [
        Line("train.precision", "auto", "the fastest, by timing"),
        Line("train.threads", "auto", "the fastest, by timing"),
        Line("train.compile", "auto", "the fastest, by timing"),
        Line("train.budget", wanted.budget, "as asked"),
    ]
    return without([*lines, *ways], wanted.chosen)


def is_points(run: RunConfig) -> bool:
    """Whether a run is on points, by its data if they are cataloged, else by its networks."""
    entry = find_entry(run.data.name)
    return entry.kind == "points" if entry is not None else run.arch.perceptrons


@dataclass(frozen=True)
class _Measured:
    lines: list[Line]
    note: str


def _plan(
    wanted: Ask, standing: Sequence[Line], trials: Trials, start: float, began: float, clock: Callable[[], float]
) -> _Measured:
    """Measures a snapshot, and fixes the length of a run that begins `start` seconds later."""
    run = wanted.resolve(texts(standing))
    best = checked(trials.best, wanted.seconds, clock)
    trainer, times = best.trainer, best.times
    assert isinstance(trainer, Trainer)
    if trainer.config.train.compile:
        start += trials.best.times.first  # it compiles again
    snapshot = time_snapshot(trainer, wanted.seconds, clock)
    flow = time_flow(trainer, clock)
    costs = Costs(times.warmup, times.late, snapshot, alike([start], trainer.acc)[0], flow)
    per_step, epoch = trainer.per_step, trainer.dataset.size
    shares = _shares(run, without(_durations(run), wanted.chosen), per_step, epoch)
    warmup = get_spec(run.model.partition(".")[0]).warmup(wanted.resolve(texts([*standing, *shares])).objective)

    def warmup_steps(steps: int) -> int:
        return -(-in_images(warmup, batch=per_step, epoch=epoch, total=steps * per_step) // per_step)

    passed = alike([clock() - began], trainer.acc)[0]

    def snapshots(steps: int) -> int:
        every = in_images(run.train.snapshot_every, batch=per_step, epoch=epoch, total=steps * per_step)
        return -(-steps // max(1, round(every / per_step)))

    chosen = any(text.startswith("train.snapshot_every=") for text in wanted.chosen)
    plan = plan_run(
        wanted.budget,
        passed,
        costs,
        warmup_steps,
        run.train.snapshot_minutes,
        snapshots if chosen else None,
        partial(flow_steps, run.train.prior),
    )
    fits = f"{plan.steps:,} steps of {per_step} fit into {wanted.budget}"
    every = str(plan.steps // plan.snapshots * per_step)
    share = f"{plan.snapshots} snapshot{'s' * (plan.snapshots > 1)} of {snapshot:.2g} s"
    lines = [
        *_ways(run, trials),
        *shares,
        Line("train.duration", str(plan.steps * per_step), fits),
        Line("train.snapshot_every", every, share),
    ]
    also = f" and {1000 * costs.flow:.2g} ms a step of the flow" if flow_steps(run.train.prior, plan.steps) else ""
    note = (
        f"planned for a budget of {wanted.budget}, after {passed:.1f} s: {trials}; planned with {best.times}, "
        f"{snapshot:.2g} s a snapshot{also}"
    )
    return _Measured(lines, note)


def _ways(run: RunConfig, trials: Trials) -> list[Line]:
    """The settings that timing decided; the figures stand beside the first one."""
    names = open_settings(run.train)
    reasons = [str(trials), *("timed together",) * len(names)]
    return [
        Line(f"train.{name}", show(trials.settings[name]).lower(), reason)
        for name, reason in zip(names, reasons, strict=False)
    ]


def _durations(run: RunConfig) -> list[Line]:
    """The settings that say where in the run something happens, unless they say it as a share."""
    spec, c = get_spec(run.model.partition(".")[0]), run.train
    names = [name for name, kind, *_ in fields(spec.config) if kind == "duration"]
    found = [(f"objective.{name}", (getattr(run.objective, name),)) for name in names]
    found += [("train.lr_drops", c.lr_drops), ("train.lr_from", (c.lr_from,))]
    absolute = [(name, values) for name, values in found if any(v != "0" and not v.endswith("%") for v in values)]
    return [Line(name, show(values), f"as in {c.duration}") for name, values in absolute]


def _shares(run: RunConfig, durations: Sequence[Line], per_step: int, epoch: int | None) -> list[Line]:
    """These settings as shares of the preset's own length."""
    total = in_images(run.train.duration, batch=per_step, epoch=epoch)

    def share(text: str) -> str:
        images = in_images(text, batch=per_step, epoch=epoch, total=total)
        return f"{100 * min(1.0, images / total):.2f}%"

    return [
        Line(line.setting, ",".join(map(share, line.value.split(","))), f"{line.value} of {run.train.duration}")
        for line in durations
    ]


def _kept(run: RunConfig, saved: RunConfig) -> list[Line]:
    """What the plan of a saved run decided."""
    auto = [f"train.{name}" for name in open_settings(run.train)]
    lines = []
    for name in (*LENGTH, *auto, *(line.setting for line in _durations(run))):
        section, _, field = name.partition(".")
        if not hasattr(getattr(saved, section), field):  # the run of another model, which is refused later
            continue
        value = getattr(getattr(saved, section), field)
        lines.append(Line(name, show(value).lower() if isinstance(value, bool) else show(value), "as saved"))
    return lines


def _refuse_unwritable(folder: Path) -> None:
    """Refuses a run folder that cannot be written, before anything is measured."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"Cannot write to the run folder {folder} ({there}): choose another with --out.")
