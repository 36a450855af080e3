"""Data that a program passes instead of a name: a tensor, an array or a map-style dataset, read once and checked."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from genzoo.data.labels import ONLY, Labels, class_label
from genzoo.data.sets import ArraySet
from genzoo.errors import UsageError

PREFIX = "python:"  # begins the names of such data, which lead to nothing that could be opened
ROUNDING = 1e-6  # outside of [0, 1], of values that were computed
FORMS = "give [N, C, H, W], uint8 or floats in [0, 1] with C 1 or 3, or float vectors [N, D]"


def own_dataset(data: Any) -> ArraySet:
    """Reads data into memory.

    Args:
        data: items as a tensor or an array, images uint8 [N, C, H, W] in [0, 255] or float in [0, 1], or float vectors
            [N, D]; or a map-style dataset (`len`, indexing by number) of such items [C, H, W] or [D], of Pillow images,
            or of (item, class number). Each item is read once, so that random augmentations are fixed.

    Returns:
        A set whose name ends in a hash of its content, so that another content is another run.

    Raises:
        UsageError: of another form, range or type; the line says what was found and how to convert it.
    """
    kind = type(data).__name__
    items, numbers = _read(data, kind)
    array = _images(items, kind) if items.ndim == 4 else _vectors(items, kind)
    content = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    for part in (array, *([] if numbers is None else [numbers])):
        content.update(np.ascontiguousarray(part).data)
    digest = content.hexdigest()
    labels = _labels(numbers, getattr(data, "classes", None))
    return ArraySet(f"{PREFIX}{kind}-{digest[:8]}", f"{PREFIX}{digest}", array, labels)


def _labels(numbers: np.ndarray | None, names: Any) -> Callable[[], Labels]:
    if numbers is None:
        return dict
    enough = isinstance(names, Sequence) and len(names) > numbers.max(initial=-1)
    return lambda: {ONLY: class_label(numbers, [str(name) for name in names] if enough else None)}


def _read(data: Any, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns all items, and their class numbers, int64 [N], if there are any."""
    if isinstance(data, Tensor | np.ndarray):
        return _array(data), None
    by_number = hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, Mapping)
    if not by_number or isinstance(data, IterableDataset):
        raise UsageError(f"data={kind}: {FORMS}, or a map-style dataset, which has a length and gives items by number.")
    try:
        rows = [data[i] for i in range(len(data))]
    except KeyError as error:  # as of a table of pandas, which takes names
        raise UsageError(f"data={kind} gives no item by number: pass an array, as of data.to_numpy().") from error
    if not rows:
        raise UsageError(f"data={kind} has no items.")
    if isinstance(rows[0], Mapping):
        raise UsageError(
            f"data={kind} has items with {', '.join(map(str, rows[0]))}: pass the images alone, "
            "[item['image'] for item in data], or pairs (image, class number)."
        )
    pairs = all(isinstance(row, tuple | list) and len(row) == 2 and not isinstance(row[0], float) for row in rows)
    alone = all(isinstance(row, tuple) and len(row) == 1 for row in rows)  # as of a TensorDataset
    arrays = [_array(row[0] if pairs or alone else row) for row in rows]
    if arrays[0].dtype.kind in "OSU":
        raise UsageError(
            f"data={kind} has items of type {type(rows[0]).__name__}: pass the images, or name their folder or file."
        )
    for i, array in enumerate(arrays):
        if (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
            raise UsageError(
                f"data={kind}: item {i} is {array.dtype} {list(array.shape)}, and item 0 {arrays[0].dtype} "
                f"{list(arrays[0].shape)}: resize them to one shape and type."
            )
    return np.stack(arrays), np.fromiter(_numbers(rows), np.int64) if pairs and _classed(rows) else None


def _classed(rows: Sequence[Any]) -> bool:
    """Whether the second part of each pair is a class number."""
    return all(isinstance(row[1], int | np.integer) or _is_whole(row[1]) for row in rows)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0 and not (value.is_floating_point() or value.is_complex())


def _numbers(rows: Sequence[Any]) -> Iterator[int]:
    return (int(row[1]) for row in rows)


def _array(item: Any) -> np.ndarray:
    """One item, or all: a tensor or an array as it is, a Pillow image as [C, H, W]."""
    if isinstance(item, Tensor):
        item = item.detach().cpu()
        return (item.float() if item.dtype == torch.bfloat16 else item).numpy()
    if hasattr(item, "convert"):
        pixels = np.asarray(item.convert("L" if item.mode in ("1", "L") else "RGB"))
        return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.asarray(item)


def _images(x: np.ndarray, kind: str) -> np.ndarray:
    """Returns images [N, C, H, W] as uint8 [N, H, W, C]."""
    channels = x.shape[1]
    if channels not in (1, 3):
        fix = "move the channels first, x.movedim(-1, 1)" if x.shape[-1] in (1, 3) else "keep 1 (gray) or 3 (RGB)"
        raise UsageError(f"data={kind} has shape {list(x.shape)}, {channels} channels: {fix}.")
    if not x.size:
        raise UsageError(f"data={kind} has shape {list(x.shape)}: there is nothing to train on.")
    return np.ascontiguousarray(np.moveaxis(_pixels(x, kind), 1, -1))


def _pixels(x: np.ndarray, kind: str) -> np.ndarray:
    """Checks the values of images and returns them as uint8."""
    low, high = x.min(), x.max()
    if x.dtype == np.uint8:
        if high == 1:
            raise UsageError(f"data={kind} holds uint8 values of 0 and 1 only, of 255: multiply them by 255.")
        return x
    if x.dtype.kind != "f":
        raise UsageError(f"data={kind} holds images of type {x.dtype}, {low} to {high}: {FORMS}.")
    if not np.isfinite(low) or not np.isfinite(high):
        raise UsageError(f"data={kind} holds NaN or infinite values: remove these items.")
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise UsageError(
            f"data={kind} holds values from {low:.4g} to {high:.4g}: scale them to [0, 1], {_scaling(low, high)}."
        )
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _scaling(low: float, high: float) -> str:
    """Returns what scales values between these two to [0, 1]."""
    if low >= -1 - ROUNDING and high <= 1 + ROUNDING:
        return "(x + 1) / 2"
    return "x / 255" if low >= 0 and high <= 255 else "(x - x.min()) / (x.max() - x.min())"


def _vectors(x: np.ndarray, kind: str) -> np.ndarray:
    """Checks vectors [N, D] and returns them as float32."""
    if x.ndim != 2:
        fix = "add the channel, x[:, None]" if x.ndim == 3 else FORMS
        raise UsageError(f"data={kind} has shape {list(x.shape)}: {fix}.")
    if x.dtype.kind != "f":
        raise UsageError(
            f"data={kind} holds {x.dtype} rows of {x.shape[1]} numbers: reshape images to [N, C, H, W], or give "
            "vectors as floats."
        )
    if not x.size or not np.isfinite(x).all():
        raise UsageError(f"data={kind} is empty or holds NaN or infinite values: remove these items.")
    return np.ascontiguousarray(x, np.float32)
