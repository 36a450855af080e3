"""From results/*.jsonl to RESULTS.md and report.html, and the check that RESULTS.md is what its JSON says."""

import os
from pathlib import Path

from genzoo.bench.html import page
from genzoo.bench.markdown import markdown
from genzoo.bench.results import SuiteResults, read_results
from genzoo.errors import UsageError

RESULTS, MARKDOWN, PAGE = "results", "RESULTS.md", "report.html"


def write_report(out: Path) -> tuple[Path, Path]:
    """Writes RESULTS.md and report.html of a bench folder; the same JSON and pictures give the same bytes.

    Returns:
        The paths of the two files.

    Raises:
        UsageError: there are no results, or a line of them makes no sense.
    """
    suites = _read(out)
    return _write(out / MARKDOWN, markdown(suites)), _write(out / PAGE, page(suites, out / RESULTS))


def check_report(out: Path) -> str | None:
    """Says in one line what is wrong with a bench folder's RESULTS.md, or returns None where it is what its JSON gives.

    Raises:
        UsageError: there are no results, or a line of them makes no sense.
    """
    path, cure = out / MARKDOWN, f"run `genzoo bench --report --out {out}`."
    wanted = markdown(_read(out))
    if not path.is_file():
        return f"{path} is missing: {cure}"
    if path.read_text(encoding="utf-8") != wanted:
        return f"{path} is older than its JSON: {cure}"
    return None


def _read(out: Path) -> list[SuiteResults]:
    found = sorted((out / RESULTS).glob("*.jsonl"))
    if not found:
        raise UsageError(f"No results in {out / RESULTS}: run `genzoo bench SUITE --out {out}` first.")
    return [read_results(path) for path in found]


def _write(path: Path, content: str) -> Path:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(content, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
    return path
