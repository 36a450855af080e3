"""`genzoo suggest`: from a folder of images to a preset with reasons, and the command to type."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genzoo.cli.common import add_res, add_set, resolution
from genzoo.configure import resolve
from genzoo.data.formats import refuse_missing
from genzoo.duration import in_seconds
from genzoo.errors import UsageError
from genzoo.recipes import table, texts
from genzoo.registry import split_name

DESCRIPTION = """Looks at a sample of the data (count, sizes, color, how many principal components matter) and proposes
a preset: every line with its reason, then the command. It trains nothing; a run chooses settings that are `auto`."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument(
        "model", nargs="?", default="introvae", metavar="MODEL", help="model to suggest for (default introvae)"
    )
    parser.add_argument("--data", metavar="DATA", help="folder of images, parquet, .npy, short name or hub id")
    add_res(parser, " (default: what the images have, within reason)")
    parser.add_argument("--budget", metavar="TIME", help="for a run that takes so long: 3min, 2h30min")
    add_set(parser, "how images are read: data.split=train[:5000], ...")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.data is None:
        data = shlex.quote(args.model) if Path(args.model).expanduser().exists() else "FOLDER"
        raise UsageError(f"genzoo suggest needs data: write `genzoo suggest --data {data}`.")
    spec, preset = split_name(args.model)
    if preset is not None:
        raise UsageError(f"{args.model} is a preset, and this makes another: give the model alone, {spec.name}.")
    if args.budget is not None:
        _within(args)
        return
    data = replace(resolve(spec.name, data=args.data, settings=args.set).data, size=None)  # at its own size
    size = resolution(args)
    refuse_missing(data.name)
    import torch

    from genzoo.suggestions import EXPLAINED, suggest_preset

    stats, lines = suggest_preset(spec, data, size, accelerated=torch.accelerator.is_available())
    items = "endless" if stats.count is None else f"{stats.count:,} items"
    shape = "x".join(map(str, stats.own))
    components = f"{stats.components} principal components carry {EXPLAINED:.0%} of the variance"
    print(f"{args.data}: {items} of {'median ' if stats.varies else ''}shape {shape}; {components}\n")
    print("\n".join(table(lines)))
    print(f"\n{command(spec.name, args.data, [*texts(lines), *args.set])}")


def _within(args: argparse.Namespace) -> None:
    """Prints what a run with a budget takes from the data, and leaves open what it measures."""
    in_seconds(args.budget)
    refuse_missing(resolve(args.model, res=resolution(args), data=args.data, settings=args.set).data.name)
    from genzoo.budgets import ask, standing_lines

    lines = standing_lines(ask(args.model, args.budget, resolution(args), args.data, args.set))
    print("\n".join(table(lines)))
    print("\nWhat is auto, and the length, follow from measurements when the run begins.")
    size = ["--res", args.res] if args.res else []
    print(command(args.model, args.data, args.set, [*size, "--budget", args.budget]))


def command(model: str, data: str, settings: Sequence[str], options: Sequence[str] = ()) -> str:
    """Returns the command with every suggestion spelled out; the rest is as in the preset that it resolves to."""
    set_each = (part for text in settings for part in ("--set", text))
    return shlex.join(["genzoo", "train", model, "--data", data, *options, *set_each])
