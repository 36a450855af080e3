"""Errors of one line that names the fix."""

import difflib
import errno
from collections.abc import Iterable


class UsageError(ValueError):
    """A user's mistake: one line that says what to do instead. The CLI prints it and exits with status 2."""


class RunStopped(RuntimeError):
    """A run that cannot go on; the message says where it stopped and what to try."""


class PeerLost(RunStopped):
    """Another process of the run is gone; no further step is possible."""


NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "alloc_failed", "shared memory")


def lacks_memory(error: BaseException) -> bool:
    """Whether an error means that memory has run out: Python's, PyTorch's of a CPU or GPU, the operating system's."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()  # PyTorch raises nothing more precise on a CPU
    raised = isinstance(error, RuntimeError) and not isinstance(error, RunStopped)
    return raised and any(words in text for words in NO_MEMORY)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Returns a hint to append to a message, with a leading space.

    That is ` Did you mean a, b or c?` for the choices closest to `name`; where none is close, ` Choose from: ...` for a
    list of at most 12, and nothing for a longer one.
    """
    choices = list(choices)
    if close := difflib.get_close_matches(name, choices, n=3, cutoff=0.5):
        *others, last = close
        return f" Did you mean {', '.join(others)} or {last}?" if others else f" Did you mean {last}?"
    return f" Choose from: {', '.join(choices)}." if 0 < len(choices) <= 12 else ""
