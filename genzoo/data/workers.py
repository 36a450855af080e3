"""Loader processes: they end with the process that started them, and report an error in one line."""

import ctypes
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any, Protocol, TypeVar

from torch.utils.data import Dataset as TorchDataset

from genzoo.errors import RunStopped, UsageError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
EXPECTED = (UsageError, OSError, MemoryError)  # what reading an item may raise

PR_SET_PDEATHSIG = 1  # of prctl(2)


def worker_options(count: int) -> dict[str, Any]:
    """Returns a DataLoader's options for `count` worker processes.

    On Linux they are forks, whatever Python's default, so that a script needs no `__main__` guard; and they end with
    the thread that starts them, which must live as long as the loader is read. Elsewhere they end with its process.
    """
    forked = count > 0 and sys.platform == "linux"
    return {
        "num_workers": count,
        "multiprocessing_context": "fork" if forked else None,
        "worker_init_fn": partial(_end_with, os.getpid()) if forked else watch_parent,
    }


def _end_with(parent: int, worker: int) -> None:
    """Asks Linux to kill this process when its parent ends.

    Otherwise a worker of a killed parent never ends: it waits in a write to a pipe whose reading end it holds
    itself, so no error wakes it.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:  # it ended before the request
        os.kill(os.getpid(), signal.SIGKILL)


def watch_parent(worker: int) -> None:
    """Ends this process when its parent does, where the system has no such request."""
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Indexed(Protocol[T_co]):
    """Items by number."""

    def __getitem__(self, number: int, /) -> T_co: ...


class Answers(TorchDataset[T | Exception]):
    """Items for a loader, where an error in reading one takes its place: `results` raises it.

    A DataLoader would wrap the error of a worker in the traceback of that process.

    Args:
        items: are read in the loader's processes.
        count: of them, for a loader without a sampler.
    """

    def __init__(self, items: Indexed[T], count: int = 0) -> None:
        self._items, self._count = items, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> T | Exception:
        try:
            return self._items[number]
        except EXPECTED as error:
            return error


def whole(item: T) -> T:
    """Collates nothing: the item is a batch."""
    return item


def results(loader: Iterable[T | Exception]) -> Iterator[T]:
    """Yields what a loader of `Answers` yields.

    Raises:
        UsageError, OSError, MemoryError: an item could not be read.
        RunStopped: a loader process was killed.
    """
    try:
        for item in loader:
            if isinstance(item, Exception):
                raise item
            yield item
    except RuntimeError as error:
        if lost := lost_worker(error):
            raise lost from error
        raise


def lost_worker(error: BaseException) -> RunStopped | None:
    """Describes in one line that a loader process was killed, if that is what an error means."""
    cause = "" if error.__cause__ is None else str(error.__cause__)  # names the signal
    text = " ".join(f"{cause} {error}".split())
    lost = re.search(r"DataLoader worker \(pid\S*? .*?\) ((?:is killed|exited)[^.]*?)(?:\.| DataLoader|$)", text)
    if lost is None:
        return None
    return RunStopped(
        f"A loader process {lost[1]}: often memory runs out, in a container also its shared memory. Try "
        "--set train.workers=0, which reads the images in the training process."
    )
