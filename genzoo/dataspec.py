"""The data section of a run's configuration, and the decorator of all configuration classes.

No torch here, so that `genzoo list` and every `--help` are fast.
"""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

T = TypeVar("T")
STRICT = ConfigDict(extra="forbid")  # an unknown key is refused, never ignored


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, Field))
def config(cls: type[T]) -> type[T]:
    """Decorates a configuration class: a frozen, keyword-only dataclass whose fields pydantic checks by annotation."""
    return cast(type[T], dataclass(frozen=True, kw_only=True, config=STRICT)(cls))


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
            description="short name (`genzoo list data`), hub id owner/name[:config], folder, .parquet, .npy or .npz"
        ),
    ] = "toyfaces"
    size: Annotated[
        tuple[int, int] | None, Field(description="height, width in pixels; none keeps the dataset's own size")
    ] = None
    channels: Annotated[Literal[1, 3], Field(description="1 = gray, 3 = RGB; images are converted")] = 3
    split: Annotated[str, Field(description="split to train on, or a part of one: train[:29000]")] = "train"
    column: Annotated[str | None, Field(description="image column; none finds it")] = None
    fit: Annotated[Literal["crop", "pad", "stretch"], Field(description="how other aspect ratios are fitted")] = "crop"
    precrop: Annotated[
        int | None, Field(gt=0, description="center square cut out before resizing, in source pixels (CelebA: 148)")
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
    limit: Annotated[int | None, Field(gt=0, description="use only the first n images")] = None
    skip_corrupt: Annotated[bool, Field(description="count unreadable images and go on instead of stopping")] = False
    cache: Annotated[bool, Field(description="decode once into a uint8 cache where it fits")] = True
