"""The run folder: what was asked for, saved before the first step and compared on resume, and where everything lies."""

import json
import os
from pathlib import Path

from genzoo.errors import UsageError
from genzoo.provenance import versions
from genzoo.resolve import differences, from_json, to_json
from genzoo.spec import RunConfig
from genzoo.training.log import JsonLines

CONFIG = "run.json"
EVENTS = "events.jsonl"


class RunFolder:
    """`run.json`, `log.jsonl`, `checkpoints/`, `model/` and `best/` (ready to share), `preview.png`, `previews/`, `curves.png`, and
    `events.jsonl`: what the monitor found, and what was done about it."""

    def __init__(self, path: str | Path, config: RunConfig):
        self.path, self._config = Path(path).expanduser(), config
        self.log, self.events = JsonLines(self.path / "log.jsonl"), JsonLines(self.path / EVENTS)
        saved = read_config(self.path)
        if saved is not None and (changed := differences(saved, config)):
            shown = "\n  ".join(changed)
            raise UsageError(
                f"{self.path} holds a run with other settings; give another --out, or the old settings to resume it:\n  {shown}"
            )

    @staticmethod
    def default(config: RunConfig) -> Path:
        data = Path(config.data.name).name
        size = f"-{'x'.join(map(str, dict.fromkeys(config.data.size)))}" if config.data.size else ""
        return Path("runs") / f"{config.model}-{data}{size}-s{config.train.seed}"

    def rewind(self, step: int) -> None:
        """Takes out of the log and the events what came after a step."""
        self.log.rewind(step)
        self.events.rewind(step)

    def create(self) -> None:
        """Writes what was asked for; called once nothing refuses it, so that a mended command finds the folder free.

        Raises:
            UsageError: nothing can be written there.
        """
        try:
            (self.path / "previews").mkdir(parents=True, exist_ok=True)
            temporary = self.path / f".{CONFIG}.tmp"
            temporary.write_text(json.dumps({"config": to_json(self._config), "versions": versions()}, indent=2) + "\n")
            os.replace(temporary, self.path / CONFIG)
        except OSError as error:
            raise UsageError(f"Cannot write to the run folder {self.path} ({error.strerror}): choose another with --out.") from error


def read_config(folder: Path) -> RunConfig | None:
    """Reads the configuration of a run folder, or None where there is no run.

    Raises:
        UsageError: run.json is there but unreadable.
    """
    path = folder / CONFIG
    if not path.exists():
        return None
    try:
        return from_json(json.loads(path.read_text())["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read as a run ({error}): give another --out, or remove the folder.") from error
