"""One trainer for every model: it knows updates and networks by name, and no model, loss or role."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genzoo.controller import EVERY
from genzoo.data import Dataset, describe, facts, open_dataset
from genzoo.data.batches import Batches, Resident, load, make_resident
from genzoo.duration import in_images
from genzoo.factory import build, build_objective, check_networks
from genzoo.items import Items
from genzoo.models.generative import Generative
from genzoo.objective import Progress
from genzoo.progress import Bar, write_line
from genzoo.runs.checkpoint import Checkpoints
from genzoo.runs.folder import RunFolder
from genzoo.runs.names import CHECKPOINTS, MODEL
from genzoo.spec import RunConfig
from genzoo.training.budget import Pace
from genzoo.training.callbacks import Callback, hooks
from genzoo.training.distances import distances
from genzoo.training.evaluators import Growth, Weights, scores, shown_vitals
from genzoo.training.feed import batches_of
from genzoo.training.fitting import PriorFit
from genzoo.training.inputs import prepared
from genzoo.training.iteration import Iteration, Scalars
from genzoo.training.launch import agree, deterministic, make_accelerator, resume_command
from genzoo.training.log import Broken, Window, progress_bar
from genzoo.training.misfits import refuse_constant, refuse_misfits, refuse_unsuitable, thin_components
from genzoo.training.monitor import Watch
from genzoo.training.optim import WeightAverage, averaged, make_optimizers
from genzoo.training.recovery import Ladder, Recovery
from genzoo.training.reporting import Reporter
from genzoo.training.schedule import Schedule
from genzoo.training.snapshot import Snapshots
from genzoo.training.state import RUN, DataIdentity, RunIdentity, TrainingState
from genzoo.training.stopping import StopFlag, sole_writer
from genzoo.training.threads import torch_threads
from genzoo.training.trackers import show_preview, start_trackers
from genzoo.training.warmup import too_short
from genzoo.training.ways import settled, way


class Trainer:
    """Trains what a RunConfig describes, into a run folder; the same call resumes it.

    Args:
        config: from `genzoo.resolve(...)`, or a model's name.
        out: the run folder; by default `runs/<model>-<data>-<size>-s<seed>`.
        progress: show bars.
        dataset: trains on this instead of opening what `config.data` names; nothing is held out then.
        began: `time.monotonic()` when the time of `train.budget` began; None = now.
        data: a name, or a tensor, array or torch Dataset (see `genzoo.data.own`), of which nothing is held out.
        callbacks: one or several, called for each log line and snapshot.

    Raises:
        UsageError: the configuration does not fit the data, the folder or the machine.
    """

    def __init__(
        self,
        config: RunConfig | str,
        out: str | Path | None = None,
        progress: bool = True,
        dataset: Dataset | None = None,
        began: float | None = None,
        data: Any = None,
        callbacks: Callback | Sequence[Callback] = (),
    ):
        config, dataset = prepared(config, data, dataset)
        check_networks(config)  # before time is spent on data, and on a plan
        path = Path(out).expanduser() if out is not None else RunFolder.default(config)
        config = settled(config, path, lambda run, folder: Trainer(run, folder, progress, dataset))
        c = config.train
        self.config, self.step = config, 0
        self.pace = Pace(c.budget, time.monotonic() if began is None else began)
        self.acc = make_accelerator(c.device, c.precision, c.trackers, path)
        self.rank, self.world = self.acc.process_index, self.acc.num_processes
        self.stop = StopFlag()  # made now, or a launcher that ends while images are decoded would not be missed
        self.folder = RunFolder(path, config)
        with sole_writer(self.folder, self.acc):
            pass  # or it is refused before time is spent
        with self.acc.main_process_first():  # the first process decodes the cache, the others read it
            self.shows_bars = progress and self.acc.is_main_process
            self.dataset = dataset or open_dataset(config.data, progress=self.shows_bars)
        self.model = self._make_model()
        self.objective = build_objective(config, self.model.spaces, self.acc.device)
        self.controllers = self.objective.controllers
        self.per_step = c.batch * (1 + self.objective.fresh)  # images
        self.total_nimg = in_images(c.duration, batch=self.per_step, epoch=self.dataset.size)
        self.total_steps = -(-self.total_nimg // self.per_step)
        refuse_misfits(config, self.objective, self.world, self.total_steps)
        refuse_constant(self.objective, self.dataset)
        refuse_unsuitable(config, self.objective, self.dataset)
        self.short = too_short(config, self.total_nimg, self.per_step, self.dataset.size)
        # Un-wrapped networks: gradients are averaged after each phase, which no phase can silently get wrong. In
        # channels_last, convolutions are faster and give the same result; for BatchNorm see genzoo.nn.batchnorm.
        self.model.to(self.acc.device, memory_format=torch.channels_last).train()
        self.ema = WeightAverage(self.model, c.ema) if c.ema else None
        nets = dict(self.model.named_children())
        for net in nets.values():
            self.acc.prepare_model(net, evaluation_mode=True)  # autocast, no wrapper
        self.optimizers = make_optimizers(nets, self.objective.optimizers, c)
        self.ladder = Ladder()
        self.iteration = Iteration(self.objective, self.model, self.ema, self.optimizers, c, self.ladder, self.acc)

        every = in_images(c.snapshot_every, batch=self.per_step, epoch=self.dataset.size, total=self.total_nimg)
        self.schedule = Schedule(max(1, round(every / self.per_step)), c.snapshot_minutes)
        self.watch = Watch(self.folder, self.total_steps, self.objective)
        record = describe(config.data) if dataset is None else None
        split = record.chooses if record and self.dataset.size is not None else None
        real = record and (split or config.data.split)
        measured = distances(config, real, self.acc.device, self.shows_bars)
        measures = (scores, shown_vitals, Growth(self.model, c.optimizer), *measured)
        images = self.schedule.every_steps * self.per_step, self.total_nimg
        report, steps = self.acc.print, self.total_steps
        self.prior_fit = fit = PriorFit(config, self.dataset, self.model, images, steps, report, self.shows_bars)
        self.snapshots = Snapshots(config, self.dataset, split, self.folder, self.objective, self.watch, measures, fit)
        self.state = self._register_state()
        called = hooks(callbacks, self.shows_bars and c.budget is None, self.total_steps, write_line)
        self.reporter = Reporter(self.folder, self.watch, self.objective, self.acc, self.state.checkpoints, called)
        interval, writing = self.schedule.every_steps, self.reporter.writing
        self.recovery = Recovery(
            self.ladder, self.state, self.folder, self.acc, rungs=c.recover, interval=interval, writing=writing
        )
        if self.acc.is_main_process and (note := self.folder.create(record, facts(self.dataset).to_json())):
            self.acc.print(note)

    def _make_model(self) -> Generative:
        """The run's model with its first weights, a function of the seed."""
        torch.manual_seed(self.config.train.seed)
        labels = self.config.data.labels
        return build(self.config, self.dataset.shape, self.dataset.classes(labels) if labels else ())

    def _register_state(self) -> TrainingState:
        """Registers everything that later steps depend on."""
        state = TrainingState(Checkpoints(self.folder.path / CHECKPOINTS, self.config.train.keep), self.acc)
        state.add(RUN, RunIdentity(self.config, self.folder))
        fresh = lambda: self._make_model().state_dict()  # noqa: E731
        state.add("model", self.model, fresh)
        if self.ema is not None:
            state.add("ema", self.ema, lambda: averaged(fresh()))
        for key, optimizer in self.optimizers.items():
            state.add(f"optimizer-{key}", optimizer)
        if isinstance(self.objective, nn.Module):
            state.add("objective", self.objective)
        for name, controller in self.controllers.items():
            state.add(f"controller-{name}", controller)
        state.add("ladder", self.ladder)
        state.add("snapshots", self.snapshots)
        state.add("data", DataIdentity(self.dataset, self.acc.print, self.config.data.name))
        return state

    def summary(self) -> str:
        """What is about to run, in two lines."""
        c, data = self.config.train, self.dataset
        items = f"{data.size:,}" if data.size is not None else "endless"
        sizes = ", ".join(
            f"{name} {sum(p.numel() for p in net.parameters()):,}" for name, net in self.model.named_children()
        )
        shape = "x".join(map(str, data.shape))
        return (
            f"{self.config.model} on {data.name}: {items} items of shape {shape}; parameters: {sizes}\n"
            f"{self.total_nimg:,} images in {self.total_steps:,} steps of {self.per_step}, {way(c)} on "
            f"{self.world} x {self.acc.device.type}, into {self.folder.path}"
        )

    def fit(self) -> Path:
        """Trains to the end, or from the newest checkpoint on; returns the run folder.

        Raises:
            UsageError: another process trains into the folder, or what it holds cannot be resumed.
            RunStopped: a loss is not finite and no rung of the ladder helps, or nothing can be written; the last good
                checkpoint stays.
            KeyboardInterrupt: on Ctrl-C or another signal of `genzoo.training.stopping`, after saving.
        """
        with self.stop as stop, sole_writer(self.folder, self.acc):
            stopped = self._fit(stop)
        if stopped:
            self.acc.print(
                f"Stopped by {stop.cause} at {self.progress.nimg:,} images; everything is saved. To resume:\n"
                f"  {resume_command(self.folder.path)}"
            )
            raise KeyboardInterrupt
        if self.shows_bars:
            self.acc.print(self.watch.summary())
        for tracker in self.acc.trackers:  # not end_training(): it would also end the process group of the next run
            tracker.finish()
        return self.folder.path

    def _fit(self, stop: StopFlag) -> bool:
        """Resumes and trains; returns whether it was stopped."""
        self.step = self.state.resume(self.folder, lambda step: self.snapshots.lengths(step == self.total_steps))
        if self.step:
            done, total = f"{self.progress.nimg:,}", f"{self.total_nimg:,}"
            self.acc.print(f"Resuming {self.folder.path} at {done} of {total} images.")
        earlier = self.folder.seconds()
        self.schedule.start(earlier)
        self.pace.start(earlier)
        start_trackers(self.acc, self.config)
        wanted = self.config.train.workers is None
        resident = make_resident(self.dataset, self.acc.device, self.acc.print) if wanted else None
        stopping, done, end = None, self.step * self.per_step, self.total_steps * self.per_step
        with (
            progress_bar(self.config.model, done, end, self.shows_bars, self.pace) as bar,
            torch_threads(self.config.train.threads),
            deterministic(self.acc.device),
        ):
            self.prior_fit.interrupted = lambda: stop.is_set
            while stopping is None:
                try:
                    stopping = self._run(bar, stop, resident)
                except Broken as trouble:
                    self.step = self.recovery.go_back(trouble, self.data(whole=True))
                    bar.n = self.step * self.per_step
                    bar.refresh()
        return stopping

    def _run(self, bar: Bar, stop: StopFlag, resident: Resident | None) -> bool:
        """Trains to the end, or until a stop is requested; returns whether it was."""
        if self.acc.is_main_process:
            with self.reporter.writing():
                first = self.data(whole=True)[0][0].x if self.step == 0 else None
                thin = [] if self.step else thin_components(self.config, self.objective, self.dataset)
                self.watch.begin(first, facts(self.dataset).top, self.short, self._position(), thin)
        if self.step == self.total_steps and agree(not self.snapshots.is_complete(), self.acc):
            self.acc.print(f"The last snapshot is taken again: {self.folder.path / MODEL} is not complete.")
            return self.snapshot()
        window = Window(self.folder.log.read())
        for parts in self._batches(resident):
            window.add(self.step, self.train_step(parts, self.progress))
            self.step += 1
            bar.update(self.per_step)
            if self.controllers and self.step % EVERY == 0:
                self.reporter.observe(window, self.progress, self._position())
            if self._pauses(stop):
                stopping = agree(stop.is_set, self.acc) and self.step < self.total_steps
                due = agree(self.schedule.due(self.step), self.acc) or self.step == self.total_steps
                self.reporter.log(window, self.progress, self._position(), bar)
                cut = (due or stopping) and self.snapshot()
                if cut or stopping:
                    return True
        return False

    def _pauses(self, stop: StopFlag) -> bool:
        """Whether to read the losses now: at steps that all processes agree on, or, alone, once something is due."""
        planned = self.step % self.config.train.log_every == 0 or self.step == self.total_steps
        planned = planned or self.schedule.planned(self.step)
        return planned or (self.world == 1 and (stop.is_set or self.schedule.due(self.step)))

    def snapshot(self) -> bool:
        """Takes a snapshot, which the first process writes; returns whether Ctrl-C cut the last one short."""
        cut = False
        if self.acc.is_main_process:
            with self.reporter.writing():
                if text := self.pace.late(self.step, self.total_steps):
                    self.watch.report({**self._position(), "kind": "budget", "text": text})
                last, save = self.step == self.total_steps, partial(self.state.save, self.step)
                planned = last or self.schedule.planned(self.step)
                cut = self.snapshots.take(Weights(self.shown, self.model), self._position, last, save, planned)
                show_preview(self.acc, self.folder.path, self.step)
        cut = agree(cut, self.acc)  # the other processes wait for the first one
        self.schedule.taken()
        self.reporter.took_snapshot(self._position())
        return cut

    @property
    def shown(self) -> Generative:
        """The model whose samples are shown and saved: the average where there is one."""
        shown = self.ema.module if self.ema is not None else self.model
        assert isinstance(shown, Generative)
        return shown

    def _position(self) -> dict[str, Any]:
        return {"step": self.step, "nimg": self.progress.nimg, "seconds": round(self.schedule.seconds(), 2)}

    @property
    def progress(self) -> Progress:
        size, parts = self.dataset.size, 1 + self.objective.fresh
        return Progress(self.step, self.config.train.batch, self.total_nimg, epoch_nimg=size, parts=parts)

    def train_step(self, parts: Sequence[Items], at: Progress) -> list[tuple[tuple[str, ...], Scalars]]:
        """Runs one iteration on this process's part of the step's real batches; returns each phase's scalars."""
        return self.iteration(parts, at)

    def _batches(self, resident: Resident | None) -> Iterator[Sequence[Items]]:
        steps = self.data(), self.step, self.total_steps
        return resident.load(*steps) if resident else load(*steps, self.config.train.workers)

    def data(self, whole: bool = False) -> Batches:
        """This process's part of every step's batches, or the global ones."""
        place = (0, 1) if whole else (self.rank, self.world)
        return batches_of(self.config, self.dataset, self.ladder, 1 + self.objective.fresh, *place)
