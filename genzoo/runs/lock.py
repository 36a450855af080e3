"""One process at a time trains into a run folder: a lock that the operating system frees when its process ends."""

import errno
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from genzoo.errors import UsageError
from genzoo.files import write_text

LOCK, HOLDER = ".lock", ".holder.json"
WAIT_S = 1.0  # for the loader processes of a run that was killed just now: they hold its lock until they have ended
# What file systems without locks answer: some network file systems, and some mounts of containers.
WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a run folder, which must exist.

    Where the file system has no locks, a warning says so, and nothing is held: a lock file of another kind would stay
    when its process is killed, and keep the run from being resumed.

    Raises:
        UsageError: another process holds it.
    """
    lock = _acquired(folder)
    if lock is None:
        warnings.warn(
            f"the file system of {folder} has no locks: make sure that no other process trains into this folder",
            stacklevel=3,
        )
        yield
        return
    try:
        write_text(folder / HOLDER, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _acquired(folder: Path) -> BaseFileLock | None:
    """Acquires the lock; None where the file system has none."""
    lock = FileLock(folder / LOCK)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # filelock's, when it falls back to a file whose existence is the lock
            lock.acquire(timeout=WAIT_S)
    except Timeout:
        if not isinstance(lock, SoftFileLock):
            raise UsageError(busy(folder)) from None
    except NotImplementedError:
        return None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        return None
    if isinstance(lock, SoftFileLock):
        lock.release()
        return None
    return lock


def busy(folder: Path) -> str:
    """Describes who trains into a run folder."""
    try:
        holder = json.loads((folder / HOLDER).read_bytes())
        who = f" (PID {int(holder['pid'])} on {holder['host']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun, or just ended
        who = ""
    return f"another process{who} trains into {folder}: wait for it, stop it, or choose another --out."
