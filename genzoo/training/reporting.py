"""How a run reports: losses read from the device, shown to the controllers and the monitor, and logged."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from safetensors import SafetensorError

from genzoo.errors import RunStopped, cause
from genzoo.objective import Objective, Progress
from genzoo.progress import Bar
from genzoo.runs.checkpoint import Checkpoints
from genzoo.runs.folder import RunFolder
from genzoo.training.callbacks import Callback
from genzoo.training.launch import Processes, peak_memory, resume_command
from genzoo.training.log import Window
from genzoo.training.monitor import Watch

Position = Mapping[str, Any]  # of the run, in each log line: step, nimg, seconds


class Reporter:
    """Reports the losses of a window. All processes call it; the first one writes.

    Args:
        folder: its log is appended to.
        watch: the monitor, which sees every line.
        objective: its controllers see every step's scalars; its guides are logged while they change.
        acc: averages over processes; its trackers get every line's scalars.
        checkpoints: are named when nothing can be written any more.
        callbacks: are called for every line and snapshot.
    """

    def __init__(
        self,
        folder: RunFolder,
        watch: Watch,
        objective: Objective,
        acc: Processes,
        checkpoints: Checkpoints,
        callbacks: Sequence[Callback] = (),
    ):
        self._folder, self._watch, self._objective, self._acc = folder, watch, objective, acc
        self._controllers, self._checkpoints, self._callbacks = objective.controllers, checkpoints, callbacks

    def observe(self, window: Window, at: Progress, position: Position) -> None:
        """Reads the losses since the last time, refuses to continue with a broken one, and informs the controllers.

        Raises:
            Broken: see `Window.fetch`.
        """
        for step, scalars in window.fetch(lambda values: self._acc.reduce(values, "mean")):
            for controller in self._controllers.values():
                text = controller.observe(replace(at, step=step), scalars)
                if text and self._acc.is_main_process:
                    with self.writing():
                        self._watch.report({**position, "kind": "control", "text": text})

    def log(self, window: Window, at: Progress, position: Position, bar: Bar) -> None:
        """Logs the means of the losses since the last time, and the settings that change.

        Raises:
            Broken: see `Window.fetch`.
        """
        self.observe(window, at, position)
        scalars = window.means()
        if self._controllers:
            scalars |= {f"control/{name}": controller.value for name, controller in self._controllers.items()}
            scalars |= {f"guide/{panel}": value for panel, value in self._objective.guides.items()}
        self._acc.log(scalars, step=position["step"])
        if self._acc.is_main_process:
            peak = peak_memory(self._acc.device)
            line = {**position, **({} if peak is None else {"peak_gib": round(peak / 2**30, 3)}), **scalars}
            with self.writing():
                self._folder.log.append(line)
                self._watch.observe(line)
            for callback in self._callbacks:
                callback.on_log(line)
            shown = (name for name in sorted(scalars) if not name.startswith(("gradient/", "guide/")))
            bar.set_postfix({name.replace("loss/", ""): f"{scalars[name]:.3g}" for name in shown}, refresh=False)

    def took_snapshot(self, position: Position) -> None:
        """Calls the callbacks after a snapshot."""
        if self._acc.is_main_process:
            for callback in self._callbacks:
                callback.on_snapshot(self._folder.path, position)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Guards a write: a full disk or a lost folder stops the run in one line, with the saved files intact.

        Raises:
            RunStopped: nothing can be written.
        """
        try:
            yield
        except (OSError, SafetensorError) as error:
            saved = self._checkpoints.steps()
            at = f"the checkpoint of step {saved[-1]} is intact" if saved else "no checkpoint was written yet"
            reason, fix = cause(error)
            then = f"{fix[:1].upper()}{fix[1:]}, then resume" if fix else "To resume"
            raise RunStopped(
                f"Cannot write to {self._folder.path} ({reason}); {at}. {then}:\n  {resume_command(self._folder.path)}"
            ) from error
