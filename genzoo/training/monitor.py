"""Watches a run by what it logs, and names problems with step, figures and the option that fixes them.

The monitor's state is a function of the log and of the length that the run started with: a resumed run reads its log
again, and `genzoo doctor` reads the log of a run that had no monitor in the same way. A problem begins when its symptom
(`genzoo.training.rules`, and the objective's own) has been present for `patience` steps, and ends when it has been
absent as long.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genzoo.changes import depends_on_length
from genzoo.configure import data_shape, planned_classes
from genzoo.errors import UsageError
from genzoo.factory import build, build_objective
from genzoo.models.saved import read_shape
from genzoo.objective import Objective
from genzoo.progress import write_line
from genzoo.runs.folder import RunFolder, read_config, run_events, run_log
from genzoo.runs.scores import PREFIX, scored
from genzoo.signs import SHARED, Rule, View
from genzoo.training.rules import RULES, data_findings, still_improving
from genzoo.training.warmup import TOO_SHORT, Problem

SHARE, SHORTEST, LONGEST = 0.02, 50, 500  # patience: 2% of the run, in steps, within these bounds
SETTLING = 2  # patiences after the run's start, and after each change of its losses, in which nothing is reported

# A line of events.jsonl: step, kind (run, begins, ends, data, trouble, control, budget), and what belongs to the kind.
Event = dict[str, Any]
START = {"step": 0, "nimg": 0}
GENERAL = {  # what `{word}` in a rule's fix means without an option of the model
    "reconstruction": "an option of the model's objective",
    "adversary": "the weight of the adversarial terms",
}


@dataclass(frozen=True)
class Finding:
    """A problem that a run has, or had."""

    problem: str
    text: str  # the figures, and for how long
    fix: str  # "" for a problem that has ended
    began: int  # step at which it was reported
    ended: int | None = None

    def __str__(self) -> str:
        until = f" to {self.ended:,}" if self.ended is not None else ""
        fix = f" Fix: {self.fix}." if self.fix else ""
        return f"step {self.began:,}{until}: {self.problem}: {ended(self.text)}{fix}"


def ended(text: str) -> str:
    """Ends a sentence that may be a question."""
    return text if text.endswith("?") else f"{text}."


def patience(total_steps: int) -> int:
    """Steps for which a symptom must last."""
    return round(min(LONGEST, max(SHORTEST, SHARE * total_steps)))


class Monitor:
    """Reads log lines, one by one, and yields events: a problem begins, a problem ends.

    Args:
        total_steps: length of the run.
        objective: its guides, as drawn in the curves, its own rules, and its options' names.
    """

    def __init__(self, total_steps: int, objective: Objective):
        self.patience, self._guides = patience(total_steps), dict(objective.guides)
        rules = {rule.problem: rule for rule in (*SHARED, *RULES, *objective.signs)}  # the model's own take precedence
        self._rules, self._options = tuple(rules.values()), GENERAL | dict(objective.options)
        self.present: dict[str, int] = {}  # the step at which each problem that has not ended was reported
        self._recent: deque[Mapping[str, Any]] = deque()
        self._vitals: deque[Mapping[str, float]] = deque(maxlen=2)
        self._scored: list[Mapping[str, Any]] = []
        self._losses: frozenset[str] = frozenset()
        self._settled = 0
        self._since: dict[str, int] = {}  # step since which a symptom is present
        self._absent_since: dict[str, int] = {}  # step since which the symptom of a reported problem is absent

    def observe(self, line: Mapping[str, Any]) -> Iterator[Event]:
        """Takes one line of the log and yields the events that it brings."""
        if line["step"] >= SETTLING * self.patience and any(name.startswith("vitals/") for name in line):
            self._vitals.append(line)
        if any(name.startswith(PREFIX) for name in line):
            self._scored.append(line)
        losses = frozenset(name for name in line if name.startswith("loss/"))
        if not losses:
            return
        if not losses <= self._losses:  # a phase may be left out of some steps
            self._settle(losses, line["step"])
        self._recent.append(line)
        while self._recent[0]["step"] <= line["step"] - self.patience:
            self._recent.popleft()
        if line["step"] >= self._settled:
            moved = {name.removeprefix("guide/"): value for name, value in line.items() if name.startswith("guide/")}
            view = View(_means(self._recent), {**self._guides, **moved}, tuple(self._vitals), _scores(self._scored))
            for rule in self._rules:
                yield from self._apply(rule, view, line)

    def _settle(self, losses: frozenset[str], step: int) -> None:
        """Forgets the curves of another phase of the run; a window that spans both phases counts as neither."""
        self._losses, self._settled = losses, step + SETTLING * self.patience
        self._recent.clear()
        self._since.clear()

    def _apply(self, rule: Rule, view: View, line: Mapping[str, Any]) -> Iterator[Event]:
        step, name, text = line["step"], rule.problem, rule.symptom(view)
        event = {"step": step, "nimg": line["nimg"], "problem": name}
        if text is None:
            self._since.pop(name, None)
            if name in self.present and step - self._absent_since.setdefault(name, step) >= self.patience:
                yield event | {"kind": "ends", "text": f"it began at step {self.present.pop(name):,}"}
            return
        self._absent_since.pop(name, None)
        if name in self.present or not {*rule.instead_of}.isdisjoint({*self.present, *self._since}):
            return
        if (lasted := step - self._since.setdefault(name, step)) >= self.patience:
            self.present[name] = step
            yield event | {"kind": "begins", "text": f"{text} for {lasted:,} steps", "fix": self._fix(rule, line)}

    def _fix(self, rule: Rule, line: Mapping[str, Any]) -> str:
        """The rule's fix in the model's options, after those that the run changes by itself."""
        fix = rule.fix.format_map(self._options)
        controlled = [f"objective.{key.removeprefix('control/')}" for key in line if key.startswith("control/")]
        if not (auto := [name for name in controlled if name in fix]):
            return fix
        return f"{' and '.join(auto)} is auto and changes by itself, wait; if it does not end, {fix}"


class Watch:
    """The monitor of a running training: writes events into the run folder and prints them. For one process."""

    def __init__(self, folder: RunFolder, total_steps: int, objective: Objective):
        self._folder, self._total_steps, self._objective = folder, total_steps, objective
        self._reported = set[tuple[int, str, str]]()
        self._monitor = Monitor(total_steps, objective)

    def begin(
        self,
        first_batch: Tensor | None,
        top: float = 255,
        problem: Problem | None = None,
        position: Mapping[str, Any] = START,
        further: Sequence[Problem] = (),
    ) -> None:
        """Reads the log again, at a start, a resume or a rollback.

        Args:
            first_batch: of the run, as the dataset gives it, to check; None after its first step.
            top: what 255 stands for in its images, see `Found.top`.
            problem: what is wrong with the run's length, if anything; a longer run no longer has it.
            position: step and images seen.
            further: what else is wrong with the data.
        """
        events = self._folder.events.read()
        self._reported = {_key(event) for event in events}
        began_with = next((event["total_steps"] for event in events if event["kind"] == "run"), self._total_steps)
        self._monitor = Monitor(began_with, self._objective)  # the same patience reports the same again, which is known
        self.report({"step": 0, "nimg": 0, "kind": "run", "total_steps": self._total_steps})
        for line in self._folder.log.read():
            self.observe(line)
        found = data_findings(first_batch, top) if first_batch is not None else []
        for name, text, fix in (*found, *further):
            self.report({**START, "kind": "data", "problem": name, "text": text, "fix": fix})
        here = {"step": position["step"], "nimg": position["nimg"], "problem": TOO_SHORT}
        present = [one for one in read_findings(events) if one.problem == TOO_SHORT and one.ended is None]
        if present and (problem is None or present[-1].text != problem[1]):
            self.report({**here, "kind": "ends", "text": "the run was made longer"})
        if problem and (not present or present[-1].text != problem[1]):
            self.report({**here, "kind": "data", "text": problem[1], "fix": problem[2]})

    def observe(self, line: Mapping[str, Any]) -> None:
        """Takes a line of the log."""
        for event in self._monitor.observe(line):
            self.report(event)

    def marks(self) -> list[tuple[int, str]]:
        """Where problems began: (images seen, problem), to draw into the curves."""
        events = (event for event in self._folder.events.read() if event["kind"] in ("begins", "data", "trouble"))
        return [(event["nimg"], event["problem"]) for event in events]

    def summary(self) -> str:
        """What was found in the whole run."""
        findings = read_findings(self._folder.events.read())
        log = self._folder.log.read()
        found = ["Monitor:", *(f"  {finding}" for finding in findings)]
        lines = found if findings else [f"Monitor: {verdict(log, self._total_steps)}."]
        text = _improving(self._folder.path, log)
        return "\n".join([*lines, f"  {text}"] if text else lines)

    def report(self, event: Event) -> None:
        """Writes an event and prints it, once."""
        if _key(event) in self._reported:
            return
        self._reported.add(_key(event))
        self._folder.events.append(event)
        if event["kind"] in ("control", "budget", "prior"):
            write_line(f"step {event['step']:,}: {event['text']}")
        elif event["kind"] != "run":
            fix = f" Fix: {event['fix']}." if "fix" in event else ""
            over = " is over" if event["kind"] == "ends" else ""
            write_line(f"monitor: step {event['step']:,}: {event['problem']}{over}: {ended(event['text'])}{fix}")


def verdict(log: Iterable[Mapping[str, Any]], total_steps: int) -> str:
    """What no finding means: that a run is healthy, or that it ended before anything could be judged."""
    least, known, last = 0, frozenset[str](), 0
    for line in log:
        losses, last = frozenset(name for name in line if name.startswith("loss/")), line["step"]
        if not losses <= known:  # see `Monitor.observe`
            known, least = losses, last + (SETTLING + 1) * patience(total_steps)
    if last < least:
        return f"too short to judge: after the last change of its losses, {least - last:,} more steps would be needed"
    return "healthy"


def read_findings(events: Sequence[Event]) -> list[Finding]:
    """Reads the events of a run as findings, in the order in which they began."""
    findings: list[Finding] = []
    for event in events:
        if event["kind"] == "ends":
            for i in [i for i, finding in enumerate(findings) if finding.problem == event["problem"]][-1:]:
                findings[i] = replace(findings[i], ended=event["step"], fix="")
        elif event["kind"] == "trouble":
            text, done = event["text"].rstrip("."), f"done: {event['did']}"
            findings.append(Finding(event["problem"], text, done, event["at"], event["step"]))
        elif event["kind"] in ("begins", "data"):
            findings.append(Finding(event["problem"], event["text"], event["fix"], event["step"]))
    return findings


def diagnose(folder: Path) -> tuple[list[Finding], int, str]:
    """Reads a run folder: its findings, by its events or, for a run without a monitor, by its log; the last step; and
    what it means that there are no findings, see `verdict`.

    Raises:
        UsageError: the folder contains no run.
    """
    log, events = run_log(folder).read(), run_events(folder).read()
    last = log[-1]["step"] if log else 0
    if any(event["kind"] == "run" for event in events):
        planned = next(event["total_steps"] for event in events if event["kind"] == "run")
        return read_findings(events), max(last, *(event["step"] for event in events)), verdict(log, planned)
    config = read_config(folder)
    if config is None:
        raise UsageError(f"{folder} contains no run.json: give the folder of a run, as `genzoo train` prints it.")
    saved = folder / "model" / "config.json"
    if saved.exists():
        shape, classes = read_shape(saved)
    else:
        shape, classes = data_shape(config), planned_classes(config)
    with torch.device("meta"):
        model = build(config, shape, classes)
    monitor = Monitor(last, build_objective(config, model.spaces))
    found = [*events, *(event for line in log for event in monitor.observe(line))]
    return read_findings(found), last, verdict(log, last)


def advice(folder: Path) -> str | None:
    """What a finished run that is not at fault could do better, in one line; by its log and its events."""
    lines, events = run_log(folder).read(), run_events(folder).read()
    planned = [event["total_steps"] for event in events if event["kind"] == "run"]
    if not lines or not planned or lines[-1]["step"] < planned[-1]:
        return None
    return _improving(folder, lines)


def _improving(folder: Path, lines: Sequence[Mapping[str, Any]]) -> str | None:
    config = read_config(folder)
    if config is None:
        return still_improving(_scores(lines))
    return still_improving(_scores(lines), config.train.budget, depends_on_length(config))


def _key(event: Event) -> tuple[int, str, str]:
    return event["step"], event["kind"], event.get("problem") or event.get("text", "")


def _scores(lines: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(images seen, score) of the snapshots in a log, newest last."""
    return [(snapshot.nimg, snapshot.score) for snapshot in scored(lines)[1]]


def _means(lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.items():
            if "/" in name:
                values.setdefault(name, []).append(value)
    return {name: sum(numbers) / len(numbers) for name, numbers in values.items()}
