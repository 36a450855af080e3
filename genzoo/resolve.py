"""From a name and overrides to one frozen RunConfig: model defaults <- preset <- what the data asks for <- what the user sets."""

import dataclasses
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError

from genzoo.data.catalog import Entry, list_datasets
from genzoo.errors import UsageError, suggest
from genzoo.registry import get_spec, split_name
from genzoo.spec import ArchConfig, DataConfig, ModelSpec, Preset, RunConfig, TrainConfig

if TYPE_CHECKING:
    from genzoo.models.autoencoder import Autoencoder

SECTIONS = ("arch", "objective", "data", "train")
# Changing these cannot change the weights that a run ends with, so a resumed run may.
FREE = {"data.cache", "train.keep", "train.log_every", "train.snapshot_every", "train.snapshot_minutes", "train.trackers", "train.workers"}


def resolve(
    name: str,
    *,
    res: tuple[int, int] | None = None,
    data: str | None = None,
    settings: Sequence[str] = (),
    **sections: Mapping[str, Any],
) -> RunConfig:
    """Resolves a run.

    Args:
        name: `model` or `model.preset`. A bare model takes the preset of `res`, else that of `data`, else its default one.
        res: height and width in pixels.
        data: what to train on; see `DataConfig.name`.
        settings: `section.field=value` texts, typed by the field; they win over everything else.
        **sections: `arch`, `objective`, `data`, `train`: values by field, for callers that have them typed already.

    Raises:
        UsageError: unknown name or field (with a suggestion), or a value that its field does not take.
    """
    spec, preset_name = split_name(name)
    classes = section_classes(spec)
    notes: list[str] = []
    explicit = preset_name is not None
    preset_name = preset_name or _choose(spec, res, data, notes)
    preset = spec.presets[preset_name]

    layers = {
        "arch": dict(spec.arch) | dict(preset.arch),
        "objective": dict(preset.objective),
        "data": dict(preset.data),
        "train": dict(preset.train),
    }
    chosen = {section: dict(sections.get(section, {})) for section in SECTIONS}
    for text in settings:
        section, field, value = _parse_setting(text, classes)
        _put(chosen[section], field, value)
    for section, values in chosen.items():
        for field in values:
            _known(section, field, classes[section])

    if not explicit and data is None and "name" not in chosen["data"] and res is not None:
        layers["data"].pop("name", None)  # --res picks a recipe; its data must be asked for by name
        notes.append(f"recipe {spec.name}.{preset_name} on the embedded toyfaces: give --data, or the preset's full name for its own data")
    if data is not None:
        chosen["data"].setdefault("name", data)
    if res is not None:
        chosen["data"].setdefault("size", tuple(res))
    _adapt(layers, chosen, preset, notes)

    merged = {section: layers[section] | chosen[section] for section in SECTIONS}
    built = {section: _build(section, classes[section], merged[section]) for section in SECTIONS}
    return RunConfig(model=f"{spec.name}.{preset_name}", notes=tuple(notes), **built)


def section_classes(spec: ModelSpec) -> dict[str, type]:
    """Returns the configuration class of each section of this model's runs."""
    return {"arch": ArchConfig, "objective": spec.config, "data": DataConfig, "train": TrainConfig}


def describe(name: str) -> Entry | None:
    """Returns the catalogue's entry of a dataset, or None for a folder, a file or a hub id."""
    return next((entry for entry in list_datasets() if entry.name == name), None)


def parse_size(text: str) -> tuple[int, int]:
    """Parses `256` or `48x64` (height x width) to (height, width).

    Raises:
        UsageError: it is neither.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match or int(match[1]) == 0 or match[2] == "0":
        raise UsageError(f"{text!r} is no resolution: write 256, or height x width as in 48x64.")
    return int(match[1]), int(match[2] or match[1])


def data_shape(run: RunConfig) -> tuple[int, ...]:
    """Returns the shape of one item: (C, H, W) or (D,), as far as the configuration alone tells."""
    row = describe(run.data.name)
    if row is not None and row.kind == "points":
        return (2,)
    if run.data.size is None:
        raise UsageError("The image size is open: give --res, e.g. --res 64.")
    return (run.data.channels, *run.data.size)


def build(run: RunConfig, shape: tuple[int, ...]) -> "Autoencoder":
    """Builds the run's model with fresh weights for data of `shape`."""
    return get_spec(run.model.partition(".")[0]).model()(preset=run.model, shape=shape, arch=dataclasses.asdict(run.arch))


