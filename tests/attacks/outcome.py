"""What a command did with bad input, and the table of how often it did what."""

import argparse
import contextlib
import io
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from genzoo.cli import main

# kind of an end -> the heading of its column
KINDS = {
    "refused": "refused in one line",
    "warned": "named, went on",
    "same": "intact result",
    "silent": "silent",
    "long": "several lines",
    "traceback": "traceback",
}
BAD = ("silent", "long", "traceback")


@dataclass(frozen=True)
class Outcome:
    """The end of one attack.

    Attributes:
        attack: what was done.
        kind: refused (one line and a status that is not 0), warned (it went on, with a line that names the damage),
            same (it went on and did what it does without the attack), silent (it went on, with another result or on bad
            input; or it ended without a word), long (it was refused in several lines), or traceback.
        text: what was printed.
        group: the row of the table.
    """

    attack: str
    kind: str
    text: str
    group: str = ""

    def __str__(self) -> str:
        return f"{self.kind:10} {self.attack}\n           {' / '.join(self.text.strip().splitlines()[-3:])[:400]}"


def run(args: Sequence[str]) -> tuple[int | None, str, str]:
    """Runs a command in this process; returns its status (None after a traceback), output and errors."""
    out, errors = io.StringIO(), io.StringIO()
    # Without what earlier commands leave: a warning is printed again, whether it was printed for the last one or not.
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            status: int | None = main(args)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except KeyboardInterrupt:
            raise
        except BaseException:
            status = None
            errors.write(traceback.format_exc())
    return status, out.getvalue(), errors.getvalue()


def judged(
    attack: str,
    status: int | None,
    out: str,
    errors: str,
    same: bool = False,
    group: str = "",
    usual: Collection[str] = (),
) -> Outcome:
    """Judges the end of a command.

    Args:
        attack: what was done.
        status: of the command; None after a traceback.
        out: what it printed.
        errors: what it printed to the error stream.
        same: whether it left what it leaves without the attack.
        group: the row of the table.
        usual: lines that the command prints without the attack, and that name nothing.
    """
    said = [line for line in errors.splitlines() if line.startswith("genzoo: ")]
    lines = [line for line in (*said, *out.splitlines()) if re.search(r"\bwarning:|^monitor:|^note:| is damaged", line)]
    warned = [line for line in lines if line not in usual]
    if status is None or "Traceback (most recent call last)" in errors or "Exception ignored" in errors:
        return Outcome(attack, "traceback", errors, group)
    if same or status == 0:
        kind = "same" if same else "warned" if warned else "silent"
        return Outcome(attack, kind, errors + out, group)
    messages = [line for line in said if "genzoo: warning:" not in line]
    after = errors[errors.find(messages[-1]) :].splitlines() if messages else []
    one_line = len(messages) == 1 and all(line.startswith("  ") for line in after[1:])  # lists, a command to type
    kind = "refused" if one_line else "long" if messages else "warned" if warned else "silent"
    return Outcome(attack, kind, errors or out, group)


def cut(text: str) -> str:
    """Shortens a command for a listing."""
    return re.sub(r"(.{40})\S{40,}", r"\1...", text)


def shown(outcomes: Iterable[Outcome], total: int | None = None) -> Iterator[Outcome]:
    """Passes outcomes on behind a progress bar, and prints each bad one at once."""
    bad = 0
    with tqdm(outcomes, total=total, unit="attack", mininterval=1 if sys.stderr.isatty() else 30, miniters=1) as bar:
        for outcome in bar:
            if outcome.kind in BAD:
                bad += 1
                bar.write(str(outcome))
            bar.set_postfix(bad=bad, refresh=False)
            yield outcome


def report(outcomes: Iterable[Outcome], total: int | None = None) -> int:
    """Prints every bad outcome and a table of all, a row per group; returns the number of the bad ones."""
    counts: dict[str, Counter[str]] = {}
    for outcome in shown(outcomes, total):
        counts.setdefault(outcome.group or "all", Counter())[outcome.kind] += 1
    rows = {"": ["tried", *KINDS.values()]}
    whole = Counter[str]()
    for group, found in [*sorted(counts.items()), *([("together", whole)] if len(counts) > 1 else [])]:
        rows[group] = [str(found.total()), *(str(found[kind]) for kind in KINDS)]
        whole.update(found if group != "together" else {})
    width = max(map(len, rows))
    for group, cells in rows.items():
        widths = (len(title) for title in rows[""])
        print(f"{group:{width}}  " + "  ".join(f"{cell:>{n}}" for cell, n in zip(cells, widths, strict=True)))
    return sum(found[kind] for name, found in counts.items() for kind in BAD)


def options(description: str, cases: int, what: str) -> argparse.ArgumentParser:
    """The options that all scripts have: --seed, and --cases with its default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG
    )
    parser.add_argument("--cases", type=int, metavar="N", default=cases, help=f"{what} (default {cases})")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the first case (default 0)")
    return parser


EPILOG = """The table counts the ends: refused in one line (with a status that is not 0); named, went on (a warning says
what is wrong); intact result (what the command does without the attack). Bad ends are printed as they are found, and
are the exit status: silent (another result without a word), several lines, traceback."""
