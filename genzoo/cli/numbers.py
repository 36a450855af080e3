"""Types of the options that take numbers: counts as people write them, within bounds, refused in one line."""

import argparse
import math
from collections.abc import Callable

from genzoo.duration import MOST, in_count
from genzoo.errors import UsageError, shown

MOST_SEED = 2**63 - 1


def count(least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """Returns the type of an option that takes a whole number: 64, 50_000, 50k or 1e6."""

    def parse(text: str) -> int:
        try:
            number = in_count(text, least)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        if number > most:
            raise argparse.ArgumentTypeError(f"{shown(text)} is too large: at most {most}.")
        return number

    return parse


def seed(text: str) -> int:
    """The type of --seed."""
    return count(0, MOST_SEED)(text)


def positive(text: str) -> float:
    """The type of an option that takes a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a number above 0.")
    return number
