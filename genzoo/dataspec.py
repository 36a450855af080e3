"""The data section of a run's configuration, and the decorator of all configuration classes.

No torch here, so that `genzoo list` and every `--help` are fast.
"""

import os
from dataclasses import field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from genzoo.duration import MOST
from genzoo.settings import as_size

T = TypeVar("T")
ONLY = "label"  # the name of the classes of a dataset that has one kind of them
NOT_READING = ("name", "labels", "mirror", "cache")  # of DataConfig: what does not decide which pixels are read
# An unknown key is refused, never ignored; so are numbers that are not finite. What reads a class's values is built
# when the first are read: a --help reads none.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)
Side = Annotated[int, Field(gt=0, le=2**16)]  # pixels
Width = Annotated[int, Field(gt=0, le=2**16)]  # of a layer
Decay = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, Field))
def config(cls: type[T]) -> type[T]:
    """Decorates a configuration class: a frozen, keyword-only dataclass whose fields pydantic checks by annotation."""
    return cast(type[T], dataclass(frozen=True, kw_only=True, config=STRICT)(cls))


def _path(value: Any) -> Any:
    if value == "":
        raise ValueError("should not be empty")
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _sides(value: Any) -> Any:
    return None if value is None else as_size(value)


def last_name(name: str) -> str:
    """Returns the last part of a path or an id; of the resolved path where that is none, as of `.` and `..`."""
    last = Path(name).expanduser().name
    return last if last not in ("", "..") else Path(name).resolve().name or "root"


@config
class DataConfig:
    """The images or points, and how they reach the networks."""

    name: Annotated[
        str,
        Field(
            description="short name (`genzoo list data`), hub id owner/name[:config], folder, or file: .parquet, .npy, "
            ".npz, .zip, .tar, idx, or .csv, .tsv, .jsonl or .txt with paths",
        ),
        BeforeValidator(_path),
    ] = "toyfaces"
    size: Annotated[
        tuple[Side, Side] | None,
        BeforeValidator(_sides),
        Field(description="pixels per side, or height, width; none keeps the dataset's own size"),
    ] = None
    channels: Annotated[
        int,
        Field(
            gt=0,
            description="1 = gray, 3 = RGB; images are converted, transparency is composited over data.background; "
            "4 = RGBA, and other numbers for arrays: channels are kept",
        ),
    ] = 3
    split: Annotated[str, Field(description="split to train on, or a part of one: train[:29000]")] = "train"
    column: Annotated[str | None, Field(description="column or array of images; none finds it")] = None
    fit: Annotated[Literal["crop", "pad", "stretch"], Field(description="how other aspect ratios are fitted")] = "crop"
    precrop: Annotated[
        int | None,
        Field(gt=0, le=2**16, description="center square cut out before resizing, in source pixels (CelebA: 148)"),
    ] = None
    background: Annotated[str, Field(description="color behind transparency and padding: a name or #rrggbb")] = "white"
    range: Annotated[
        float | None,
        Field(
            gt=0,
            description="largest value of the pixels where they use only a part of their type's: 4095 of 12-bit values "
            "in 16-bit files, 1 of masks of 0 and 1; none = the type's own",
        ),
    ] = None
    frames: Annotated[Literal["first", "all"], Field(description="of animated images and files of several pages")] = (
        "first"
    )
    max_pixels: Annotated[
        int | None, Field(gt=0, description="most pixels of an image; none = what Pillow reads unasked (178,956,970)")
    ] = None
    labels: Annotated[
        str | None,
        Field(
            description="labels that a conditional model is trained on: `label` where the dataset has one kind, else "
            "the name of one, e.g. hair_style of toyfaces; none = without"
        ),
    ] = None
    mirror: Annotated[bool, Field(description="flip half of the images left to right")] = False
    limit: Annotated[int | None, Field(gt=0, le=MOST, description="use only the first n images")] = None
    holdout: Annotated[
        float | None,
        Field(
            ge=0,
            le=0.1,
            description="share of a split that is held out for scores, by the items' names; 0 = nothing; none = a "
            "tenth, at most 1,000, of your own data without a test or val split; brackets in data.split overrule it",
        ),
    ] = None
    skip_corrupt: Annotated[bool, Field(description="count unreadable images and go on instead of stopping")] = False
    cache: Annotated[bool, Field(description="decode once into a uint8 cache where it fits")] = True


def reading(data: DataConfig) -> dict[str, Any]:
    """Returns the way images are read: all fields but where they are, and what training makes of them."""
    return {one.name: getattr(data, one.name) for one in fields(data) if one.name not in NOT_READING}


def reading_changes(before: DataConfig, now: DataConfig) -> dict[str, list[Any]]:
    """Returns the fields that are read in another way, `data.fit: [before, now]`."""
    old, new = reading(before), reading(now)
    return {f"data.{name}": [value, new[name]] for name, value in old.items() if new[name] != value}
