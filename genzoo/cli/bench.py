"""`genzoo bench`: runs a suite of models x datasets x seeds, and writes its results and report."""

import argparse
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.cli.numbers import count
from genzoo.errors import UsageError, shown
from genzoo.launcher import launcher_number

if TYPE_CHECKING:
    from genzoo.bench.lines import Header
    from genzoo.bench.suites import Cell, SuiteSpec

DESCRIPTION = """Trains and scores every cell (model x dataset x seed) of a suite, each in an ordinary run folder,
and writes OUT/results/SUITE.jsonl, OUT/RESULTS.md and OUT/report.html. Repeating the command runs only what is missing;
a failed cell is recorded with its reason, and the others go on."""

EXAMPLES = """examples:
  genzoo bench                        the suite `quick`: two minutes
  genzoo bench 2d --jobs 2            Soft-IntroVAE's 2-D table
  genzoo bench losses --seeds 0,1 --data cifar10=FOLDER
  genzoo bench my-suite.toml          a suite of your own
  genzoo bench --list                 the built-in suites, which are templates
  genzoo bench --report --out bench   rewrite the report from the results"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "suite", nargs="?", default="quick", metavar="SUITE", help="a built-in suite or a .toml file (default quick)"
    )
    parser.add_argument("--out", metavar="DIR", default="bench", help="bench folder (default bench)")
    parser.add_argument(
        "--data",
        metavar="NAME=DATA",
        action="append",
        default=[],
        help="where a dataset of the suite is: cifar10=FOLDER; repeatable",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=count(), default=1, help="cells at a time; they share the cores (default 1)"
    )
    parser.add_argument("--seeds", metavar="A,B", help="seeds to run instead of the suite's: 0,1,2")
    parser.add_argument(
        "--cells", metavar="GLOB", default="*", help="run only the cells whose names match, see --list: '*digits*'"
    )
    parser.add_argument(
        "--budget",
        metavar="LENGTH",
        help="of every run instead of the suite's: 20k images, 500it steps, or a time to plan for, 3min",
    )
    parser.add_argument(
        "--extractor-weights", metavar="PATH", help="weights of the feature extractor: Inception's file or its folder"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the suites, and the cells of SUITE with what keeps them from running"
    )
    parser.add_argument("--report", action="store_true", help="only rewrite RESULTS.md and report.html")
    parser.add_argument("--check", action="store_true", help="only check that RESULTS.md matches the results")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    out = Path(args.out).expanduser()
    if args.report:
        from genzoo.bench.report import gaps, write_report

        print("\n".join([*(f"note: {text}" for text in gaps(out)), *map(str, write_report(out))]))
        return 0
    if args.check:
        from genzoo.bench.report import check_report

        if complaint := check_report(out):
            print(complaint)
        return int(bool(complaint))
    if launcher_number("WORLD_SIZE") > 1:
        raise UsageError("genzoo bench starts its own processes: run it without a launcher, with --jobs N.")
    seeds, paths = _seeds(args.seeds), dict(_data_path(text) for text in args.data)
    from genzoo.bench.suites import get_suite

    name, spec = get_suite(args.suite)
    cells = spec.cells(name, seeds, args.budget, paths)
    weights = Path(args.extractor_weights).expanduser() if args.extractor_weights else None
    chosen = [cell for cell in cells if fnmatch(cell.name, args.cells)]
    if not chosen:
        raise UsageError(
            f"--cells {args.cells}: no cell of {name} matches; `genzoo bench {args.suite} --list` shows them."
        )
    if args.list:
        return _list(name, spec, chosen, weights)
    return _bench(spec.header(name, [*spec.cells(name), *cells]), chosen, cells, out, args.jobs, weights)


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"--seeds {shown(text)[1:-1]}: give whole numbers with commas, e.g. --seeds 0,1,2.") from None


def _data_path(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UsageError(f"--data {text}: write NAME=DATA, e.g. --data cifar10=FOLDER.")
    return name, path


def _list(name: str, spec: "SuiteSpec", cells: "Sequence[Cell]", weights: Path | None) -> int:
    from genzoo.bench.runner import obstacle
    from genzoo.bench.suites import get_suite, list_suites

    for other in list_suites():
        _, it = get_suite(other)
        print(f"{other:14}{len(it.cells(other)):>4} cells  {it.title}")
    print(f"\n{name}: {spec.title}\n{spec.about.strip()}\n")
    width = max(len(cell.name) for cell in cells)
    for cell in cells:
        reason = obstacle(cell, weights)
        print(f"  {cell.name:{width}}  {cell.model:30}{cell.cost}{f'  cannot run here: {reason}' if reason else ''}")
    return 0


def _bench(
    header: "Header", cells: "Sequence[Cell]", suite: "Sequence[Cell]", out: Path, jobs: int, weights: Path | None
) -> int:
    from genzoo.bench.cell import failure
    from genzoo.bench.report import write_report
    from genzoo.bench.runner import Results, missing, obstacle, run_cells, train_classifiers

    name = header.suite
    results = Results(out, name)
    todo = missing(cells, results)
    print(
        f"{name}: {len(cells)} cells, {len(cells) - len(todo)} done, {len(todo)} to run, {jobs} at a time, into {out}"
    )
    reasons = {cell.name: reason for cell in todo if (reason := obstacle(cell, weights))}
    reasons |= train_classifiers([cell for cell in todo if cell.name not in reasons], suite)
    blocked = [cell for cell in todo if cell.name in reasons]
    if blocked and len(blocked) == len(cells):
        lines = dict.fromkeys(
            f"{cell.data}: {reasons[cell.name]}{f' (one cell: {cell.cost})' if cell.cost else ''}" for cell in blocked
        )
        raise UsageError(f"No cell of {name} can run here: {'; '.join(lines)}")
    results.append([header, *(failure(cell, reasons[cell.name]) for cell in blocked)])
    try:
        failed = len(blocked) + run_cells(
            [cell for cell in todo if cell.name not in reasons], results, out, jobs, weights
        )
    except KeyboardInterrupt:
        print(f"Stopped; finished cells are in {results.path}, the others are saved. Repeat the command to continue.")
        raise
    finally:
        written = write_report(out)
    print(f"{failed} cells failed, see {written[0]}" if failed else "all cells are done")
    print("\n".join(map(str, written)))
    return int(failed > 0)
