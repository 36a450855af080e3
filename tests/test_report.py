"""The report: aggregation, ties, published values and failures, in markdown and as one page without other files."""

import base64
import json
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from genzoo.bench import charts
from genzoo.bench.lines import Column
from genzoo.bench.report import check_report, gaps, write_report
from genzoo.bench.results import Stat, read_results
from genzoo.bench.tables import best_rows, number, results_table, with_spread
from genzoo.errors import UsageError
from genzoo.files import JsonLines

KL = {"protocol": "density2d", "value": "kl_raw", "title": "KL, raw", "better": "lower"}
MODES = {"protocol": "quality", "value": "modes", "title": "modes", "better": "higher"}
DETAILS = {
    "definition": "Histograms of 5,000 points.",
    "n_real": 5000,
    "extractor_hash": "ab12",
    "weights": "raw",
    "batchnorm": "ema",
}
HOSTILE = "<script>alert('a')</script>|\"x\" & **y**"

Line = dict[str, Any]
Folder = Callable[..., Path]


def suite(*cells: str, columns: Iterable[Line] = (KL, MODES), published: Iterable[Line] = (), **changes: Any) -> Line:
    line = {
        "kind": "suite",
        "suite": "2d",
        "title": "Densities",
        "about": "On `points`.\n\n- a rule",
        "columns": list(columns),
    }
    return line | {"published": list(published), "expected_cells": list(cells)} | changes


def score(label: str, seed: int, value: float | None, data: str = "rings", **changes: Any) -> Line:
    line = {
        "kind": "score",
        "suite": "2d",
        "cell": f"{label}-{data}-s{seed}",
        "label": label,
        "model": f"{label}.{data}",
        "data": data,
    }
    line |= {
        "seed": seed,
        "protocol": "density2d",
        "values": {"kl_raw": value},
        "details": DETAILS,
        "commit": "c0ffee",
        "device": "cpu",
    }
    return (
        line
        | {"versions": {"torch": "2.15"}, "seconds": 2.0, "overrides": {}, "resolution": None, "unknown key": 1}
        | changes
    )


def cell(label: str, seed: int, data: str = "rings", **changes: Any) -> Line:
    line = {
        "kind": "cell",
        "suite": "2d",
        "cell": f"{label}-{data}-s{seed}",
        "label": label,
        "data": data,
        "seed": seed,
        "seconds": 12.34,
    }
    return line | {"model": f"{label}.{data}", "overrides": {}, "images_seen": 5120} | changes


