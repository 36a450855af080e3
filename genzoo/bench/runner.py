"""Runs the cells of a suite that have no result yet, several at a time, and writes down what comes out."""

import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from genzoo.bench.cell import fingerprint, run_cell
from genzoo.bench.suites import Cell, SuiteSpec
from genzoo.duration import in_images
from genzoo.errors import UsageError
from genzoo.metrics.protocols import Protocol, get_protocol
from genzoo.resolve import describe
from genzoo.spec import RunConfig
from genzoo.training.log import JsonLines

POLL_S = 2.0  # between two looks at the running cells' logs
LOCK_S = 120.0  # that another process may need to save the same run
LINES = "bench.json"  # what a cell's process leaves for the bench
INTERRUPTED = 130
BAR = "{l_bar}{bar}| {n:.1f}/{total} cells [{elapsed}<{remaining}]{postfix}"


class Results:
    """`OUT/results/<suite>.jsonl`, one line each time something is known; the last line of a kind and cell holds."""

    def __init__(self, out: Path, suite: str):
        self.path = out / "results" / f"{suite}.jsonl"

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Adds lines in one write; a line that a kill cut short before is closed first, so that it spoils no other."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self.path.exists() and self.path.stat().st_size > 0 and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a") as file:
            file.write("\n" * torn + "".join(json.dumps(line) + "\n" for line in lines))

    def fingerprints(self) -> dict[str, str]:
        """Returns the finished cells, each with the fingerprint of what it ran."""
        found = {}
        for text in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if line.get("kind") == "cell":
                found[line["cell"]] = line.get("fingerprint", "")
        return found


def missing(cells: Sequence[Cell], results: Results) -> list[Cell]:
    """Leaves out what is finished.

    Raises:
        UsageError: the file holds a cell of this name that ran something else.
    """
    done = results.fingerprints()
    others = [cell.name for cell in cells if cell.name in done and done[cell.name] != fingerprint(cell)]
    if others:
        raise UsageError(
            f"{results.path} holds {len(others)} cells of these names with other settings ({others[0]}, ...): give another --out, "
            "or remove their lines."
        )
    return [cell for cell in cells if cell.name not in done]


def header(suite: str, spec: SuiteSpec, cells: Sequence[Cell]) -> dict[str, Any]:
    """The line that tells the report what the suite is; `cells` are what is expected, each name once or more."""
    says = dataclasses.asdict(spec)
    return {
        "kind": "suite",
        "suite": suite,
        **{key: says[key] for key in ("title", "about", "columns", "published")},
        "expected_cells": list(dict.fromkeys(cell.name for cell in cells)),
    }


def obstacle(cell: Cell, weights: Path | None) -> str | None:
    """Says all that keeps a cell from running here: hardware, data or weights that are missing; None when it can."""
    import torch

    from genzoo.data import heldout_split
    from genzoo.metrics.extractors import get_extractor

    run, protocols = cell.config(), [get_protocol(name) for name in cell.metrics]
    reasons = ["it needs a GPU and there is none here"] if cell.needs_gpu and not torch.accelerator.is_available() else []
    reasons += _misfits(run, protocols)

    def held_out() -> None:
        asked = [protocol.name for protocol in protocols if protocol.split == "test"]
        if heldout_split(run.data) is None and asked:
            raise UsageError(
                f"{run.data.name} has no held-out split for {asked[0]}: name a protocol that ends in _train, or data.split=train[:N]"
            )

    checks = [held_out]
    for extractor in sorted({protocol.extractor for protocol in protocols} - {None}):
        if not extractor.startswith("classifier:"):  # those are trained here
            checks.append(lambda extractor=extractor: get_extractor(extractor, weights=weights))
    for check in checks:
        try:
            check()
        except UsageError as error:
            reasons.append(str(error))
    return "; ".join(reasons) or None


