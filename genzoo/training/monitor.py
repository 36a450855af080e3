"""Watches a run by what it logs, names what it finds with step and figure, and says the cure in the option's own name.

The monitor's state is a function of the log and of the length that the run began with: a resumed run takes it up by reading its log again,
and `genzoo doctor` reads the log of a run that had no monitor in the same way. A disease begins when its sign (`genzoo.training.signs`)
has been there for `patience` steps, and ends when it has been away as long.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from genzoo.errors import UsageError
from genzoo.registry import get_spec
from genzoo.resolve import data_shape
from genzoo.training.log import JsonLines
from genzoo.training.run import EVENTS, RunFolder, read_config
from genzoo.training.signs import RULES, Rule, View, data_findings

SHARE, SHORTEST, LONGEST = 0.02, 50, 500  # patience: 2% of the run, in steps, within these bounds
SETTLING = 2  # patiences after the run's start, and after each change of its losses, in which nothing is said

Event = dict[str, Any]  # a line of events.jsonl: step, kind (run, begins, ends, data, trouble, control), and what belongs to the kind


@dataclass(frozen=True)
class Finding:
    """A disease that a run has, or had."""

    disease: str
    text: str  # the figures, and for how long
    cure: str
    began: int  # step at which it was named
    ended: int | None = None

    def __str__(self) -> str:
        until = f" to {self.ended:,}" if self.ended is not None else ""
        return f"step {self.began:,}{until}: {self.disease}: {self.text}. Cure: {self.cure}."


def patience(total_steps: int) -> int:
    """Steps for which a sign must last."""
    return round(min(LONGEST, max(SHORTEST, SHARE * total_steps)))


class Monitor:
    """Reads log lines, one by one, and yields events: a disease begins, a disease ends.

    Args:
        total_steps: length of the run.
        guides: the objective's lines, as drawn in its curves.
    """

    def __init__(self, total_steps: int, guides: Mapping[str, float]):
        self.patience, self.guides = patience(total_steps), guides
        self.present: dict[str, int] = {}  # the step at which each disease that has not ended was named
        self._recent: deque[Mapping[str, Any]] = deque()
        self._vitals: deque[Mapping[str, float]] = deque(maxlen=2)
        self._losses: frozenset[str] = frozenset()
        self._settled = 0
        self._seen: dict[str, int] = {}  # step since which a sign is there
        self._gone: dict[str, int] = {}  # step since which the sign of a named disease is away

    def observe(self, line: Mapping[str, Any]) -> Iterator[Event]:
        """Takes one line of the log and yields the events that it brings."""
        if line["step"] >= SETTLING * self.patience and any(name.startswith("vitals/") for name in line):
            self._vitals.append(line)
        losses = frozenset(name for name in line if name.startswith("loss/"))
        if not losses:
            return
        if losses != self._losses:
            self._settle(losses, line["step"])
        self._recent.append(line)
        while self._recent[0]["step"] <= line["step"] - self.patience:
            self._recent.popleft()
        if line["step"] >= self._settled:
            moved = {name.removeprefix("guide/"): value for name, value in line.items() if name.startswith("guide/")}
            view = View(_means(self._recent), {**self.guides, **moved}, tuple(self._vitals))
            for rule in RULES:
                yield from self._judge(rule, view, line)

    def _settle(self, losses: frozenset[str], step: int) -> None:
        """Forgets the curves of another phase of the run; a window that spans both phases counts as neither."""
        self._losses, self._settled = losses, step + SETTLING * self.patience
        self._recent.clear()
        self._seen.clear()

    def _judge(self, rule: Rule, view: View, line: Mapping[str, Any]) -> Iterator[Event]:
        step, name, text = line["step"], rule.disease, rule.sign(view)
        place = {"step": step, "nimg": line["nimg"], "disease": name}
        if text is None:
            self._seen.pop(name, None)
            if name in self.present and step - self._gone.setdefault(name, step) >= self.patience:
                yield place | {"kind": "ends", "text": f"it began at step {self.present.pop(name):,}"}
            return
        self._gone.pop(name, None)
        if name in self.present or not {*rule.instead_of}.isdisjoint({*self.present, *self._seen}):
            return
        if (lasted := step - self._seen.setdefault(name, step)) >= self.patience:
            self.present[name] = step
            yield place | {"kind": "begins", "text": f"{text} for {lasted:,} steps", "cure": _cure(rule, line)}


class Watch:
    """The monitor of a run that is being trained: writes events into the run folder, and says them. For one process."""

    def __init__(self, folder: RunFolder, total_steps: int, guides: Mapping[str, float]):
        self.folder, self.total_steps, self.guides = folder, total_steps, guides

    def begin(self, first_batch: Tensor | None) -> None:
        """Takes up the log as it stands, at a start, a resume or a rollback; looks at the run's first batch where it is given."""
        events = self.folder.events.read()
        self._told = {_key(event) for event in events}
        began_with = next((event["total_steps"] for event in events if event["kind"] == "run"), self.total_steps)
        self.monitor = Monitor(began_with, self.guides)  # with its patience, what was told comes out again and is known
        self.tell({"step": 0, "nimg": 0, "kind": "run", "total_steps": self.total_steps, "guides": dict(self.guides)})
        for line in self.folder.log.read():
            self.observe(line)
        for disease, text, cure in data_findings(first_batch) if first_batch is not None else ():
            self.tell({"step": 0, "nimg": 0, "kind": "data", "disease": disease, "text": text, "cure": cure})

    def observe(self, line: Mapping[str, Any]) -> None:
        """Takes a line of the log."""
        for event in self.monitor.observe(line):
            self.tell(event)

    def marks(self) -> list[tuple[int, str]]:
        """Where diseases began: (images seen, disease), to draw into the curves."""
        return [(event["nimg"], event["disease"]) for event in self.folder.events.read() if event["kind"] in ("begins", "data", "trouble")]

    def summary(self) -> str:
        """What was found in the whole run."""
        findings = read_findings(self.folder.events.read())
        return "\n".join(["Monitor:", *(f"  {finding}" for finding in findings)]) if findings else "Monitor: healthy."

    def tell(self, event: Event) -> None:
        """Writes an event and says it, once."""
        if _key(event) in self._told:
            return
        self._told.add(_key(event))
        self.folder.events.append(event)
        if event["kind"] == "control":
            tqdm.write(f"step {event['step']:,}: {event['text']}")
        elif event["kind"] != "run":
            cure = f". Cure: {event['cure']}" if "cure" in event else ""
            over = " is over" if event["kind"] == "ends" else ""
            tqdm.write(f"monitor: step {event['step']:,}: {event['disease']}{over}: {event['text']}{cure}.")