def to_json(run: RunConfig) -> dict[str, Any]:
    """Returns the run as JSON values; `from_json` is its inverse."""
    return json.loads(json.dumps(dataclasses.asdict(run)))


def from_json(values: Mapping[str, Any]) -> RunConfig:
    """Reads a run back, checked as strictly as a new one."""
    classes = section_classes(split_name(values["model"])[0])
    built = {section: _build(section, classes[section], values[section]) for section in SECTIONS}
    return RunConfig(model=values["model"], notes=tuple(values.get("notes", ())), **built)


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Lists, as `field: old -> new`, what would make `new` another run than `old`; a longer duration would not."""
    before, after = (dict(flat(to_json(run))) for run in (old, new))
    shares = any(str(value).endswith("%") for run in (old, new) for key, value in flat(to_json(run)) if key not in FREE)
    free = FREE if shares else FREE | {"train.duration"}
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before | after)
        if key not in free and before.get(key) != after.get(key)
    ]


def fields(cls: type) -> Iterator[tuple[str, str, Any, str]]:
    """Yields (name, type, default, description) of a configuration class, for help texts and errors."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        args = typing.get_args(hint)
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        described = next((extra.description for extra in args[1:] if getattr(extra, "description", None)), "")
        yield field.name, _type_name(hint), default, described


def _choose(spec: ModelSpec, res: tuple[int, int] | None, data: str | None, notes: list[str]) -> str:
    """Picks a preset for a bare model name; the tables' order decides between rows of one size."""
    if res is None:
        by_data = [name for name, preset in spec.presets.items() if data is not None and preset.data.get("name") == data]
        return by_data[0] if by_data else spec.default_preset
    sizes = {name: preset.data["size"] for name, preset in spec.presets.items() if preset.data.get("size")}
    exact = [name for name, size in sizes.items() if tuple(size) == tuple(res)]
    if exact:
        return exact[0]
    if not sizes:
        return spec.default_preset
    nearest = min(sizes, key=lambda name: abs(math.log(math.prod(sizes[name]) / math.prod(res))))
    notes.append(
        f"no recipe at {res[0]}x{res[1]} is published: {spec.name}.{nearest} is the nearest; its margins and weights may need tuning"
    )
    return nearest


def _adapt(layers: dict[str, dict], chosen: dict[str, dict], preset: Preset, notes: list[str]) -> None:
    """Makes a preset fit other data than its own: grey images, points instead of images, another size."""
    name = chosen["data"].get("name", layers["data"].get("name", DataConfig().name))
    row = describe(name)
    if row is not None and row.kind == "points":
        layers["data"].pop("size", None)
        if layers["arch"].get("encoder") != "mlp":
            layers["arch"] |= {"encoder": "mlp", "decoder": "mlp", "z_dim": 2}
            notes.append(f"{name} are points: multi-layer perceptrons with z_dim 2; this preset's weights were not made for them")
        return
    if row is not None and name != layers["data"].get("name"):
        layers["data"]["channels"] = row.channels
    size, recipe = chosen["data"].get("size"), preset.data.get("size")
    if size is None and recipe is None:
        layers["data"]["size"] = (row.size if row else None) or (32, 32)
    if size is None or recipe is None or tuple(size) == tuple(recipe) or "channels" in chosen["arch"]:
        return
    channels = fit_channels(tuple(size), tuple(layers["arch"].get("channels", ArchConfig().channels)))
    if channels != tuple(layers["arch"].get("channels", ())):
        layers["arch"]["channels"] = channels
        notes.append(f"arch.channels {','.join(map(str, channels))} reach a latent grid of 4 to 7 pixels from {size[0]}x{size[1]} (ours)")


