"""What in a run's settings depends on its length: shares of it (`20%`), and schedules that end with it."""

import re
from collections.abc import Mapping
from typing import Any

from genzoo.duration import divided
from genzoo.settings import show

LENGTH, SCHEDULE = "train.duration", "train.lr_schedule"
BY_LENGTH = ("cosine", "linear", "exponential")  # learning-rate schedules that end with the run
_SHARE = re.compile(r"[0-9][0-9_.]*%")  # and no other text with a percent sign: a path, a part of a split


def is_share(value: Any) -> bool:
    """Whether a value is a share of the run, or a list with one."""
    if isinstance(value, list):
        return any(map(is_share, value))
    return isinstance(value, str) and _SHARE.fullmatch(value) is not None


def written_out(values: Mapping[str, Any], total: str) -> dict[str, Any]:
    """Returns a run's values by `section.field`, with shares as parts of a duration, in its unit: of `10ep` and `20%`,
    `2ep`.
    """
    return {key: _part(value, total) for key, value in values.items()}


def _part(value: Any, total: str) -> Any:
    if not is_share(value):
        return value
    if isinstance(value, list):
        return [_part(one, total) for one in value]
    percent = float(value.removesuffix("%").replace("_", ""))
    return divided(total, 100 / percent) if percent else "0"


def by_length(values: Mapping[str, Any], total: str) -> list[str]:
    """Says what in a run's values depends on its duration, and what to write instead where it was `total` so far."""
    found = []
    for key, value in values.items():
        if key == SCHEDULE and value in BY_LENGTH:
            found.append(f"{key}={value} ends with the run, which takes a new run to be longer")
        elif is_share(value):
            wanted = show(_part(value, total))
            found.append(f"{key}={show(value)} would move: write it in images to extend, --set {key}={wanted}")
    return found
