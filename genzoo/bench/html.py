"""report.html: one page that needs no other file and no network."""

import math
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from genzoo.bench import charts
from genzoo.bench.foreign import shortened
from genzoo.bench.lines import FinishedCell
from genzoo.bench.markup import tag, text
from genzoo.bench.pictures import Embedded, embed
from genzoo.bench.results import SuiteResults
from genzoo.bench.tables import (
    CELLS_TITLE,
    FINDINGS_TITLE,
    LEGEND,
    NOT_FOUND,
    Protocol,
    Table,
    cells_table,
    first_with_picture,
    notes,
    overview,
    protocols,
    results_table,
    stat_text,
)

# Before all others, in this order.
PICTURES = ("points", "samples", "samples-fitted", "reconstructions", "interpolation")
Styles = dict[str, int]  # label -> number of its color in the whole page


def page(suites: Sequence[SuiteResults], pictures: Path) -> str:
    """Writes all suites as one page.

    Args:
        suites: their results.
        pictures: the folder that the paths of the cells' pictures are relative to.
    """
    styles = {
        label: i for i, label in enumerate(dict.fromkeys(label for results in suites for label in results.labels))
    }
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "genzoo: results"),
        tag("style", files("genzoo.bench").joinpath("report.css").read_text(encoding="utf-8")),
    )
    body = [
        _nav(suites),
        tag("h1", "Results"),
        tag("p", text(f"In all tables: {LEGEND.replace('**', '')}"), class_="legend"),
        _table(overview(suites)),
        *(_suite(results, i, styles, pictures) for i, results in enumerate(suites)),
    ]
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *body)), lang='en')}\n"


def _nav(suites: Sequence[SuiteResults]) -> str:
    links = []
    for i, results in enumerate(suites):
        links.append(tag("a", text(results.suite.suite), href=f"#suite{i}", class_="suite"))
        links += [tag("a", text(data), href=f"#suite{i}-data{j}") for j, data in enumerate(results.groups)]
    return tag("nav", *links, aria_label="Suites and data sets")


def _suite(results: SuiteResults, index: int, styles: Styles, pictures: Path) -> str:
    parts = [tag("h2", text(results.suite.title)), _prose(results.suite.about)]
    if results.findings:
        parts += [tag("h3", FINDINGS_TITLE), _prose(results.findings)]
    if sentences := notes(results):
        parts.append(tag("ul", *(tag("li", text(sentence)) for sentence in sentences), class_="notes"))
    parts += [_failed(results), _missing(results)]
    parts += [_details("Protocols: how each column was measured", "".join(_protocol(p) for p in protocols(results)))]
    parts += [_details(CELLS_TITLE, _table(cells_table(results)) if results.cells else "")]
    for j, data in enumerate(results.groups):
        inner = [tag("h3", text(data)), _table(results_table(results, data), styles)]
        inner += [_bars(results, data, styles), _curves(results, data, styles), _grids(results, data, pictures)]
        parts.append(tag("section", *inner, id=f"suite{index}-data{j}"))
    return tag("section", *parts, id=f"suite{index}", class_="suite")


def _prose(markdown: str) -> str:
    """Renders markdown; raw HTML in it is shown as text, and pictures as links."""
    from markdown_it import MarkdownIt

    return tag(
        "div",
        MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(markdown),
        class_="about",
    )


def _failed(results: SuiteResults) -> str:
    items = (tag("li", tag("code", text(f.cell)), ": ", text(f.reason)) for f in results.failures)
    return tag("div", tag("h4", "Failed cells"), tag("ul", *items), class_="failed") if results.failures else ""


def _missing(results: SuiteResults) -> str:
    names = ", ".join(tag("code", text(cell)) for cell in results.missing)
    return tag("p", tag("strong", "Missing cells"), " (run the suite again to fill them in): ", names) if names else ""


def _details(summary: str, content: str) -> str:
    return tag("details", tag("summary", text(summary)), content) if content else ""


def _protocol(protocol: Protocol) -> str:
    rows = (tag("tr", tag("th", text(key), scope="row"), tag("td", text(value))) for key, value in protocol.facts)
    heading = tag("h4", tag("code", text(protocol.name)), text(f" ({'; '.join(protocol.titles)})"))
    facts = tag("div", tag("table", *rows, class_="facts"), class_="scroll") if protocol.facts else ""
    return heading + tag("p", text(protocol.definition)) + facts


def _table(table: Table, styles: Styles | None = None) -> str:
    """Writes a table in a box that scrolls by itself; with styles, the row names have their colors."""
    head = (
        tag("th", text(title), scope="col", class_="n" if right else None)
        for title, right in zip(table.head, table.numbers, strict=True)
    )
    rows = []
    for row in table.rows:
        swatch = _swatch(styles[row[0].text]) if styles and row[0].text in styles else ""
        cells = [tag("th", swatch, text(row[0].text), scope="row")]
        for entry in row[1:]:
            kind = " ".join(
                k for k, on in (("n", entry.number), ("best", entry.best), ("absent", entry.text == NOT_FOUND)) if on
            )
            cells.append(tag("td", text(entry.text), class_=kind or None))
        rows.append(tag("tr", *cells))
    return tag("div", tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows)), class_="scroll", tabindex="0")


