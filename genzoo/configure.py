"""Resolves a name and overrides to one frozen RunConfig: defaults <- preset <- what the data asks for <- the user."""

import dataclasses
import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Never

from genzoo.data.catalog import find_entry
from genzoo.dataspec import ONLY
from genzoo.errors import UsageError
from genzoo.registry import split_name
from genzoo.settings import as_size, as_texts, cut, known, parse_setting, show, unknown_section, validated
from genzoo.spec import DataConfig, ModelSpec, Preset, RunConfig, TrainConfig

SECTIONS = ("arch", "objective", "data", "train")
OWN_FILES = ("channels", "precrop", "column", "split", "fit")  # settings of a preset that hold for its own data only


def resolve(
    name: str,
    *,
    res: int | str | tuple[int, int] | None = None,
    data: str | os.PathLike | Mapping[str, Any] | None = None,
    settings: str | Sequence[str] = (),
    arch: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    **unknown: Never,
) -> RunConfig:
    """Resolves a run.

    Args:
        name: `model` or `model.preset`. A bare model takes the preset of `res`, else that of `data`, else its default
            one.
        res: pixels per side, or (height, width); or as text, `256` or `48x64`.
        data: what to train on, by name or path (see `DataConfig.name`), or values of the data section by field.
        settings: one or several `section.field=value` texts, typed by the field; they win over everything else.
        arch: values of the section by field, for callers that have them typed; so are `objective` and `train`.
        **unknown: refused, with a suggestion.

    Raises:
        UsageError: unknown name, section or field (with a suggestion), or a value that its field does not take.
    """
    if not isinstance(name, str):
        raise UsageError(f"resolve({name!r}): give the name of a model, e.g. resolve('introvae').")
    spec, preset_name = split_name(name)
    classes = section_classes(spec)
    for section, value in unknown.items():
        raise unknown_section(section, value, classes)
    res = None if res is None else as_size(res)
    asked = os.fspath(data) if isinstance(data, str | os.PathLike) else None  # by name: a bare model's preset's choice
    fields = {} if data is None or asked is not None else data
    given = {"arch": arch or {}, "objective": objective or {}, "data": fields, "train": train or {}}
    chosen = _chosen(given, as_texts(settings), classes)
    notes: list[str] = []
    explicit = preset_name is not None
    preset_name = preset_name or _choose(spec, res, asked, notes)
    preset = spec.presets[preset_name]
    layers = {section: dict(getattr(preset, section)) for section in SECTIONS}
    own, embedded = layers["data"].get("name"), DataConfig().name
    by_res = res is not None and not explicit  # --res picks a recipe; its data must be asked for by name
    if asked is None and "name" not in chosen["data"] and own != embedded and (by_res or own is None):
        layers["data"].pop("name", None)
        or_own = f", or type {spec.name}.{preset_name} for its own data, {own}" if own else ""
        notes.append(f"recipe {spec.name}.{preset_name} on the embedded {embedded}: give --data{or_own}")
    if asked is not None:
        chosen["data"].setdefault("name", asked)
    if res is not None:
        chosen["data"].setdefault("size", res)
    shape = _adapt_data(layers["data"], chosen["data"], preset, notes)
    if shape is not None:
        _adapt_arch(spec, layers["arch"], chosen["arch"], shape, preset, notes)

    values = {section: layers[section] | chosen[section] for section in SECTIONS}
    if values["data"].get("labels") is None and (of_labels := _needs_labels(values["arch"])):
        values["data"]["labels"] = ONLY
        notes.append(f"{of_labels} takes data.labels={ONLY}, the labels of data that has one kind")
    built = {section: validated(section, classes[section], values[section]) for section in SECTIONS}
    return RunConfig(model=f"{spec.name}.{preset_name}", notes=tuple(notes), **built)


def _needs_labels(arch: Mapping[str, Any]) -> str:
    """Returns the setting of the networks that takes labels, or nothing."""
    return next((f"arch.{k}={v}" for k, v in (("prior", "classes"), ("conditional", "concat")) if arch.get(k) == v), "")


def _chosen(
    given: Mapping[str, Mapping[str, Any]], settings: Sequence[str], classes: Mapping[str, type]
) -> dict[str, dict[str, Any]]:
    """What the user set, by section and field; unknown fields are refused."""
    for section, values in given.items():
        if not isinstance(values, Mapping):
            found, more = cut(values), "; data in memory goes to Trainer(..., data=)" if section == "data" else ""
            raise UsageError(f"{section}={found}: give its values by field, as in {section}={{FIELD: value}}{more}.")
    chosen = {section: dict(values) for section, values in given.items()}
    for text in settings:
        section, field, value = parse_setting(text, classes)
        name, _, entry = field.partition(".")
        values = chosen[section]
        values[name] = {**values.get(name, {}), **value} if entry else value
    for section, values in chosen.items():
        for field in values:
            known(section, field, classes[section])
    return chosen


def section_classes(spec: ModelSpec) -> dict[str, type]:
    """Returns the configuration class of each section of this model's runs."""
    return {"arch": spec.arch, "objective": spec.config, "data": DataConfig, "train": TrainConfig}


def in_section(run: RunConfig, section: str, values: Mapping[str, Any]) -> RunConfig:
    """Returns the run with other values in one of its sections, by field."""
    return dataclasses.replace(run, **{section: dataclasses.replace(getattr(run, section), **values)})


def data_shape(run: RunConfig) -> tuple[int, ...]:
    """Returns the shape of one item: (C, H, W) or (D,), as far as the configuration alone determines it."""
    row = find_entry(run.data.name)
    if row is not None and row.kind == "points":
        return (2,)
    if run.data.size is None:
        raise UsageError("The image size is open: give --res, e.g. --res 64.")
    return (run.data.channels, *run.data.size)


