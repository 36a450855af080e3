"""Names to models: the packages of `genzoo.models`, the entry points of other distributions, and what `register_model` adds.

Names are listed without importing anything; a plugin is loaded on first use.
"""

import functools
import importlib
import json
import pkgutil
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genzoo.errors import UsageError, suggest
from genzoo.spec import ModelSpec

if TYPE_CHECKING:
    from genzoo.models.autoencoder import Autoencoder

GROUP = "genzoo.models"  # entry points of this group name a ModelSpec, e.g. `mymodel = "mypackage:SPEC"`

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
    return [full for name in names for full in (name, *(f"{name}.{p}" for p in get_spec(name).presets))] if presets else names


def get_spec(name: str) -> ModelSpec:
    """Returns the plugin behind a model's name.

    Raises:
        UsageError: no such model (with suggestions), two distributions claim the name, or the plugin cannot be imported.
    """
    sources = _sources()
    if name not in sources:
        raise UsageError(f"Unknown model {name!r}.{suggest(name, sources)} See `genzoo list models`.")
    if len(sources[name]) > 1:
        raise UsageError(f"Model {name!r} is offered by {' and '.join(who for who, _ in sources[name])}: uninstall one of them.")
    who, load = sources[name][0]
    try:
        spec = load()
    except Exception as error:
        raise UsageError(f"Model {name!r} of {who} cannot be loaded ({type(error).__name__}: {error}): mend or uninstall it.") from error
    if not isinstance(spec, ModelSpec) or spec.name != name:
        raise UsageError(f"Model {name!r} of {who} is not a genzoo ModelSpec of that name: see CONTRIBUTING.md, 'Add a model'.")
    return spec


def split_name(name: str) -> tuple[ModelSpec, str | None]:
    """Splits `model` or `model.preset` into the model's spec and the preset's name, if any.

    Raises:
        UsageError: unknown model or preset, with suggestions.
    """
    model, _, preset = name.partition(".")
    spec = get_spec(model)
    if preset and preset not in spec.presets:
        raise UsageError(f"Model {model!r} has no preset {preset!r}.{suggest(preset, spec.presets)} See `genzoo list presets`.")
    return spec, preset or None


def create_model(name: str, **overrides: Any) -> "Autoencoder":
    """Creates a model with fresh weights.

    Args:
        name: `model` or `model.preset`, e.g. `introvae.celebahq256`.
        **overrides: `shape=(C, H, W)` of the images or `(D,)` of vectors, and any field of `genzoo.spec.ArchConfig`.

    Raises:
        UsageError: unknown name or field, or a shape that the networks cannot take.
    """
    from genzoo.resolve import build, data_shape, resolve

    shape = overrides.pop("shape", None)
    run = resolve(name, res=shape[1:] if shape and len(shape) == 3 else None, arch=overrides)
    return build(run, tuple(shape) if shape else data_shape(run))


def load(path: str | Path, **kwargs: Any) -> "Autoencoder":
    """Loads any model of the registry, in eval mode: a run folder, a `save_pretrained` folder, or a hub id `owner/name`.

    Args:
        path: of a run, its averaged (EMA) weights are taken where it has them.
        **kwargs: passed on to `from_pretrained`.

    Raises:
        UsageError: nothing loadable there; the message says what is missing.
    """
    from genzoo.models.autoencoder import find_config

    folder, config = find_config(path, **kwargs)
    model = str(json.loads(Path(config).read_text()).get("preset", ""))
    if not model:
        raise UsageError(f"{config} was not written by genzoo: it names no preset.")
    return get_spec(model.partition(".")[0]).model().from_pretrained(folder, **kwargs).eval()


def _sources() -> dict[str, list[tuple[str, Callable[[], Any]]]]:
    """Maps each name to (who offers it, how to load it); two offers of one name are an error only for who uses it."""
    sources: dict[str, list[tuple[str, Callable[[], Any]]]] = {}
    for name in _builtin_names():
        sources.setdefault(name, []).append(("genzoo", functools.partial(_load_builtin, name)))
    for point in entry_points(group=GROUP):
        sources.setdefault(point.name, []).append((_distribution(point), point.load))
    for name, spec in _registered.items():
        sources.setdefault(name, []).append(("register_model", lambda spec=spec: spec))
    return sources


def _builtin_names() -> list[str]:
    package = importlib.import_module("genzoo.models")
    return [module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg]


def _load_builtin(name: str) -> ModelSpec:
    return importlib.import_module(f"genzoo.models.{name}").SPEC


def _distribution(point: EntryPoint) -> str:
    return f"distribution {point.dist.name} {point.dist.version}" if point.dist else point.value
