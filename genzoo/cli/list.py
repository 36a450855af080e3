"""`genzoo list`: models, presets and datasets."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence

from genzoo.errors import UsageError
from genzoo.registry import get_spec, list_models
from genzoo.spec import ModelSpec


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Shows models, presets (with their source), or datasets by their short names."
    parser.add_argument(
        "what", nargs="?", choices=("models", "presets", "data"), default="models", help="default: models"
    )


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    {"models": _models, "presets": _presets, "data": _data}[args.what]()


def _specs() -> Iterator[ModelSpec]:
    """Yields the models that can be loaded; prints the errors of the others to the error stream."""
    for name in list_models():
        try:
            yield get_spec(name)
        except UsageError as error:
            print(f"genzoo: {error}", file=sys.stderr)


def _models() -> None:
    _table(("model", "what", "paper", "presets"), ((s.name, s.summary, s.paper, str(len(s.presets))) for s in _specs()))


def _presets() -> None:
    rows = []
    for spec in _specs():
        for preset_name, preset in spec.presets.items():
            size = _size(preset.data.get("size")) or "points"
            rows.append((f"{spec.name}.{preset_name}", size, preset.source, preset.expected, preset.deviations))
    _table(("preset", "size", "source", "published score", "deviations"), rows)


def _data() -> None:
    from genzoo.data import list_datasets

    rows = []
    for entry in list_datasets():
        size = _size(entry.size) or {"embedded": "any", "points": "-", "hub": "varies"}[entry.kind]
        count = f"{entry.images:,}" if entry.images else "endless"
        what = "; ".join(filter(None, (entry.what, entry.note)))
        rows.append((entry.name, entry.where, count, size, entry.terms, what))
    _table(("name", "where", "images", "size", "terms", "what"), rows)
    print("Also: any hub id owner/name, a folder of images, one that `datasets` saved; .parquet, .npy, .npz, .zip,")
    print(".tar, MNIST's idx (a file, or a folder of them); a list of image files: .csv, .tsv, .jsonl, .txt.")


def _size(size: tuple[int, int] | None) -> str | None:
    return f"{size[0]}x{size[1]}" if size else None


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    console = Console()
    Console(width=console.width if console.is_terminal else 200).print(table)