def planned_classes(run: RunConfig) -> tuple[str, ...]:
    """Returns names for the classes of `data.labels`, as far as the configuration alone determines their number.

    Raises:
        UsageError: the number of classes is known with the data only.
    """
    if run.data.labels is None:
        return ()
    row = find_entry(run.data.name)
    numbers = row.labels if row is not None else {}
    if run.data.labels not in numbers:
        raise UsageError(
            f"How many classes data.labels={run.data.labels} has is known with the data only: train a few steps."
        )
    return tuple(map(str, range(numbers[run.data.labels])))


def to_json(run: RunConfig) -> dict[str, Any]:
    """Returns the run as JSON values; `from_json` is its inverse."""
    return json.loads(json.dumps(dataclasses.asdict(run)))


def from_json(values: Mapping[str, Any]) -> RunConfig:
    """Reads a run back, checked as strictly as a new one.

    Raises:
        UsageError: it names a model or an option that does not exist.
    """
    classes = section_classes(split_name(values["model"])[0])
    built = {section: validated(section, classes[section], values[section]) for section in SECTIONS}
    return RunConfig(model=values["model"], notes=tuple(values.get("notes", ())), **built)


def changed(run: RunConfig, settings: Sequence[str]) -> RunConfig:
    """Returns the run with other values, `section.field=value` texts.

    Raises:
        UsageError: unknown section or field (with a suggestion), or a value that its field does not take.
    """
    classes = section_classes(split_name(run.model)[0])
    for section, values in _chosen({name: {} for name in SECTIONS}, settings, classes).items():
        run = in_section(run, section, values)
    return run


def _choose(spec: ModelSpec, res: tuple[int, int] | None, data: str | None, notes: list[str]) -> str:
    """Picks a preset for a bare model name; the tables' order decides between rows of one size."""
    presets = bare_presets(spec)
    if res is None:
        made = [name for name, preset in spec.presets.items() if data is not None and preset.data.get("name") == data]
        chosen = next((name for name in made if name in presets), spec.default_preset)
        if data is not None:
            notes.append(_reason(spec, chosen, made, data))
        return chosen
    sizes = {name: preset.data["size"] for name, preset in presets.items() if preset.data.get("size")}
    exact = [name for name, size in sizes.items() if tuple(size) == tuple(res)]
    if exact:
        if data is not None:
            others = f"; also at this size: {', '.join(exact[1:])}" if exact[1:] else ""
            notes.append(f"preset {spec.name}.{exact[0]}: the first of {res[0]}x{res[1]}{others}")
        return exact[0]
    if not sizes:
        return spec.default_preset
    nearest = min(sizes, key=lambda name: abs(math.log(math.prod(sizes[name]) / math.prod(res))))
    notes.append(
        f"no recipe at {res[0]}x{res[1]} is published: {spec.name}.{nearest} is the nearest; "
        "its weights may need tuning"
    )
    return nearest


def bare_presets(spec: ModelSpec) -> dict[str, Preset]:
    """Returns the presets that a bare model name may take: all but those whose networks or prior take labels."""
    return {name: preset for name, preset in spec.presets.items() if not _needs_labels(preset.arch)}


def _reason(spec: ModelSpec, chosen: str, made: Sequence[str], data: str) -> str:
    """Why a bare model has its preset, and how to choose another."""
    others = ", ".join(name for name in made if name != chosen)
    if chosen in made:
        also = f"; also for them: {others}" if others else ""
        return f"preset {spec.name}.{chosen}: the first made for {data}{also}"
    none = f"none but {others}" if others else "none"
    return (
        f"preset {spec.name}.{chosen}: the default, as {none} is made for these data; another one: type "
        f"{spec.name}.PRESET (`genzoo list presets {spec.name}`); settings for these data: "
        f"`genzoo suggest {spec.name} --data {shlex.quote(data)}`"
    )


def _adapt_data(
    layer: dict[str, Any], chosen: Mapping[str, Any], preset: Preset, notes: list[str]
) -> tuple[int, ...] | None:
    """Makes a preset's data section fit other data than its own; returns the shape of one item where it is known."""
    name = chosen.get("name", layer.get("name", DataConfig().name))
    row = find_entry(name)
    if name != preset.data.get("name"):  # how a preset reads its own files says nothing about others
        own = {field: layer.pop(field) for field in OWN_FILES if field in layer}
        options = " ".join(f"--set data.{field}={show(value)}" for field, value in own.items() if field not in chosen)
        if row is not None:
            layer["channels"] = row.channels
        elif options and "name" in preset.data:
            notes.append(f"if {name} holds {preset.data['name']}, read it as the preset does: {options}")
    if row is not None and row.kind == "points":
        layer.pop("size", None)
        return (2,)
    if "size" not in chosen and preset.data.get("size") is None:
        layer["size"] = (row.size if row else None) or (32, 32)
    size = chosen.get("size", layer.get("size"))
    channels = chosen.get("channels", layer.get("channels", DataConfig().channels))
    return None if size is None else (channels, *as_size(size))


def _adapt_arch(
    spec: ModelSpec,
    layer: dict[str, Any],
    chosen: Mapping[str, Any],
    shape: tuple[int, ...],
    preset: Preset,
    notes: list[str],
) -> None:
    """Makes a preset's networks fit other data than its own, by the model's rules; what the user chose is kept."""
    made_for = preset.data.get("size")
    changes, note = spec.arch.fitted(layer, shape, made_for and tuple(made_for))
    changes = {field: value for field, value in changes.items() if field not in chosen}
    layer |= changes
    if changes and note:
        notes.append(note)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields `section.field` and value of a run's JSON values, without what decides nothing: notes and format."""
    for key, value in values.items():
        if not prefix and key == "notes":
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
