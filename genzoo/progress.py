"""Progress bars, all made here, and lines that are printed between them."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm
from tqdm.utils import disp_len

WIDTH = 80  # columns of an output whose width is unknown, such as a file
SHORTEST = 8  # characters of a bar's name, which is cut where nothing else can be
NARROWEST, USUAL = 4, 10  # characters of the bar itself beside values, and where tqdm knows no width
IN_TERMINAL_S, IN_FILE_S = 0.2, 20.0  # between two updates
NOTEBOOK = any(cls.__module__ == "tqdm.notebook" for cls in tqdm.__mro__)


class Bar(tqdm):
    """A bar that fits on one line: of the values at its end, those that find room are shown, each as a whole; then a
    long name is cut.
    """

    @property
    def format_dict(self) -> dict[str, Any]:
        state, output = super().format_dict, getattr(self, "fp", None)  # one that is hidden has no output
        return dict(state) if NOTEBOOK or output is None else {**state, "ncols": columns(output)}

    def __str__(self) -> str:
        state = self.format_dict
        width, values = state.get("ncols"), (state.get("postfix") or "").split(", ")
        if not width:
            return super().__str__()

        def over() -> int:
            line = self.format_meter(**{**state, "postfix": ", ".join(values), "ncols": None})
            return disp_len(line) - USUAL + NARROWEST - width

        while values and over() > 0:
            values.pop()
        name = str(state["prefix"] or "")
        if (excess := over()) > 0 and len(name) > SHORTEST:
            state["prefix"] = f"{name[: max(SHORTEST, len(name) - excess) - 3]}..."
        return self.format_meter(**{**state, "postfix": ", ".join(values)})


def columns(output: Any) -> int:
    """Returns the width of a terminal, or `WIDTH` for any other output and where the terminal does not report it."""
    try:
        return os.get_terminal_size(output.fileno()).columns or WIDTH
    except (AttributeError, OSError, ValueError):
        return WIDTH


def bar(
    items: Iterable[Any] | None = None,
    name: str | None = None,
    *,
    shown: bool = True,
    logged: bool = False,
    kind: type[Bar] = Bar,
    **options: Any,
) -> Bar:
    """Makes a bar, on standard error.

    Args:
        items: to iterate over, or None for a bar that is moved by its `update`.
        name: what is being done.
        shown: False makes a bar that prints nothing.
        logged: whether to print it now and then where the output is not a terminal, too.
        kind: its class.
        **options: of tqdm.
    """
    live = NOTEBOOK or bool(sys.stderr and sys.stderr.isatty())
    options = {"mininterval": IN_TERMINAL_S if live else IN_FILE_S} | options
    hidden = not shown or sys.stderr is None or not (live or logged)
    return kind(items, desc=name, disable=hidden, **options)


def write_line(text: str, error: bool = False) -> None:
    """Prints a line above the bars of this process, on standard output or standard error."""
    tqdm.write(text, file=sys.stderr if error else sys.stdout)


def end_bars() -> None:
    """Ends the bars of this process, so that what is printed next begins a line."""
    for one in list(getattr(tqdm, "_instances", ())):
        one.close()
