"""Models by name: packages of `genzoo.models` (with hyphens for underscores), entry points of other distributions, and
what `register_model` adds.

Names are listed without importing anything; a plugin is loaded on first use.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genzoo import plugins
from genzoo.errors import UsageError, did_you_mean, shown
from genzoo.spec import ModelSpec

GROUP = plugins.MODELS

_registered: dict[str, ModelSpec] = {}


def register_model(spec: ModelSpec) -> ModelSpec:
    """Adds a model for this process; a distribution uses the entry-point group `genzoo.models` instead.

    Raises:
        ValueError: the name is taken.
    """
    if spec.name in _sources():
        raise ValueError(f"A model named {spec.name!r} is registered already: choose another name.")
    _registered[spec.name] = spec
    return spec


def list_models(presets: bool = False) -> list[str]:
    """Returns the models' names, sorted; with `presets`, every `model.preset` too (which loads the plugins)."""
    names = sorted(_sources())
    return (
        [full for name in names for full in (name, *(f"{name}.{p}" for p in get_spec(name).presets))]
        if presets
        else names
    )


def get_spec(name: str) -> ModelSpec:
    """Returns the plugin behind a model's name.

    Raises:
        UsageError: no such model (with suggestions), two distributions offer it, or the plugin cannot be imported.
    """
    sources = _sources()
    if name not in sources:
        raise UsageError(f"Unknown model {name!r}.{did_you_mean(name, sources)} See `genzoo list models`.")
    if len(sources[name]) > 1:
        raise UsageError(
            f"Model {name!r} is offered by {' and '.join(who for who, _ in sources[name])}: uninstall one of them."
        )
    who, load = sources[name][0]
    spec = load()
    if not isinstance(spec, ModelSpec) or spec.name != name:
        raise UsageError(
            f"Model {name!r} of {who} is not a genzoo ModelSpec of that name: see CONTRIBUTING.md, 'Add a model'."
        )
    return spec


def absent(name: object, path: Path, distribution: str | None = None) -> str:
    """Says what to install where the model that a file names is not here; "" where it is, or where it names none.

    Args:
        name: `model` or `model.preset`, as the file has it.
        path: of the file.
        distribution: that offers the model, if the file says so.
    """
    if not isinstance(name, str) or (model := name.partition(".")[0]) in _sources():
        return ""
    fix = f"it was saved with the distribution {distribution}" if distribution else ""
    return (
        f"{path} is of the model {shown(model)}, which is not here and may be a plugin's: "
        f"{fix or 'install the distribution that offers it'}."
    )


def split_name(name: str) -> tuple[ModelSpec, str | None]:
    """Splits `model` or `model.preset` into the model's spec and the preset's name, if any.

    Raises:
        UsageError: unknown model or preset, with suggestions.
    """
    model, _, preset = name.partition(".")
    spec = get_spec(model or name)  # a name that begins with a dot is a path
    if preset and preset not in spec.presets:
        raise UsageError(
            f"Model {model!r} has no preset {preset!r}.{did_you_mean(preset, spec.presets)} See `genzoo list presets`."
        )
    return spec, preset or None


def _sources() -> dict[str, list[tuple[str, Callable[[], Any]]]]:
    """Maps each name to (who offers it, how to load it); two offers of one name are an error only when it is used."""
    sources: dict[str, list[tuple[str, Callable[[], Any]]]] = {}
    for name in _builtin_names():
        sources.setdefault(name, []).append(("genzoo", functools.partial(_load_builtin, name)))
    for name, points in plugins.offers(GROUP).items():
        for point in points:
            offer = (plugins.distribution(point), functools.partial(plugins.load, "Model", point))
            sources.setdefault(name, []).append(offer)
    for name, spec in _registered.items():
        sources.setdefault(name, []).append(("register_model", lambda spec=spec: spec))
    return sources


def _builtin_names() -> list[str]:
    package = importlib.import_module("genzoo.models")
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__) if module.ispkg]


def _load_builtin(name: str) -> ModelSpec:
    return importlib.import_module(f"genzoo.models.{name.replace('-', '_')}").SPEC
