"""Writes RESULTS.md and report.html from results/*.jsonl, and checks that RESULTS.md is up to date."""

from collections.abc import Iterator
from pathlib import Path

from genzoo.bench.html import page
from genzoo.bench.markdown import markdown
from genzoo.bench.results import SHOWN, SuiteResults, read_results
from genzoo.errors import UsageError
from genzoo.files import write_text

RESULTS, MARKDOWN, PAGE = "results", "RESULTS.md", "report.html"


def write_report(out: Path) -> tuple[Path, Path]:
    """Writes RESULTS.md and report.html of a bench folder; the same JSON and pictures give the same bytes.

    Returns:
        The paths of the two files.

    Raises:
        UsageError: there are no results, or one of their lines is not valid.
    """
    suites = _read(out)
    return _write(out / MARKDOWN, markdown(suites)), _write(out / PAGE, page(suites, out / RESULTS))


def gaps(out: Path) -> Iterator[str]:
    """Yields a sentence for each suite whose results are not complete.

    Raises:
        UsageError: as `write_report`.
    """
    for results in _read(out):
        if not (results.cells or results.failures or results.scores):
            yield f"{results.suite.suite}: no results"
        for cells, what in ((results.missing, "have no result"), (results.unscored, "lack a score")):
            if cells:
                more = ", ..." if len(cells) > SHOWN else ""
                yield f"{results.suite.suite}: {len(cells)} cells {what} ({', '.join(cells[:SHOWN])}{more})"


def check_report(out: Path) -> str | None:
    """Returns in one line what is wrong with a bench folder's RESULTS.md; None if it matches its JSON.

    Raises:
        UsageError: there are no results, or one of their lines is not valid.
    """
    path, fix = out / MARKDOWN, f"run `genzoo bench --report --out {out}`."
    wanted = markdown(_read(out))
    if not path.is_file():
        return f"{path} is missing: {fix}"
    if path.read_text(encoding="utf-8", errors="replace") != wanted:
        return f"{path} is older than its JSON: {fix}"
    return None


def _read(out: Path) -> list[SuiteResults]:
    found = sorted(path for path in (out / RESULTS).glob("*.jsonl") if path.is_file())
    if not found:
        raise UsageError(f"No results in {out / RESULTS}: run `genzoo bench SUITE --out {out}` first.")
    return [read_results(path) for path in found]


def _write(path: Path, content: str) -> Path:
    write_text(path, content)
    return path
