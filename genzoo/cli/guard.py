"""What every command runs in: open output streams that never raise, SIGTERM, and lack of memory in one line."""

import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

from genzoo.errors import UsageError, lacks_memory
from genzoo.launcher import refuse_broken_launch
from genzoo.termination import STATUS, Terminated, sigterm_raises

if TYPE_CHECKING:
    from genzoo.spec import RunConfig

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare_streams() -> None:
    """Opens the standard streams that are closed, and lets the others print any text in any locale.

    A closed one is opened on nothing, or the next file that is opened would get its number and what libraries print.
    """
    for name, mode in STREAMS:
        stream = getattr(sys, name)
        if stream is None:
            nothing = open(os.devnull, mode, encoding="utf-8", errors="replace")  # noqa: SIM115 (open until the end)
            setattr(sys, name, nothing)
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def guarded(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Runs a command.

    Returns:
        its exit status; 143 where SIGTERM has ended it.

    Raises:
        UsageError: memory has run out, or a launcher's variables are broken.
        RunStopped: a loader process was killed.
    """
    refuse_broken_launch()
    try:
        with sigterm_raises():
            return command(argv)
    except Terminated:
        if reports(os.environ, ("0",)):
            print_error("ended by SIGTERM.")
        return STATUS
    except (MemoryError, RuntimeError, OSError) as error:
        _raise_in_one_line(error)
        raise


def _raise_in_one_line(error: Exception) -> None:
    """Raises what an error means, if that is known."""
    if isinstance(error, RuntimeError):
        from genzoo.data.workers import lost_worker

        if lost := lost_worker(error):
            raise lost from error
        if "home directory" in str(error):  # of a path that begins with ~
            raise UsageError("~ has no meaning here, as there is no home folder: write the path in full.") from error
    if lacks_memory(error):
        raise UsageError(
            "Out of memory: give a smaller --res, --n or batch, close other programs, or use a larger machine; "
            "`genzoo train ... --dry-run` estimates what a run needs."
        ) from error


def explains_lack_of_memory(train: Callable[..., None]) -> Callable[..., None]:
    """Decorates a function whose first argument is a run's configuration: lack of memory becomes one line about it."""

    @wraps(train)
    def explained(config: "RunConfig", *args: Any) -> None:
        try:
            train(config, *args)
        except (MemoryError, RuntimeError, OSError) as error:
            if not lacks_memory(error):
                raise
            from genzoo.training.shortage import shortage

            raise UsageError(shortage(config)) from error

    return explained


def reports(env: Mapping[str, str], ranks: Sequence[str]) -> bool:
    """Whether this process prints an error, as one of these ranks or without others."""
    rank, world = env.get("RANK", "0"), env.get("WORLD_SIZE", "1")
    return rank in ranks or not (rank.isdecimal() and world.isdecimal()) or int(rank) >= int(world)


def print_once() -> Callable[..., None]:
    """Makes a `warnings.showwarning` that prints each text once: a command opens the same data several times."""
    printed = set[str]()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            print_warning(message)

    return show


def print_warning(message: Warning | str) -> None:
    """Prints a warning above the bars of this process; of several processes, which warn alike, the first does."""
    if reports(os.environ, ("0",)):
        from genzoo.progress import write_line

        write_line(f"genzoo: warning: {message}", error=True)


def print_error(message: str) -> None:
    """Prints an error as a line of its own: bars of this process end, and one of another process may stand there."""
    if progress := sys.modules.get("genzoo.progress"):  # or there is no bar, and tqdm takes a while to import
        progress.end_bars()
    fresh = "\n" if os.environ.get("WORLD_SIZE", "1") != "1" else ""
    print(f"{fresh}genzoo: {message}", file=sys.stderr)
