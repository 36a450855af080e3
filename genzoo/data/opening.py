"""Finds and opens a dataset by its name: an embedded or registered one, a path, a short name or an id of the hub."""

import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genzoo.data.arrays import ArrayCollection
from genzoo.data.catalog import dataset_names, find_dataset
from genzoo.data.decoding import CorruptImageError, rgb
from genzoo.data.folder import FolderCollection, files_under
from genzoo.data.found import Found, summary
from genzoo.data.frames import FrameCollection
from genzoo.data.headers import complete
from genzoo.data.materialize import decoder, open_images
from genzoo.data.sets import ArraySet, Dataset, EndlessSet
from genzoo.data.sources import Collection, Part, Source
from genzoo.errors import UsageError, did_you_mean
from genzoo.noise import generator
from genzoo.spec import DataConfig

_SPLIT = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d*):(?P<stop>\d*)\])?")  # test, train[:29000], train[29000:]
# Splits to evaluate on; the first that a dataset has is taken.
_HELDOUT = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation")


def open_dataset(config: DataConfig, split: str | None = None, progress: bool = True) -> Dataset:
    """Opens one split of a dataset; images are decoded once into a cache where that works.

    Args:
        split: a split or a part of one, `train[:29000]`; None takes config.split.
        progress: show a bar when decoding takes a while.

    Returns:
        A finite set, or an endless one of points. Images are uint8 [C,H,W] in [0,255], C and (H,W) as configured;
        vectors and points are float32 [D].

    Raises:
        UsageError: an unknown name or split, unreadable or unfit data, no network; the line says what to do.
    """
    rgb(config.background)  # a wrong color should not wait for the first transparent image
    collection = _find(config)
    source, chosen = _choose(collection, split or config.split, config.limit)
    if isinstance(source, EndlessSet):
        return source
    if isinstance(source, ArraySet):
        return source.part(chosen)
    part = Part(source, chosen)
    if (found := part.found()).misses:
        warnings.warn(summary(part.name, found), stacklevel=1)  # once, whoever opens it
    return open_images(part, config, progress)


def find_source(config: DataConfig) -> tuple[Collection, Source | ArraySet | EndlessSet, range]:
    """Finds a dataset and the split that a configuration names, before anything is decoded.

    Returns:
        The collection, the source of the split, and which of its items are meant; none of an endless one.

    Raises:
        UsageError: as `open_dataset`.
    """
    collection = _find(config)
    return collection, *_choose(collection, config.split, config.limit)


def look_for(config: DataConfig) -> Found:
    """Returns the facts of the split that a configuration names; reads the headers of some images, decodes none.

    Raises:
        UsageError: as `open_dataset`.
    """
    _, source, chosen = find_source(config)
    if isinstance(source, EndlessSet):
        return Found(items=None)
    return Found(items=len(chosen)) if isinstance(source, ArraySet) else complete(Part(source, chosen), config)


def heldout_split(config: DataConfig) -> str | None:
    """Names the split to evaluate on, or None where there is none but the one to train on. Decodes nothing.

    What `train[:29000]` leaves over, `train[29000:]`, is held out; else a split called test, validation, ... is.
    """
    name, start, stop = _parse(config.split)
    if start is None and stop is not None:
        return f"{name}[{stop}:]"
    splits = _find(config).splits
    return next((other for other in _HELDOUT if other in splits and other != name), None)


def peek(config: DataConfig, n: int) -> tuple[int | None, list[np.ndarray]]:
    """Reads some items of a split as they are, before any size is chosen; nothing is cached.

    Args:
        n: how many items, spread evenly over the split.

    Returns:
        The number of items that config.split and config.limit leave (None = endless), and images uint8 [3,H,W] in
        [0,255] at their own sizes, or one float32 array [n,D] of points.

    Raises:
        UsageError: as `open_dataset`; or none of these images can be read.
    """
    source, among = _choose(_find(config), config.split, config.limit)
    if isinstance(source, EndlessSet):
        return None, [source.draw(n, generator(0, "peek")).numpy()]
    count = len(among)
    chosen = np.asarray(among)[np.linspace(0, count - 1, min(n, count)).astype(int)]
    if isinstance(source, ArraySet):
        return count, [source.batch(chosen).numpy()]
    decode, items = decoder(replace(config, size=None, channels=3)), []
    for raw in source.fetch(chosen.tolist()):
        try:
            items.append(decode(raw))
        except CorruptImageError:
            continue  # training counts them, see data.skip_corrupt
    if not items:
        raise UsageError(f"{source.name}: none of {len(chosen)} images can be read: check what the folder holds.")
    return count, items


