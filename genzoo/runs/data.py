"""What a run was trained on, as its folder or a shared model records it, compared by content."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from genzoo.changes import differences
from genzoo.data import describe
from genzoo.data.identity import DataRecord, file_changes
from genzoo.dataspec import last_name, reading, reading_changes
from genzoo.errors import UsageError
from genzoo.files import write_text
from genzoo.runs.names import CHECKPOINTS, CONFIG
from genzoo.settings import parse_setting, show, validated
from genzoo.spec import DataConfig, RunConfig

if TYPE_CHECKING:
    from genzoo.models.generative import Generative

FILES = "data.json"  # in a run folder: names, sizes and hashes of the files that it was trained on
MOST_FILES = 200_000  # that are listed there
PLACE_BOUND = {"holdout": 0, "column": None}  # what holds for the training data only, and what other data has instead


def save_record(folder: Path, record: DataRecord) -> dict[str, Any]:
    """Writes the names of the files into a run folder; returns the rest of the record for its run.json."""
    files = dict(record.files) if len(record.files) <= MOST_FILES else {}
    if files:
        write_text(folder / FILES, json.dumps(files))
    return without_files(record)


def without_files(record: DataRecord) -> dict[str, Any]:
    """Returns a record as JSON values, without the names of the files."""
    return {key: value for key, value in asdict(replace(record, files={})).items() if key != "files"}


def read_record(folder: Path) -> DataRecord | None:
    """Reads a run's record, from the newest checkpoint where run.json was lost; None in a folder of an earlier version,
    or of a run on data that has no name.
    """
    try:
        content = json.loads((folder / CONFIG).read_bytes()).get("data")
    except FileNotFoundError:
        content = (checkpointed(folder) or {}).get("data")
    except (OSError, ValueError, RecursionError, AttributeError):
        return None
    if content is None:
        return None
    try:
        return TypeAdapter(DataRecord).validate_python({**content, "files": _read_files(folder / FILES)})
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{folder / CONFIG} has a damaged record of the data: copy it again, or remove its entry `data`."
        ) from error


def checkpointed(run: Path) -> dict[str, Any] | None:
    """Reads what the newest checkpoint of a run folder records of its run; None where there is none."""
    folder = run / CHECKPOINTS
    if not folder.is_dir():
        return None
    from genzoo.runs.checkpoint import Checkpoints  # imports torch

    return Checkpoints(folder, keep=1).newest("run")


def _read_files(path: Path) -> dict[str, Any]:
    """Reads the names of files, which messages show; none where they are damaged."""
    with suppress(OSError, ValueError, RecursionError):
        return TypeAdapter(dict[str, tuple[int, str]]).validate_python(json.loads(path.read_bytes()))
    return {}


def run_changes(folder: Path, old: RunConfig, new: RunConfig) -> list[str]:
    """Lists what would make `new` a different run from the one in a folder; data counts by its content.

    Raises:
        UsageError: the data of `new` cannot be found.
    """
    found, record = differences(old, new), read_record(folder)
    settings = [text for text in found if not text.startswith("data.name:")]
    if record is None or not record.identity:
        return settings if _place(old.data) == _place(new.data) else found
    if any(text.startswith("data.split:") for text in found):  # another split is other content
        return found
    now = describe(new.data)
    if now.identity == record.identity:
        return settings
    what = "has changed" if now.place == record.place else f"differs from {record.where}"
    return [*settings, f"data: {now.where} {what}: {_difference(record, now)}"]


def _place(data: DataConfig) -> str | Path:
    path = Path(data.name).expanduser()
    return path.resolve() if path.exists() else data.name


def _difference(record: DataRecord, now: DataRecord) -> str:
    """Says in what the content of data differs from what a run was trained on."""
    files = file_changes(record.files, now.files) if record.files and now.files else ""
    counts = f"{now.items:,} items, not {record.items:,}" if now.items != record.items and now.items else ""
    return files or counts or "other content"


@dataclass(frozen=True)
class TrainedOn:
    """The data that a model was trained on.

    Attributes:
        data: how it was read; the name is that of a run only.
        record: what was there; None where no record was kept.
    """

    data: DataConfig
    record: DataRecord | None = None
    of_run: bool = False

    def difference(self, data: DataConfig) -> str | None:
        """Says in what other data differs from that of training; "" if it is the same, None where that is unknown."""
        identity = self.record.identity if self.record else ""
        if not identity and not self.of_run:
            return None
        if not identity:
            return "" if _place(data) == _place(self.data) else "other data"
        assert self.record is not None
        try:
            now = describe(replace(data, split=self.data.split, holdout=self.data.holdout))
        except UsageError:  # it has no such split
            return "other data"
        return "" if now.identity == identity else _difference(self.record, now)

    def located(self, other: DataConfig | None = None) -> DataConfig:
        """Returns the data of a run: in the place of `other` if that is the same data, else where it was in training,
        whatever folder the command is started in.

        Raises:
            UsageError: it is not there, and nothing of its name here has the same content.
        """
        if other is not None and self.difference(other) == "":
            return replace(self.data, name=other.name)
        if self.record is None or self.record.place is None:
            return self.data
        here = Path(self.data.name).expanduser()
        if Path(self.record.place).exists():
            same = here.exists() and str(here.resolve()) == self.record.place
            return self.data if same else replace(self.data, name=self.record.place)
        if here.exists() and self.difference(self.data) == "":
            return self.data
        raise UsageError(f"the run was trained on {self.record.where}, which is not there: give --data.")


def trained_on(path: str | Path, model: "Generative") -> TrainedOn | None:
    """Finds what a model was trained on: in its run folder, or in its config.json; None where neither says it.

    Args:
        path: run folder, a folder in it, or what else the model was loaded from.
        model: what is loaded from there.
    """
    from genzoo.runs.folder import read_config

    folder = Path(path).expanduser()
    for at in (folder, folder.parent):
        if (run := read_config(at)) is not None:
            return TrainedOn(run.data, read_record(at), of_run=True)
    values = dict(model.config.get("data") or {})
    if not values:
        return None
    identity = str(values.pop("identity", ""))
    return TrainedOn(validated("data", DataConfig, values), DataRecord(name="", identity=identity))


def shared_record(data: DataConfig, record: DataRecord | None) -> dict[str, Any]:
    """Returns what config.json of a shared model keeps: how images are read, and the content's identity; no path."""
    return {**json.loads(json.dumps(reading(data))), "identity": record.identity if record else ""}


