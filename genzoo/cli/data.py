"""`genzoo data`: what a dataset holds and how it would be read, without training."""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.cli.common import add_set
from genzoo.cli.tables import print_table
from genzoo.dataspec import DataConfig, last_name
from genzoo.errors import UsageError
from genzoo.settings import parse_setting

if TYPE_CHECKING:
    from genzoo.data.survey import Survey

DESCRIPTION = """Looks at a dataset and trains nothing: items by folder, split and class, sizes, color, values, copies,
what is left out and what cannot be read, each with the option that changes it; then a contact sheet."""

EXAMPLES = """examples:
  genzoo data FOLDER                               what would be trained on, and FOLDER.png to look at
  genzoo data FOLDER --set data.split=test         another split
  genzoo data FOLDER --set data.size=64x64 --set data.fit=pad
                                                   the pictures as a model of 64x64 gets them
  genzoo data scans --set data.range=4095          12-bit values in 16-bit files, brightened
  genzoo data digits --out digits.png              a built-in dataset; points are plotted
  genzoo data owner/name                           a dataset of the hub"""

SHOWN = 8  # names that a row lists
PER_ROW = 8  # pictures in a row of the contact sheet
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")

Row = tuple[str, str, str]  # what, what was found, the option that changes it


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "data", metavar="DATA", help="folder, file, short name or hub id; `genzoo list data` has names and formats"
    )
    parser.add_argument(
        "--out", metavar="PNG", help="contact sheet, or plot of points (default NAME.png in the working directory)"
    )
    add_set(parser, "how items are read: data.split=test, data.size=64x64, data.frames=all, ...")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    from genzoo.data.formats import refuse_missing

    out = _out(args)
    config = DataConfig(name=args.data)
    for text in args.set:
        _, field, value = parse_setting(text, {"data": DataConfig})
        config = replace(config, **{field: value})
    refuse_missing(config.name)
    from genzoo.data.found import summary
    from genzoo.data.survey import survey

    seen = survey(config)
    unit = "images" if seen.points is None else "points" if seen.points.shape[1] == 2 else "vectors"
    print(summary(seen.name, seen.found, unit))
    print_table(("what", "found", "option"), [*_rows(seen), *_hints(seen)])
    if _draw(seen, out):
        print(f"picture: {out}")


def _out(args: argparse.Namespace) -> Path:
    """Chooses the picture to write: outside the data, of which it would become an image.

    Raises:
        UsageError: --out does not end like a picture, or lies inside the data.
    """
    data = Path(args.data).expanduser()
    out = Path(args.out).expanduser() if args.out else Path(f"{last_name(args.data).replace(':', '-')}.png")
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(f"--out {out}: end it in {', '.join(ENDINGS)}.")
    if data.is_dir() and _is_inside(out, data):
        if args.out:
            raise UsageError(f"--out {out} lies inside the data, and would become one of its images: choose another.")
        return data.resolve().parent / out.name
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _rows(seen: "Survey") -> Iterator[Row]:
    """What was found."""
    unknown = "endless" if seen.found.items is None else "not counted"
    counts = {name: unknown if size is None else f"{size:,}" for name, size in seen.splits.items()}
    yield "splits", ", ".join(f"{name} {count}" for name, count in counts.items()), "data.split" * (len(counts) > 1)
    if seen.held_out:
        yield "held out", f"{seen.held_out:,} for scores, the same ones in every run", "data.holdout=0 trains on all"
    for label, classes in seen.classes.items():
        yield "classes", f"{len(classes):,} in {label}: {_listed(classes)}", f"data.labels={label}"
    yield "looked at", f"{seen.looked_at:,}", ""
    if seen.points is not None:
        yield "numbers per item", f"{seen.points.shape[1]:,}", ""
    if seen.sizes:
        yield from _sizes(seen)
        yield "colors", _listed(seen.modes), "data.channels=1 for gray"
    if seen.high >= seen.low:
        yield "values", f"{seen.low:g} to {seen.high:g}", ""


def _sizes(seen: "Survey") -> Iterator[Row]:
    heights, widths = zip(*seen.sizes, strict=True)
    aspects = [width / height for height, width in seen.sizes]
    if len({*seen.sizes}) == 1:
        yield "size", f"{heights[0]}x{widths[0]} (height x width), all alike", "data.size"
        return
    for what, values in (("height", heights), ("width", widths), ("width / height", aspects)):
        low, middle, high = min(values), statistics.median(values), max(values)
        yield what, f"{low:.5g} to {high:.5g}, median {middle:.5g}", "data.size brings all to one size"


def _hints(seen: "Survey") -> Iterator[Row]:
    """What a user might not expect, with the option that changes it."""
    from genzoo.data.found import counted
    from genzoo.data.suffixes import HINTS
    from genzoo.data.values import darkness

    if seen.points is None and (dark := darkness(seen.brightest, seen.found.top)) is not None:
        yield "dark data", dark[0], f"data.range={dark[1]:g}"
    for reason, n in seen.found.left_out.items():
        yield "left out", counted(n, reason), HINTS.get(reason, "")
    for text in seen.found.notes:
        what, _, option = text.partition("; ")
        yield "note", what, option
    if seen.unreadable:
        yield "unreadable", f"{len(seen.unreadable):,}: {_joined(seen.unreadable)}", "data.skip_corrupt=true"
    if seen.duplicates:
        pairs = [f"{second} = {first}" for first, second in seen.duplicates]
        yield "copies", f"{len(pairs):,} of {seen.looked_at:,}: {_joined(pairs)}", "remove them"


def _listed(counts: Mapping[str, int]) -> str:
    return _joined([f"{name} {n:,}" for name, n in counts.items()])


def _joined(texts: Sequence[str]) -> str:
    return ", ".join([*texts[:SHOWN], *([f"and {len(texts) - SHOWN:,} more"] if len(texts) > SHOWN else [])])


def _draw(seen: "Survey", out: Path) -> bool:
    """Writes the contact sheet, or plots points of two coordinates; returns whether there is one."""
    import torch

    from genzoo.pictures import save_grid, save_points

    if seen.thumbnails:
        images = torch.stack([torch.from_numpy(pixels) for pixels in seen.thumbnails]) / 255
        save_grid(images.split(PER_ROW), out)
        return True
    if seen.points is None or seen.points.shape[1] != 2:
        return False
    points = torch.from_numpy(seen.points)
    save_points(points, None, out, 1.05 * points.abs().max().item())
    return True
