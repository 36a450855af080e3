"""Folders that `datasets` writes with `save_to_disk`: one dataset, or several as splits."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.data.identity import contents_of_files
from genzoo.data.naming import role
from genzoo.data.places import ordered
from genzoo.errors import UsageError

if TYPE_CHECKING:
    from genzoo.data.arrays import ArraySource
    from genzoo.data.hub import HubSource
    from genzoo.data.sets import ArraySet

_DICT, _STATE = "dataset_dict.json", "state.json"


class DiskCollection:
    """The dataset, or the datasets of a `DatasetDict`, in a folder; a single one is `train`."""

    def __init__(self, root: Path, column: str | None = None, channels: int = 3) -> None:
        self.name, self._root, self._column, self._channels = root.name, root, column, channels
        self._folders = {"train": root}
        if (root / _DICT).is_file():
            with _intact(root):
                names = json.loads((root / _DICT).read_text(encoding="utf-8"))["splits"]
                self._folders = {str(name): root / name for name in names}
        self.splits: tuple[str, ...] = ordered(self._folders)

    def source(self, split: str) -> "HubSource | ArraySource | ArraySet":
        from genzoo.data.hub import open_saved  # imports `datasets`, which takes seconds

        folder, name = self._folders[split], f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        if not (files := sorted(folder.glob("*.arrow"))):
            raise UsageError(f"{folder} holds no rows, as there is no .arrow file in it: save it again.")
        identity = contents_of_files(files)
        by = role(split, self.splits, _DICT)
        with _intact(folder):
            return open_saved(folder, name, identity, self._column, self._channels, by)


def is_saved(root: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (root / _DICT).is_file() or ((root / _STATE).is_file() and (root / "dataset_info.json").is_file())


@contextmanager
def _intact(folder: Path) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:  # Arrow's own are among them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{folder} is damaged or not written by `save_to_disk` ({reason}): save it again.") from error
