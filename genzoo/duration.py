"""Durations as people write them: in images (`2M` images, `3ep` epochs, `2000it` steps, `5%` of the run), and in time
(`90s`, `3min`, `2h30min`). Counts: `64`, `50_000`, `50k`, `1e6`.
"""

import math
import re
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from genzoo.errors import UsageError, shown

_NUMBER = r"([0-9][0-9_]*(?:\.[0-9_]*[0-9])?(?:[eE]\+?[0-9]{1,3})?)([kKMG])?"
_COUNT, _PATTERN = re.compile(_NUMBER), re.compile(rf"{_NUMBER}(ep|it|%)?")
_THOUSANDS = {None: 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
MOST = 10**15  # of anything that is counted: below it, floats are exact


@cache  # asked for at every step
def _parsed(text: str) -> tuple[float, str | None]:
    """Splits a duration into its number and its unit: None = images, `ep`, `it` or `%`."""
    match = _PATTERN.fullmatch(text)
    if not match:
        raise UsageError(
            f"{shown(text)} is not a duration: write images (5000, 50k, 2M), epochs (3ep), steps (2000it) or a share "
            "(5%)."
        )
    value, unit = _number(text, match), match[3]
    if unit == "%" and value > 100:
        raise UsageError(f"{shown(text)} is more than the whole run: write a share of at most 100%.")
    return value, unit


def _number(text: str, match: re.Match[str]) -> float:
    value = float(match[1].replace("_", "")) * _THOUSANDS[match[2]]
    if value > MOST:
        raise UsageError(f"{shown(text)} is too large: at most {MOST:.0e}.")
    return value


def in_count(text: str, least: int = 0) -> int:
    """Reads a whole number: `64`, `50_000`, `50k`, `1e6`, `1.5M`.

    Raises:
        UsageError: it is none, it is smaller than `least`, or it is larger than MOST and not written in digits only.
    """
    if text.isascii() and text.isdigit() and len(text) <= 30:
        value: float = int(text)  # exact, as seeds must be
    else:
        match = _COUNT.fullmatch(text)
        value = _number(text, match) if match else math.nan
    if value != value or value != int(value):
        raise UsageError(f"{shown(text)} is not a whole number: write it as in 64, 50_000, 50k or 1e6.")
    if value < least:
        raise UsageError(f"{shown(text)} is too small: at least {least}.")
    return int(value)


def _text(value: Any) -> Any:
    """A number of images as text."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check(text: str) -> str:
    _parsed(text)
    return text


Duration = Annotated[str, BeforeValidator(_text), AfterValidator(_check)]


def is_share(text: Duration) -> bool:
    """Whether the duration is a share of the run."""
    return _parsed(text)[1] == "%"


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
        value *= epoch
    elif unit == "it":
        value *= batch
    elif unit == "%":
        if total is None:
            raise UsageError(f"{text!r} is a share of the run: give the run's own length in images, epochs or steps.")
        value = value / 100 * total
    if value > MOST:
        raise UsageError(f"{text!r} is {value:.2g} images: at most {MOST:.0e} can be counted.")
    return round(value)


def divided(text: Duration, by: float) -> Duration:
    """Returns a duration that is `by` times as short: of `20k` and 1.6, `12500`."""
    value, unit = _parsed(text)
    if by == 1:
        return text
    return str(round(value / by)) if unit is None else f"{value / by:g}{unit}"


_TIME = re.compile(r"(?:(\d{1,9}(?:\.\d+)?)h)?(?:(\d{1,9}(?:\.\d+)?)min)?(?:(\d{1,9}(?:\.\d+)?)s)?")


def in_seconds(text: str) -> float:
    """Converts a time, `90s`, `3min`, `1.5h` or `2h30min`, to seconds.

    Raises:
        UsageError: the text is not a time, or it is zero.
    """
    match = _TIME.fullmatch(text)
    seconds = sum(float(n) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True) if n) if match else 0.0
    if not seconds:
        raise UsageError(f"{shown(text)} is not a time: write seconds (90s), minutes (3min) or hours (1.5h, 2h30min).")
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
