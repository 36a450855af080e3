"""`genzoo list`: models, presets and datasets, a line each; with a name, all that is known of it."""

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

from genzoo.cli.tables import print_table
from genzoo.errors import UsageError
from genzoo.registry import get_spec, list_models, split_name
from genzoo.spec import ModelSpec, Preset

EXAMPLES = """examples:
  genzoo list presets                          a line each
  genzoo list presets softintrovae.cifar10     its source, published score, deviations and settings
  genzoo list data cifar10"""
WIDTH = 120  # columns, where the output is not a terminal


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Shows models, presets (with their source), or datasets by their short names."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "what", nargs="?", choices=("models", "presets", "data"), default="models", help="default: models"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this MODEL, MODEL.PRESET or dataset, in detail")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.name is None:
        {"models": _models, "presets": _presets, "data": _data}[args.what]()
    elif args.what == "data":
        _one_dataset(args.name)
    else:
        _one_model(args.name)


def _specs() -> Iterator[ModelSpec]:
    """Yields the models that can be loaded; prints the errors of the others to the error stream."""
    for name in list_models():
        try:
            yield get_spec(name)
        except UsageError as error:
            print(f"genzoo: {error}", file=sys.stderr)


def _models() -> None:
    print_table(
        ("model", "what", "paper", "presets"), ((s.name, s.summary, s.paper, str(len(s.presets))) for s in _specs())
    )


def _presets() -> None:
    rows = (
        (f"{spec.name}.{name}", _size_of(preset), str(preset.train.get("duration", "1M")), preset.source)
        for spec in _specs()
        for name, preset in spec.presets.items()
    )
    _lines(("preset", "size", "length", "source"), rows)
    print("Details: genzoo list presets MODEL, or MODEL.PRESET; all values of a run: genzoo train MODEL.PRESET --help")


def _one_model(name: str) -> None:
    spec, chosen = split_name(name)
    print(f"{spec.name}: {spec.summary}\n{spec.paper}")
    for preset_name, preset in spec.presets.items():
        if chosen in (None, preset_name):
            print("\n".join(_details(f"{spec.name}.{preset_name}", preset)))


def _details(name: str, preset: Preset) -> Iterator[str]:
    yield f"\n{name}, {_size_of(preset)}"
    yield f"  source: {preset.source}"
    yield f"  published score: {preset.expected}"
    yield f"  deviations: {preset.deviations}"
    for section in ("data", "arch", "objective", "train"):
        if values := getattr(preset, section):
            yield f"  {section}: {', '.join(f'{field}={_shown(value)}' for field, value in values.items())}"


def _shown(value: object) -> str:
    from genzoo.settings import show

    return show(value)


def _size_of(preset: Preset) -> str:
    return _size(preset.data.get("size")) or "points"


def _data() -> None:
    from genzoo.data import list_datasets

    rows = []
    for entry in list_datasets():
        size = _size(entry.size) or {"embedded": "any", "points": "-", "hub": "varies"}[entry.kind]
        count = f"{entry.images:,}" if entry.images else "endless"
        what = "; ".join(filter(None, (entry.what, entry.note)))
        rows.append((entry.name, entry.where, count, size, entry.terms, what))
    print_table(("name", "where", "images", "size", "terms", "what"), rows)
    print("Also: any hub id owner/name, a folder of images, one that `datasets` saved; .parquet, .npy, .npz, .zip,")
    print(".tar, MNIST's idx (a file, or a folder of them); a list of image files: .csv, .tsv, .jsonl, .txt.")


def _one_dataset(name: str) -> None:
    from genzoo.data import find_entry
    from genzoo.data.catalog import dataset_names
    from genzoo.errors import did_you_mean

    entry = find_entry(name)
    if entry is None:
        raise UsageError(f"No dataset is called {name!r}.{did_you_mean(name, dataset_names())} See `genzoo list data`.")
    labels = ", ".join(f"{label} ({count} classes)" for label, count in entry.labels.items()) or "none known"
    facts = {
        "what": entry.what,
        "where": entry.where,
        "images": f"{entry.images:,}" if entry.images else "endless",
        "size": _size(entry.size) or "varies",
        "labels": labels,
        "terms": entry.terms,
        "note": entry.note,
    }
    print(f"{entry.name}\n" + "\n".join(f"  {key}: {value}" for key, value in facts.items() if value))


def _size(size: tuple[int, int] | None) -> str | None:
    return f"{size[0]}x{size[1]}" if size else None


def _lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a line a row, cut at the width of the terminal."""
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    wide = shutil.get_terminal_size((WIDTH, 0)).columns
    for row in table:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        print(line if len(line) <= wide else f"{line[: wide - 3]}...")
