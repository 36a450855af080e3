"""What a program passes to a trainer: a configuration or a model's name, and data by name or in memory."""

import os
from dataclasses import replace
from typing import Any

from genzoo.configure import resolve
from genzoo.data.own import own_dataset
from genzoo.data.sets import ArraySet, Dataset, EndlessSet, FiniteSet
from genzoo.errors import UsageError
from genzoo.registry import split_name
from genzoo.settings import validated
from genzoo.spec import DataConfig, RunConfig


def prepared(config: RunConfig | str, data: Any, dataset: Dataset | None) -> tuple[RunConfig, Dataset | None]:
    """Returns the configuration of a run, and the data to train on if they are not to be opened by name.

    Args:
        config: a configuration, or a model's name, which is resolved for the data.
        data: a name or path, or what `own_dataset` takes; None: as the configuration says, or `dataset`.
        dataset: a dataset of genzoo's kind.

    Raises:
        UsageError: they do not go together, or the data cannot be taken.
    """
    if not isinstance(config, RunConfig | str):
        raise UsageError(f"Trainer({type(config).__name__}): give genzoo.resolve(...), or a model's name.")
    if data is None or isinstance(data, str | os.PathLike):
        if isinstance(config, str):
            return resolve(config, data=data), dataset
        if data is not None:
            raise UsageError(
                f"The configuration names its data, {config.data.name}: name others in resolve(..., data=)."
            )
        return config, dataset
    if dataset is not None:
        raise UsageError("data and dataset are both given: choose one.")
    own = data if isinstance(data, FiniteSet | EndlessSet) else own_dataset(data)
    run = _resolved(config, own) if isinstance(config, str) else config
    if run.data.limit is not None and isinstance(own, ArraySet):
        own = own.part(range(own.size)[: run.data.limit])
    return _recorded(run, own), own


def _resolved(name: str, own: Dataset) -> RunConfig:
    """Resolves a model's default preset for data of this shape."""
    if not own.is_image:
        arch, _ = split_name(name)[0].arch.fitted({}, own.shape, None)
        if own.shape != (2,):  # two latent dimensions are for the plane
            arch.pop("z_dim", None)
        return resolve(name, data={"name": own.name}, arch=arch)
    channels, *size = own.shape
    return resolve(name, data={"name": own.name, "size": size, "channels": channels})


def _recorded(run: RunConfig, own: Dataset) -> RunConfig:
    """The run with its data named as they are; what says how files are read means nothing here."""
    channels, *size = own.shape if own.is_image else (run.data.channels,)
    given = run.data.size if own.is_image else None
    if given is not None and (run.data.channels, *given) != own.shape:
        shape, wanted = ("x".join(map(str, sides)) for sides in (own.shape, (run.data.channels, *given)))
        raise UsageError(
            f"The data are {shape} and the configuration is of {wanted}: resolve(..., "
            f"data={{'size': {tuple(size)}, 'channels': {channels}}}), or pass Trainer a model's name."
        )
    kept = {field: getattr(run.data, field) for field in ("labels", "mirror", "limit")}
    read = validated("data", DataConfig, {"name": own.name, "size": size or None, "channels": channels, **kept})
    items = "endless data" if own.size is None else f"{own.size:,} items"
    note = f"{items} of shape {'x'.join(map(str, own.shape))}, passed from Python: all are trained on, none is held out"
    return replace(run, data=read, notes=(*run.notes, note))
