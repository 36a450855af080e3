"""One trainer for every adversarial autoencoder: it knows updates and networks by name, and no model, loss or role."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from genzoo.controller import EVERY, Controller
from genzoo.data import open_dataset
from genzoo.duration import in_images
from genzoo.errors import UsageError, suggest
from genzoo.noise import Noise, generator
from genzoo.objective import Progress, Update, lockstep
from genzoo.registry import get_spec
from genzoo.resolve import build, flat, to_json
from genzoo.spec import RunConfig
from genzoo.training.checkpoint import Checkpoints
from genzoo.training.graph import CompiledStep, Phase
from genzoo.training.launch import StopFlag, agree, average_buffers, average_gradients, make_accelerator, peak_memory, resume_command
from genzoo.training.loader import Batches, Resident, as_real, load, make_resident
from genzoo.training.log import Broken, RunStopped, Window, progress_bar
from genzoo.training.monitor import Watch
from genzoo.training.optim import ema_with_warmup, learning_rate, make_optimizer
from genzoo.training.recovery import Recovery
from genzoo.training.run import RunFolder
from genzoo.training.snapshot import Snapshots
from genzoo.training.state import RunState


class Trainer:
    """Trains what a RunConfig says, into a run folder; the same call resumes it.

    Args:
        config: from `genzoo.resolve(...)`.
        out: the run folder; by default `runs/<model>-<data>-<size>-s<seed>`.
        progress: show bars.

    Raises:
        UsageError: the configuration does not fit the data, the folder or the machine.
    """

    def __init__(self, config: RunConfig, out: str | Path | None = None, progress: bool = True):
        c = config.train
        self.config, self.shows_bars = config, progress
        place = Path(out) if out is not None else RunFolder.default(config)
        self.acc = make_accelerator(c.device, c.precision, c.trackers, place)
        self.rank, self.world = self.acc.process_index, self.acc.num_processes
        if c.batch % (self.world * c.accumulate):
            raise UsageError(
                f"train.batch={c.batch} does not divide over {self.world} processes x {c.accumulate} micro-batches: choose a multiple."
            )
        self.folder = RunFolder(place, config)
        with self.acc.main_process_first():  # the first process decodes the cache, the others read it
            self.dataset = open_dataset(config.data, progress=progress and self.acc.is_main_process)
        torch.manual_seed(c.seed)
        self.model = build(config, self.dataset.shape)
        self.objective = get_spec(config.model.partition(".")[0]).objective(config.objective, self.dataset.shape, config.arch.z_dim)
        self.controllers: Mapping[str, Controller] = getattr(self.objective, "controllers", {})
        if c.compile and (self.world > 1 or c.checkpointing or self.controllers):
            raise UsageError(
                "train.compile=true takes one process, and neither train.checkpointing nor a setting that is auto: leave it out, or them."
            )
        self.nets = dict(self.model.named_children())
        for name in c.lr_of:
            if name not in self.nets:
                raise UsageError(f"train.lr_of.{name}: the model has no network of that name.{suggest(name, self.nets)}")
        self.total_nimg = in_images(c.duration, batch=c.batch, epoch=self.dataset.size)
        self.total_steps = -(-self.total_nimg // c.batch)
        if not self.total_steps:
            raise UsageError(f"train.duration={c.duration} is no image at all: give at least one, --images 100k.")
        self._prepare()
        if self.acc.is_main_process:
            self.folder.create()

    def _prepare(self) -> None:
        """Places the networks un-wrapped: gradients are averaged by hand after each backward, which no phase can get silently wrong."""
        c = self.config.train
        self.model.to(self.acc.device, memory_format=torch.channels_last).train()  # faster convolutions, the same mathematics
        average = ema_with_warmup(c.ema, done=lambda: int(self.ema.n_averaged))  # a counter that stays on the host
        self.ema = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True) if c.ema else None
        for net in self.nets.values():
            self.acc.prepare_model(net, evaluation_mode=True)  # autocast, no wrapper
        self.optimizers = {name: self.acc.prepare_optimizer(make_optimizer(name, net, c)) for name, net in self.nets.items()}
        self._phases = CompiledStep(self.model, self._gradients, self._move) if c.compile else self._eager
        self.checkpoints = Checkpoints(self.folder.path / "checkpoints", c.keep)
        self.saved = RunState(self)
        self.snapshots = Snapshots(self)
        self.recovery = Recovery(self)
        self.watch = Watch(self.folder, self.total_steps, self.objective.guides)

    def summary(self) -> str:
        """What is about to run, in two lines."""
        c, data = self.config.train, self.dataset
        items = f"{data.size:,}" if data.size is not None else "endless"
        sizes = ", ".join(f"{name} {sum(p.numel() for p in net.parameters()):,}" for name, net in self.nets.items())
        return (
            f"{self.config.model} on {data.name}: {items} items of shape {'x'.join(map(str, data.shape))}; parameters: {sizes}\n"
            f"{self.total_nimg:,} images in {self.total_steps:,} steps of {c.batch}, {c.precision} on {self.world} x {self.acc.device.type}, "
            f"into {self.folder.path}"
        )

    def fit(self) -> Path:
        """Trains to the end, or from the newest checkpoint on; returns the run folder.

        Raises:
            RunStopped: a loss is not finite and no rung of the ladder helps, or nothing can be written; the last good checkpoint stays.
            KeyboardInterrupt: on Ctrl-C or SIGTERM, after saving.
        """
        self._resume()
        self.snapshots.start()
        if self.config.train.trackers:
            self.acc.init_trackers("genzoo", config={key: str(value) for key, value in flat(to_json(self.config))})
        resident = make_resident(self.dataset, self.acc.device, self.acc.print) if self.config.train.workers is None else None
        stopping, done, end = None, self.step * self.config.train.batch, self.total_steps * self.config.train.batch
        shown = self.shows_bars and self.acc.is_main_process
        with progress_bar(self.config.model, done, end, shown) as bar, StopFlag() as stop:
            while stopping is None:
                try:
                    stopping = self._run(bar, stop, resident)
                except Broken as trouble:
                    self.recovery.go_back(trouble)
                    bar.n = self.step * self.config.train.batch
                    bar.refresh()
        if stopping:
            self.acc.print(
                f"Stopped at {self.progress.nimg:,} images; everything is saved. To resume:\n  {resume_command(self.folder.path)}"
            )
            raise KeyboardInterrupt
        if self.shows_bars:
            self.acc.print(self.watch.summary())
        for tracker in self.acc.trackers:  # not end_training(): it would also end the processes' group, which the next run needs
            tracker.finish()
        return self.folder.path

    def _run(self, bar: tqdm, stop: StopFlag, resident: Resident | None) -> bool:
        """Trains on to the end, or until it is told to stop; returns whether it was."""
        if self.acc.is_main_process:
            self.guarded(lambda: self.watch.begin(self.data(whole=True)[0] if self.step == 0 else None))
        window = Window(self.folder.log.read())
        for batch in self._batches(resident):
            window.add(self.step, self.train_step(batch, self.progress))
            self.step += 1
            bar.update(self.config.train.batch)
            if self.controllers and self.step % EVERY == 0:
                self._observe(window)
            if self._pause(stop):
                stopping = agree(stop.is_set, self.acc) and self.step < self.total_steps
                due = agree(self.snapshots.due(), self.acc) or self.step == self.total_steps
                self._tell(window, bar)
                if due or stopping:
                    self.guarded(self.snapshots.take)
                if stopping:
                    return True
        return False

    def _pause(self, stop: "StopFlag") -> bool:
        """Whether to read the losses now: at steps that all processes agree on, or, when alone, as soon as something is due."""
        planned = self.step % self.config.train.log_every == 0 or self.step == self.total_steps or self.snapshots.planned()
        return planned or (self.world == 1 and (stop.is_set or self.snapshots.due()))

    def _observe(self, window: Window) -> None:
        """Reads the losses of the steps since the last time, refuses to go on with a broken one, and shows them to the controllers."""
        for step, scalars in window.fetch(lambda values: self.acc.reduce(values, "mean")):
            for controller in self.controllers.values():
                told = controller.observe(replace(self.progress, step=step), scalars)
                if told and self.acc.is_main_process:
                    self.guarded(lambda text=told: self.watch.tell({**self._place(), "kind": "control", "text": text}))

    def _place(self) -> dict[str, Any]:
        return {"step": self.step, "nimg": self.progress.nimg, "seconds": round(self.snapshots.seconds(), 2)}

    def _tell(self, window: Window, bar: tqdm) -> None:
        """Logs the means of the losses since the last time, and the settings that move."""
        self._observe(window)
        scalars = window.means()
        if self.controllers:
            scalars |= {f"control/{name}": controller.value for name, controller in self.controllers.items()}
            scalars |= {f"guide/{panel}": value for panel, value in self.objective.guides.items()}
        line = self._place() | {"peak_gib": round(peak_memory(self.acc.device) / 2**30, 3)} | scalars
        self.acc.log(scalars, step=self.step)
        if self.acc.is_main_process:
            self.guarded(lambda: self.folder.log.append(line))
            self.guarded(lambda: self.watch.observe(line))
            bar.set_postfix(
                {
                    name.replace("loss/", ""): f"{scalars[name]:.3g}"
                    for name in sorted(scalars)
                    if not name.startswith(("gradient/", "guide/"))
                },
                refresh=False,
            )

    def guarded(self, write: Callable[[], None]) -> None:
        """Writes to the run folder; a full disk or a lost folder stops the run in one line, with what was saved before intact."""
        try:
            write()
        except (OSError, SafetensorError) as error:
            saved = self.checkpoints.steps()
            at = f"the checkpoint of step {saved[-1]} is whole" if saved else "no checkpoint was written yet"
            raise RunStopped(
                f"Cannot write to {self.folder.path} ({error}); {at}. Make room, then resume:\n  {resume_command(self.folder.path)}"
            ) from error

    @property
    def progress(self) -> Progress:
        return Progress(step=self.step, batch=self.config.train.batch, total_nimg=self.total_nimg, epoch_nimg=self.dataset.size)

    def train_step(self, batch: Tensor, at: Progress) -> list[Phase]:
        """Runs one iteration of the objective on this process's part of the batch, all its phases; returns each phase's scalars."""
        seed = self.recovery.ladder.seed(self.config.train.seed, at.step)
        torch.manual_seed(generator(seed, f"torch/{self.rank}", at.step).initial_seed())  # dropout in trunks
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(group["base_lr"], self.config.train, at) * self.recovery.ladder.lr_factor
        phases = self._phases(list(self._micro_batches(batch, at)), at)
        average_buffers(self.model, self.acc)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return phases

    def _eager(self, batches: Sequence[Any], at: Progress) -> list[Phase]:
        """All phases of a step, as PyTorch runs them; `train.compile` replaces this."""
        return [(trains, scalars | self._move(trains)) for trains, scalars in self._gradients(batches, at)]

    def _gradients(self, batches: Sequence[Any], at: Progress) -> Iterator[Phase]:
        """Computes one phase after the other, from all micro-batches; to be resumed after its networks have been moved."""
        steps, scalars = [self.objective.step(self.model, micro, at) for micro in batches], dict[str, Tensor]()
        for phase in lockstep(steps, mean=lambda value: self.acc.reduce(value, "mean")):
            trains, waits = self._backward(phase, scalars)
            if not waits:
                yield trains, scalars
                scalars = {}

    def _backward(self, phase: Iterator[Update], scalars: dict[str, Tensor]) -> tuple[tuple[str, ...], bool]:
        """Adds gradients to `.grad` and logs to `scalars`, averaged over micro-batches; returns what is trained, and whether more is to come."""
        share = self.config.train.accumulate
        for update in phase:
            inputs = [p for name in update.trains for p in self.nets[name].parameters() if p.requires_grad]
            self.acc.backward(update.loss / share, inputs=inputs, retain_graph=update.keep_graph)
            for name, value in update.logs.items():
                scalars[name] = scalars.get(name, 0) + value / share
            told = update.trains, update.waits
        return told

    def _move(self, trains: Sequence[str]) -> dict[str, Tensor]:
        """One optimiser step of some networks, from the gradients of all processes; returns the gradients' norms."""
        norms = {}
        for name in trains:
            norms[f"gradient/{name}"] = norm = torch.nn.utils.get_total_norm(average_gradients(self.nets[name], self.acc))
            clips = self.config.train.clip, self.recovery.ladder.clip.get(name)
            if clip := min(filter(None, clips), default=None):
                torch.nn.utils.clip_grads_with_norm_(self.nets[name].parameters(), clip, norm)
            self.optimizers[name].step()
            self.optimizers[name].zero_grad()
        return norms

    def _micro_batches(self, batch: Tensor, at: Progress) -> Iterator[Any]:
        c = self.config.train
        size, seed = c.batch // (self.world * c.accumulate), self.recovery.ladder.seed(c.seed, at.step)
        for i, micro in enumerate(as_real(batch, self.acc.device).split(size)):
            start = (self.rank * c.accumulate + i) * size
            yield self.objective.draw(micro, Noise(seed=seed, step=at.step, batch=c.batch, start=start, stop=start + size, like=micro))

    def _batches(self, resident: Resident | None) -> Iterator[Tensor]:
        steps = self.data(), self.step, self.total_steps
        return resident.load(*steps) if resident else load(*steps, self.config.train.workers)

    def data(self, whole: bool = False) -> Batches:
        """This process's part of every step's batch, or the whole of it."""
        c = self.config.train
        local = c.batch // self.world
        start, stop = (0, c.batch) if whole else (self.rank * local, (self.rank + 1) * local)
        return Batches(
            self.dataset,
            seed=c.seed,
            batch=c.batch,
            start=start,
            stop=stop,
            mirror=self.config.data.mirror,
            seed_of=self.recovery.ladder.seed,
            left_out=self.recovery.ladder.left_out,
        )

    def _resume(self) -> None:
        """Puts every process where the newest whole checkpoint left it; `step` is the number of steps done."""
        self.step = self.saved.load()
        if self.step:
            self.acc.print(f"Resuming {self.folder.path} at {self.progress.nimg:,} of {self.total_nimg:,} images.")
        if self.acc.is_main_process:
            self.saved.rewind()
        self.acc.wait_for_everyone()  # the others read what is left
