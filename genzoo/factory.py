"""From names, configurations and folders to models and objectives."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genzoo.configure import data_shape, resolve
from genzoo.errors import UsageError
from genzoo.models.generative import Generative
from genzoo.models.saved import cut, of_newer, read_json
from genzoo.models.sharing import needed_distribution
from genzoo.models.sources import find_config
from genzoo.nn import check_backbones
from genzoo.objective import Objective, Spaces
from genzoo.registry import absent, get_spec, split_name
from genzoo.spec import RunConfig


def create_model(
    name: str, *, shape: Sequence[int] | None = None, classes: Sequence[str] = (), **arch: Any
) -> Generative:
    """Creates a model with fresh weights.

    Args:
        name: `model` or `model.preset`, e.g. `introvae.celebahq256`.
        shape: (C, H, W) of the images or (D,) of vectors; None = the preset's.
        classes: names of the data's classes, for a conditional model.
        **arch: any field of the model's network settings, `genzoo.spec.ArchConfig`.

    Raises:
        UsageError: unknown name or field, a shape that the networks cannot take, or pretrained weights of an encoder
            that has none.
    """
    size = (shape[1], shape[2]) if shape is not None and len(shape) == 3 else None
    run = resolve(name, res=size, arch=arch)
    return build(run, data_shape(run) if shape is None else tuple(shape), classes)


def load(path: str | Path, **kwargs: Any) -> Generative:
    """Loads any model of the registry, in eval mode: a run folder, a `save_pretrained` folder, or a hub id
    `owner/name`.

    Args:
        path: of a run, its averaged (EMA) weights are taken where it has them.
        **kwargs: passed on to `from_pretrained`.

    Raises:
        UsageError: nothing loadable there, a damaged file, or a plugin's model without the plugin; the message says
            what is missing.
    """
    source, config = find_config(path, **kwargs)
    return _class_of(Path(config)).read(source, **kwargs).eval()


def _class_of(path: Path) -> type[Generative]:
    """Finds the class that a config.json is of."""
    config = read_json(path)
    with of_newer(config, path):
        preset, written = config.get("preset"), config.get("_class_name")
        if not isinstance(preset, str) or not preset:
            fix = f": call {cut(written)}.from_pretrained" if isinstance(written, str) else ""
            raise UsageError(f"{path} was not written for a model of `genzoo list models`: it names no preset{fix}.")
        if missing := absent(preset, path, needed_distribution(config)):
            raise UsageError(missing)
        return get_spec(preset.partition(".")[0]).model()


def check_networks(run: RunConfig) -> None:
    """Refuses networks by their names, before data are read.

    Raises:
        UsageError: there is no such network; with suggestions.
    """
    check_backbones(run.arch)


def build(run: RunConfig, shape: tuple[int, ...], classes: Sequence[str] = ()) -> Generative:
    """Builds the run's model with fresh weights for data of `shape`, and of `classes` where it has labels.

    Raises:
        UsageError: networks that cannot take `shape`, no classes for a conditional model, or a plugin whose `ModelSpec`
            and model class disagree about the class of `arch`.
    """
    spec, _ = split_name(run.model)
    cls = spec.model()
    if spec.arch is not cls.arch_class:
        raise UsageError(
            f"The ModelSpec of {spec.name} has arch={spec.arch.__name__}, and {cls.__name__} has "
            f"arch_class = {cls.arch_class.__name__}: both must be the same class."
        )
    if (cls.conditional or run.arch.conditional != "none") and not classes:
        raise UsageError(f"{spec.name} is trained on labels: set data.labels, e.g. --set data.labels=label.")
    model = cls(preset=run.model, shape=shape, arch=dataclasses.asdict(run.arch), classes=tuple(classes))
    if run.train.checkpointing:
        model.enable_gradient_checkpointing()
    return model


def build_objective(run: RunConfig, spaces: Spaces, device: torch.device | str = "cpu") -> Objective:
    """Builds the run's objective for a model's `spaces`; one that is a module is moved to `device` and frozen."""
    objective = split_name(run.model)[0].objective(run.objective, spaces)
    if isinstance(objective, nn.Module):
        objective.to(device).requires_grad_(False).eval()
    return objective
