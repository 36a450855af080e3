"""Why a path holds no model that can be read: the message, by what lies there."""

import os
from itertools import islice
from pathlib import Path

from genzoo import hub
from genzoo.errors import UsageError

PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
NEVER = "which is never read, because that can run code"
GIVE = "give a run folder, a save_pretrained folder or a hub id (owner/name)"
LOOKED_AT = 1000  # entries of a folder at most


def refuse_missing(path: str) -> None:
    """Refuses what is neither a path where something is nor the form of a hub id; no torch is imported.

    Raises:
        UsageError: it is neither.
    """
    if not os.path.exists(Path(path).expanduser()) and not hub.is_id(path):
        raise UsageError(f"{path} does not exist: {GIVE}.")


def why_no_model(path: Path) -> str:
    """Says why a file, or a folder without config.json, is not a model, and what to give instead."""
    try:
        return _of_file(path) if path.is_file() else _of_folder(path)
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}): check its permissions."


def pickles_in(folder: Path) -> list[str]:
    """Names the files of a folder that look like pickled weights."""
    return [entry.name for entry in _entries(folder) if entry.suffix.lower() in PICKLES]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's. A checkpoint has a run.json as well, which its manifest lists."""
    return (folder / "run.json").is_file() and not (folder / "manifest.json").exists()


def run_of(path: Path) -> Path | None:
    """Finds the run that a file or folder belongs to, and returns its folder as `path` was given; None: to no run."""
    if not path.exists() or is_run(path):
        return None
    run = next((parent for parent in islice(path.absolute().parents, 3) if is_run(parent)), None)
    return None if run is None else _shown(path, run)


def is_model_file(path: Path) -> bool:
    """Whether a file is called like one of a model, of genzoo or not: weights, or a config.json."""
    return path.suffix.lower() in (*PICKLES, ".safetensors") or path.name == "config.json"


def _of_file(path: Path) -> str:
    if path.suffix.lower() in PICKLES:
        return f"{path} is a pickle file, {NEVER}: {GIVE}."
    if (run := run_of(path)) is not None and not (path.parent / "config.json").is_file():
        return f"{path} belongs to the run {_name(run)}: give the run's folder, {run}."
    if path.suffix == ".safetensors" and not (path.parent / "config.json").is_file():
        return f"{path} holds weights without their config.json: copy that beside it, and give the folder."
    if path.suffix == ".safetensors" or path.name == "config.json":
        return f"{path} is one file of a model: give its folder, {path.parent}."
    return f"{path} is a file: {GIVE}."


def _of_folder(path: Path) -> str:
    entries = _entries(path)
    names = {entry.name for entry in entries}
    if is_run(path):
        return _of_run(path, names)
    run = run_of(path)
    if run is not None and path.name not in ("model", "best"):
        return f"{path} belongs to the run {_name(run)}: give the run's folder, {run}."
    if "manifest.json" in names:
        return f"{path} is a checkpoint, which resumes a run and holds no model to load: give the run's folder."
    holding = [entry.name for entry in entries if any((entry / part).is_file() for part in ("config.json", "run.json"))]
    if holding:
        what = "is a diffusers pipeline" if "model_index.json" in names else "contains no model itself"
        return f"{path} {what}: give one of its sub-folders, {', '.join(sorted(holding)[:5])}."
    if any(name.endswith(".safetensors") for name in names):
        return f"{path} contains weights and no model: copy its config.json there as well."
    if pickled := pickles_in(path):
        return f"{path} contains no model but {pickled[0]}, a pickle file, {NEVER}: {GIVE}."
    return f"{path} contains no model (no config.json, no model/): a run writes one at its first snapshot."


def _of_run(path: Path, names: set[str]) -> str:
    if "best" in names:
        return f"{path} contains no model/, but the weights of its best score: give {path / 'best'}."
    return f"{path} contains no model yet: a run writes one at its first snapshot; the run's command resumes it."


def _shown(path: Path, run: Path) -> Path:
    """A run's folder, given as `path` was."""
    steps = len(path.absolute().parts) - len(run.parts)
    return path.parents[steps - 1] if len(path.parts) > steps else run


def _name(run: Path) -> str:
    return run.absolute().name


def _entries(folder: Path) -> list[Path]:
    return list(islice(folder.iterdir(), LOOKED_AT))
