"""Durations as people write them: in images (`2M` images, `3ep` epochs, `2000it` steps, `5%` of the run), and in time
(`90s`, `3min`, `2h30min`).
"""

import math
import re
from functools import cache
from typing import Annotated

from pydantic import AfterValidator

from genzoo.errors import UsageError

_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(k|M|G|ep|it|%)?")
_IMAGES = {None: 1, "k": 10**3, "M": 10**6, "G": 10**9}


@cache  # asked for at every step
def _parsed(text: str) -> tuple[float, str | None]:
    """Splits a duration into its number and its unit."""
    match = _PATTERN.fullmatch(text)
    if not match:
        raise UsageError(
            f"{text!r} is not a duration: write images (5000, 50k, 2M), epochs (3ep), steps (2000it) or a share (5%)."
        )
    return float(match[1]), match[2]


def _check(text: str) -> str:
    _parsed(text)
    return text


Duration = Annotated[str, AfterValidator(_check)]


def in_images(text: Duration, *, batch: int, epoch: int | None, total: int | None = None) -> int:
    """Converts a duration to a number of images.

    Args:
        text: `2M`, `50k` or `5000` images; `3ep` epochs; `2000it` optimizer steps; `5%` of `total`.
        batch: images per optimizer step, over all processes and micro-batches.
        epoch: images in the dataset; None for an endless one.
        total: images in the whole run, for shares.

    Raises:
        UsageError: the text is not a duration, or it counts epochs of an endless dataset.
    """
    value, unit = _parsed(text)
    if unit == "ep":
        if epoch is None:
            raise UsageError(
                f"{text!r} counts epochs, but this dataset is endless: give images (2M) or steps (2000it)."
            )
        return round(value * epoch)
    if unit == "%":
        if total is None:
            raise UsageError(f"{text!r} is a share of the run: give the run's own length in images, epochs or steps.")
        return round(value / 100 * total)
    return round(value * batch) if unit == "it" else round(value * _IMAGES[unit])


def divided(text: Duration, by: float) -> Duration:
    """Returns a duration that is `by` times as short: of `20k` and 1.6, `12500`."""
    value, unit = _parsed(text)
    if by == 1:
        return text
    return str(round(value * _IMAGES[unit] / by)) if unit in _IMAGES else f"{value / by:g}{unit}"


_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)min)?(?:(\d+(?:\.\d+)?)s)?")


def in_seconds(text: str) -> float:
    """Converts a time, `90s`, `3min`, `1.5h` or `2h30min`, to seconds.

    Raises:
        UsageError: the text is not a time, or it is zero.
    """
    match = _TIME.fullmatch(text)
    seconds = sum(float(n) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True) if n) if match else 0.0
    if not seconds:
        raise UsageError(f"{text!r} is not a time: write seconds (90s), minutes (3min) or hours (1.5h, 2h30min).")
    return seconds


def is_time(text: str) -> bool:
    """Whether the text is a time, and not a duration in images."""
    return text != "" and _TIME.fullmatch(text) is not None


def as_time(seconds: float) -> str:
    """Rounds up to a time that `in_seconds` reads: `47s`, `4min`, `2h30min`."""
    if seconds <= 120:
        return f"{max(1, math.ceil(seconds))}s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes}min" if minutes < 120 else f"{minutes // 60}h" + (f"{minutes % 60}min" if minutes % 60 else "")


def _check_time(text: str) -> str:
    in_seconds(text)
    return text


TimeSpan = Annotated[str, AfterValidator(_check_time)]
