"""`genzoo bench --report` on results from elsewhere: what cannot be shown is named and left out, the rest is shown."""

import json
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from genzoo.bench import charts
from genzoo.bench.foreign import cleaned
from genzoo.cli import main
from genzoo.markdown import code, escaped

Line = dict[str, Any]
COLUMN = {"protocol": "p", "value": "v", "title": "V"}


def suite(**changes: Any) -> Line:
    return {"kind": "suite", "suite": "s", "title": "Suite", "columns": [COLUMN]} | changes


def cell(label: str = "a", seed: int = 0, **changes: Any) -> Line:
    name = f"{label}-d-s{seed}"
    return {"kind": "cell", "cell": name, "label": label, "data": "d", "seed": seed, "seconds": 1.0} | changes


def score(value: Any, label: str = "a", seed: int = 0, **changes: Any) -> Line:
    line = {"kind": "score", "cell": f"{label}-d-s{seed}", "label": label, "data": "d", "seed": seed}
    return line | {"protocol": "p", "values": {"v": value}} | changes


def report(out: Path, *lines: Line | str) -> tuple[str, str]:
    """Writes the report of one results file; returns its Markdown and its page."""
    (out / "results").mkdir(exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (out / "results" / "s.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    assert main(["bench", "--report", "--out", str(out)]) == 0
    assert main(["bench", "--check", "--out", str(out)]) == 0
    return (out / "RESULTS.md").read_text(encoding="utf-8"), (out / "report.html").read_text(encoding="utf-8")


def bomb(path: Path, side: int) -> None:
    """A PNG of a few bytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_pictures_that_cannot_be_shown_are_named(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    bomb(folder / "bomb.png", 100_000)
    bomb(folder / "warned.png", 10_000)  # Pillow only warns of these
    Image.new("RGB", (8, 8), "red").save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:50])
    (folder / "loop.png").symlink_to(folder / "loop.png")
    unreadable = "is not a readable picture"
    paths = {"bomb.png": unreadable, "warned.png": unreadable, "cut.png": unreadable, "zero\0byte.png": "is missing"}
    paths |= {"x" * 5000: "is not a path", "loop.png": "is not a path" if sys.version_info < (3, 13) else "is missing"}
    cells = [cell(seed=i, label=f"row{i}", pictures={"samples": path}) for i, path in enumerate(paths)]
    _, page = report(tmp_path, suite(), *cells, cell("good", pictures={"samples": "good.png"}))
    for path, reason in paths.items():
        shown = path.replace("\0", "\N{REPLACEMENT CHARACTER}")
        shown = shown if len(shown) < 100 else f"{shown[:100]}..."
        assert f"{shown} {reason}" in page, path[:20]
    assert page.count("<img") == 1 and "\0" not in page and "x" * 101 not in page


@pytest.mark.parametrize("huge", ["1e308", "-1.7e308", "1e200", "9" * 400])
def test_numbers_that_no_chart_can_show_are_left_out_and_named(huge, tmp_path):
    lines = [
        json.dumps(line).replace('"HUGE"', huge)
        for line in (
            suite(expected_cells=["a-d-s0", "a-d-s1", "b-d-s0"]),
            score("HUGE"),
            score(3.0, seed=1),
            score("HUGE", label="b"),
            cell(seconds="HUGE", curves={"nimg": [1, 2], "loss/x": ["HUGE", 1.0]}, guides={"loss": "HUGE"}),
            cell(seed=1),
            cell("b"),
        )
    ]
    text, page = report(tmp_path, *lines)
    assert "line 2: values.v, a number beyond 1e+100" in text and "line 5: seconds, a number beyond" in text
    row = next(line for line in text.splitlines() if line.startswith("| a |"))
    assert "3.000 (1 of 2 not finite)" in row
    assert "inf" not in page.partition("</style>")[2]


def test_lines_of_other_software_are_left_out(tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    nested = score(1.5, details={"deep": json.loads("[" * 200 + "]" * 200)})
    text, _ = report(tmp_path, suite(), {"kind": [1]}, {"kind": {"a": 1}}, {"kind": "x"}, "[1]", "7", deep, nested)
    assert "| a | 1.500 |" in text
    assert "line 8: details.deep, nested 50 levels deep" in text
    assert "cut short and are left out: 3" in text  # a list, a number, and what no reader gets to the end of


def test_text_that_no_file_can_hold_is_replaced(tmp_path):
    label = "a\ud800b\x07c"
    text, page = report(tmp_path, suite(), score(1.0, label=label), cell(label))
    for shown in (text, page):
        assert "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c" in shown
    (tmp_path / "results" / "s.md").write_bytes(b"caf\xe9")
    (tmp_path / "results" / "folder.jsonl").mkdir()
    assert "caf\N{REPLACEMENT CHARACTER}" in report(tmp_path, suite())[0]


def test_what_can_be_shown_stays_as_it_is():
    line = score(1e-300, label="\N{NO-BREAK SPACE}→ ü\n", details={"n": [1, None, True, "x"]})
    assert cleaned(line) == (line, [])


@pytest.mark.parametrize(("low", "high"), [(-1e308, 1e308), (0.0, 5e-324), (1.0, 1.0)])
def test_an_axis_without_room_for_ticks_has_none(low, high):
    assert charts.linear_ticks(low, high) == ()


def links(markdown: str) -> Iterator[str]:
    for block in MarkdownIt("commonmark").enable("table").parse(markdown):
        yield from (token.type for token in block.children or () if token.type in ("link_open", "image", "html_inline"))


@pytest.mark.parametrize(
    "label",
    ["[x](http://evil)", r"\[x](http://evil)", r"\\[x](http://evil)", "![x](http://evil)", "<b>", r"\<b>", r"a\|b"],
)
def test_no_label_becomes_markup_in_results(label, tmp_path):
    text, _ = report(tmp_path, suite(title=label, expected_cells=[label]), score(1.0, label=label), cell(label))
    assert not list(links(text))
    (inline,) = MarkdownIt("commonmark").enable("table").parse(escaped(label))[1:2]
    assert "".join(token.content for token in inline.children or ()) == label
    assert list(links(f"`{code(label)}`")) == []
