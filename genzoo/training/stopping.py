"""How a run is stopped: signals and the end of its launcher become a flag, so that it saves first."""

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from genzoo.errors import UsageError
from genzoo.runs.folder import RunFolder
from genzoo.runs.lock import busy
from genzoo.training.launch import Processes, agree

# What terminals, schedulers and operators send. Slurm sends the one that --signal names before its time limit.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
AGAIN_S = 0.5  # a launcher repeats the terminal's Ctrl-C within less; a person takes longer
LAUNCHED = "TORCHELASTIC_RUN_ID"  # in the environment of torchrun's processes


class StopFlag:
    """Turns the first signal of SIGNALS into a flag, so that the step is finished and saved; a second Ctrl-C interrupts
    at once. The flag is also set when the launcher that was there when it was made has ended.
    """

    def __init__(self) -> None:
        self._parent = os.getppid() if LAUNCHED in os.environ else None

    def __enter__(self) -> "StopFlag":
        self._cause: str | None = None
        self._at, self._pid = 0.0, os.getpid()
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():  # handlers can be set nowhere else
            numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
            ignored = {number for number in numbers if signal.getsignal(number) is signal.SIG_IGN} - {signal.SIGINT}
            self._before = {number: signal.signal(number, self._set) for number in numbers if number not in ignored}
        return self

    @property
    def is_set(self) -> bool:
        if self._cause is None and self._parent is not None and os.getppid() != self._parent:
            self._stop("the end of its launcher")
        return self._cause is not None

    @property
    def cause(self) -> str:
        """What stopped this process; another process may have been stopped instead."""
        return self._cause or "another process"

    def _set(self, number: int, _: Any) -> None:
        # A launcher follows the terminal's Ctrl-C with a signal of its own, which must not interrupt.
        if os.getpid() != self._pid:  # a loader process, which the run still needs
            return
        if self._cause is None:
            self._stop("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        elif number == signal.SIGINT and time.monotonic() - self._at > AGAIN_S:
            _say("stopping without saving")
            raise KeyboardInterrupt

    def _stop(self, cause: str) -> None:
        self._cause, self._at = cause, time.monotonic()
        _say(f"{cause}: saving after this step; Ctrl-C again stops without saving")

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def sole_writer(folder: RunFolder, acc: Processes) -> Iterator[None]:
    """Holds the lock of a run in its first process.

    Raises:
        UsageError: another process holds it; raised in all processes, of which the first one reports.
    """
    with ExitStack() as stack:
        refused: UsageError | None = None
        if acc.is_main_process:
            try:
                stack.enter_context(folder.locked())
            except UsageError as error:
                refused = error
        if agree(refused is not None, acc):
            raise refused or UsageError(busy(folder.path))
        yield


def _say(text: str) -> None:
    """Writes a line at once, which a signal handler may not do through a stream that is being written to.

    A terminal that is gone is replaced, or the next line of the log would end the run before it is saved.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError):  # it is closed, or nobody reads it
            if stream is not None and _hung_up(stream.fileno()):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.__stderr__ and stream is not None and os.environ.get("RANK", "0") == "0":
                os.write(stream.fileno(), f"\n{text}\n".encode())


def _hung_up(number: int) -> bool:
    """Whether a file descriptor is that of a terminal that was closed."""
    status = os.fstat(number)
    is_device = stat.S_ISCHR(status.st_mode) and status.st_rdev != os.stat(os.devnull).st_rdev
    return is_device and not os.isatty(number)
