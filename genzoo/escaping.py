"""Text of others inside Markdown, which shows it as it is and reads none of it as markup."""

_MARKUP = str.maketrans(
    {
        "\\": "\\\\",  # or it would undo the escapes that follow
        "&": "&amp;",
        "|": "\\|",
        "<": "&lt;",
        ">": "&gt;",
        "*": "\\*",
        "`": "\\`",
        "[": "\\[",
        "\n": " ",
        "\r": " ",
    }
)


def escaped(text: str) -> str:
    """Escapes text for a line or a table cell of GitHub's Markdown."""
    return text.translate(_MARKUP)


def code(text: str) -> str:
    """Makes text fit between two backticks, on one line."""
    return " ".join(text.replace("`", "'").split())
