"""Where `genzoo train` finds settings that were written down before: a run to resume, or a file of a new run.

`genzoo.runs.folder` is imported late, because it imports torch.
"""

import argparse
import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genzoo.configure import SECTIONS, changed, from_json
from genzoo.errors import UsageError, did_you_mean
from genzoo.models.absent import is_run, run_of
from genzoo.provenance import by_newer, last_genzoo
from genzoo.registry import absent, list_models
from genzoo.runs.names import CONFIG
from genzoo.spec import RunConfig


def resumed(args: argparse.Namespace, settings: list[str]) -> RunConfig:
    """Returns the settings of the run that --resume names, with those that the command changes.

    Raises:
        UsageError: the folder holds no run, its data is missing, or the command has options that exclude --resume.
    """
    given = {"MODEL": args.model, "--out": args.out, "--budget": args.budget, "--config": args.config}
    given |= {"--fast": args.fast or None, "--res": args.res}
    if wrong := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"--resume {args.resume} says it already: leave out {', '.join(wrong)}.")
    from genzoo.runs.data import TrainedOn, read_record
    from genzoo.runs.folder import read_config

    folder = Path(args.resume).expanduser()
    if (run := run_of(folder)) is not None:
        raise UsageError(f"{args.resume} belongs to a run: genzoo train --resume {shlex.quote(str(run))}.")
    config = read_config(folder)
    if config is None:
        raise UsageError(f"{args.resume} contains no {CONFIG}: give the folder of a run, as `genzoo train` printed it.")
    name = args.data
    if name is None and not any(text.startswith("data.name=") for text in settings):
        name = TrainedOn(config.data, read_record(folder), of_run=True).located().name
    return changed(config, [*([f"data.name={name}"] if name else []), *settings])


def refuse_path(model: str) -> None:
    """Refuses a path in the place of a model: says how to resume a run, and how to train on data.

    Raises:
        UsageError: something is there, and no model has the name.
    """
    path = Path(model).expanduser()
    folder = path.parent if path.name == CONFIG else path
    if is_run(folder):
        raise UsageError(f"{folder} is a run: resume it with `genzoo train --resume {shlex.quote(str(folder))}`.")
    if path.exists() and model.partition(".")[0] not in list_models():
        raise UsageError(
            f"{model} is a path and no model: to train on it, write `genzoo train MODEL --data {shlex.quote(model)}`."
        )


def read_file(path: str) -> tuple[str | None, list[str]]:
    """Reads the file of --config: a run.json, the folder of a run, or TOML with a table for each section.

    Returns:
        the model, if the file names one, and the settings as `section.field=value` texts.

    Raises:
        UsageError: it cannot be read, or has something else in it.
    """
    file = Path(path).expanduser()
    file = file / CONFIG if file.is_dir() else file
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"--config {path} cannot be read ({reason}): give a run.json or a TOML file.") from error
    try:
        values = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if file.suffix == ".toml" else "JSON"
        raise UsageError(f"--config {path} is not {kind} ({' '.join(str(error).split())}).") from error
    if isinstance(values, Mapping) and isinstance(values.get("config"), Mapping):
        values = _of_run(values, file)
    if not isinstance(values, Mapping):
        raise UsageError(f"--config {path} has no settings: write `model`, and a table for each section.")
    return _name(values, path), list(_texts(values, path))


def _of_run(content: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
    """Returns the settings in a run.json, with data that is named by a relative path in the place where it was.

    Raises:
        UsageError: a newer genzoo wrote them, and this one does not know them; or the model is not here.
    """
    values, record = content["config"], content.get("data")
    if problem := by_newer(file, last_genzoo(content)) or absent(values.get("model"), file):
        try:
            from_json(values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(problem) from error
    data, place = values.get("data"), record.get("place") if isinstance(record, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(place, str) or not Path(place).exists():
        return values
    return {**values, "data": {**data, "name": place}}


def _name(values: Mapping[str, Any], path: str) -> str | None:
    name = values.get("model")
    if name is not None and not isinstance(name, str):
        raise UsageError(f"--config {path}: model must be a name (got {name!r}).")
    return name


def _texts(values: Mapping[str, Any], path: str) -> Iterator[str]:
    for section, fields in values.items():
        if section in ("model", "notes"):
            continue
        if section not in SECTIONS:
            raise UsageError(f"--config {path}: unknown section {section!r}.{did_you_mean(section, SECTIONS)}")
        if not isinstance(fields, Mapping):
            raise UsageError(f"--config {path}: {section} must be a table of settings (got {fields!r}).")
        for field, value in fields.items():
            if (section, field) != ("train", "budget"):  # only records what the other run was planned for
                yield f"{section}.{field}={value if isinstance(value, str) else json.dumps(value, default=str)}"
