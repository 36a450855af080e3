"""Text of others in markdown: names of folders, datasets and labels, which may hold markup."""

_ESCAPES = str.maketrans(
    {chr(code): " " for code in (*range(32), 127)}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    | {mark: f"\\{mark}" for mark in "\\|*`["}
)


def escaped(text: str) -> str:
    """Returns a text as markdown that shows it, in a table too: no markup, no link, no new line."""
    return text.translate(_ESCAPES)


def code(text: str) -> str:
    """Returns a text for between backticks."""
    return " ".join(text.replace("`", "'").split())
