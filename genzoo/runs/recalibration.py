"""BatchNorm's statistics of the weights that a run saves, recomputed from its training data."""

from collections.abc import Iterator
from contextlib import contextmanager

from genzoo.data import Dataset
from genzoo.data.batches import as_real
from genzoo.data.sets import some
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.generative import Generative
from genzoo.nn.batchnorm import batchnorms, recalibrate, restored
from genzoo.noise import generator

ITEMS, CHUNK = 512, 128  # training items, and how many are passed at once at most


def even(n: int) -> int:
    """The size of chunks of about the same size, as each counts as much as another in the average."""
    return -(-n // -(-n // CHUNK))


@contextmanager
def recalibrated(model: Generative, dataset: Dataset, labels: str | None, seed: int) -> Iterator[None]:
    """Recomputes BatchNorm's statistics over what a saved model is used for, real items and their latents; on exit they
    are as before.

    Adversarial training passes generated items and prior samples through the same layers, each batch with its own
    statistics, so that running averages are those of a mixture. For averaged weights this is SWA's `update_bn`
    (Izmailov et al. 2018, Section 3.2). Models that do not encode, or have no BatchNorm, are left alone.

    Args:
        model: in eval mode.
        dataset: what it was trained on.
        labels: the name of the labels that the model takes, if any.
        seed: of the choice of items and of their posterior samples.
    """
    if not isinstance(model, Autoencoder) or not (layers := batchnorms(model)):
        yield
        return

    def run() -> None:
        items = as_real(some(dataset, ITEMS, generator(seed, "recalibrated"), labels), model.device)
        rng = generator(seed, "recalibrated latents")
        for part in items.split(even(len(items.x))):
            model.decode(model.encode(part.x, part.labels).latent_dist.sample(rng), part.labels)

    with restored(layers):
        recalibrate(model, run)
        yield
