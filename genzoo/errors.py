"""One-line errors that name the cure."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A user's mistake, told in one line that says what to do instead; the CLI prints it and exits with status 2."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """Returns ` Did you mean a, b or c?` for the choices closest to `name`, or all of a short list, or nothing."""
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if not close and len(choices) <= 12:
        return f" Choose from: {', '.join(choices)}." if choices else ""
    return f" Did you mean {', '.join(close[:-1]) + ' or ' if close[1:] else ''}{close[-1]}?" if close else ""
