"""The model card of a run: the provenance of its weights."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genzoo import hub
from genzoo.changes import changed_settings
from genzoo.dataspec import reading
from genzoo.markdown import escaped
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.card import card, prior_text, usage
from genzoo.models.generative import Generative
from genzoo.registry import split_name
from genzoo.settings import show
from genzoo.spec import DataConfig, RunConfig


def run_card(
    run: RunConfig,
    model: Generative,
    *,
    nimg: int,
    score: float,
    n: int,
    heldout: str | None,
    averaged: bool,
    pictured: bool,
) -> str:
    """Returns a model card with a run's provenance.

    Args:
        run: what was trained.
        model: with the weights to describe.
        nimg: images seen.
        score: distance of `n` samples to as many real items; see `genzoo.metrics.pyramid`, or `sliced` for vectors.
        n: samples scored.
        heldout: the split that these are from; None = training items.
        averaged: whether these are averaged (EMA) weights.
        pictured: whether a preview.png lies beside the card.
    """
    spec, preset_name = split_name(run.model)
    preset = spec.presets[preset_name or spec.default_preset]
    size = "x".join(map(str, model.shape[1:])) if model.is_image else f"vectors of {model.shape[0]} numbers"
    rows = {
        "model": f"{spec.name}: {spec.summary} ({spec.paper})",
        "preset": f"{run.model}; source: {preset.source}",
        "other settings": ", ".join(_other_settings(run)) or "none",
        "deviations": preset.deviations,
        "published score": preset.expected,
        "data": escaped(f"{shared_name(run.data.name)}, split {run.data.split}, {size}"),
        "read with": escaped(
            ", ".join(f"{key}={show(value)}" for key, value in _chosen_reading(run.data)) or "defaults"
        ),
        "images seen": f"{nimg:,}",
        "weights": "exponential moving average" if averaged else "as trained",
        "BatchNorm": "statistics recomputed on training data" if run.train.recalibrate else "running averages",
        "samples from": prior_text(model),
        "Fréchet distance over a Laplacian pyramid" if model.is_image else "sliced Wasserstein distance": (
            f"{score:.4f} ({n} samples and as many {_kind(heldout)}; a progress score, not an FID)"
        ),
    }
    table = "| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows.items())
    sampled = f"sampled from {model.prior_name()} (twice)"
    shown = f"real, reconstructed, {sampled}" if isinstance(model, Autoencoder) else f"real, {sampled}"
    picture = f"Rows: {shown}.\n\n" * model.is_image + "![preview](preview.png)\n"
    return card(model, f"{table}\n{picture * pictured}\n{usage(model)}")


def with_section(card: str, title: str, text: str) -> str:
    """Puts a section into a model card, before the one on use where there is one, in place of its earlier version."""
    others = re.sub(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", "", card, flags=re.MULTILINE | re.DOTALL)
    use = re.search(r"^## Use$", others, re.MULTILINE)
    before, after = (others[: use.start()], others[use.start() :]) if use else (others, "")
    return f"{before.rstrip()}\n\n## {title}\n\n{text}\n\n{after}"


def shared_name(data: str) -> str:
    """Names a dataset for others: of a path its last part, as the rest is private; else the name or id as it is."""
    path = Path(data).expanduser()
    if not path.exists() and (hub.is_id(data.partition(":")[0]) or path.name == data):
        return data
    return Path(os.path.abspath(path)).name


def _kind(heldout: str | None) -> str:
    return "items that were trained on" if heldout is None else f"held-out items, split {heldout}"


def _other_settings(run: RunConfig) -> Iterator[str]:
    """What differs from the preset, but for the data, which has rows of its own."""
    for name, value in changed_settings(run).items():
        if not name.startswith("data."):
            yield escaped(f"{name}={show(value)}")


def _chosen_reading(data: DataConfig) -> Iterator[tuple[str, Any]]:
    """What decides how images are read and is not the default; split and size have places of their own."""
    defaults = reading(DataConfig())
    for name, value in reading(data).items():
        if value != defaults[name] and name not in ("split", "size"):
            yield f"data.{name}", value
