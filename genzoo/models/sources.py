"""Where a saved model is read from: a folder, a run folder, or the hub."""

import os
from pathlib import Path
from typing import Any

from genzoo import hub
from genzoo.errors import UsageError
from genzoo.fitted import FILE


def find_config(path: str | os.PathLike, **kwargs: Any) -> tuple[str, str]:
    """Finds what `Generative.read` should read: (folder or hub id, path of its config.json).

    A run folder stands for its `model/`. A missing folder is never taken for a hub id and retried.

    Raises:
        UsageError: nothing loadable there; the message says what is missing.
    """
    folder = Path(path).expanduser()
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return str(candidate), str(candidate / "config.json")
    if folder.exists():
        raise UsageError(
            f"{path} contains no model (no config.json, no model/): a run writes one at its first snapshot."
        )
    if not hub.is_id(str(path)):
        raise UsageError(
            f"{path} does not exist: give a run folder, a save_pretrained folder or a hub id (owner/name)."
        )
    return str(path), hub.download(str(path), "config.json", revision=kwargs.get("revision"), token=kwargs.get("token"))


def find_prior(source: str, **kwargs: Any) -> Path | None:
    """Finds the fitted prior of a model in a folder or on the hub; None where it has none."""
    if Path(source).is_dir():
        path = Path(source) / FILE
        return path if path.exists() else None
    found = hub.download_optional(source, FILE, revision=kwargs.get("revision"), token=kwargs.get("token"))
    return None if found is None else Path(found)
