"""Finds and opens a dataset by its name: an embedded or registered one, a path, a short name or an id of the hub."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genzoo.data.catalog import find_dataset
from genzoo.data.decoding import CorruptImageError, rgb
from genzoo.data.formats import open_path, refuse_missing
from genzoo.data.found import Found, summary
from genzoo.data.frames import FrameCollection
from genzoo.data.headers import complete
from genzoo.data.identity import FEWEST_CHOOSE, DataRecord, content_key, contents_in
from genzoo.data.materialize import decoder, open_images
from genzoo.data.own import PREFIX
from genzoo.data.sets import ArraySet, Dataset, EndlessSet
from genzoo.data.sources import Collection, Part, fingerprint
from genzoo.data.splits import FOR_CHOOSING, FOR_SCORES, Opened, choose, held_out, named_split, open_split, parse
from genzoo.data.suffixes import HINTS, suffix_of
from genzoo.errors import UsageError
from genzoo.noise import generator
from genzoo.spec import DataConfig


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
    source, chosen = _choose(config, split)
    if isinstance(source, EndlessSet):
        return source
    if isinstance(source, ArraySet):
        return source.part(chosen)
    part = Part(source, chosen)
    _warn_of_missed(part)
    return open_images(part, config, progress)


def find_source(config: DataConfig) -> tuple[Collection, Opened, np.ndarray | range]:
    """Finds a dataset and the split that a configuration names, before anything is decoded.

    Returns:
        The collection, the source of the split, and which of its items are meant; none of an endless one.

    Raises:
        UsageError: as `open_dataset`.
    """
    collection = _find(config)
    return collection, *choose(collection, config.split, config.holdout, is_own(config), config.limit)


def look_for(config: DataConfig) -> Found:
    """Returns the facts of the split that a configuration names; reads the headers of some images, decodes none.

    Raises:
        UsageError: as `open_dataset`.
    """
    _, source, chosen = find_source(config)
    if isinstance(source, EndlessSet):
        return Found(items=None)
    return Found(items=len(chosen)) if isinstance(source, ArraySet) else complete(Part(source, chosen), config)


def open_source(config: DataConfig, split: str | None = None) -> Part:
    """Opens one split of encoded images, before any of them is decoded.

    Raises:
        UsageError: as `open_dataset`; or the data are vectors or points.
    """
    source, chosen = _choose(config, split)
    if isinstance(source, ArraySet | EndlessSet):
        raise UsageError(f"{config.name} contains no images: choose other data.")
    return Part(source, chosen)


def heldout_split(config: DataConfig) -> str | None:
    """Names the split to score on, or None where there is none but the one to train on. Decodes nothing.

    What `train[:29000]` leaves over, `train[29000:]`, is held out; else a split called test, validation, ... is; else
    `train[heldout]`, the share that `config.holdout` keeps apart.
    """
    return describe(config).scored


def describe(config: DataConfig) -> DataRecord:
    """Finds where data is, what it contains, and which of its splits are held out. Decodes nothing.

    Raises:
        UsageError: as `open_dataset`, but for what decoding finds.
    """
    collection, wanted, own = _find(config), parse(config.split), is_own(config)
    scored, chooses = (wanted.rest or named_split(collection, wanted.name, o) for o in (FOR_SCORES, FOR_CHOOSING))
    if not own and not config.holdout:
        return DataRecord(name=config.name, scored=scored, chooses=chooses)
    source = open_split(collection, wanted.name)
    apart = len(held_out(collection, source, wanted.name, config.holdout, own)) if not wanted.sliced else 0
    if apart and not wanted.heldout:
        scored = f"{wanted.name}[heldout]"
        chooses = scored if apart >= FEWEST_CHOOSE else None
    contents = contents_in(source.identity) if not isinstance(source, ArraySet | EndlessSet) else None
    return DataRecord(
        name=config.name,
        place=str(Path(config.name).expanduser().resolve()) if own else None,
        identity=_content(source) if own else "",
        items=source.size,
        held_out=apart,
        scored=scored,
        chooses=chooses,
        files=contents.files if contents else {},
    )


def items_of(config: DataConfig, split: str | None = None) -> tuple[str, np.ndarray]:
    """Returns what identifies the content that a split is a part of, and the numbers of the split's items in it.

    Args:
        config: the data.
        split: as in `open_dataset`.

    Raises:
        UsageError: as `describe`; or no items are left.
    """
    source, chosen = _choose(config, split)
    return _content(source), np.asarray(chosen)


def is_own(config: DataConfig) -> bool:
    """Whether data is a file or folder of the user's, rather than a dataset with a name."""
    registered = find_dataset(config.name)
    exists = Path(os.path.expanduser(config.name)).exists()
    return exists and (registered is None or registered.entry.kind == "hub")


def _content(source: Opened) -> str:
    if isinstance(source, ArraySet | EndlessSet):
        return source.fingerprint
    return fingerprint(*content_key(source.name, source.identity))


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
    if config.channels not in (1, 3):
        raise UsageError(f"data.channels={config.channels}: settings are found for gray and RGB images only; set them.")
    source, among = _choose(config)
    if isinstance(source, EndlessSet):
        return None, [source.draw(n, generator(0, "peek")).numpy()]
    count = len(among)
    chosen = np.asarray(among)[np.linspace(0, count - 1, min(n, count)).astype(int)]
    if isinstance(source, ArraySet):
        return count, [source.batch(chosen).numpy()]
    _warn_of_missed(Part(source, among))
    decode, items, unreadable = decoder(replace(config, size=None, channels=3)), [], []
    for index, raw in zip(chosen.tolist(), source.fetch(chosen.tolist()), strict=True):
        try:
            items.append(decode(raw))
        except CorruptImageError as error:
            unreadable.append(f"{source.where(index)} ({error})")
    if not items:
        raise UsageError(f"{source.name}: none of {len(chosen)} images can be read: check what the folder holds.")
    if unreadable and not config.skip_corrupt:  # training counts those that it skips
        warnings.warn(
            f"{len(unreadable):,} of {len(chosen):,} images looked at cannot be read, such as {unreadable[0]}: repair "
            "or delete them, or train with --set data.skip_corrupt=true",
            stacklevel=2,
        )
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
        hint = f"; {HINTS[suffix]}" if (suffix := suffix_of(str(path))) in HINTS else ""
        raise UsageError(f"cannot read {path}: {error}{hint}.") from error


def _warn_of_missed(part: Part) -> None:
    if (found := part.found()).misses:
        warnings.warn(summary(part.name, found), stacklevel=1)  # once, whoever opens it


def _choose(config: DataConfig, split: str | None = None) -> tuple[Opened, np.ndarray | range]:
    return choose(_find(config), split or config.split, config.holdout, is_own(config), config.limit)


def _find(config: DataConfig) -> Collection:
    found = _locate(config)
    return FrameCollection(found, config.max_pixels) if config.frames == "all" else found


def _locate(config: DataConfig) -> Collection:
    name, path = config.name, Path(os.path.expanduser(config.name))
    if name.startswith(PREFIX):
        raise UsageError(f"{name} was passed from Python, Trainer(data=...), and is not stored: give --data.")
    registered = find_dataset(name)
    if registered is not None and (registered.entry.kind != "hub" or not path.exists()):
        if path.exists():
            warnings.warn(
                f"{name} is the built-in dataset of that name; for what lies here, give ./{name}", stacklevel=1
            )
        return registered(config)
    if path.exists():
        return open_path(path, config)
    refuse_missing(name)
    from genzoo.data.hub import HubCollection

    return HubCollection(config)
