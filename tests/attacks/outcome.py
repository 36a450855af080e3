"""What a command did with bad input."""

import contextlib
import io
import re
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from genzoo.cli import main

KINDS = ("refused", "warned", "same", "silent", "long", "traceback")
BAD = ("silent", "long", "traceback")


@dataclass(frozen=True)
class Outcome:
    """The end of one attack.

    Attributes:
        attack: what was done.
        kind: refused (one line and a status that is not 0), warned (it went on, with a warning), same (it went on and
            did what it does without the attack), silent (it went on, with another result or on bad input), long (it
            was refused in several lines), or traceback.
        text: what was printed.
    """

    attack: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind:10} {self.attack}\n           {' / '.join(self.text.strip().splitlines()[-3:])[:300]}"


def run(args: Sequence[str]) -> tuple[int | None, str, str]:
    """Runs a command in this process; returns its status (None after a traceback), output and errors."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
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


def judged(attack: str, status: int | None, out: str, errors: str, same: bool = False) -> Outcome:
    """Judges the end of a command.

    Args:
        attack: what was done.
        status: of the command; None after a traceback.
        out: what it printed.
        errors: what it printed to the error stream.
        same: whether it left what it leaves without the attack.
    """
    said = [line for line in errors.splitlines() if line.startswith("genzoo: ")]
    warned = [line for line in (*said, *out.splitlines()) if "warning:" in line or line.startswith("monitor:")]
    if status is None or "Traceback (most recent call last)" in errors:
        return Outcome(attack, "traceback", errors)
    if status == 0:
        kind = "same" if same else "warned" if warned else "silent"
        return Outcome(attack, kind, errors + out)
    messages = [line for line in said if "genzoo: warning:" not in line]
    after = errors[errors.find(messages[-1]) :].splitlines() if messages else []
    one_line = len(messages) == 1 and all(line.startswith("  ") for line in after[1:])  # lists, a command to type
    return Outcome(attack, "refused" if one_line else "long" if messages else "silent", errors)


def cut(text: str) -> str:
    """Shortens a command for a listing."""
    return re.sub(r"(.{40})\S{40,}", r"\1...", text)


def report(outcomes: Iterable[Outcome]) -> int:
    """Prints the counts, and every attack that ended in another way; returns the number of these."""
    outcomes = list(outcomes)
    counts = Counter(outcome.kind for outcome in outcomes)
    for outcome in outcomes:
        if outcome.kind in BAD:
            print(outcome)
    print(f"{len(outcomes)} tried: " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS))
    return sum(counts[kind] for kind in BAD)
