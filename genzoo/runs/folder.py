"""The run folder: the configuration, saved before the first step and compared on resume, and all other files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genzoo.configure import differences, from_json, to_json
from genzoo.dataspec import last_name
from genzoo.errors import UsageError
from genzoo.files import JsonLines, restore_folders, write_text
from genzoo.provenance import versions
from genzoo.spec import RunConfig

CONFIG = "run.json"
LOG = "log.jsonl"
EVENTS = "events.jsonl"
FORMAT = 2  # of run.json and everything beside it; raise it when older folders can no longer be read


class RunFolder:
    """The files of a run.

    `run.json`, `log.jsonl`, `checkpoints/`, `model/` and `best/` (ready to share), `preview.png`, `previews/`,
    `curves.png`, `quality.png`, and `events.jsonl`: what the monitor found, and what was done about it.

    Raises:
        UsageError: the folder holds another run.
    """

    def __init__(self, path: str | Path, config: RunConfig):
        self.path, self._config = Path(path).expanduser(), config
        self.log, self.events = JsonLines(self.path / LOG), JsonLines(self.path / EVENTS)
        saved = read_config(self.path)
        if saved is not None and (changed := differences(saved, config)):
            shown = "\n  ".join(changed)
            raise UsageError(
                f"{self.path} holds a run with other settings; "
                f"choose a different --out, or the old settings to resume it:\n  {shown}"
            )

    @staticmethod
    def default(config: RunConfig) -> Path:
        data = last_name(config.data.name)
        size = f"-{'x'.join(map(str, dict.fromkeys(config.data.size)))}" if config.data.size else ""
        return Path("runs") / f"{config.model}-{data}{size}-s{config.train.seed}"

    def lengths(self) -> tuple[int, int]:
        """Numbers of lines in the log and in the events."""
        return len(self.log.read()), len(self.events.read())

    def rewind(self, step: int, lengths: tuple[int, int] | None = None) -> None:
        """Removes from the log and the events what came after a step, or after so many lines."""
        for file, length in zip((self.log, self.events), lengths or (None, None), strict=True):
            file.rewind(step, length)

    def create(self, found: Mapping[str, Any] | None = None) -> None:
        """Writes the configuration; called once nothing refuses it, so that a corrected command finds the folder free.

        Args:
            found: facts about the data, to be kept beside the configuration.

        Raises:
            UsageError: nothing can be written there.
        """
        try:
            (self.path / "previews").mkdir(parents=True, exist_ok=True)
            content = {"format": FORMAT, "config": to_json(self._config), "versions": versions(), "data": found}
            restore_folders(self.path)  # model/ or best/, if the run was killed while it wrote one
            write_text(self.path / CONFIG, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise UsageError(
                f"Cannot write to the run folder {self.path} ({error.strerror}): choose another with --out."
            ) from error


def read_config(folder: Path) -> RunConfig | None:
    """Reads the configuration of a run folder; None if the folder holds none.

    Raises:
        UsageError: run.json is there but unreadable.
    """
    path = folder / CONFIG
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        if content.get("format") == FORMAT:
            return from_json(content["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} cannot be read as a run ({error}): choose a different --out, or remove the folder."
        ) from error
    raise UsageError(
        f"{path} was written by another version of genzoo (format {content.get('format', 1)}, not {FORMAT}): "
        "choose a different --out, or use that version."
    )
