"""What the headers of some images tell about all: sizes, depth, color profiles and frames. No pixel is decoded."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import ExifTags, Image

from genzoo.data.decoding import NOWHERE, CorruptImageError, Frame, Raw, at_most
from genzoo.data.found import BROKEN, CORRUPT, Found
from genzoo.data.profiles import find_transform
from genzoo.data.sources import Source
from genzoo.data.values import MOST, largest
from genzoo.dataspec import DataConfig

LOOKED_AT = 512  # images of a split, about
CUT = 0.005  # share of an image below which cropping is not worth a word
SEQUENCES = frozenset(["AVIF", "GIF", "PNG", "TIFF", "WEBP"])  # formats whose frames or pages are images of their own
TURNED = range(5, 9)  # values of the EXIF orientation that exchange height and width


@dataclass(frozen=True)
class Header:
    """What one image is, as it will be shown upright."""

    height: int
    width: int
    top: float  # largest value that its pixels can have: 255, 65535, 1 of floats
    has_frames: bool = False
    has_profile: bool = False  # of colors other than sRGB's
    has_alpha: bool = False


def read_header(raw: Raw) -> Header | None:
    """Reads a header; None where there is none to read."""
    if isinstance(raw, np.ndarray):
        return Header(*raw.shape[1:], top=largest(raw.dtype))
    if isinstance(raw, CorruptImageError):
        return None
    try:
        with _open(raw) as image:
            return _header(image)
    except Exception:  # whatever is wrong with it, decoding names it
        return None


def count_frames(raw: Raw) -> int:
    """Counts the frames or pages of an encoded image; 1 where it cannot be read."""
    if isinstance(raw, np.ndarray | CorruptImageError):
        return 1
    try:
        with _open(raw) as image:
            return getattr(image, "n_frames", 1) if image.format in SEQUENCES else 1
    except Exception:  # whatever is wrong with it, decoding names it
        return 1


def complete(source: Source, config: DataConfig, skipped: Mapping[int, str] = MappingProxyType({})) -> Found:
    """Returns a source's facts with what headers tell, and without the items that were `skipped`, number -> reason."""
    found = source.found()
    assert found.items is not None
    with at_most(config.max_pixels):
        headers = [header for raw in source.headers(LOOKED_AT) if (header := read_header(raw)) is not None]
    broken = sum(reason == NOWHERE for reason in skipped.values())
    unreadable = {reason: n for reason, n in ((BROKEN, broken), (CORRUPT, len(skipped) - broken)) if n}
    top = config.range or max((header.top for header in headers), default=found.top)
    return replace(
        found,
        items=found.items - len(skipped),
        parts=_without(found.parts, source, skipped),
        left_out={**found.left_out, **unreadable},
        notes=(*found.notes, *_notes(headers, config)),
        top=top,
    )


def _without(parts: Mapping[str, int], source: Source, skipped: Iterable[int]) -> Mapping[str, int]:
    """Counts the items of each part that are left."""
    groups = source.groups() if parts else ()
    return dict(Counter(parts) - Counter(groups[i] for i in skipped)) if groups else parts


def share_cut_off(height: int, width: int, config: DataConfig) -> float:
    """The share of an image that data.fit=crop cuts off, after data.precrop."""
    if config.size is None or config.fit != "crop":
        return 0.0
    own = 1.0 if config.precrop else width / height
    wanted = config.size[1] / config.size[0]
    return 1 - min(own, wanted) / max(own, wanted)


def _notes(headers: Sequence[Header], config: DataConfig) -> list[str]:
    if not headers:
        return []
    notes, of = [], f"of {len(headers):,} images looked at"
    cut = sum(share_cut_off(header.height, header.width, config) for header in headers) / len(headers)
    if cut >= CUT:
        notes.append(f"cropping cuts off {cut:.0%} of each image on average; data.fit=pad keeps all of it")
    if profiled := sum(header.has_profile for header in headers):
        notes.append(f"{profiled:,} {of} have colors of another ICC profile: converted to sRGB")
    if config.channels in (1, 3) and (transparent := sum(header.has_alpha for header in headers)):
        over = f"composited over data.background={config.background}"
        notes.append(f"{transparent:,} {of} have an alpha channel: {over}; data.channels=4 keeps it")
    if config.frames == "first" and (moving := sum(header.has_frames for header in headers)):
        notes.append(f"{moving:,} {of} have several frames or pages: the first is taken; data.frames=all takes each")
    return notes


def _open(raw: bytes | Path | Frame) -> Image.Image:
    file = raw.file if isinstance(raw, Frame) else raw
    return Image.open(file if isinstance(file, Path) else io.BytesIO(file))


def _header(image: Image.Image) -> Header:
    width, height = image.size
    # Asking a PNG without EXIF for it would decode the image.
    if "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation) in TURNED:
        width, height = height, width
    deep = ";16" in str(getattr(image, "tile", ""))  # color of 16 bits, of which Pillow reads 8
    profile = image.info.get("icc_profile")
    return Header(
        height,
        width,
        top=MOST.get(image.mode[:1], 65535.0 if deep else 255.0),
        has_frames=image.format in SEQUENCES and getattr(image, "is_animated", False),
        has_profile=bool(profile) and find_transform(profile, image.mode) is not None,
        has_alpha=image.has_transparency_data,
    )
