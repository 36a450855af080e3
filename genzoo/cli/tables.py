"""Tables on the terminal."""

from collections.abc import Iterable, Sequence

WIDE = 200  # columns, where the output is not a terminal


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows of plain text under a header. The first column is never wrapped."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*map(Text, row))  # names may hold what rich reads as markup
    console = Console()
    Console(width=console.width if console.is_terminal else WIDE).print(table)