@dataclass(frozen=True)
class Reading:
    """How a command reads images.

    Attributes:
        data: where and how.
        notes: sentences on what differs from training.
        difference: as `TrainedOn.difference` returns it.
    """

    data: DataConfig
    notes: tuple[str, ...] = ()
    difference: str | None = None


def as_trained(
    path: str, model: "Generative", name: str | None, settings: Sequence[str] = (), images: bool = False
) -> Reading:
    """Decides how images are read: as in training, resized to the model's size.

    Args:
        path: of the model; a run folder gives the default of `name`.
        model: what is loaded from there.
        name: other data, or the same in another place, which is read in the same way.
        settings: `data.field=value`, applied last.
        images: whether image files are given, so that no data is needed.

    Raises:
        UsageError: neither data nor image files are given, what a run was trained on is not there, or a setting is
            wrong.
    """
    known = trained_on(path, model)
    if not (name or images) and (known is None or not known.of_run):
        raise UsageError(
            f"{path} is not a run folder, so there is no default data: give --data, or image files where the command "
            "takes them."
        )
    before = known.data if known else DataConfig()
    chosen = dict(parse_setting(text, {"data": DataConfig})[1:] for text in settings)
    data = replace(before, name=name) if name else before
    if known is not None and not (name or images):
        data = known.located()
    asked = chosen.get("name")
    difference = None
    if not images:
        wanted = replace(data, name=asked) if asked else data
        difference = known.difference(wanted) if known else None
        if difference and (name or asked):
            data = replace(data, **PLACE_BOUND)
    sized = {"size": tuple(model.shape[1:]), "channels": model.shape[0]} if model.is_image else {}
    data = replace(replace(data, **sized), **chosen)
    return Reading(data, tuple(_notes(path, known, data, difference)) if known else (), difference)


def _notes(path: str, known: TrainedOn, data: DataConfig, difference: str | None) -> list[str]:
    """Says what differs from training."""
    changed = reading_changes(known.data, replace(data, size=known.data.size, channels=known.data.channels))
    if difference:
        changed = {key: values for key, values in changed.items() if key.removeprefix("data.") not in PLACE_BOUND}
    usual = {"data.holdout": "the default, a tenth"}  # where None is not nothing
    notes = [
        f"{key}={show(now)}, and {path} was trained with {usual.get(key, show(then)) if then is None else show(then)}"
        for key, (then, now) in changed.items()
    ]
    if difference:
        notes.append(f"{last_name(data.name)} is not what {path} was trained on ({difference})")
    return notes


def changed_reading(known: TrainedOn | None, data: DataConfig) -> Mapping[str, list[Any]]:
    """Returns the fields of `data` that are read in another way than in training, `data.fit: [then, now]`."""
    return {} if known is None else reading_changes(known.data, replace(data, size=known.data.size))
