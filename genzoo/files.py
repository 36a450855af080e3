"""Crash-safe writing of text files, folders and JSON lines; hashes of files, and checksums of JSON objects."""

import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Returns a file's hash in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


CHECKSUM = "_checksum"  # key of a JSON object's own checksum


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to a JSON object its checksum, by which `as_written` recognizes a change, as in records of a TFRecord."""
    plain = json.loads(json.dumps({key: value for key, value in content.items() if key != CHECKSUM}))
    return {**plain, CHECKSUM: _checksum(plain)}


def as_written(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object is what was sealed, whatever the order of its keys; one without a checksum counts as such,
    as earlier versions and other programs write it.
    """
    plain = dict(content)
    return CHECKSUM not in content or plain.pop(CHECKSUM) == _checksum(plain)


def _checksum(plain: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yields a path to a file for libraries that open UTF-8 names only: its own, or that of an open descriptor."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield Path(f"/dev/fd/{file.fileno()}")
    else:
        yield path


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically: readers see the old content or the new one, never a part.

    Bytes of file names that are not UTF-8 become question marks.
    """
    restore(path)
    temporary = _beside(path, f"{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill. On success it replaces `folder`; on failure it is removed.

    Readers never see a part of the new content. A process that is killed may leave no `folder`, because a folder cannot
    be replaced by one rename; `restore`, which the next call begins with, then puts the old one back.
    """
    make_folder(folder.parent)
    restore(folder)
    temporary, old = _beside(folder, f"{os.getpid()}.tmp"), _beside(folder, f"{os.getpid()}.old.tmp")
    if temporary.exists():  # of a killed process that had this one's number, as in a restarted container
        shutil.rmtree(temporary)
    temporary.mkdir()
    try:
        yield temporary
        apply_umask(*(path for path in temporary.rglob("*") if path.is_file()))
        for path in temporary.rglob("*"):
            sync(path)
        sync(temporary)
        if folder.exists():
            os.rename(folder, old)
            sync(folder.parent)
        os.rename(temporary, folder)
    except BaseException:
        restore(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents, and flushes the entry of each new one to disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def apply_umask(*paths: Path) -> None:
    """Gives files the mode that the umask allows: safetensors makes them readable by their owner only."""
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    for path in paths:
        with suppress(OSError):  # a file system without modes
            path.chmod(0o666 & ~mask)


def restore(path: Path) -> None:
    """Undoes what killed processes left unfinished of `replacing(path)` or `write_text(path, ...)`.

    A folder that was moved aside, and not replaced yet, is put back; what was written beside `path` is removed. What
    belongs to a process that still runs is left alone.
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.old)?\.tmp")
    for found in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        if not (match := leftover.fullmatch(found.name)):
            continue
        pid, moved_aside = int(match[1]), match[2] is not None
        if _runs(pid) and not (moved_aside and pid == os.getpid()):
            continue
        with suppress(OSError):  # another process was first, or the file system is read-only
            if moved_aside and not path.exists():
                os.rename(found, path)
                sync(path.parent)
            elif found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()


def restore_all(parent: Path) -> None:
    """Undoes in a folder what killed processes left unfinished there, as `restore` does for one path."""
    for path in list(parent.glob(".*.tmp")):
        if match := re.fullmatch(r"\.(.+?)\.\d+(\.old)?\.tmp", path.name):
            restore(parent / match[1])


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{ending}")


def _runs(pid: int) -> bool:
    """Whether a process of this number runs; False where that cannot be asked."""
    if os.name != "posix":  # there, signal 0 would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def sync(path: Path) -> None:
    """Flushes a file, or a folder's entries, to disk where possible, so that a rename survives a power cut."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems cannot flush folders
        pass
    finally:
        os.close(handle)


class JsonLines:
    """An append-only file of JSON objects, one per line, each with its checksum. Reading skips lines that are damaged,
    see `damaged`.

    Args:
        path: of the file.
        intact: whether an object is one that was written, as a damaged byte may leave valid JSON.
    """

    def __init__(self, path: Path, intact: Callable[[Mapping[str, Any]], bool] = lambda line: True):
        self.path, self._intact = path, intact
        self.replaced = 0  # how often the content was replaced through this object

    def append(self, *lines: Mapping[str, Any]) -> None:
        """Appends lines in one write. An incomplete last line is ended first, so that it does not damage the next."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(_encoded(lines))

    def replace(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the content, atomically."""
        write_text(self.path, _encoded(lines).decode())
        self.replaced += 1

    def rewind(self, step: int, length: int | None = None) -> None:
        """Drops the lines after `step`, and those after the first `length`: a resumed run logs no step twice."""
        if self.path.exists():
            self.replace(line for line in self.read()[:length] if line["step"] <= step)

    def read(self) -> list[dict[str, Any]]:
        """Returns all lines that are intact."""
        return [line for _, line in self.numbered() if line is not None]

    def read_from(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Returns the intact lines that begin at or after a byte of the file, and the byte after the last complete one.

        A line that has no end yet is left to the next call.
        """
        if not self.path.exists():
            return [], 0
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        parsed = map(self._parsed, data[:end].split(b"\n"))
        return [line for line in parsed if line is not None], offset + end

    def damaged(self) -> list[int]:
        """Returns the numbers of damaged lines, from 1; the last line does not count where a crash has cut it short."""
        found = list(self.numbered())
        if found and found[-1][1] is None and not self.path.read_bytes().endswith(b"\n"):
            found.pop()
        return [number for number, line in found if line is None]

    def numbered(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yields line numbers from 1 with their objects, or with None for damaged lines; skips empty lines."""
        for number, text in enumerate(self.path.read_bytes().split(b"\n") if self.path.exists() else [], 1):
            if text.strip():
                yield number, self._parsed(text)

    def _parsed(self, text: bytes) -> dict[str, Any] | None:
        try:
            line = json.loads(text.decode(errors="replace"))
            intact = isinstance(line, dict) and as_written(line)
        except (ValueError, RecursionError):
            return None
        if not intact:
            return None
        line.pop(CHECKSUM, None)
        return line if self._intact(line) else None


def _encoded(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(sealed(line)) + "\n" for line in lines).encode()