def failure(label: str, seed: int, reason: str, data: str = "rings") -> Line:
    return {
        "kind": "failure",
        "suite": "2d",
        "cell": f"{label}-{data}-s{seed}",
        "label": label,
        "data": data,
        "seed": seed,
        "reason": reason,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Writes lines as one suite of a bench folder."""

    def write(*lines: Line, name: str = "2d") -> Path:
        results = tmp_path / "results"
        results.mkdir(exist_ok=True)
        (results / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path

    return write


def written(out: Path) -> tuple[str, str]:
    markdown, page = write_report(out)
    return markdown.read_text(), page.read_text()


def row(markdown: str, label: str) -> list[str]:
    """The texts of the first table row that begins with a label."""
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {label} |"))
    return [text.strip() for text in line.strip("|").split(" | ")]


class Page(HTMLParser):
    """Reads a page and refuses tags that do not match."""

    VOID = ("meta", "img", "br", "hr", "input", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def classes(self, tag: str) -> list[str]:
        return [attributes.get("class") or "" for attributes in self.all(tag)]


# numbers


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (2.3312, 0.3812, "2.33 ± 0.38"),
        (2.3312, 0.0996, "2.33 ± 0.10"),
        (2.3312, 0.09949, "2.331 ± 0.099"),
        (1234.5, 12.3, "1234 ± 12"),
        (1234.5, 123.4, "1230 ± 120"),
        (0.5, 3.14, "0.5 ± 3.1"),
        (-1.5, 0.25, "-1.50 ± 0.25"),
        (5000.0, 0.0, "5000 ± 0"),
        (2.3312, None, "2.331"),
        (1.234e-7, 1.2e-8, "(1.23 ± 0.12)e-7"),
        (2.5e9, 1.0e8, "(2.50 ± 0.10)e9"),
    ],
)
def test_a_mean_is_written_to_the_second_digit_of_its_deviation(mean: float, std: float | None, text: str) -> None:
    assert with_spread(mean, std) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (123456.0, "123456"),
        (9.9996, "10.00"),
        (0.0012345, "0.001234"),
        (1e-9, "1.000e-09"),
        (float("nan"), "nan"),
    ],
)
def test_a_single_value_has_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_seeds_give_mean_and_sample_deviation() -> None:
    assert Stat.of([1.0, 2.0, 3.0]) == Stat(2.0, 1.0, 3)
    assert Stat.of([4.0]) == Stat(4.0, None, 1)
    assert Stat.of([4.0, float("nan")]) == Stat(4.0, None, 1, broken=1)
    assert Stat.of([]) is None


def test_bold_is_the_best_mean_and_its_ties() -> None:
    stats = {"a": Stat(1.0, 0.2, 3), "b": Stat(1.19, 0.2, 3), "c": Stat(1.3, 0.2, 3), "d": None}
    assert best_rows(stats, "lower") == {"a", "b"}
    assert best_rows(stats, "higher") == {"c", "b"}
    assert best_rows(stats, "none") == set()
    assert best_rows({"a": Stat(1.0, 0.2, 3)}, "lower") == set()  # alone is not best
    assert best_rows({"a": Stat(1.0, None, 1), "b": Stat(1.001, None, 1)}, "lower") == {
        "a"
    }  # one seed: no deviation, no ties
    assert best_rows({"a": Stat(1.0, 0.4, 3), "b": Stat(1.3, None, 1)}, "lower") == {
        "a",
        "b",
    }  # pooled over what has a deviation
    assert best_rows(
        {"a": Stat(1.0, None, 1, broken=2), "b": Stat(2.0, None, 1), "c": Stat(3.0, None, 1)}, "lower"
    ) == {"b"}


# reading


def test_later_lines_replace_and_order_follows_the_suite(folder: Folder) -> None:
    out = folder(
        suite(title="old"),
        score("b", 0, 9.0),
        score("b", 0, 2.0),
        score("b", 0, 0.5, protocol="quality", values={"modes": 0.5}),
        score("a", 0, 1.0),
        cell("b", 0),
        cell("a", 0),
        {"kind": "note", "text": "a kind of the future"},
        suite("a-rings-s0", "b-rings-s0", title="new"),
    )
    results = read_results(out / "results/2d.jsonl")
    assert results.suite.title == "new" and results.labels == ["a", "b"] and results.groups == ["rings"]
    assert [s.cell for s in results.scores] == ["a-rings-s0", "b-rings-s0", "b-rings-s0"]
    assert results.stat("b", "rings", Column(**KL)) == Stat(2.0, None, 1)


def test_a_failed_cell_that_finished_later_is_not_a_failure(folder: Folder) -> None:
    out = folder(
        suite("a-rings-s0", "a-rings-s1"),
        failure("a", 0, "NaN"),
        failure("a", 1, "no data"),
        cell("a", 0),
        score("a", 0, 1.0),
    )
    results = read_results(out / "results/2d.jsonl")
    assert [f.cell for f in results.failures] == ["a-rings-s1"] and not results.missing
    markdown, page = written(out)
    assert row(markdown, "a")[-2:] == ["1 + 1 failed", "12.3"]
    assert "NaN" not in markdown and "`a-rings-s1`: no data" in markdown and "no data" in page


@pytest.mark.parametrize("cut", [b'{"kind":"score","cell":"a-ri', '{"kind":"cell","label":"é'.encode()[:-1]])
def test_a_truncated_line_is_left_out_and_reported(folder: Folder, cut: bytes) -> None:
    out = folder(suite("a-rings-s0", "a-rings-s1"), score("a", 0, 1.0), cell("a", 0))
    with (out / "results/2d.jsonl").open("ab") as file:
        file.write(cut)
    with pytest.warns(UserWarning, match=r"2d.jsonl: damaged lines are left out, 1 in all \(4\)"):
        assert read_results(out / "results/2d.jsonl").skipped_lines == 1
    assert list(gaps(out)) == ["2d: 1 cells have no result (a-rings-s1)"]
    markdown, _ = written(out)
    assert "cut short and are left out: 1" in markdown and row(markdown, "a")[1] == "1.000"
    with (out / "results/2d.jsonl").open("a") as file:
        file.write(f"\n{json.dumps(score('a', 1, 2.0))}\n{json.dumps(cell('a', 1))}\n")
    corrected, _ = written(out)
    assert (
        corrected
        == written(
            folder(
                suite("a-rings-s0", "a-rings-s1"), score("a", 1, 2.0), cell("a", 1), score("a", 0, 1.0), cell("a", 0)
            )
        )[0]
    )


def test_finished_cells_without_a_score_are_named(folder: Folder) -> None:
    out = folder(suite("a-rings-s0", "a-rings-s1"), score("a", 0, 1.0), cell("a", 0), cell("a", 1))
    assert list(gaps(out)) == ["2d: 1 cells lack a score (a-rings-s1)"]


def test_a_changed_score_is_left_out_with_a_warning(folder: Folder) -> None:
    """A digit that a disk or a hand changed is still JSON; the order of keys may change."""
    out = folder(suite("a-rings-s0"), cell("a", 0))
    path = out / "results/2d.jsonl"
    JsonLines(path).append(score("a", 0, 1.25))
    *lines, last = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, json.dumps(json.loads(last), sort_keys=True)]) + "\n", encoding="utf-8")
    assert len(read_results(path).scores) == 1
    path.write_text("\n".join([*lines, last.replace("1.25", "1.75")]) + "\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="damaged lines are left out"):
        assert not read_results(path).scores


def test_a_line_that_makes_no_sense_is_named(folder: Folder) -> None:
    line = score("a", 0, 1.0)
    del line["label"]
    out = folder(suite(), line)
    with pytest.raises(UsageError, match=r"2d\.jsonl, line 2: label: .*; fix or remove that line\."):
        write_report(out)
    out = folder(suite(), score("a", 0, 1.0, values={"kl_raw": "much"}))
    with pytest.raises(UsageError, match=r"line 2: values\.kl_raw: "):
        check_report(out)


def test_no_results_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run `genzoo bench SUITE --out .*` first"):
        write_report(tmp_path)


# RESULTS.md


def test_table_has_means_ties_and_published_values(folder: Folder) -> None:
    published = [{"label": "a", "data": "rings", "value": "kl_raw", "text": "2.33 ± 0.38", "source": "a paper"}]
    published.append({"label": "Z", "data": "rings", "value": "kl_raw", "text": "7", "source": "a paper"})
    scores = [score("a", i, v) for i, v in enumerate((2.0, 2.5, 3.0))] + [
        score("b", i, v) for i, v in enumerate((8.0, 8.1, float("nan")))
    ]
    out = folder(suite(published=published), *scores, *(cell("a", i) for i in range(3)))
    markdown, _ = written(out)
    assert "| model | KL, raw\N{NO-BREAK SPACE}↓ | published | modes\N{NO-BREAK SPACE}↑ | seeds | seconds |" in markdown
    assert row(markdown, "a") == ["a", "2.50 ± 0.50", "2.33 ± 0.38", "–", "3", "12.3"]
    assert row(markdown, "b") == ["b", "8.050 ± 0.071 (1 of 3 not finite)", "not found", "–", "3", "–"]
    assert row(markdown, "Z") == ["Z", "–", "7", "–", "not run", "–"]
    assert "No published value was found for: modes." in markdown and "taken from: a paper." in markdown
    out = folder(suite(), *scores[:3], *(score("b", i, 8.0) for i in range(3)))
    markdown, page = written(out)
    assert row(markdown, "a")[1] == "**2.50 ± 0.50**" and row(markdown, "b")[1] == "8.000 ± 0"
    assert "Published values: not found." in markdown and "published |" not in markdown
    assert '<td class="n best">2.50 ± 0.50</td>' in page


def test_a_mean_over_fewer_seeds_than_its_row_is_marked(folder: Folder) -> None:
    out = folder(suite(), score("a", 0, 1.0), score("a", 1, None), cell("a", 0), cell("a", 1))
    assert row(written(out)[0], "a")[1:] == ["1.000 (n = 1)", "–", "2", "12.3"]


def test_protocols_seconds_and_gaps_are_reported(folder: Folder) -> None:
    out = folder(
        suite("a-rings-s0", "a-rings-s1", "a-rings-s2"),
        score("a", 0, 1.0, spreads={"kl_raw": 0.11}, details=DETAILS | {"scale": 1}),
        score("a", 2, 1.0, details=DETAILS | {"scale": 2}),
        cell("a", 0, overrides={"objective.margin": 4.0}),
        cell("a", 2),
    )
    markdown, page = written(out)
    for said in (
        "Histograms of 5,000 points.",
        "ab12",
        "c0ffee",
        "torch=2.15",
        "a-rings-s1",
        "No cell has been scored yet.",
        "1; 2",
    ):
        assert said in markdown and said in page
    assert "- n real: 5000" in markdown and "- batchnorm: ema" in markdown and "- device: cpu" in markdown
    assert row(markdown, "a-rings-s0") == [
        "a-rings-s0",
        "a.rings",
        "objective.margin=4.0",
        "0",
        "5120",
        "12.3",
        "1.00 ± 0.11",
        "–",
    ]
    assert row(markdown, "Densities") == ["Densities", "2 of 3", "0", "1", "0.01"]
    assert Page(page).all("details")


def test_cells_that_only_look_like_seeds_are_reported(folder: Folder) -> None:
    out = folder(suite(), cell("a", 0), cell("a", 0, cell="a-rings-large-s0"))
    assert "a-rings-large-s0, a-rings-s0 share label, data and seed" in written(out)[0]


def test_a_suite_without_columns_or_without_its_first_line(folder: Folder) -> None:
    out = folder(suite("a-rings-s0", columns=[]), cell("a", 0))
    markdown, page = written(out)
    assert row(markdown, "a") == ["a", "1", "12.3"] and "no columns" in markdown and "Protocols" not in markdown + page
    out = folder(cell("a", 0))
    assert "## 2d" in written(out)[0]


# both


@pytest.fixture
def full(folder: Folder) -> Path:
    """Two labels, datasets and seeds, curves with gaps, guides, pictures, a failure, a hostile label; another suite."""
    lines: list[Line] = [failure(HOSTILE, 0, "<b>reason</b>")]
    out = folder(suite(), name="2d")
    for label in ("introvae", HOSTILE):
        for data in ("rings", "spirals"):
            for seed in (0, 1):
                picture = f"2d/{len(lines)}.points.png"
                side = 900 if (data, seed) == ("rings", 0) else 40
                (out / "results/2d").mkdir(exist_ok=True)
                Image.effect_noise((side, side), 60).save(out / "results" / picture)
                curves = {
                    "nimg": [0, 10, 20, 30],
                    "kl/real": [1.0, 2.0, None, 3.0],
                    "error/sse": [500.0, 5.0, float("inf"), 0.5],
                }
                guides = {"kl": 110.0} if label == "introvae" else {}
                lines.append(score(label, seed, 2.0 + seed, data))
                lines.append(cell(label, seed, data, curves=curves, guides=guides, pictures={"points": picture}))
    folder(suite(about=f"{HOSTILE} ![p](http://example.org/p.png)", title=HOSTILE), *lines, name="2d")
    return folder(suite(suite="losses"), score("vae", 0, 1.0), cell("vae", 0), name="losses")


def test_the_same_results_give_the_same_bytes(full: Path) -> None:
    first = [path.read_bytes() for path in write_report(full)]
    assert first == [path.read_bytes() for path in write_report(full)]
    assert not [path for path in full.iterdir() if path.suffix == ".tmp"]
    assert all(str(full).encode() not in content for content in first)


def test_a_stale_report_is_named_with_its_fix(full: Path) -> None:
    fix = f"run `genzoo bench --report --out {full}`."
    assert check_report(full) == f"{full / 'RESULTS.md'} is missing: {fix}"
    write_report(full)
    assert check_report(full) is None
    with (full / "results/losses.jsonl").open("a") as file:
        file.write(json.dumps(score("vae", 1, 3.0)) + "\n")
    assert check_report(full) == f"{full / 'RESULTS.md'} is older than its JSON: {fix}"
    write_report(full)
    assert check_report(full) is None


def test_the_page_needs_nothing_else_and_escapes_what_it_shows(full: Path) -> None:
    _, text = written(full)
    page = Page(text)
    assert not page.all("script") and not page.all("link") and not page.all("b")
    assert all((attributes["src"] or "").startswith("data:") for _, attributes in page.tags if "src" in attributes)
    assert "url(" not in text and "@import" not in text and '<img src="http' not in text
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "&lt;script&gt;alert" in text and "<script" not in text
    assert {link["href"] for link in page.all("a") if link["href"].startswith("#")} <= {
        f"#{x['id']}" for _, x in page.tags if "id" in x
    }


def test_every_first_picture_is_embedded_and_small(full: Path) -> None:
    images = Page(written(full)[1]).all("img")
    assert len(images) == 4  # two labels, two data sets, the first seed
    pictures = [Image.open(BytesIO(base64.b64decode(image["src"].partition(",")[2]))) for image in images]
    assert sorted((p.format, p.size) for p in pictures) == [("PNG", (40, 40))] * 2 + [("WEBP", (768, 768))] * 2
    assert all("seed 0" in image["alt"] for image in images)


@pytest.mark.parametrize(
    ("path", "said"),
    [("2d/none.png", "is missing"), ("../../x.png", "lies outside"), ("2d.jsonl", "is not a readable")],
)
def test_a_picture_that_cannot_be_shown_is_reported(folder: Folder, path: str, said: str) -> None:
    out = folder(suite(), cell("a", 0, pictures={"points": path}))
    _, text = written(out)
    assert f"{path} {said}" in text and not Page(text).all("img")


def test_curves_have_their_guide_and_gaps(full: Path) -> None:
    _, text = written(full)
    guides = [x for x in Page(text).all("line") if (x.get("class") or "").startswith("guide")]
    assert len(guides) == 2 and guides[0]["class"] == "guide c1"  # a panel of kl per data set; none for errors
    assert text.count("- - guide 110") == 2 and "error/sse, log scale" in text and "kl/real, log scale" not in text
    curves = [x for x in Page(text).all("path") if (x.get("class") or "").startswith("curve")]
    assert len(curves) == 2 * 2 * 2 * 2  # labels, data sets, seeds, panels
    assert all(x["d"].count("M") == 2 for x in curves)
    assert {x["class"] for x in curves} == {"curve c0", "curve c1"}


def test_a_label_keeps_its_color_across_suites(folder: Folder) -> None:
    folder(suite(), cell("a", 0), cell("b", 0), name="first")
    out = folder(suite(), cell("b", 0), cell("c", 0), name="second")
    swatches = re.findall(r'<span class="swatch (c\d)"></span>\xa0(\w)', written(out)[1])
    assert (
        dict((label, color) for color, label in swatches) == {"a": "c0", "b": "c1", "c": "c2"}
        and len(set(swatches)) == 3
    )


def test_axes() -> None:
    assert charts.linear_axis([0.1, 9.0], zero=True).low == 0 and charts.linear_axis([-3.0, -1.0], zero=True).high == 0
    assert charts.linear_axis([5.0, 5.0]).at(5.0) == pytest.approx(0.5)
    assert charts.linear_axis([0.0, 0.0], zero=True).at(0.0) == 0.0
    assert (
        charts.curve_axis([1.0, 51.0]).log
        and not charts.curve_axis([1.0, 49.0]).log
        and not charts.curve_axis([-1.0, 900.0]).log
    )
    assert not charts.guided_axis([0.01, 100.0], [110.0, 90.0]).log and charts.guided_axis([0.01, 1200.0], [110.0]).log
    assert (
        charts.guided_axis([50.0, 100.0], [110.0]).low == 0 and charts.guided_axis([50.0, 100.0], [110.0]).at(110.0) < 1
    )
    assert charts.log_axis([1.0, 100.0]).at(10.0) == pytest.approx(0.5)
    assert charts.linear_ticks(0.0, 1.0) == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert charts.log_ticks(0.9, 2000.0) == pytest.approx((1, 10, 100, 1000))
    assert [charts.short(v) for v in (0.05, 1500, 2e6, 3e9, 0)] == ["0.05", "1.5k", "2M", "3G", "0"]


def test_bars_become_dots_where_zero_has_no_place(folder: Folder) -> None:
    out = folder(suite(), *(score("a", i, v) for i, v in enumerate((1.0, 3.0))), score("b", 0, 2.5))
    page = Page(written(out)[1])
    assert page.classes("rect") == ["fill c0", "fill c1"] and page.classes("path") == ["error"]
    out = folder(suite(), score("a", 0, 1.0), score("b", 0, 250.0))
    assert Page(written(out)[1]).classes("circle") == ["fill c0", "fill c1"]


def test_equal_rows_of_a_table(full: Path) -> None:
    results = read_results(full / "results/2d.jsonl")
    for data in results.groups:
        table = results_table(results, data)
        assert {len(entries) for entries in table.rows} == {len(table.head)}


def test_findings_of_a_person_are_in_both_reports_and_go_stale(folder: Folder) -> None:
    out = folder(suite(), score("a", 0, 1.0), cell("a", 0))
    (out / "results/2d.md").write_text("Rings are **hard** <b>for</b> all.\n")
    markdown, page = written(out)
    assert "### What the numbers say\n\nRings are **hard**" in markdown
    assert "Rings are <strong>hard</strong> &lt;b&gt;" in page
    (out / "results/2d.md").write_text("Rings are easy.\n")
    assert "is older than" in check_report(out)


def test_a_column_that_only_another_data_set_is_scored_by_is_left_out(folder: Folder) -> None:
    other = {"protocol": "rec100_test", "value": "sse", "title": "SSE", "better": "lower"}
    lines = [score("a", 0, 1.0), score("a", 0, None, data="faces", protocol="rec100_test", values={"sse": 2.0})]
    out = folder(suite(columns=[KL, other]), *lines, cell("a", 0), cell("a", 0, data="faces"))
    results = read_results(out / "results/2d.jsonl")
    assert [[c.title for c in results.columns(data)] for data in ("rings", "faces")] == [[KL["title"]], ["SSE"]]
