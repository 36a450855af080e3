"""Ways in which a file gets damaged: by a disk, by a cut transfer, by another program, by a person."""

import gzip
import io
import json
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

JSON = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"5",
    b"true",
    b'"text"',
    b"[" * 100_000,
    b'{"format": 99}',
    b'{"step": 3}',
    b"\xff\xfe\x00",
    b"{" * 50,
    b"NaN",
    b"[{}]",
)
OTHER_TYPES = (None, True, "text", "", [], {}, [1], {"a": 1}, [[None]], 0.5, -3, "\ud800")
EXTREME = (10**400, -(10**30), 1e308, float("nan"), float("inf"), -1, 0, 2**63, "x" * 5000, [0] * 5000)
TEXTS = (".json", ".jsonl")
PICTURES = (".png", ".jpg", ".gif", ".bmp", ".tif", ".webp")
CHECKSUM = "_checksum"

Bytes = Callable[[bytes, random.Random], bytes]


def flip(content: bytes, rng: random.Random) -> bytes:
    """One bit."""
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def bits(content: bytes, rng: random.Random) -> bytes:
    """A burst of random bytes."""
    place = rng.randrange(len(content))
    return content[:place] + rng.randbytes(min(16, len(content) - place)) + content[place + 16 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """What a transfer that was interrupted leaves."""
    return content[: rng.randrange(len(content))]


def zeros(content: bytes, rng: random.Random) -> bytes:
    """A block that was never written."""
    place, size = rng.randrange(len(content)), rng.choice((64, 512, 4096))
    return content[:place] + bytes(min(size, len(content) - place)) + content[place + size :]


def line(content: bytes, rng: random.Random) -> bytes:
    """Another JSON value in the place of a line."""
    lines = content.splitlines(keepends=True)
    lines[rng.randrange(len(lines))] = rng.choice(JSON) + b"\n"
    return b"".join(lines)


def lost(content: bytes, rng: random.Random) -> bytes:
    """A line less."""
    lines = content.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def twice(content: bytes, rng: random.Random) -> bytes:
    """A line twice."""
    lines = content.splitlines(keepends=True)
    lines.insert(0, rng.choice(lines))
    return b"".join(lines)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place within a JSON value: a dictionary or list, and a key or an index."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def changed(content: bytes, rng: random.Random, change: Callable[[Any, Any], None], sealed: bool) -> bytes:
    """Changes one place in a JSON value, or in one of those on the lines of a file."""
    lines = content.splitlines() if b"\n{" in content.strip() and content.startswith(b"{") else [content]
    try:
        values = [json.loads(text) for text in lines]
    except ValueError:  # of several lines
        lines, values = [content], [json.loads(content)]
    number = rng.randrange(len(values))
    value = values[number]
    if not sealed and isinstance(value, dict):
        value.pop(CHECKSUM, None)
    if found := [place for place in places(value) if place[1] != CHECKSUM]:
        change(*rng.choice(found))
    lines[number] = json.dumps(value, indent=None if len(lines) > 1 else 1).encode()
    return b"\n".join([*lines, b""])


def typed(content: bytes, rng: random.Random, sealed: bool = False) -> bytes:
    """A value of another type, as a file of another version, or by another program, may have it."""

    def change(container: Any, key: Any) -> None:
        before = container[key]
        numbers = (int, float)
        others = [v for v in OTHER_TYPES if type(v) is not type(before)]
        if isinstance(before, numbers) and not isinstance(before, bool):
            others = [v for v in others if not isinstance(v, numbers) or isinstance(v, bool)]
        container[key] = rng.choice(others)

    return changed(content, rng, change, sealed)


def extreme(content: bytes, rng: random.Random, sealed: bool = False) -> bytes:
    """A value beyond every bound."""
    return changed(content, rng, lambda at, key: at.__setitem__(key, rng.choice(EXTREME)), sealed)


def dropped(content: bytes, rng: random.Random, sealed: bool = False) -> bytes:
    """A key or an item less."""
    return changed(content, rng, lambda at, key: at.__delitem__(key), sealed)


def other_files(path: Path) -> list[bytes]:
    """Contents of files of other kinds."""
    image, array, archive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "PNG")
    np.save(array, np.zeros((2, 4, 4, 3), np.uint8))
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.txt", "text")
    kinds = {
        ".png": image.getvalue(),
        ".npy": array.getvalue(),
        ".zip": archive.getvalue(),
        ".gz": gzip.compress(b"text"),
        ".pkl": pickle.dumps({"a": 1}),
        ".txt": b"PK\x03\x04 or something else\n",
        ".html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        ".pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    }
    unlike = {path.suffix, ".png"} if path.suffix in PICTURES else {path.suffix}  # another picture would be a picture
    return [content for kind, content in kinds.items() if kind not in unlike]


BYTES: dict[str, Bytes] = {
    "flip": flip,
    "bits": bits,
    "cut": cut,
    "zeros": zeros,
    "noise": lambda content, rng: rng.randbytes(200),
    "empty": lambda content, rng: b"",
}
LINES: dict[str, Bytes] = {"line": line, "lost": lost, "twice": twice}
VALUES: dict[str, Bytes] = {
    "whole": lambda content, rng: rng.choice(JSON),
    "typed": typed,
    "typed, with its checksum": lambda content, rng: typed(content, rng, True),
    "dropped, with its checksum": lambda content, rng: dropped(content, rng, True),
    "extreme, with its checksum": lambda content, rng: extreme(content, rng, True),
    "extreme": extreme,
    "dropped": dropped,
}
UNSEEN = {"extreme", "dropped"}  # without a checksum nobody knows what the value was: only tracebacks count
PLACES = ("folder", "gone", "link", "other")


def damage(path: Path, rng: random.Random, blind: frozenset[str] = frozenset()) -> tuple[str, bool]:
    """Damages a file, or loses a folder.

    Returns:
        how, and whether that leaves what might have been meant.
    """
    if path.is_dir():
        shutil.rmtree(path)
        return "gone", "gone" in blind
    content = path.read_bytes()
    ways = dict(BYTES) if content else {}
    if path.suffix == ".jsonl" and content:
        ways |= LINES
    if path.suffix in TEXTS and content and blind.isdisjoint(LINES):
        ways |= VALUES
    kind = rng.choice([*ways, *PLACES])
    if kind in ways:
        after = ways[kind](content, rng)
        path.write_bytes(after)
        return kind, kind in blind or kind in UNSEEN or after == content
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(rng.choice((path.name, "nowhere")))
    elif kind == "other":
        path.write_bytes(rng.choice(other_files(path)))
    return kind, kind in blind or (kind == "link" and "gone" in blind)
