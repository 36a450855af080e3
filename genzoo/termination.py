"""SIGTERM as an exception, so that a command that is asked to end removes what it has half written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

STATUS = 128 + signal.SIGTERM  # exit status of a command that SIGTERM has ended, as shells give it


class Terminated(KeyboardInterrupt):
    """SIGTERM has arrived. Whatever handles Ctrl-C handles this."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within it, SIGTERM raises `Terminated` in the main thread, and a second one ends the process at once.

    Training puts a handler of its own in this one's place. A process that ignores SIGTERM goes on ignoring it.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield  # handlers can be set in the main thread only, and one that C code has set cannot be put back
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, _: Any) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated
