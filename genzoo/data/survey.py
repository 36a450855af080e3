"""Looks at a sample of a dataset as it is: sizes, modes, values, duplicates and what cannot be read."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from genzoo.data.catalog import find_entry
from genzoo.data.decoding import CorruptImageError, Frame, Raw, at_most, read, to_uint8
from genzoo.data.found import Found
from genzoo.data.headers import complete
from genzoo.data.opening import find_source, is_own
from genzoo.data.sets import ArraySet, EndlessSet
from genzoo.data.sources import Collection, Part, Source
from genzoo.data.splits import Opened, held_out, parse
from genzoo.data.values import scale_array
from genzoo.dataspec import DataConfig
from genzoo.errors import UsageError
from genzoo.noise import generator
from genzoo.progress import bar

SAMPLE = 512  # items that are looked at, about
POINTS = 2000  # that are drawn
THUMBNAILS, SIDE = 64, 96  # pictures that are kept, and their side in pixels where no size is asked for


@dataclass
class Survey:
    """What was seen of one split.

    Attributes:
        name: of the split.
        found: its facts.
        splits: items of each split; None where counting them would take long.
        held_out: items of the split that `config.holdout` keeps apart, for scores.
        classes: items of each class, by label.
        looked_at: items of the sample.
        sizes: (height, width) of each image, in pixels.
        modes: Pillow's modes of the images, counted; types of arrays.
        low, high: least and largest value as stored.
        brightest: largest value after scaling to [0, 255] as `config.range` says.
        duplicates: pairs of items with the same content.
        unreadable: items that cannot be read, with reasons.
        thumbnails: some images as they would be read, uint8 [3,H,W], all of one size.
        points: points or vectors, float32 [n,D]; None of images.
    """

    name: str
    found: Found
    splits: Mapping[str, int | None]
    held_out: int = 0
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    looked_at: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    low: float = np.inf
    high: float = -np.inf
    brightest: int = 0
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)
    points: np.ndarray | None = None


def survey(config: DataConfig, n: int = SAMPLE, progress: bool = True) -> Survey:
    """Looks at about n items, spread evenly over a split, those included that `config.holdout` keeps apart. Nothing is
    cached, and what cannot be read is reported.

    Args:
        config: `skip_corrupt` is taken as true; without a `size`, pictures are padded to squares.
        progress: show a bar when it takes a while.

    Raises:
        UsageError: an unknown name or split, or a dataset without items.
    """
    config = replace(config, skip_corrupt=True)
    part_of_it = config.limit is not None or parse(config.split).heldout
    collection, source, chosen = find_source(config if part_of_it else replace(config, holdout=0))
    splits = _splits(collection, config)
    if isinstance(source, EndlessSet):
        return _of_points(source.name, Found(items=None), splits, source.draw(POINTS, generator(0, "survey")).numpy())
    if isinstance(source, ArraySet):
        part = source.part(chosen)
        found = _of_points(part.name, Found(items=part.size), splits, part.batch(_spread(part.size, POINTS)).numpy())
        found.classes, found.held_out = _classes(part), _held_out(collection, source, config)
        return found
    part = Part(source, chosen)
    seen = Survey(part.name, complete(part, config), splits, classes=_classes(part))
    seen.held_out = _held_out(collection, source, config)
    _look(part, config, _spread(part.size, n), seen, progress)
    return seen


def _held_out(collection: Collection, source: Opened, config: DataConfig) -> int:
    wanted = parse(config.split)
    return 0 if wanted.sliced else len(held_out(collection, source, wanted.name, config.holdout, is_own(config)))


def _look(part: Source, config: DataConfig, indices: np.ndarray, seen: Survey, progress: bool) -> None:
    """Reads items into a survey."""
    wanted = {int(index) for index in indices[_spread(len(indices), THUMBNAILS)]}
    by_content: dict[str, str] = {}
    for index in bar(indices.tolist(), f"looking at {part.name}", shown=progress, delay=1, leave=False):
        raw, where = part.fetch([index])[0], part.where(index)
        try:
            with at_most(config.max_pixels):
                _note(raw, config, seen, index in wanted)
        except (CorruptImageError, UsageError) as error:
            seen.unreadable.append(f"{where} ({error})")
            continue
        finally:
            seen.looked_at += 1
        if (first := by_content.setdefault(_digest(raw), where)) != where:
            seen.duplicates.append((first, where))


def _note(raw: Raw, config: DataConfig, seen: Survey, is_shown: bool) -> None:
    """Adds one item's size, mode and values, and its picture."""
    if isinstance(raw, np.ndarray):
        image, top = read(scale_array(raw, config.range)), None
        values, mode = raw, f"{raw.dtype} with {raw.shape[0]} channel{'s' * (len(raw) > 1)}"
    else:
        image, top = read(raw), config.range
        mode, values = image.mode, np.asarray(image.convert("RGB") if image.mode in ("P", "1") else image)
    pixels = to_uint8(image, None, 3, background=config.background, top=top)
    if is_shown:
        how = {"size": config.size, "fit": config.fit, "precrop": config.precrop}
        how = how if config.size else {"size": (SIDE, SIDE), "fit": "pad"}
        seen.thumbnails.append(to_uint8(image, channels=3, background=config.background, top=top, **how))
    seen.brightest = max(seen.brightest, int(pixels.max()))
    seen.sizes.append((image.height, image.width))
    seen.modes[mode] += 1
    seen.low, seen.high = min(seen.low, float(values.min())), max(seen.high, float(values.max()))


def _digest(raw: Raw) -> str:
    assert not isinstance(raw, CorruptImageError)  # it was decoded before
    number = raw.number if isinstance(raw, Frame) else 0
    file = raw.file if isinstance(raw, Frame) else raw
    content = file.read_bytes() if isinstance(file, Path) else file if isinstance(file, bytes) else file.tobytes()
    return f"{hashlib.sha256(content).hexdigest()} {number}"


def _of_points(name: str, found: Found, splits: Mapping[str, int | None], points: np.ndarray) -> Survey:
    low, high = float(points.min()), float(points.max())
    return Survey(name, found, splits, looked_at=len(points), low=low, high=high, points=points)


def _classes(data: Source | ArraySet) -> dict[str, dict[str, int]]:
    """Items of each class, by label; a class without items has 0."""
    labels = data.read_labels() if isinstance(data, ArraySet) else data.labels()
    counts = {name: np.bincount(label.values[label.values >= 0]) for name, label in labels.items() if label.classes}
    return {
        name: {kind: int(count[i]) if i < len(count) else 0 for i, kind in enumerate(labels[name].classes)}
        for name, count in counts.items()
    }


def _splits(collection: Collection, config: DataConfig) -> dict[str, int | None]:
    """Items of each split; those of the hub are not fetched to be counted."""
    entry = find_entry(config.name)
    remote = not Path(config.name).expanduser().exists() and (entry is None or entry.kind == "hub")
    return {name: None if remote else collection.source(name).size for name in collection.splits}


def _spread(size: int, n: int) -> np.ndarray:
    """About n numbers below size, evenly spaced, int64."""
    return np.linspace(0, size - 1, min(n, size)).astype(np.int64)
