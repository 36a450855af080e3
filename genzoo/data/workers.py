"""Loader processes that end with the process that started them."""

import ctypes
import os
import signal
import sys
from functools import partial
from typing import Any

PR_SET_PDEATHSIG = 1  # of prctl(2)


def worker_options(count: int) -> dict[str, Any]:
    """Returns a DataLoader's options for `count` worker processes.

    On Linux they are forks, whatever Python's default, so that a script needs no `__main__` guard; and they end with
    the thread that starts them, which must live as long as the loader is read.
    """
    forked = count > 0 and sys.platform == "linux"
    return {
        "num_workers": count,
        "multiprocessing_context": "fork" if forked else None,
        "worker_init_fn": partial(_end_with, os.getpid()) if forked else None,
    }


def _end_with(parent: int, worker: int) -> None:
    """Asks Linux to kill this process when its parent ends.

    Otherwise a worker of a killed parent never ends: it waits in a write to a pipe whose reading end it holds
    itself, so no error wakes it.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:  # it ended before the request
        os.kill(os.getpid(), signal.SIGKILL)