def _swatch(style: int) -> str:
    return tag("span", class_=f"swatch {charts.style_class(style)}") + "\N{NO-BREAK SPACE}"


def _legend(labels: Iterable[str], styles: Styles) -> str:
    return tag("p", *(tag("span", _swatch(styles[label]), text(label)) for label in labels), class_="labels")


def _bars(results: SuiteResults, data: str, styles: Styles) -> str:
    panels = []
    for column in results.columns(data):
        stats = ((label, results.stat(label, data, column)) for label in results.labels)
        bars = [
            charts.Bar(label, styles[label], s.mean, s.std, stat_text(s)) for label, s in stats if s is not None and s.n
        ]
        if bars:
            better = {"lower": " (lower is better)", "higher": " (higher is better)", "none": ""}[column.better]
            panels.append(charts.bar_chart(column.title + better, bars))
    return tag("div", *panels, class_="panels") if panels else ""


def _curves(results: SuiteResults, data: str, styles: Styles) -> str:
    """One panel per curve, lines by label and seed; curves that share a guide share their axis, too."""
    cells = results.cells_of(data)
    names = dict.fromkeys(name for cell in cells for name in cell.curves)
    names = [name for name in names if name != "nimg" and not name.startswith("guide/")]  # a moving guide has a curve
    drawn = {name: [_curve(cell, name, styles) for cell in cells if name in cell.curves] for name in names}
    panels = []
    for prefix in dict.fromkeys(name.partition("/")[0] for name in names):
        family = [name for name in names if name.partition("/")[0] == prefix and charts.finite(drawn[name])]
        guides = _guides(cells, prefix, styles)
        shared = charts.finite(curve for name in family for curve in drawn[name]) if guides else []
        for name in family:
            axis = (
                charts.guided_axis(shared, [guide.value for guide in guides])
                if guides
                else charts.curve_axis(charts.finite(drawn[name]))
            )
            panels.append(charts.curve_chart(name, drawn[name], guides, axis))
    labels = dict.fromkeys(cell.label for cell in cells)
    return _legend(labels, styles) + tag("div", *panels, class_="panels") if panels else ""


def _curve(cell: FinishedCell, name: str, styles: Styles) -> charts.Curve:
    points = tuple(zip(cell.curves.get("nimg", []), cell.curves[name], strict=False))
    return charts.Curve(styles[cell.label], points, f"{cell.label}, seed {cell.seed}")


def _guides(cells: Iterable[FinishedCell], prefix: str, styles: Styles) -> list[charts.Guide]:
    """One dashed line per value, in the color of its label if only one has it."""
    owners: dict[float, list[str]] = {}
    for cell in cells:
        if math.isfinite(cell.guides.get(prefix, math.nan)):
            labels = owners.setdefault(cell.guides[prefix], [])
            labels += [cell.label] if cell.label not in labels else []
    return [
        charts.Guide(value, tuple(labels), styles[labels[0]] if len(labels) == 1 else None)
        for value, labels in owners.items()
    ]


def _grids(results: SuiteResults, data: str, pictures: Path) -> str:
    """Pictures side by side: a row per kind, a column per label, of the first seed with a picture."""
    cells = results.cells_of(data)
    kinds = {kind for cell in cells for kind in cell.pictures}
    rows = []
    for kind in (*(k for k in PICTURES if k in kinds), *sorted(kinds - set(PICTURES))):
        chosen = (first_with_picture(results.cells_of(data, label), kind) for label in results.labels)
        figures = [_figure(cell, kind, pictures) for cell in chosen if cell is not None]
        rows.append(tag("h4", text(kind.capitalize())) + tag("div", *figures, class_="grids"))
    return "".join(rows)


def _figure(cell: FinishedCell, kind: str, pictures: Path) -> str:
    caption = tag("figcaption", text(f"{cell.label}, seed {cell.seed}"))
    picture = embed(pictures, cell.pictures[kind])
    if not isinstance(picture, Embedded):
        name = shortened(cell.pictures[kind])
        return tag("figure", tag("p", text(f"{name} {picture}."), class_="absent"), caption)
    image = tag(
        "img",
        src=picture.uri,
        alt=f"{kind} of {cell.label} on {cell.data}, seed {cell.seed}",
        width=picture.width,
        height=picture.height,
        class_="pixelated" if picture.pixelated else None,
    )
    return tag("figure", image, caption, class_="wide" if picture.width > 2 * picture.height else None)
