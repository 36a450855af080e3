"""The run folder: the configuration, saved before the first step and compared on resume, and all other files."""

import json
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from genzoo.configure import from_json, to_json
from genzoo.data.identity import DataRecord
from genzoo.dataspec import last_name
from genzoo.errors import UsageError
from genzoo.files import JsonLines, as_written, make_folder, restore_all, sealed, write_text
from genzoo.provenance import by_newer, history_of, last_genzoo, versions
from genzoo.registry import absent
from genzoo.runs.data import checkpointed, run_changes, save_record
from genzoo.runs.lock import locked
from genzoo.runs.names import CHECKPOINTS, CONFIG, EVENTS, LOG
from genzoo.spec import RunConfig

FORMAT = 2  # of run.json and everything beside it; raise it when older folders can no longer be read
TEXTS = ("problem", "text")
EVENT_FIELDS = {  # of a line of events.jsonl, by its kind: texts, and numbers
    "run": ((), ("total_steps",)),
    "begins": ((*TEXTS, "fix"), ()),
    "data": ((*TEXTS, "fix"), ()),
    "ends": (TEXTS, ()),
    "trouble": ((*TEXTS, "did"), ("at",)),
    **dict.fromkeys(("budget", "control", "prior"), (("text",), ())),
}
LARGEST = 2**63  # whole number in a log


class RunFolder:
    """The files of a run.

    `run.json`, `log.jsonl`, `checkpoints/`, `model/` and `best/` (ready to share), `preview.png`, `previews/`,
    `curves.png`, `quality.png`, and `events.jsonl`: what the monitor found, and what was done about it. Hidden files
    belong to the lock, see `genzoo.runs.lock`.

    Raises:
        UsageError: the folder holds another run.
    """

    def __init__(self, path: str | Path, config: RunConfig):
        self.path, self._config = Path(path).expanduser(), config
        self.data: DataRecord | None = None  # what it trains on, once `create` is called
        self.log, self.events = run_log(self.path), run_events(self.path)
        self._saved: RunConfig | None = None
        self._compare()

    def _compare(self) -> None:
        """Refuses the folder of another run; what was compared before is not compared again."""
        saved = read_config(self.path)
        if saved is not None and saved != self._saved:
            refuse_changes(self.path, saved, self._config)
            self._refuse_edits()
        self._saved = saved

    def _refuse_edits(self) -> None:
        """Refuses settings in run.json with which the checkpoints were not trained, before it is written again."""
        if as_written(_content(self.path) or {}) or (trained := _checkpointed(self.path)) is None:
            return
        config = parsed(self.path / CHECKPOINTS, trained)
        if changed := run_changes(self.path, config, self._config):
            raise UsageError(
                f"{self.path / CONFIG} was edited or damaged: the checkpoints were trained with other settings. Set "
                "them back to resume the run:\n  " + "\n  ".join(changed)
            )

    @staticmethod
    def default(config: RunConfig) -> Path:
        data = last_name(config.data.name)
        size = f"-{'x'.join(map(str, dict.fromkeys(config.data.size)))}" if config.data.size else ""
        return Path("runs") / f"{config.model}-{data}{size}-s{config.train.seed}"

    def lengths(self) -> tuple[int, int]:
        """Numbers of lines in the log and in the events."""
        return len(self.log.read()), len(self.events.read())

    def sizes(self) -> dict[str, int]:
        """Lengths of the log and the events in bytes, by the names of the files."""
        paths = (self.log.path, self.events.path)
        return {path.name: path.stat().st_size if path.exists() else 0 for path in paths}

    def seconds(self) -> float:
        """For how long the run has been trained, by its log."""
        lines = self.log.read()
        return lines[-1].get("seconds", 0.0) if lines else 0.0

    def rewind(self, step: int, lengths: tuple[int, int] | None = None) -> None:
        """Removes from the log and the events what came after a step, or after so many lines."""
        for file, length in zip((self.log, self.events), lengths or (None, None), strict=True):
            file.rewind(step, length)

    def locked(self) -> AbstractContextManager[None]:
        """Holds the run's lock, once there is a run.

        Raises:
            UsageError: another process holds it.
        """
        return locked(self.path) if (self.path / CONFIG).exists() else nullcontext()

    def create(self, data: DataRecord | None = None, found: Mapping[str, Any] | None = None) -> str | None:
        """Writes the configuration; called when nothing else refuses it: a corrected command finds the folder free.

        Args:
            data: what the data section leads to; None for a dataset that the configuration does not name.
            found: facts about the data, to be kept beside the configuration.

        Returns:
            which versions have changed since the run was last resumed, in one line; None where none has.

        Raises:
            UsageError: nothing can be written there, another process trains into it, or has begun another run there.
        """
        try:
            make_folder(self.path / "previews")
            with locked(self.path):
                self._compare()
                self.data, history = data, history_of(_content(self.path))
                used = [*history, versions()] if not history or history[-1] != versions() else history
                content = {"format": FORMAT, "config": to_json(self._config), "versions": used, "found": found}
                if data is not None:
                    content["data"] = save_record(self.path, data)
                restore_all(self.path)  # model/ or best/, if the run was killed while it wrote one
                write_text(self.path / CONFIG, json.dumps(sealed(content), indent=2) + "\n")
        except OSError as error:
            raise UsageError(
                f"Cannot write to the run folder {self.path} ({error.strerror}): choose another with --out."
            ) from error
        return _changed(history[-1], versions()) if history else None