def read_findings(events: Sequence[Event]) -> list[Finding]:
    """Reads the events of a run as findings, in the order of their beginning."""
    findings: list[Finding] = []
    for event in events:
        if event["kind"] == "ends":
            i = max(i for i, finding in enumerate(findings) if finding.disease == event["disease"])
            findings[i] = replace(findings[i], ended=event["step"])
        elif event["kind"] == "trouble":
            findings.append(Finding(event["disease"], event["text"].rstrip("."), f"done: {event['did']}", event["at"], event["step"]))
        elif event["kind"] in ("begins", "data"):
            findings.append(Finding(event["disease"], event["text"], event["cure"], event["step"]))
    return findings


def diagnose(folder: Path) -> tuple[list[Finding], int]:
    """Reads a run folder: its findings, by its events or, for a run that had no monitor, by its log; and the last step that was logged.

    Raises:
        UsageError: the folder holds no run.
    """
    log, events = JsonLines(folder / "log.jsonl").read(), JsonLines(folder / EVENTS).read()
    last = log[-1]["step"] if log else 0
    if any(event["kind"] == "run" for event in events):
        return read_findings(events), max(last, *(event["step"] for event in events))
    config = read_config(folder)
    if config is None:
        raise UsageError(f"{folder} holds no run.json: give the folder of a run, as `genzoo train` names it.")
    saved = folder / "model" / "config.json"
    shape = tuple(json.loads(saved.read_text())["shape"]) if saved.exists() else data_shape(config)
    objective = get_spec(config.model.partition(".")[0]).objective(config.objective, shape, config.arch.z_dim)
    monitor = Monitor(last, objective.guides)
    return read_findings([*events, *(event for line in log for event in monitor.observe(line))]), last


def _cure(rule: Rule, line: Mapping[str, Any]) -> str:
    """The rule's cure, after the settings in it that the run moves by itself."""
    moving = [name for key in line if key.startswith("control/") and (name := f"objective.{key.removeprefix('control/')}") in rule.cure]
    return f"{' and '.join(moving)} is auto and moves by itself, wait; if it does not end, {rule.cure}" if moving else rule.cure


def _key(event: Event) -> tuple[int, str, str]:
    return event["step"], event["kind"], event.get("disease") or event.get("text", "")


def _means(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.items():
            if "/" in name:
                sums.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()}
