"""Checkpoints: folders written atomically and verified when read; safetensors and JSON, never pickle.

A checkpoint is damaged where a file is missing, its digest is wrong, or the manifest does not list what is there.
Nothing else counts as damage: what cannot be read now (an interruption, an error of the disk) may be readable later, so
that it is an error, and nothing is changed. Damaged checkpoints are renamed, and removed once a new one is saved.
"""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.files import digest, replacing, restore_all, sync, utf8_path

MANIFEST = "manifest.json"
HASH = "blake2b"
SET_ASIDE = ".damaged"  # ending of a damaged checkpoint's folder


class Damaged(ValueError):
    """A checkpoint is not what was written."""


class Checkpoints:
    """The folder `checkpoints/` of a run: one sub-folder per saved step."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """Returns the saved steps, oldest first."""
        return sorted(int(path.name) for path in self.folder.glob("[0-9]*") if path.is_dir() and path.name.isdigit())

    def repair(self) -> None:
        """Puts back what a killed process has moved aside. For the process that holds the run's lock."""
        restore_all(self.folder)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes one file pair per entry of `state`, atomically, then drops the oldest checkpoints and damaged ones.

        An entry is nested dicts and lists of tensors and plain values.
        """
        with replacing(self._path(step)) as temporary:
            for name, value in state.items():
                tensors: dict[str, Tensor] = {}
                (temporary / f"{name}.json").write_text(json.dumps(_pack(value, tensors)), encoding="utf-8")
                save_file(tensors, temporary / f"{name}.safetensors")
            digests = {path.name: digest(path, HASH) for path in sorted(temporary.iterdir())}
            (temporary / MANIFEST).write_text(json.dumps(digests), encoding="utf-8")
        self.trim()
        for damaged in self.folder.glob(f"*{SET_ASIDE}"):
            shutil.rmtree(damaged)

    def trim(self) -> None:
        """Drops the oldest checkpoints but for `keep`: a kill may have left one more."""
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self._path(old))

    def rewind(self, step: int) -> None:
        """Sets the checkpoints after a step aside: they are damaged where a run continues from that step."""
        for later in self.steps():
            if later > step:
                target = self._path(later).with_suffix(SET_ASIDE)
                shutil.rmtree(target, ignore_errors=True)  # of an earlier time
                os.rename(self._path(later), target)
                sync(self.folder)

    def load_latest(self) -> tuple[int, dict[str, Any], list[str]] | None:
        """Reads the newest intact checkpoint: (step, state, complaints about newer ones), or None where none was saved.

        Nothing is changed.

        Raises:
            UsageError: all that were saved are damaged, or an intact one cannot be read.
        """
        complaints = []
        for step in reversed(self.steps()):
            try:
                return step, self._load(self._path(step)), complaints
            except Damaged as error:
                complaints.append(f"checkpoint {self._path(step).name} is damaged ({error}); trying the one before")
        if complaints:
            raise UsageError(
                f"None of the {len(complaints)} checkpoints in {self.folder} is intact: repair the disk, "
                "or choose a different --out to start over."
            )
        return None

    def newest(self, part: str) -> Any:
        """Reads one part, without tensors, of the newest checkpoint that holds it intact; None where there is none."""
        for step in reversed(self.steps()):
            folder, name = self._path(step), f"{part}.json"
            try:
                if _manifest(folder).get(name) == digest(folder / name, HASH):
                    return _unpack(json.loads((folder / name).read_bytes()), {})
            except (OSError, Damaged):
                continue
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:09d}"

    def _load(self, folder: Path) -> dict[str, Any]:
        try:
            manifest = _manifest(folder)
            for name, expected in manifest.items():
                if digest(folder / name, HASH) != expected:
                    raise Damaged(f"{name} is not what was written")
            names = [name.removesuffix(".safetensors") for name in manifest if name.endswith(".safetensors")]
            return {name: _read(folder / name) for name in names}
        except Damaged:
            raise
        except FileNotFoundError as error:
            raise Damaged(f"{Path(error.filename).name} is missing") from error
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UsageError(
                f"Checkpoint {folder} cannot be read ({' '.join(str(error).split())}); nothing was changed. Try again, "
                "or rename that folder to continue from the checkpoint before it."
            ) from error


def _manifest(folder: Path) -> dict[str, str]:
    """Reads digests by file name.

    Raises:
        Damaged: it is not a manifest, or not that of the files in the folder.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{MANIFEST} is not JSON") from error
    if not isinstance(manifest, dict) or not manifest:
        raise Damaged(f"{MANIFEST} lists no files")
    found = {path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors")} - {MANIFEST}
    parts = {Path(name).stem for name in found | manifest.keys()}
    wanted = {f"{part}{ending}" for part in parts for ending in (".json", ".safetensors")}
    if unlisted := sorted(wanted - manifest.keys()):
        raise Damaged(f"{MANIFEST} does not list {unlisted[0]}")
    return manifest


def _read(part: Path) -> Any:
    """Reads a file pair whose digests are right."""
    with undisturbed(), utf8_path(part.with_name(f"{part.name}.safetensors")) as path:
        tensors = load_file(path)
    return _unpack(json.loads(part.with_name(f"{part.name}.json").read_bytes()), tensors)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Holds Ctrl-C back until the block ends: safetensors would turn the interruption into an error of its own."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():  # which is not interrupted
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Splits a nested value into JSON and a flat table of tensors; dicts keep the type of their keys."""
    if isinstance(value, Tensor):
        tensors[key := str(len(tensors))] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": key}
    if isinstance(value, Mapping):
        return {"items": [[key, _pack(item, tensors)] for key, item in value.items()]}
    return [_pack(item, tensors) for item in value] if isinstance(value, (list, tuple)) else value


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        return (
            tensors[value["tensor"]]
            if "tensor" in value
            else {key: _unpack(item, tensors) for key, item in value["items"]}
        )
    return value
