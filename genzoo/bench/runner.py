"""Runs the cells of a suite that have no result yet, several at a time, and records the results."""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from filelock import FileLock

from genzoo.bench.cell import failure, fingerprint, run_cell, standing_config
from genzoo.bench.lines import Failure, parse_line
from genzoo.bench.results import read_results
from genzoo.bench.suites import Cell
from genzoo.configure import data_shape, planned_classes
from genzoo.data.catalog import find_entry
from genzoo.duration import in_images, in_seconds
from genzoo.errors import UsageError, cause
from genzoo.evaluation.lines import Line
from genzoo.evaluation.protocols import Protocol, get_protocol
from genzoo.files import JsonLines, write_text
from genzoo.progress import bar
from genzoo.registry import get_spec
from genzoo.runs.folder import run_log
from genzoo.spec import RunConfig
from genzoo.termination import sigterm_raises

POLL_S = 2.0  # between two reads of the running cells' logs
LOCK_S = 120.0  # that a killed bench's process may need to save the same run
LINES = "bench.json"  # in which a cell's process returns its lines
INTERRUPTED = 130
PRELOADED = ("genzoo.training.trainer", "genzoo.bench.cell")  # by the process that cells are forked from, once
BAR = "{l_bar}{bar}| {n:.1f}/{total} cells [{elapsed}<{remaining}]{postfix}"


class Results:
    """`OUT/results/<suite>.jsonl`; the last line of a kind and cell counts."""

    def __init__(self, out: Path, suite: str):
        self.path = out / "results" / f"{suite}.jsonl"

    def append(self, lines: Sequence[Line]) -> None:
        JsonLines(self.path).append(*(line.to_json() for line in lines))

    def fingerprints(self) -> dict[str, str]:
        """Returns the finished cells, each with the fingerprint of what it ran."""
        return {cell.cell: cell.fingerprint for cell in read_results(self.path).cells}

    def scored(self) -> set[tuple[str, str]]:
        """Returns the cells and protocols that there are scores of."""
        return {(score.cell, score.protocol) for score in read_results(self.path).scores}


def missing(cells: Sequence[Cell], results: Results) -> list[Cell]:
    """Leaves out what is finished and scored.

    Raises:
        UsageError: the file has a cell of this name with other settings.
    """
    done, scored = results.fingerprints(), results.scored()
    others = [cell.name for cell in cells if cell.name in done and done[cell.name] != fingerprint(cell)]
    if others:
        raise UsageError(
            f"{results.path} has {len(others)} cells of these names with other settings ({others[0]}, ...): "
            "choose a different --out, or remove their lines."
        )
    return [cell for cell in cells if cell.name not in done or any((cell.name, m) not in scored for m in cell.metrics)]


def obstacle(cell: Cell, weights: Path | None) -> str | None:
    """Returns everything that keeps a cell from running here, such as missing hardware, data or weights; or None."""
    import torch

    from genzoo.data import heldout_split
    from genzoo.evaluation.extractors import get_extractor

    run, protocols = standing_config(cell), [get_protocol(name) for name in cell.metrics]
    reasons = (
        ["it needs a GPU and there is none here"] if cell.needs_gpu and not torch.accelerator.is_available() else []
    )
    reasons += _misfits(run, protocols)

    def held_out() -> None:
        asked = [protocol.name for protocol in protocols if protocol.split == "test"]
        if heldout_split(run.data) is None and asked:
            raise UsageError(
                f"{run.data.name} has no held-out split for {asked[0]}: "
                "name a protocol that ends in _train, or set data.split=train[:N]"
            )

    checks: list[Callable[[], object]] = [held_out]
    for extractor in sorted({protocol.extractor for protocol in protocols if protocol.extractor is not None}):
        if not extractor.startswith("classifier:"):  # those are trained first, see `train_classifiers`
            checks.append(lambda extractor=extractor: get_extractor(extractor, weights=weights))
    for check in checks:
        try:
            check()
        except UsageError as error:
            reasons.append(str(error))
    return "; ".join(reasons) or None


def train_classifiers(cells: Sequence[Cell], suite: Sequence[Cell]) -> dict[str, str]:
    """Trains the classifiers that score these cells, unless they are in the cache.

    Args:
        cells: to be scored.
        suite: all cells of their suite; a classifier of the data of one of them is trained there, wherever they lie.

    Returns:
        by name of a cell whose classifier cannot be trained: why.
    """
    from genzoo.evaluation.classifier import short_name
    from genzoo.evaluation.extractors import get_extractor

    users: dict[str, list[Cell]] = {}
    for cell in cells:
        for extractor in dict.fromkeys(get_protocol(name).extractor for name in cell.metrics):
            if extractor is not None and extractor.startswith("classifier:"):
                users.setdefault(extractor, []).append(cell)
    data = {short_name(run.data): run.data for run in map(standing_config, suite)} if users else {}
    reasons = {}
    for extractor, scored in users.items():
        try:
            get_extractor(extractor, data=data.get(extractor.partition(":")[2]))
        except UsageError as error:
            reasons |= {cell.name: f"{extractor} cannot be trained: {error}" for cell in scored}
    return reasons


