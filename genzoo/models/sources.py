"""Where a saved model is read from: a folder, a run folder, or the hub."""

import os
from pathlib import Path
from typing import Any

from genzoo import hub
from genzoo.errors import UsageError
from genzoo.fitted import FILE
from genzoo.models.absent import refuse_missing, why_no_model
from genzoo.models.options import LoadOptions

CONFIG = "config.json"


def find_config(path: str | os.PathLike, **kwargs: Any) -> tuple[str, str]:
    """Finds what `Generative.read` should read: (folder or hub id, path of its config.json).

    A run folder stands for its `model/`. A missing folder is never taken for a hub id and retried.

    Args:
        path: a folder or a hub id.
        **kwargs: those of `Generative.from_pretrained`; `subfolder` is one of the folder, which is returned with it, or
            of the repository.

    Raises:
        UsageError: nothing loadable there; the message says what is missing. Or an unknown keyword.
    """
    options = LoadOptions.of(kwargs)
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"{path!r} is not a path: give a run folder, a save_pretrained folder or a hub id.")
    if not str(path):
        raise UsageError("the path of a model is empty: give a run folder, a save_pretrained folder or a hub id.")
    folder = Path(path).expanduser()
    for candidate in (folder / options.subfolder,) if options.subfolder else (folder, folder / "model"):
        if os.path.isfile(candidate / CONFIG):
            return str(candidate), str(candidate / CONFIG)
    if os.path.exists(folder):
        within = folder / (options.subfolder or "")
        if not os.path.exists(within):
            raise UsageError(f"{folder} has no sub-folder {options.subfolder}: give another `subfolder`.")
        raise UsageError(why_no_model(within))
    refuse_missing(str(path))
    return str(path), hub.download(str(path), in_repository(CONFIG, options), **options.hub)


def in_repository(filename: str, options: LoadOptions) -> str:
    """The path of a file in a repository of the hub."""
    return f"{options.subfolder}/{filename}" if options.subfolder else filename


def find_prior(source: str, options: LoadOptions) -> Path | None:
    """Finds the fitted prior of a model in a folder or on the hub; None where it has none."""
    if Path(source).is_dir():
        path = Path(source) / FILE
        return path if path.exists() else None
    found = hub.download_optional(source, in_repository(FILE, options), **options.hub)
    return None if found is None else Path(found)
