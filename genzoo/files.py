"""Crash-safe writing of text files, folders and JSON lines; hashes of files."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Returns a file's hash in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


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
    _sync(path.parent)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill. On success it replaces `folder`; on failure it is removed.

    Readers never see a part of the new content. A process that is killed may leave no `folder`, because a folder cannot
    be replaced by one rename; `restore`, which the next call begins with, then puts the old one back.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    restore(folder)
    temporary, old = _beside(folder, f"{os.getpid()}.tmp"), _beside(folder, f"{os.getpid()}.old.tmp")
    if temporary.exists():  # of a killed process that had this one's number, as in a restarted container
        shutil.rmtree(temporary)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            _sync(path)
        _sync(temporary)
        if folder.exists():
            os.rename(folder, old)
        os.rename(temporary, folder)
    except BaseException:
        restore(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


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
            elif found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()


def restore_folders(parent: Path) -> None:
    """Puts back every sub-folder of `parent` that a killed process has moved aside, as `restore` does."""
    for path in list(parent.glob(".*.old.tmp")):
        name, *_ = path.name.removeprefix(".").rsplit(".", 3)
        restore(parent / name)


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


def _sync(path: Path) -> None:
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
    """An append-only file of JSON objects, one per line. Reading skips the incomplete line that a crash may leave."""

    def __init__(self, path: Path):
        self.path = path

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

    def rewind(self, step: int, length: int | None = None) -> None:
        """Drops the lines after `step`, and those after the first `length`: a resumed run logs no step twice."""
        if self.path.exists():
            self.replace(line for line in self.read()[:length] if line["step"] <= step)

    def read(self) -> list[dict[str, Any]]:
        """Returns all lines that are intact."""
        return [line for _, line in self.numbered() if line is not None]

    def numbered(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yields line numbers from 1 with their objects, or with None for damaged lines; skips empty lines."""
        for number, text in enumerate(self.path.read_bytes().splitlines() if self.path.exists() else [], 1):
            if text.strip():
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):
                    line = None
                yield number, line if isinstance(line, dict) else None


def _encoded(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
