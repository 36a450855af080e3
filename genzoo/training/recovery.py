"""What a run does about a broken step: it goes back to the last good checkpoint, changes one thing, and goes on.

The ladder, one rung for each time that the same trouble comes back; what a lower rung has changed stays changed:

1. the steps of the broken window get other data and other noise (a bad batch is not met again);
2. the learning rate is halved, for the rest of the run;
3. every network's gradient is clipped at its own typical norm, the median of the last `REMEMBERED` log lines (a network without any is left alone);
4. the run stops with the diagnosis.

Items of a finite data set that hold NaN or infinity are left out from then on, others drawn in their places; that takes no rung, unless half
of the data is bad. A trouble that comes a whole snapshot interval after the one before begins at the first rung again. The ladder is saved with every
checkpoint, at once after each change, so a run that is killed and resumed ends as if it had not been.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from genzoo.training.loader import Batches
from genzoo.training.log import Broken, RunStopped

if TYPE_CHECKING:
    from genzoo.training.trainer import Trainer

REMEMBERED = 50  # log lines that say what is typical
SHOWN = 5  # items named in a message


@dataclass
class Ladder:
    """What a run does otherwise than its configuration says, since its last trouble. JSON values only."""

    rung: int = 0  # tried on the present trouble
    settled: int = 0  # from this step on, a new trouble begins at the first rung
    redrawn: list[list[int]] = field(default_factory=list)  # [first, end) steps that got other data and noise, once per entry
    lr_factor: float = 1.0
    clip: dict[str, float] = field(default_factory=dict)  # largest gradient norm by network
    left_out: list[int] = field(default_factory=list)  # items of the data set that are bad

    def seed(self, seed: int, step: int) -> int:
        """The seed of a step's data and noise: the run's own, but for redrawn steps."""
        return seed + (sum(first <= step < end for first, end in self.redrawn) << 32)

    def climb(self, first: int, step: int, interval: int, lines: Sequence[Mapping[str, Any]]) -> str:
        """Takes the next rung after a trouble at `step` in the window that began at `first`; returns what has been changed.

        Args:
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
        self.clip = {name: min(norm, self.clip.get(name, math.inf)) for name, norm in norms.items()}
        return "gradients clipped at their typical norm: " + ", ".join(f"{name} {norm:.3g}" for name, norm in self.clip.items())


class Recovery:
    """Takes a run from a broken step back to where it was whole. All processes call it and decide alike; the first one writes."""

    def __init__(self, trainer: "Trainer"):
        self.t = trainer
        self.ladder = Ladder()

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up the ladder of a checkpoint; runs from before there was one have none."""
        self.ladder = Ladder(**state)

    def state(self) -> dict[str, Any]:
        return asdict(self.ladder)

    def go_back(self, trouble: Broken) -> None:
        """Restores the newest checkpoint, or the start, with the next rung's change, and saves that; tells `events.jsonl`.

        Log lines and events after that step are taken out of their files, so that no step is told twice, and kept in the event.

        Raises:
            RunStopped: the ladder has no more rungs.
        """
        t, ladder, folder = self.t, self.ladder, self.t.folder
        lines, events = folder.log.read(), folder.events.read()
        items, bad = bad_items(t.data(whole=True), trouble.step)
        text = f"{items}; {trouble}" if items else str(trouble)
        event = {"kind": "trouble", "disease": "non-finite data" if items else "broken step", "at": trouble.step, "text": text}
        event |= {"nimg": trouble.step * t.config.train.batch}
        if t.config.train.recover and bad and len(ladder.left_out) + len(bad) < t.dataset.size / 2:
            ladder.left_out = sorted({*ladder.left_out, *bad})
            change = f"{shorten(bad)} left out"
        else:
            change = ladder.climb(trouble.first, trouble.step, t.snapshots.every_steps, lines)
        if ladder.rung > t.config.train.recover:
            saved = t.checkpoints.steps()
            self._write({"step": trouble.step, **event, "did": "stopped"})
            raise RunStopped(f"{text} Last good checkpoint: {f'step {saved[-1]}' if saved else 'none yet'}.")
        t.saved.begin()
        t.step = t.saved.load()
        self.ladder = ladder
        dropped = [line for line in (*lines, *events) if line["step"] > t.step]
        self._write({"step": t.step, **event, "rung": ladder.rung, "did": change, "dropped": dropped})
        t.acc.wait_for_everyone()  # all have read log and checkpoint before the first process changes them
        if t.acc.is_main_process:
            t.saved.rewind()
            tqdm.write(f"{text}\nBack to step {t.step:,} with {change}.")
            t.guarded(lambda: t.checkpoints.save(t.step, t.saved.state()))
        t.acc.wait_for_everyone()

    def _write(self, event: Mapping[str, Any]) -> None:
        if self.t.acc.is_main_process:
            self.t.guarded(lambda: self.t.folder.events.append(event))


def typical_norms(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The median norm of each network's gradient over the last log lines, by network."""
    norms: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith("gradient/"):
                norms.setdefault(name.removeprefix("gradient/"), []).append(value)
    return {name: median(values[-REMEMBERED:]) for name, values in norms.items()}


def bad_items(batches: Batches, step: int) -> tuple[str, list[int]]:
    """Names the items of a step's batch that hold NaN or infinity: a text, and their indices in a finite data set; empty where none does."""
    batch = batches[step]
    bad = (~batch.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist() if batch.is_floating_point() else []
    if not bad:
        return "", []
    text = f"{len(bad)} of {len(batch)} items of this batch hold NaN or infinity"
    if batches.dataset.size is None:
        return text, []
    indices = sorted(set(batches.indices(step)[bad].tolist()))
    return f"{text} (data set: {shorten(indices)})", indices


def shorten(indices: Sequence[int]) -> str:
    return f"items {', '.join(map(str, indices[:SHOWN]))}{', ...' if len(indices) > SHOWN else ''}"
