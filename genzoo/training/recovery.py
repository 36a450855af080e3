"""What a run does about a broken step: it returns to the last good checkpoint, changes one thing, and continues.

The ladder has one rung for each time that the same trouble returns; what a lower rung has changed stays changed:

1. the steps of the broken window get other data and other noise (a bad batch is not met again);
2. the learning rate is halved, for the rest of the run;
3. every network's gradient is clipped at its own typical norm, the median of the last `REMEMBERED` log lines;
4. the run stops with the diagnosis.

Items of a finite dataset that hold NaN or infinity are left out from then on, and others drawn in their places; that
takes no rung, unless half of the data is bad. Trouble that comes a whole snapshot interval after the last one starts at
the first rung again. The ladder is saved with every checkpoint, at once after each change, so that a run that is killed
and resumed ends as if it had not been.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from genzoo.data.batches import Batches
from genzoo.errors import RunStopped
from genzoo.progress import write_line
from genzoo.runs.folder import RunFolder
from genzoo.training.launch import Processes
from genzoo.training.log import Broken
from genzoo.training.state import TrainingState

REMEMBERED = 50  # log lines that decide what is typical
SHOWN = 5  # items named in a message


@dataclass
class Ladder:
    """What a run does differently from its configuration, since its last trouble. JSON values only."""

    rung: int = 0  # tried on the present trouble
    settled: int = 0  # from this step on, new trouble starts at the first rung
    redrawn: list[list[int]] = field(default_factory=list)  # [first, end) steps that got other data, once per entry
    lr_factor: float = 1.0
    clip: dict[str, float] = field(default_factory=dict)  # largest gradient norm by optimizer
    left_out: list[int] = field(default_factory=list)  # bad items of the dataset

    def seed(self, seed: int, step: int) -> int:
        """The seed of a step's data and noise: the run's own, except for redrawn steps."""
        return seed + (sum(first <= step < end for first, end in self.redrawn) << 32)

    def climb(self, first: int, step: int, interval: int, lines: Sequence[Mapping[str, Any]]) -> str:
        """Takes the next rung after trouble at `step` in the window that started at `first`; returns what changed.

        Args:
            first: first step of the window.
            step: step of the trouble.
            interval: steps without trouble after which it counts as over.
            lines: the log before the trouble.
        """
        self.rung = 1 if step >= self.settled else self.rung + 1
        self.settled = step + interval
        if self.rung == 1:
            self.redrawn.append([first, step + 1])
            return f"other data and noise for steps {first} to {step}"
        if self.rung == 2:
            self.lr_factor /= 2
            return f"learning rate x {self.lr_factor:g}"
        norms = typical_norms(lines)
        self.clip |= {name: min(norm, self.clip.get(name, math.inf)) for name, norm in norms.items()}
        if not self.clip:
            return "gradients not clipped, as no step before this one was logged, which would give a typical norm"
        shown = ", ".join(f"{name} {norm:.3g}" for name, norm in self.clip.items())
        return f"gradients clipped at their typical norm: {shown}"

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        vars(self).update(asdict(Ladder(**state_dict)))


class Recovery:
    """Takes a run from a broken step back to its last checkpoint. All processes decide alike; the first one writes.

    Args:
        ladder: what has been changed; part of `state`.
        state: is restored and saved.
        folder: its logs are rewound, and what happened is added to `events.jsonl`.
        acc: the processes.
        rungs: tried before the run stops.
        interval: steps between snapshots.
        writing: guards a write to the folder.
    """

    def __init__(
        self,
        ladder: Ladder,
        state: TrainingState,
        folder: RunFolder,
        acc: Processes,
        *,
        rungs: int,
        interval: int,
        writing: Callable[[], AbstractContextManager[None]],
    ):
        self._ladder, self._state, self._folder, self._acc = ladder, state, folder, acc
        self._rungs, self._interval, self._writing = rungs, interval, writing

    def go_back(self, trouble: Broken, batches: Batches) -> int:
        """Restores the newest checkpoint, or the start, with the next rung's change, saves that, and returns its step.

        Log lines and events after that step are removed from their files, so that no step is logged twice, and kept in
        the event.

        Args:
            trouble: what was found.
            batches: the global batches.

        Raises:
            RunStopped: the ladder has no more rungs.
        """
        ladder, lines, events = self._ladder, self._folder.log.read(), self._folder.events.read()
        items, bad = bad_items(batches, trouble.step)
        text = f"{items}; {trouble}" if items else str(trouble)
        problem = "non-finite data" if items else "broken step"
        event = {"kind": "trouble", "problem": problem, "at": trouble.step, "text": text}
        event |= {"nimg": trouble.step * batches.batch * batches.parts}
        few = batches.dataset.size is not None and len(ladder.left_out) + len(bad) < batches.dataset.size / 2
        if self._rungs and bad and few:
            ladder.left_out = sorted({*ladder.left_out, *bad})
            change = f"{shorten(bad)} left out"
        else:
            change = ladder.climb(trouble.first, trouble.step, self._interval, lines)
        if ladder.rung > self._rungs:
            saved = self._state.checkpoints.steps()
            self._append({"step": trouble.step, **event, "did": "stopped"})
            raise RunStopped(f"{text} Last good checkpoint: {f'step {saved[-1]}' if saved else 'none yet'}.")
        changed = ladder.state_dict()
        self._state.reset()
        step = self._state.restore()
        ladder.load_state_dict(changed)
        dropped = [line for line in (*lines, *events) if line["step"] > step]
        self._append({"step": step, **event, "rung": ladder.rung, "did": change, "dropped": dropped})
        self._acc.wait_for_everyone()  # all have read log and checkpoint before the first process changes them
        if self._acc.is_main_process:
            self._folder.rewind(step)
            self._state.checkpoints.rewind(step)
            write_line(f"{text}\nBack to step {step:,} with {change}.")
            with self._writing():
                self._state.save(step)
        self._acc.wait_for_everyone()
        return step

    def _append(self, event: Mapping[str, Any]) -> None:
        if self._acc.is_main_process:
            with self._writing():
                self._folder.events.append(event)


def typical_norms(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The median norm of each optimizer's gradient over the last log lines."""
    norms: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith("gradient/"):
                norms.setdefault(name.removeprefix("gradient/"), []).append(value)
    return {name: median(values[-REMEMBERED:]) for name, values in norms.items()}


def bad_items(batches: Batches, step: int) -> tuple[str, list[int]]:
    """Names the items of a step's batches that hold NaN or infinity: a text, and their indices in a finite dataset."""
    count, total, indices = 0, 0, set[int]()
    for part, items in enumerate(batches[step]):
        total += len(items)
        if items.x.is_floating_point():
            rows = (~items.x.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
            count += len(rows)
            if rows and batches.dataset.size is not None:
                indices |= set(batches.indices(step, part)[rows].tolist())
    if not count:
        return "", []
    text = f"{count} of {total} items of this batch hold NaN or infinity"
    bad = sorted(indices)
    return (f"{text} (dataset: {shorten(bad)})" if bad else text), bad


def shorten(indices: Sequence[int]) -> str:
    """Names a few items: `items 3, 5, ...`."""
    return f"items {', '.join(map(str, indices[:SHOWN]))}{', ...' if len(indices) > SHOWN else ''}"