def _misfits(run: RunConfig, protocols: Sequence[Protocol]) -> Iterator[str]:
    """What would be noticed after hours, or not at all: a game that never begins, and protocols for another kind of data."""
    duration, warmup = run.train.duration, getattr(run.objective, "warmup", "0")
    if not (duration.endswith("ep") or warmup.endswith("ep")):  # epochs are known with the data only
        total = in_images(duration, batch=run.train.batch, epoch=None)
        if 0 < total <= in_images(warmup, batch=run.train.batch, epoch=None, total=total):
            yield f"objective.warmup={warmup} takes all of train.duration={duration}: give it more images, or a shorter warm-up"
    entry = describe(run.data.name)
    kind = "points" if entry is not None and entry.kind == "points" else "images"
    for protocol in protocols:
        if protocol.metric != "speed" and (wanted := "points" if protocol.metric == "density2d" else "images") != kind:
            yield f"{protocol.name} is for {wanted}, and {run.data.name} holds {kind}"


def failure(cell: Cell, reason: str) -> dict[str, Any]:
    mark = {"suite": cell.suite, "cell": cell.name, "label": cell.label, "model": cell.model, "data": cell.data, "seed": cell.seed}
    return {"kind": "failure", **mark, "reason": reason}


def run_cells(cells: Sequence[Cell], results: Results, out: Path, jobs: int, weights: Path | None = None) -> int:
    """Runs cells, `jobs` at a time, each in a process of its own; a failed one is recorded and the rest goes on.

    Returns:
        how many failed.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the running cells have saved.
    """
    waiting, running, failed = list(cells), {}, 0
    threads = max(1, cores() // jobs)
    context = multiprocessing.get_context("spawn")
    pace = 0.2 if sys.stderr.isatty() else 60  # seconds between two drawings of the bar: a file wants few
    with tqdm(total=len(cells), mininterval=pace, bar_format=BAR) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    cell = waiting.pop(0)
                    process = context.Process(target=work, args=(cell, out, threads, weights), name=cell.name)
                    process.start()
                    running[process.sentinel] = (cell, process)
                for sentinel in wait(list(running), timeout=POLL_S):
                    cell, process = running.pop(sentinel)
                    process.join()
                    lines = outcome(cell, out, process.exitcode)
                    results.append(lines)
                    failed += lines[-1]["kind"] == "failure"
                done = len(cells) - len(waiting) - len(running) + sum(_share(cell, out) for cell, _ in running.values())
                bar.set_postfix_str(", ".join(cell.name for cell, _ in running.values()), refresh=False)
                bar.update(done - bar.n)
        except KeyboardInterrupt:
            for _, process in running.values():  # a terminal's Ctrl-C has reached them already; SIGTERM after it changes nothing
                process.terminate()
            for _, process in running.values():
                process.join()
            raise
    return failed


def cores() -> int:
    """How many threads there are for all cells together: OMP_NUM_THREADS where it is set."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def work(cell: Cell, out: Path, threads: int, weights: Path | None) -> None:
    """A cell's process: leaves its lines, or why there are none, in a file beside the run."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    folder = folder_of(cell, out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".bench.lock", timeout=LOCK_S):  # a killed bench's process may still be saving
            lines = run_cell(cell, folder, out / "results", threads, weights)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # whatever stops one cell must not stop the others
        name = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
        lines = [failure(cell, f"{name}{' '.join(str(error).split())}")]
    temporary = folder / f".{LINES}.tmp"
    temporary.write_text(json.dumps(lines))
    os.replace(temporary, folder / LINES)


def outcome(cell: Cell, out: Path, exitcode: int | None) -> list[dict[str, Any]]:
    """Reads what a finished process left."""
    path = folder_of(cell, out) / LINES
    if exitcode != 0 or not path.exists():
        return [
            failure(cell, f"its process ended with status {exitcode} (-9: killed, often for want of memory); its run folder has the log")
        ]
    lines = json.loads(path.read_text())
    path.unlink()
    return lines


def folder_of(cell: Cell, out: Path) -> Path:
    return out / "runs" / cell.suite / cell.name


def _follow_parent() -> None:
    """Ends this process as Ctrl-C would, saving first, when the bench that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _share(cell: Cell, out: Path) -> float:
    """How much of a running cell is trained, by its log; 0 where its length in images is known to it alone (epochs)."""
    c = cell.config().train
    lines = JsonLines(folder_of(cell, out) / "log.jsonl").read()
    if not lines or c.duration.endswith("ep"):
        return 0.0
    return min(0.99, lines[-1]["nimg"] / in_images(c.duration, batch=c.batch, epoch=None))
