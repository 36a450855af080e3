"""Checkpoints: folders written atomically and verified when read; safetensors and JSON, never pickle."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.files import digest, replacing, restore_folders

MANIFEST = "manifest.json"
HASH = "blake2b"


class Checkpoints:
    """The folder `checkpoints/` of a run: one sub-folder per saved step."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """Returns the saved steps, oldest first."""
        restore_folders(self.folder)
        return sorted(int(path.name) for path in self.folder.glob("[0-9]*") if path.is_dir() and path.name.isdigit())

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes one file pair per entry of `state`, atomically, then drops the oldest checkpoints.

        An entry is nested dicts and lists of tensors and plain values.
        """
        with replacing(self.folder / f"{step:09d}") as temporary:
            for name, value in state.items():
                tensors: dict[str, Tensor] = {}
                (temporary / f"{name}.json").write_text(json.dumps(_pack(value, tensors)), encoding="utf-8")
                save_file(tensors, temporary / f"{name}.safetensors")
            (temporary / MANIFEST).write_text(
                json.dumps({path.name: digest(path, HASH) for path in sorted(temporary.iterdir())}), encoding="utf-8"
            )
        for old in self.steps()[: -self.keep]:
            self._remove(old)

    def rewind(self, step: int) -> None:
        """Removes the checkpoints after a step: they are damaged where a run continues from that step."""
        for later in self.steps():
            if later > step:
                self._remove(later)

    def load_latest(self) -> tuple[int, dict[str, Any], list[str]] | None:
        """Reads the newest intact checkpoint: (step, state, complaints about newer ones), or None where none was saved.

        Raises:
            UsageError: all that were saved are damaged.
        """
        complaints = []
        for step in reversed(self.steps()):
            folder = self.folder / f"{step:09d}"
            try:
                return step, self._load(folder), complaints
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                complaints.append(f"checkpoint {folder.name} is damaged ({error}); trying the one before")
        if complaints:
            raise UsageError(
                f"None of the {len(complaints)} checkpoints in {self.folder} is intact: repair the disk, "
                "or choose a different --out to start over."
            )
        return None

    def _remove(self, step: int) -> None:
        shutil.rmtree(self.folder / f"{step:09d}")

    def _load(self, folder: Path) -> dict[str, Any]:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        for name, expected in manifest.items():
            if digest(folder / name, HASH) != expected:
                raise ValueError(f"{name} is not what was written")
        names = [name.removesuffix(".safetensors") for name in manifest if name.endswith(".safetensors")]
        return {
            name: _unpack(json.loads((folder / f"{name}.json").read_bytes()), load_file(folder / f"{name}.safetensors"))
            for name in names
        }


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
