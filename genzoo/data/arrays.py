"""Arrays of images [n,C,H,W], [n,H,W,C] or [n,H,W] and of vectors [n,D]: checked, and opened by their shape."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from genzoo.data.found import Found
from genzoo.data.identity import content_key
from genzoo.data.labels import Labels
from genzoo.data.sets import ArraySet, refuse_cut
from genzoo.data.sources import Source, fingerprint
from genzoo.errors import UsageError

WHOLE = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(bool))  # types of pixels besides floats
_CHUNK = 4096  # items checked together, so that a memory-mapped file is never in memory as a whole
_ROUNDING = 1e-6  # that floats may lie outside [0,1]
_LEAST_SIDE = 8  # pixels of an image that rows of bytes are taken for
COLORS = (1, 3)  # channels of gray and RGB images, which are converted into each other
RGBA = 4


class ArraySource(Source):
    """Images that are already numbers [n,C,H,W]: uint8, uint16, bool, or floats in [0,1]."""

    def __init__(
        self,
        images: np.ndarray,
        name: str,
        identity: object,
        labels: Labels | None = None,
        found: Found | None = None,
    ) -> None:
        self.name, self.size, self.identity = name, len(images), identity
        self._images, self._labels, self._found = images, labels or {}, found or Found(items=len(images))

    def fetch(self, indices: Sequence[int]) -> list[np.ndarray]:
        refuse_cut(self._images, f"the images of {self.name}", "copy the file again")
        return list(self._images[np.asarray(indices)])

    def where(self, index: int) -> str:
        return f"{self.name}[{index}]"

    def labels(self) -> Labels:
        return self._labels

    def found(self) -> Found:
        return self._found

    def headers(self, n: int) -> list[np.ndarray]:
        return [self._images[0]]  # all are alike


def open_array(
    array: np.ndarray,
    name: str,
    identity: object,
    labels: Labels | None = None,
    *,
    channels: int = 3,
    role: str = "",
    notes: Sequence[str] = (),
) -> ArraySource | ArraySet:
    """Checks an array and opens it by its shape: images as a source, vectors as a set.

    Args:
        array: images [n,C,H,W], [n,H,W,C] or [n,H,W], uint8, uint16, bool, or floats in [0,1]; vectors [n,D], floats of
            any range, or uint8, which is scaled to [0,1].
        identity: what decides the content, for the fingerprint.
        channels: of the images that are asked for; an array of another number than 1, 3 or 4 must have it.
        role: see `Found`.
        notes: see `Found`.

    Raises:
        UsageError: another shape or type, no items, NaN or infinity, image values outside [0,1] (the first is named),
            one image instead of several, rows of bytes that look like images.
    """
    _check_type(array, name, WHOLE if array.ndim > 2 else WHOLE[:1])
    if array.ndim not in (2, 3, 4) or not array.size:
        raise UsageError(f"{name} has shape {list(array.shape)}: images are [n,C,H,W] and vectors [n,D].")
    if array.ndim == 2:
        vectors = _vectors(array, name)
        return ArraySet(name, fingerprint(*content_key(name, identity)), vectors, partial(dict, labels or {}))
    images, read_as = as_images(array, name, channels)
    found = Found(items=len(images), role=role, notes=(*notes, *read_as))
    return ArraySource(images, name, identity, labels, found)


def as_images(array: np.ndarray, name: str, channels: int = 3) -> tuple[np.ndarray, list[str]]:
    """Checks images [n,C,H,W], [n,H,W,C] or [n,H,W], uint8, uint16, bool, or floats in [0,1].

    Returns:
        A view [n,C,H,W], and notes on how it was read.

    Raises:
        UsageError: as `open_array`.
    """
    _check_type(array, name, WHOLE)
    images, notes = _channels_first(array, name, channels)
    if images.dtype not in WHOLE:
        _refuse_first(images, lambda items: ~np.isfinite(items), name, lambda: "NaN or infinity: remove or repair it.")
        outside = partial(_outside, images)
        _refuse_first(images, lambda items: (items < -_ROUNDING) | (items > 1 + _ROUNDING), name, outside)
    return images, notes


def _check_type(array: np.ndarray, name: str, whole: Sequence[np.dtype]) -> None:
    if array.dtype in whole or np.issubdtype(array.dtype, np.floating):
        return
    has = f"{name} has type {array.dtype}"
    if array.dtype == np.bool_:
        raise UsageError(f"{has}: save 255 * x.astype('uint8').")
    if not np.issubdtype(array.dtype, np.integer) or not array.size:
        raise UsageError(f"{has}: save it as uint8, or as floats in [0,1].")
    low, high = (int(value) for value in (array.min(), array.max()))
    if low >= 0 and 1 < high <= 255:
        fix = "x.astype('uint8')"
    elif low == high:
        fix = "it as uint8, or as floats in [0,1]"
    else:
        fix = f"({f'x / {high}' if low >= 0 else f'(x - {low}) / {high - low}'}).astype('float32')"
    raise UsageError(f"{has} and values in [{low}, {high}]: save {fix}.")


def _vectors(array: np.ndarray, name: str) -> np.ndarray:
    """Checks vectors [n,D] and makes them float32."""
    if array.dtype != np.uint8:
        _refuse_first(array, lambda items: ~np.isfinite(items), name, lambda: "NaN or infinity: remove or repair it.")
        return array.astype(np.float32)
    n, d = array.shape
    vectors = "for vectors, save (x / 255).astype('float32')"
    if n == d >= _LEAST_SIDE:
        raise UsageError(
            f"{name} has bytes of shape [{n}, {d}], which looks like one gray image: save all images as one array "
            f"[n,H,W]; {vectors}."
        )
    if shape := _flattened(d):
        c, side, _ = shape
        last = f", or (-1, {side}, {side}, 3) where colors come last" if c == 3 else ""
        raise UsageError(
            f"{name} has rows of {d} bytes, which look like images of {c}x{side}x{side}: save "
            f"x.reshape(-1, {c}, {side}, {side}){last}; {vectors}."
        )
    warnings.warn(f"{name}: bytes are scaled from [0,255] to [0,1].", stacklevel=2)
    return array.astype(np.float32) / 255


def _flattened(d: int) -> tuple[int, int, int] | None:
    """The square image (C,H,W) that a row of d bytes may be."""
    for channels in (3, 1):
        side = math.isqrt(d // channels)
        if side >= _LEAST_SIDE and channels * side * side == d:
            return channels, side, side
    return None


def _channels_first(array: np.ndarray, name: str, channels: int) -> tuple[np.ndarray, list[str]]:
    """Brings images to [n,C,H,W]: with 1, 3 or 4 channels, or as many as are asked for."""
    shape = list(array.shape)
    if array.ndim == 3:
        if shape[2] in (*COLORS, RGBA):
            raise UsageError(
                f"{name} has shape {shape}, which looks like one image: a dataset is [n,H,W,C] or [n,C,H,W], "
                "e.g. numpy.stack(images)."
            )
        color = {COLORS[-1]: "RGB", RGBA: "RGBA"}.get(shape[0])
        note = f"{shape[0]} gray images; one {color} image has the shape [1,{shape[0]},H,W]"
        return array[:, None], [note] if color else []
    allowed = (*COLORS, RGBA) if channels in COLORS else (channels,)
    for count in allowed:
        for images in (array, array.transpose(0, 3, 1, 2)):
            if images.shape[1] == count:
                return images, _as_rgba(count, channels)
    raise UsageError(f"{name} has shape {shape}: {_wanted(shape, channels)}.")


def _as_rgba(count: int, channels: int) -> list[str]:
    if count != RGBA or channels not in COLORS:
        return []
    return ["4 channels are RGBA, composited over data.background; data.channels=4 keeps them"]


def _wanted(shape: Sequence[int], channels: int) -> str:
    fewest = min(shape[1], shape[3])
    if channels not in COLORS:
        return f"data.channels={channels} needs [n,{channels},H,W] or [n,H,W,{channels}]; give data.channels={fewest}"
    form = "images have 1 or 3 channels, or 4 (RGBA), as [n,C,H,W] or [n,H,W,C]"
    return f"{form}; to keep {fewest} channels, give data.channels={fewest}"


def _outside(images: np.ndarray) -> str:
    """Says what range the images have, and how to bring them to [0,1]."""
    chunks = list(_chunks(images))
    low, high = min(float(items.min()) for items in chunks), max(float(items.max()) for items in chunks)
    if low >= -_ROUNDING:
        fix = "divide by 255, or save uint8" if high <= 255 else f"divide by their maximum, {high:g}"
    else:
        fix = "take (x + 1) / 2" if low >= -1 - _ROUNDING and high <= 1 + _ROUNDING else "scale them"
    return f"values outside [0,1], and all lie in [{low:.9g}, {high:.9g}]: {fix}."


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    return (array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK))


def _refuse_first(
    array: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray], name: str, what: Callable[[], str]
) -> None:
    for start, items in zip(range(0, len(array), _CHUNK), _chunks(array), strict=True):
        bad = wrong(items).reshape(len(items), -1).any(1)
        if bad.any():
            raise UsageError(f"item {start + int(bad.argmax())} of {name} holds {what()}")
