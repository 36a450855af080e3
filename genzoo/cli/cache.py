"""`genzoo cache`: what is kept on disk, and how to be rid of it."""

import argparse
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from genzoo.cli.tables import print_table
from genzoo.errors import UsageError

if TYPE_CHECKING:
    from genzoo.data.cache_entries import Entry

DESCRIPTION = """Lists the caches of decoded images and extracted features: what they are of, size, age and last use.
What is cleared is rebuilt when it is needed; classifiers, which take minutes to train, are cleared by key only."""

EXAMPLES = """examples:
  genzoo cache                       lists what there is
  genzoo cache --check               compares every file with its digest
  genzoo cache --clear               all decoded images and features
  genzoo cache --clear 3f9a61c0      one of them, by its key or the beginning of it
  genzoo cache --clear 30d           what was not used for 30 days"""

ALL = "all"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "--clear",
        metavar="WHAT",
        nargs="?",
        const=ALL,
        help="remove: all (the default), a key, or what was not used for so long: 30d, 12h",
    )
    parser.add_argument("--check", action="store_true", help="find damaged caches; exit status 1 if there are any")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from genzoo.data.cache_entries import entries, remove_unfinished

    found = entries()
    if args.clear is not None:
        remove_unfinished()
        chosen = _chosen(found, args.clear)
        for entry in chosen:
            entry.remove()
        print(f"removed {len(chosen)} of {len(found)} caches, {_bytes(sum(entry.nbytes for entry in chosen))}")
        return 0
    checked = [entry for entry in found if args.check and not entry.set_aside]
    damaged = {entry.key: text for entry in checked if (text := entry.damage())}
    _print(found)
    for key, text in damaged.items():
        print(f"{key} is damaged: {text}. It is rebuilt when it is needed.")
    return 1 if damaged else 0


def _chosen(found: "Iterable[Entry]", what: str) -> "list[Entry]":
    """Returns the caches that --clear means.

    Raises:
        UsageError: no cache has such a key.
    """
    if what == ALL:
        return [entry for entry in found if entry.kind != "classifier"]
    if age := re.fullmatch(r"(\d+)([dh])", what):
        before = time.time() - int(age[1]) * {"d": 86400, "h": 3600}[age[2]]
        return [entry for entry in found if entry.kind != "classifier" and entry.used < before]
    chosen = [entry for entry in found if entry.key.startswith(what)]
    if not what or not chosen:
        raise UsageError(f"no cache has the key {what!r}: give one that `genzoo cache` lists, all, or an age as 30d.")
    return chosen


def _print(found: "Iterable[Entry]") -> None:
    from genzoo.data.cache_entries import base

    found, now = list(found), time.time()
    rows = [
        (one.key, one.kind, one.origin, one.items, _bytes(one.nbytes), _age(now - one.built), _age(now - one.used))
        for one in found
    ]
    print_table(("key", "kind", "of", "items", "size", "built", "last used"), rows)
    print(f"{base()}: {len(found)} caches, {_bytes(sum(entry.nbytes for entry in found))}")


def _age(seconds: float) -> str:
    """`5 min`, `3 h`, `12 d` ago."""
    for unit, length in (("d", 86400), ("h", 3600)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(0, seconds) // 60:.0f} min ago"


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
