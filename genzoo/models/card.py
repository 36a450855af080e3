"""Model cards: what a shared model is, and how to use it."""

from typing import TYPE_CHECKING

from huggingface_hub import ModelCard, ModelCardData

from genzoo.markdown import escaped
from genzoo.models.autoencoder import Autoencoder

if TYPE_CHECKING:
    from genzoo.models.generative import Generative

SAMPLE = """import genzoo

model = genzoo.load("PATH OR HUB ID")
images = model.sample(16)                      # [16, {shape}]
"""
ENCODE = """z = model.encode(images).latent_dist.mean      # [16, {latent}]
again = model.decode(z).sample
"""
LICENSE = """## License

Not stated yet. Whoever shares these weights writes theirs, which depends on the training data too, to `license` at the
top of this file.
"""


def default_card(model: "Generative") -> str:
    """Returns a card made from the model's own configuration."""
    return card(model, f"Samples are drawn from {prior_text(model)}.\n\n{usage(model)}")


def usage(model: "Generative") -> str:
    """Returns the section that shows how to load and use a model."""
    code = SAMPLE + ENCODE * isinstance(model, Autoencoder)
    shape, latent = (", ".join(map(str, sizes)) for sizes in (model.shape, model.latent_shape))
    return f"## Use\n\n```python\n{code.format(shape=shape, latent=latent)}```\n"


def prior_text(model: "Generative") -> str:
    """Says what `sample` draws latents from."""
    fitted = model.fitted_prior
    if fitted is None:
        return f"`{model.prior_name()}`, the model's own prior"
    return f'`{fitted.name}`, {fitted.about}; `prior="{model.prior.kind}"` is the model\'s own'


def card(model: "Generative", body: str) -> str:
    """Returns a model card: metadata for the hub, a title, `body`, and what is to be done about the license."""
    name = " ".join((model.config["preset"] or type(model).__name__).split())
    kinds = ["autoencoder"] if isinstance(model, Autoencoder) else []
    data = ModelCardData(
        library_name="genzoo",
        license="unknown",
        tags=["genzoo", name.partition(".")[0], *kinds, "image-generation"],
        model_name=name,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {escaped(name)}\n\n{body}\n{LICENSE}"))