def fit_channels(size: tuple[int, int], channels: tuple[int, ...]) -> tuple[int, ...]:
    """Lengthens or shortens a list of widths until the smaller side ends at 4 to 7 pixels, as in the published stacks.

    The published lists grow towards higher resolutions by halving the first width (not below 16); the last widths go first.
    """
    depth = max(1, (min(size) // 4).bit_length() - 1)
    while len(channels) < depth:
        channels = (max(16, channels[0] // 2), *channels)
    return channels[:depth]


def _parse_setting(text: str, classes: Mapping[str, type]) -> tuple[str, str, Any]:
    """Parses `section.field=value` into the section, the field (or `field.key` of a table) and a typed value."""
    key, equals, value = text.partition("=")
    section, dot, field = key.partition(".")
    if not equals or not dot or not field:
        raise UsageError(f"--set {text!r} is not section.field=value, as in --set train.lr=1e-4.")
    if section not in classes:
        raise UsageError(f"Unknown section {section!r} in --set {key}.{suggest(section, classes)}")
    name, _, entry = field.partition(".")
    hint = _known(section, name, classes[section])
    if entry:
        return section, field, _validate(key, TypeAdapter(dict[str, float]), [{entry: value}], classes[section], name)
    return section, field, _validate(key, TypeAdapter(hint), _readings(value), classes[section], name)


def _readings(value: str) -> list[Any]:
    """The ways to read a text, likeliest first: JSON, none, HxW, a comma list, the text itself."""
    readings: list[Any] = []
    try:
        readings.append(json.loads(value))
    except ValueError:
        pass
    if value.lower() in ("none", "null"):
        readings.append(None)
    if re.fullmatch(r"\d+x\d+", value):
        readings.append([int(side) for side in value.split("x")])
    return [*readings, value, [part.strip() for part in value.split(",") if part.strip()]]


def _validate(key: str, adapter: TypeAdapter, readings: Sequence[Any], cls: type, name: str) -> Any:
    errors = []
    for reading in readings:
        try:
            return adapter.validate_python(reading)
        except ValidationError as error:
            errors.append(error.errors()[0]["msg"])
    kind, default = next((kind, default) for field, kind, default, _ in fields(cls) if field == name)
    raise UsageError(
        f"{key}={readings[-2] if len(readings) > 1 else readings[0]}: {_lower(errors[0])}; it is {kind}, default {show(default)}."
    )


def show(value: Any) -> str:
    """Shows a value the way `--set` takes it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "()"
    return "none" if value is None else str(value)


def _lower(message: str) -> str:
    return message.removeprefix("Value error, ")[:1].lower() + message.removeprefix("Value error, ")[1:]


def _known(section: str, field: str, cls: type) -> Any:
    """Returns the field's annotation, or refuses an unknown field with a suggestion."""
    hints = typing.get_type_hints(cls, include_extras=True)
    if field not in hints:
        raise UsageError(f"Unknown option {section}.{field}.{suggest(field, hints)} See `genzoo train MODEL --help`.")
    return hints[field]


def _put(values: dict[str, Any], field: str, value: Any) -> None:
    name, _, entry = field.partition(".")
    values[name] = {**values.get(name, {}), **value} if entry else value


def _build(section: str, cls: type, values: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{section}.{'.'.join(map(str, first['loc']))}: {_lower(first['msg'])} (got {first['input']!r}).") from error


def _type_name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return "duration" if any(isinstance(extra, AfterValidator) for extra in args[1:]) else _type_name(args[0])
    if origin is typing.Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return f"list of {_type_name(args[0])}" if args[-1] is Ellipsis else ",".join(map(_type_name, args))
    if origin is dict:
        return "table"
    if args:
        return " | ".join("none" if arg is type(None) else _type_name(arg) for arg in args)
    return "none" if hint is type(None) else hint.__name__


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if key == "notes":
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
