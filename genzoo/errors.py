"""Errors of one line that names the fix."""

import difflib
import errno
import re
import socket
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

    That is ` Did you mean a, b or c?` for the choices closest to `name`, or else those that begin with it; where there
    are none, ` Choose from: ...` for a list of at most 12, and nothing for a longer one.
    """
    choices = list(choices)
    spelled = {choice.lower(): choice for choice in choices}
    begun = [lower for lower in spelled if name and lower.startswith(name.lower())][:3]
    if close := difflib.get_close_matches(name.lower(), spelled, n=3, cutoff=0.5) or begun:
        *others, last = (spelled[lower] for lower in close)
        return f" Did you mean {', '.join(others)} or {last}?" if others else f" Did you mean {last}?"
    return f" Choose from: {', '.join(choices)}." if 0 < len(choices) <= 12 else ""


def shown(text: str) -> str:
    """Quotes what a user typed for a message, shortened to a line."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


_CAUSES = {  # errno -> what is in the way, and what helps
    errno.ENOSPC: ("the disk is full", "make room, or write to another disk"),
    errno.EDQUOT: ("the disk quota is used up", "make room, or write to another disk"),
    errno.EFBIG: ("the file would be larger than is allowed", "write to another file system, or raise ulimit -f"),
    errno.EROFS: ("the file system is read-only", "write to another one"),
    errno.EACCES: ("permission denied", "change its permissions, or choose another path"),
    errno.EPERM: ("permission denied", "change its permissions, or choose another path"),
    errno.ENOENT: ("there is no such file or folder", "check the path"),
    errno.ENOTDIR: ("a part of the path is a file and not a folder", "check the path"),
    errno.EISDIR: ("it is a folder and not a file", "give the path of a file"),
    errno.EEXIST: ("it exists already", "choose another path"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.ELOOP: ("its links lead in a circle", "check the path"),
    errno.EMFILE: ("too many files are open in this process", "raise the limit with ulimit -n"),
    errno.ENFILE: ("too many files are open on this machine", "close other programs"),
    errno.ENOMEM: ("there is not enough memory", "close other programs"),
    errno.EIO: ("the disk or its connection reports an error", "try again, and check the disk"),
}
_NETWORK = {
    getattr(errno, name)
    for name in ("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "ETIMEDOUT")
}
_CLIENTS = ("requests", "urllib", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2", "huggingface_hub")  # packages
_UNREACHED = re.compile("Connect|Timeout|Network|Proxy|Offline|LocalEntryNotFound|URLError")  # in names of their errors


def of_client(error: BaseException) -> bool:
    """Whether an error is of a library that talks to servers."""
    return type(error).__module__.partition(".")[0] in _CLIENTS


def system_error(error: BaseException) -> int | None:
    """Returns the system's number of an error, which safetensors gives in its text; None where there is none."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def is_network(error: BaseException) -> bool:
    """Whether a server was not reached."""
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return not isinstance(error, BrokenPipeError)
    if isinstance(error, OSError) and error.errno in _NETWORK:
        return True
    return of_client(error) and _UNREACHED.search(type(error).__name__) is not None


def cause(error: BaseException) -> tuple[str, str]:
    """Returns what was in the way of reading or writing, in one line, and what helps; "" where that is not known.

    Args:
        error: an OSError, or one of a library whose text gives the system's error number.
    """
    text = " ".join(str(error).split())
    if is_network(error):
        return f"the network does not answer ({text})", "check the connection, or the proxy"
    number = system_error(error)
    if number not in _CAUSES:
        return text or type(error).__name__, ""
    what, fix = _CAUSES[number]
    place = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return f"{place}: {what}" if place is not None else what, fix
