"""Durations as people write them, counted in images: `2M` images, `3ep` epochs, `2000it` steps, `5%` of the run."""

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