def _misfits(run: RunConfig, protocols: Sequence[Protocol]) -> Iterator[str]:
    """Finds what would be noticed after hours or never: an endless warm-up, and protocols for other data or models."""
    from genzoo.evaluation.refusal import lacks_encoder

    if misfit := _endless_warmup(run):
        yield misfit
    entry = find_entry(run.data.name)
    kind = "points" if entry is not None and entry.kind == "points" else "images"
    for protocol in protocols:
        if protocol.metric.inputs.kind not in (kind, None):
            yield f"{protocol.name} is for {protocol.metric.inputs.kind}, and {run.data.name} contains {kind}"
        elif lacks_encoder(protocol.metric, get_spec(run.model.partition(".")[0]).model()):
            yield f"{protocol.name} needs an encoder, and {run.model} has none: leave one of them out"


def _endless_warmup(run: RunConfig) -> str | None:
    """Describes a warm-up that is as long as the run; None if it is shorter, or can only be known with the data."""
    duration, warmup = run.train.duration, get_spec(run.model.partition(".")[0]).warmup(run.objective)
    if duration.endswith("ep") or warmup.endswith("ep"):
        return None
    mixed = duration.endswith("it") != warmup.endswith("it")  # otherwise the batch makes no difference
    try:
        batch = images_per_step(run) if mixed else run.train.batch
    except UsageError:
        return None
    total = in_images(duration, batch=batch, epoch=None)
    if 0 < total <= in_images(warmup, batch=batch, epoch=None, total=total):
        return (
            f"a warm-up of {warmup} takes all of train.duration={duration}: give it more images, or a shorter warm-up"
        )
    return None


def images_per_step(run: RunConfig) -> int:
    """Returns how many images a training step takes: one real batch, and those that the objective asks for besides.

    Raises:
        UsageError: the networks cannot be built from the configuration alone.
    """
    import torch

    from genzoo.factory import build, build_objective

    with torch.device("meta"):  # no memory, no time
        spaces = build(run, data_shape(run), planned_classes(run)).spaces
    return run.train.batch * (1 + build_objective(run, spaces).fresh)


def run_cells(cells: Sequence[Cell], results: Results, out: Path, jobs: int, weights: Path | None = None) -> int:
    """Runs cells, `jobs` at a time, each in a process of its own; a failure is recorded and the others go on.

    Returns:
        how many failed.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the running cells have saved.
    """
    waiting, failed = list(cells), 0
    running: dict[Any, tuple[Cell, BaseProcess]] = {}  # by sentinel
    threads = max(1, cores() // jobs)
    context = _context()
    with bar(logged=True, total=len(cells), bar_format=BAR) as shown:
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
                    failed += isinstance(lines[-1], Failure)
                done = len(cells) - len(waiting) - len(running)
                partly = sum(share_done(cell, out) for cell, _ in running.values())
                shown.set_postfix_str(", ".join(cell.name for cell, _ in running.values()), refresh=False)
                shown.update(done + partly - shown.n)
        except KeyboardInterrupt:
            processes = [process for _, process in running.values()]
            for process in processes:  # from a terminal, Ctrl-C has reached them already: SIGTERM changes nothing
                process.terminate()
            for process in processes:
                process.join()
            raise
    return failed


def _context() -> ForkServerContext | SpawnContext:
    """Where the platform can, cells are forked from a server that has imported torch once and uses no GPU."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def cores() -> int:
    """Number of threads for all cells together: OMP_NUM_THREADS, the first of a list, if it is set to numbers."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) else os.cpu_count() or 1


def work(cell: Cell, out: Path, threads: int, weights: Path | None) -> None:
    """A cell's process: writes its lines, or the reason of its failure, to a file in the run folder."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        _work(cell, folder_of(cell, out), out / "results", threads, weights)
    except OSError as error:  # not even the reason can be written
        sys.exit(f"{cell.name}: {': '.join(filter(None, cause(error)))}")


def _work(cell: Cell, folder: Path, results: Path, threads: int, weights: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines: Sequence[Line]
    try:
        lock = FileLock(folder / ".bench.lock", timeout=LOCK_S)  # a killed bench's process may still be saving
        with sigterm_raises(), lock:
            lines = run_cell(cell, folder, results, threads, weights)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # an error in one cell must not stop the others
        name = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
        lines = [failure(cell, f"{name}{' '.join(str(error).split())}")]
    write_text(folder / LINES, json.dumps([line.to_json() for line in lines]))


def outcome(cell: Cell, out: Path, exitcode: int | None) -> list[Line]:
    """Reads what a finished process left."""
    path = folder_of(cell, out) / LINES
    if exitcode != 0 or not path.exists():
        reason = (
            f"its process ended with status {exitcode} (-9: killed, often by lack of memory); see its run folder's log"
        )
        return [failure(cell, reason)]
    lines = [parse_line(record, str(path)) for record in json.loads(path.read_text(encoding="utf-8"))]
    path.unlink()
    return [line for line in lines if line is not None]


def folder_of(cell: Cell, out: Path) -> Path:
    return out / "runs" / cell.suite / cell.name


def _follow_parent() -> None:
    """Ends this process as Ctrl-C does, saving first, when the bench that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def share_done(cell: Cell, out: Path) -> float:
    """Share of a running cell's training that is done, by its log; 0 if its length is in epochs."""
    c = cell.config().train
    lines = run_log(folder_of(cell, out)).read()
    if lines and cell.budget:
        return min(0.99, lines[-1]["seconds"] / in_seconds(cell.budget))
    if not lines or c.duration.endswith("ep"):
        return 0.0
    step, nimg = lines[-1]["step"], lines[-1]["nimg"]
    return min(0.99, nimg / in_images(c.duration, batch=nimg // step, epoch=None))
