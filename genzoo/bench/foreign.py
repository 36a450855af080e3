"""Results from elsewhere: what a report cannot show is left out of a line, and named."""

import math
import unicodedata
from typing import Any

LARGEST = 1e100  # of a number, so that its square and every difference can be computed
DEEPEST = 50  # levels of nesting
LONGEST = 100  # characters of a name in a message


def cleaned(record: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Replaces what no report can show in a JSON object; returns it, and what was left out, in words.

    Numbers beyond ±LARGEST become NaN, which is counted as broken; what is nested below DEEPEST levels is dropped. Text
    keeps its printable characters.
    """
    left_out: list[str] = []
    kept = _cleaned(record, "", 0, left_out)
    return kept, left_out


def printable(text: str) -> str:
    """Replaces control characters, and halves of characters, which no file can hold."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _harmful(c) else c for c in text)


def _harmful(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\r\t"


def shortened(name: str) -> str:
    """Cuts a name for a message."""
    name = printable(name)
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}..."


def _cleaned(value: Any, where: str, depth: int, left_out: list[str]) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, (dict, list)) and depth > DEEPEST:
        left_out.append(f"{shortened(where)}, nested {DEEPEST} levels deep")
        return None
    if isinstance(value, dict):
        return {
            printable(key): _cleaned(item, f"{where}.{key}".strip("."), depth + 1, left_out)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_cleaned(item, where, depth + 1, left_out) for item in value]
    if isinstance(value, (int, float)) and LARGEST < abs(value) != math.inf:
        left_out.append(f"{shortened(where)}, a number beyond {LARGEST:g}")
        return math.nan
    return value
