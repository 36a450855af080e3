"""What was found where a dataset is, and what was left out: facts that a summary line, run.json and scores quote."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Found:
    """The facts of one opened split.

    Attributes:
        items: how many it has.
        parts: items by sub-folder, file or class, as a person would look for them; empty where there is one part.
        role: what the parts are, and why: `3 classes by folder`, `split train of train, val by folder name`.
        left_out: reason -> number of files: `.heic` -> 3, `a link to nowhere` -> 1.
        notes: sentences on how items were read that a user might not expect.
    """

    items: int
    parts: Mapping[str, int] = field(default_factory=dict)
    role: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
