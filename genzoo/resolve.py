"""From a name and overrides to one frozen RunConfig: model defaults <- preset <- what the data asks for <- what the user sets."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from genzoo.data.catalog import Entry, list_datasets
from genzoo.errors import UsageError
from genzoo.registry import get_spec, split_name
from genzoo.settings import known, lower, parse_setting
from genzoo.spec import ArchConfig, DataConfig, ModelSpec, Preset, RunConfig, TrainConfig

if TYPE_CHECKING:
    from genzoo.models.autoencoder import Autoencoder

SECTIONS = ("arch", "objective", "data", "train")
OWN_FILES = ("channels", "precrop", "column", "split", "fit")  # settings of a preset that hold for its own data only
# Changing these cannot change the weights that a run ends with, so a resumed run may.
FREE = {
    "data.cache",
    "train.checkpointing",
    "train.keep",
    "train.log_every",
    "train.snapshot_every",
    "train.snapshot_minutes",
    "train.trackers",
    "train.workers",
}


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
        section, field, value = parse_setting(text, classes)
        _put(chosen[section], field, value)
    for section, values in chosen.items():
        for field in values:
            known(section, field, classes[section])

    own, embedded = layers["data"].get("name"), DataConfig().name
    by_res = res is not None and not explicit  # --res picks a recipe; its data must be asked for by name
    if data is None and "name" not in chosen["data"] and own != embedded and (by_res or own is None):
        layers["data"].pop("name", None)
        or_own = f", or type {spec.name}.{preset_name} for its own data, {own}" if own else ""
        notes.append(f"recipe {spec.name}.{preset_name} on the embedded {embedded}: give --data{or_own}")
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
    model = get_spec(run.model.partition(".")[0]).model()(preset=run.model, shape=shape, arch=dataclasses.asdict(run.arch))
    if run.train.checkpointing:
        model.enable_gradient_checkpointing()
    return model


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
    shares = any("%" in str(value) for run in (old, new) for key, value in flat(to_json(run)) if key not in FREE)
    free = FREE if shares else FREE | {"train.duration"}
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before | after)
        if key not in free and before.get(key) != after.get(key)
    ]


def changed_settings(run: RunConfig) -> dict[str, Any]:
    """Returns what a run has otherwise than its preset, `section.field: value`, without what has a place of its own: data name and seed."""
    base = dict(flat(to_json(resolve(run.model))))
    left_out = FREE | {"data.name", "train.seed"}
    return {key: value for key, value in flat(to_json(run)) if key not in left_out and base.get(key) != value}


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
    if name != preset.data.get("name"):  # how a preset reads its own files says nothing of others
        for field in OWN_FILES:
            layers["data"].pop(field, None)
        if row is not None:
            layers["data"]["channels"] = row.channels
    if row is not None and row.kind == "points":
        layers["data"].pop("size", None)
        if layers["arch"].get("encoder") != "mlp":
            layers["arch"] |= {"encoder": "mlp", "decoder": "mlp", "z_dim": 2}
            notes.append(f"{name} are points: multi-layer perceptrons with z_dim 2; this preset's weights were not made for them")
        return
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


def _put(values: dict[str, Any], field: str, value: Any) -> None:
    name, _, entry = field.partition(".")
    values[name] = {**values.get(name, {}), **value} if entry else value


def _build(section: str, cls: type, values: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{section}.{'.'.join(map(str, first['loc']))}: {lower(first['msg'])} (got {first['input']!r}).") from error


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if key == "notes":
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