def load_image(path: str | Path, shape: tuple[int, ...], config: DataConfig) -> Tensor:
    """Loads one image file as a model's dataset would have it.

    Args:
        shape: (C,H,W) of the model; replaces the size and channels in config.

    Returns:
        uint8 [C,H,W] in [0,255].

    Raises:
        UsageError: no such file, unreadable, or a model of points.
    """
    if len(shape) != 3:
        raise UsageError(f"{path} is an image, but the model takes vectors of {shape[0]} numbers.")
    if not Path(path).is_file():
        raise UsageError(f"there is no file {path}.")
    channels, height, width = shape
    try:
        return torch.from_numpy(decoder(replace(config, size=(height, width), channels=channels))(Path(path)))
    except CorruptImageError as error:
        raise UsageError(f"cannot read {path}: {error}.") from error


def _parse(split: str) -> tuple[str, int | None, int | None]:
    """`train[:29000]` -> train, None, 29000."""
    match = _SPLIT.fullmatch(split)
    if not match:
        raise UsageError(
            f"{split!r} is not a split: write a name (train), or a part of one (train[:29000], train[29000:])."
        )
    start, stop = (int(text) if text else None for text in (match["start"], match["stop"]))
    return match["name"], start, stop


def _choose(collection: Collection, split: str, limit: int | None) -> tuple[Source | ArraySet | EndlessSet, range]:
    """Returns the source of a split, and which of its items are meant; none of an endless one."""
    name, start, stop = _parse(split)
    if name not in collection.splits:
        raise UsageError(f"{collection.name} has no split {name!r}: it has {', '.join(collection.splits)}.")
    source = collection.source(name)
    if isinstance(source, EndlessSet):
        return source, range(0)
    chosen = range(source.size)[start:stop][:limit]
    if not chosen:
        raise UsageError(f"{source.name} has {source.size:,} items: {split!r} leaves none of them.")
    if start is None and stop is not None and stop >= source.size:
        raise UsageError(
            f"{source.name} has {source.size:,} items, so {split!r} holds none of them out: "
            f"write {name!r}, or a smaller number."
        )
    return source, chosen


def _find(config: DataConfig) -> Collection:
    found = _locate(config)
    return FrameCollection(found) if config.frames == "all" else found


def _locate(config: DataConfig) -> Collection:
    name, path = config.name, Path(os.path.expanduser(config.name))
    registered = find_dataset(name)
    if registered is not None and (registered.entry.kind != "hub" or not path.exists()):
        if path.exists():
            warnings.warn(
                f"{name} is the built-in dataset of that name; for what lies here, give ./{name}", stacklevel=1
            )
        return registered(config)
    if path.exists():
        return _at(path, config)
    if (
        name.startswith((".", "~", os.sep))
        or name.count("/") > 1
        or "\\" in name
        or path.suffix in (".parquet", ".npy", ".npz")
    ):
        raise UsageError(f"there is no file or folder {path}: check the path, or take a name from `genzoo list data`.")
    if "/" not in name:
        raise UsageError(
            f"no dataset is called {name!r}.{did_you_mean(name, dataset_names())} `genzoo list data` shows all; "
            "a folder, a .parquet or .npy file or a hub id owner/name works too."
        )
    from genzoo.data.hub import HubCollection

    return HubCollection(config)


def _at(path: Path, config: DataConfig) -> Collection:
    """Finds the collection at an existing path."""
    if path.suffix.lower() in (".npy", ".npz"):
        return ArrayCollection(path)
    if path.suffix.lower() == ".parquet" or (path.is_dir() and any(files_under(path, {".parquet"}))):
        from genzoo.data.parquet import ParquetCollection  # pyarrow takes 0.4 s to import

        return ParquetCollection(path, config.column)
    if path.is_dir():
        return FolderCollection(path, config.skip_corrupt)
    raise UsageError(f"{path} is not a dataset: give a folder of images, or a .parquet, .npy or .npz file.")
