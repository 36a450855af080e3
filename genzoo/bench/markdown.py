"""RESULTS.md: the tables in GitHub's markdown."""

from collections.abc import Iterable, Sequence

from genzoo.bench.results import SuiteResults
from genzoo.bench.tables import (
    CELLS_TITLE,
    FINDINGS_TITLE,
    LEGEND,
    Entry,
    Protocol,
    Table,
    cells_table,
    notes,
    overview,
    protocols,
    results_table,
)
from genzoo.markdown import code, escaped


def markdown(suites: Sequence[SuiteResults]) -> str:
    """Writes all suites as one document."""
    head = [
        "# Results",
        "<!-- Written by `genzoo bench --report` from results/*.jsonl: change those, not this. -->",
        "`genzoo bench --report` writes the same beside this file as `report.html`, with curves, bars and pictures.",
        table(overview(suites)),
        f"In all tables: {LEGEND}",
    ]
    return "\n\n".join([*head, *(block for results in suites for block in _suite(results))]) + "\n"


def _suite(results: SuiteResults) -> Iterable[str]:
    yield f"## {escaped(results.suite.title)}"
    if results.suite.about:
        yield results.suite.about.strip()
    if results.findings:
        yield f"### {FINDINGS_TITLE}"
        yield results.findings
    for data in results.groups:
        yield f"### {escaped(data)}"
        yield table(results_table(results, data))
    if sentences := notes(results):
        yield "\n".join(f"- {escaped(sentence)}" for sentence in sentences)
    if results.failures:
        yield "**Failed cells**"
        yield "\n".join(f"- `{code(f.cell)}`: {escaped(f.reason)}" for f in results.failures)
    if results.missing:
        missing = ", ".join(f"`{code(cell)}`" for cell in results.missing)
        yield f"**Missing cells** (run the suite again to fill them in): {missing}"
    if described := protocols(results):
        yield "### Protocols"
        yield from (_protocol(p) for p in described)
    if results.cells:
        yield f"<details><summary>{CELLS_TITLE}</summary>\n\n{table(cells_table(results))}\n\n</details>"


def _protocol(protocol: Protocol) -> str:
    titles = "; ".join(escaped(title) for title in protocol.titles)
    facts = "".join(f"\n- {escaped(key)}: {escaped(value)}" for key, value in protocol.facts)
    return f"**`{code(protocol.name)}`** ({titles}). {escaped(protocol.definition)}{chr(10) + facts if facts else ''}"


def table(content: Table) -> str:
    """Writes a table, numbers aligned to the right."""
    lines = [[escaped(title) for title in content.head], ["---:" if right else ":---" for right in content.numbers]]
    lines += [[_entry(entry) for entry in row] for row in content.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _entry(entry: Entry) -> str:
    return f"**{escaped(entry.text)}**" if entry.best else escaped(entry.text)
