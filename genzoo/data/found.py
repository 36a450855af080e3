"""What was found where a dataset is, and what was left out: facts that a summary line, run.json and scores quote."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genzoo.data.suffixes import COMPANIONS, HINTS

# Reasons for which something is left out; a file of another suffix is left out for its suffix.
HIDDEN, RUBBISH, SEEN = "hidden", "thumbnails folder", "link to a folder read already"
RUNS, MODELS, PICTURES = "run of genzoo", "saved model", "output of genzoo"
UNREADABLE, BROKEN, CORRUPT = "folder that cannot be read", "broken link", "unreadable image"
EXPECTED = frozenset([HIDDEN, RUBBISH, SEEN, RUNS, MODELS, PICTURES])
PLURALS = {
    RUBBISH: "thumbnails folders",
    SEEN: "links to folders read already",
    RUNS: "runs of genzoo",
    MODELS: "saved models",
    PICTURES: "outputs of genzoo",
    UNREADABLE: "folders that cannot be read",
    BROKEN: "broken links",
    CORRUPT: "unreadable images",
}
LOOSE = "loose"  # the part of a folder's images that lie in none of its sub-folders
SHOWN = 6  # parts in a summary line


@dataclass(frozen=True, kw_only=True)
class Found:
    """The facts of one opened split.

    Attributes:
        items: how many it has; None = endless.
        parts: items by sub-folder, file or class, as a person would look for them; empty where there is one part.
        role: what the parts are, and why: `3 classes by folder`, `split train of train, val by folder name`.
        left_out: reason -> number of files or folders: `.heic` -> 3, `broken link` -> 1.
        notes: sentences on how items were read that a user might not expect.
        top: largest value that the pixels' type can hold: 255, 65535 with 16 bits, 1 of floats.
    """

    items: int | None
    parts: Mapping[str, int] = field(default_factory=dict)
    role: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    top: float = 255

    def to_json(self) -> dict[str, Any]:
        """Returns all facts as JSON values."""
        return {**dataclasses.asdict(self), "notes": list(self.notes)}

    @property
    def misses(self) -> bool:
        """Whether something that may be an image was left out."""
        return any(reason not in EXPECTED | COMPANIONS for reason in self.left_out)


def summary(name: str, found: Found, unit: str = "images") -> str:
    """Says in one line what a split holds.

    `imgs: 24 images (12 in images/, 12 in masks/), 2 classes by folder; left out: 3 .heic, 1 broken link`
    """
    count = "endless" if found.items is None else f"{found.items:,}"
    parts = f" ({_parts(found.parts)})" if found.parts else ""
    role = f", {found.role}" if found.role else ""
    left = f"; left out: {left_out(found.left_out)}" if found.left_out else ""
    return f"{name}: {count} {unit}{parts}{role}{left}"


def announcement(name: str, found: Found, unit: str = "images") -> list[str]:
    """Returns the lines to print where data is opened: the summary, unless it only counts or was a warning already, and
    the notes.
    """
    says_more = bool(found.parts or found.role or found.left_out) and not found.misses
    return [*([summary(name, found, unit)] if says_more else []), *(f"note: {text}" for text in found.notes)]


def left_out(reasons: Mapping[str, int]) -> str:
    """Lists what was left out, with the command that makes it readable where there is one."""
    return ", ".join(f"{counted(n, reason)}{_hint(reason)}" for reason, n in reasons.items())


def counted(n: int, reason: str) -> str:
    return f"{n:,} {PLURALS.get(reason, reason) if n != 1 else reason}"


def _hint(reason: str) -> str:
    return f" ({HINTS[reason]})" if reason in HINTS else ""


def _parts(parts: Mapping[str, int]) -> str:
    shown = [f"{n:,} {LOOSE if name == LOOSE else f'in {name}'}" for name, n in list(parts.items())[:SHOWN]]
    return ", ".join([*shown, f"and {len(parts) - SHOWN:,} more"] if len(parts) > SHOWN else shown)