def run_log(folder: Path) -> JsonLines:
    """Returns the log of a run folder."""
    return JsonLines(folder / LOG, _is_logged)


def run_events(folder: Path) -> JsonLines:
    """Returns what the monitor of a run has found, and what was done about it."""
    return JsonLines(folder / EVENTS, _is_event)


def damaged_lines(folder: Path) -> Iterator[str]:
    """Yields a sentence for each file of a run folder that has lines which cannot be read, and are left out."""
    for file in (run_log(folder), run_events(folder)):
        if numbers := file.damaged():
            shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
            lines = f"line {shown} is" if len(numbers) == 1 else f"{len(numbers)} lines ({shown}) are"
            yield f"{file.path}: {lines} damaged and left out"
    steps = [line["step"] for line in run_log(folder).read()]
    if steps != sorted(steps):
        yield f"{folder / LOG}: its steps are out of order"
    yield from _cut_files(folder)


def _cut_files(folder: Path) -> Iterator[str]:
    """Compares the lengths of log and events with those that the newest checkpoint has recorded."""
    sizes = (checkpointed(folder) or {}).get("sizes", {})
    for name, size in sizes.items():
        path = folder / name
        if (found := path.stat().st_size if path.exists() else 0) < size:
            yield f"{path}: lines are missing, it has {found:,} bytes and had {size:,} at the newest checkpoint"


def _counts(line: Mapping[str, Any], *names: str) -> bool:
    """Whether these are whole numbers."""
    return all(type(line.get(name)) is int and 0 <= line[name] < LARGEST for name in names)


def _is_logged(line: Mapping[str, Any]) -> bool:
    measured = (value for name, value in line.items() if "/" in name or name == "seconds")
    return _counts(line, "step", "nimg") and all(
        type(value) is float or (type(value) is int and abs(value) < LARGEST) for value in measured
    )


def _is_event(line: Mapping[str, Any]) -> bool:
    kind = line.get("kind")
    texts, numbers = EVENT_FIELDS.get(kind, ((), ())) if isinstance(kind, str) else (("kind",), ())
    given = [name for name in TEXTS if name in line]
    return _counts(line, "step", "nimg", *numbers) and all(isinstance(line.get(name), str) for name in (*texts, *given))


def refuse_changes(folder: Path, saved: RunConfig, config: RunConfig) -> None:
    """Refuses to resume a run with settings that would make it another one.

    Raises:
        UsageError: there are such settings; the message lists them.
    """
    if changed := run_changes(folder, saved, config):
        shown = "\n  ".join(changed)
        raise UsageError(
            f"{folder} holds a run with other settings; choose a different --out, or the old settings to resume it, "
            f"as genzoo train --resume {shlex.quote(str(folder))} does:\n  {shown}"
        )


def read_config(folder: Path) -> RunConfig | None:
    """Reads the configuration of a run folder; None if the folder holds none.

    Where run.json was lost, that of the newest checkpoint is read.

    Raises:
        UsageError: run.json is there but unreadable.
    """
    content = _content(folder)
    if content is None:
        return None
    config = parsed(folder / (CONFIG if (folder / CONFIG).exists() else CHECKPOINTS), content)
    if not as_written(content):
        warnings.warn(f"{folder / CONFIG} is damaged, or was edited: it is not what genzoo wrote there", stacklevel=2)
    return config


def _content(folder: Path) -> Mapping[str, Any] | None:
    """The JSON object in run.json, or in its place what the newest checkpoint holds; None where there is neither.

    Raises:
        UsageError: run.json is not a JSON object.
    """
    path = folder / CONFIG
    if not path.exists():
        saved = _checkpointed(folder)
        if saved is not None:
            warnings.warn(f"{path} is missing: the settings are those of the newest checkpoint", stacklevel=2)
        return saved
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(unreadable(path, "it is not JSON")) from error
    if not isinstance(content, dict):
        raise UsageError(unreadable(path, "it is not a JSON object"))
    return content


def _checkpointed(folder: Path) -> Mapping[str, Any] | None:
    saved = checkpointed(folder)
    return None if saved is None else {"format": FORMAT, **saved}


def parsed(path: Path, content: Mapping[str, Any]) -> RunConfig:
    """Reads the configuration in the content of run.json, or of what a checkpoint holds in its place.

    Raises:
        UsageError: another version of genzoo wrote it, its model is not here, or it was edited.
    """
    upgrade = by_newer(path, last_genzoo(content))
    if (found := content.get("format", 1)) != FORMAT:
        raise UsageError(
            upgrade
            or f"{path} was written by another version of genzoo (format {found}, not {FORMAT}): choose a different "
            "--out, or use that version."
        )
    config = content.get("config")
    try:
        return from_json(content["config"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        missing = absent(config.get("model"), path) if isinstance(config, dict) else ""
        raise UsageError(upgrade or missing or unreadable(path, str(error))) from error


def unreadable(path: Path, reason: str) -> str:
    """What to say of a configuration that no version of genzoo wrote."""
    if path.name == CONFIG:
        fix = "repair it, or rename it if the run has checkpoints, which hold a copy"
    else:
        fix = "use the version of genzoo that wrote it, or choose a different --out"
    return f"{path} cannot be read as a run ({reason.rstrip('.')}): {fix}."


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    changes = [f"{name} {before[name]} -> {now[name]}" for name in now if before.get(name, now[name]) != now[name]]
    if not changes:
        return None
    return f"note: versions have changed since this run was last resumed ({', '.join(changes)}); last bits may differ"
