"""Model cards: what a shared model is, where its settings come from, and how to use it."""

from typing import TYPE_CHECKING

from huggingface_hub import ModelCard, ModelCardData

from genzoo.registry import split_name
from genzoo.spec import RunConfig

if TYPE_CHECKING:
    from genzoo.models.autoencoder import Autoencoder

USE = """## Use

```python
import genzoo

model = genzoo.load("PATH OR HUB ID")
images = model.sample(16)                      # [16, {shape}]
z = model.encode(images).latent_dist.mean      # [16, {z_dim}]
again = model.decode(z).sample
```
"""


def default_card(model: "Autoencoder") -> str:
    """A card from what the model itself knows."""
    name = model.config.preset or type(model).__name__
    return _card(name, _use(model))


def run_card(run: RunConfig, model: "Autoencoder", *, nimg: int, score: float, n: int, averaged: bool, pictured: bool) -> str:
    """A card with the run's provenance: preset, data, images seen, score; `pictured`: a preview.png lies beside it."""
    spec, preset_name = split_name(run.model)
    preset = spec.presets[preset_name]
    size = "x".join(map(str, model.shape[1:])) if model.is_image else f"vectors of {model.shape[0]} numbers"
    rows = {
        "model": f"{spec.name}: {spec.summary} ({spec.paper})",
        "preset": f"{run.model}; source: {preset.source}",
        "deviations": preset.deviations,
        "published score": preset.expected,
        "data": f"{run.data.name}, split {run.data.split}, {size}",
        "images seen": f"{nimg:,}",
        "weights": "exponential moving average, BatchNorm statistics averaged with them" if averaged else "as trained",
        "sliced Wasserstein distance": f"{score:.4f} (at most 16x16 pixels, {n} samples and held-out images; a progress score, no FID)",
    }
    table = "| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows.items())
    picture = "Rows: real, reconstructed, sampled (twice).\n\n" * model.is_image + "![preview](preview.png)\n"
    return _card(run.model, f"{table}\n{picture * pictured}\n{_use(model)}")


def _use(model: "Autoencoder") -> str:
    return USE.format(shape=", ".join(map(str, model.shape)), z_dim=model.arch.z_dim)


def _card(name: str, body: str) -> str:
    data = ModelCardData(library_name="genzoo", tags=["genzoo", name.partition(".")[0], "autoencoder", "image-generation"], model_name=name)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {name}\n\n{body}"))
