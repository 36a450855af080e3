"""Labels on their way: from a dataset through batches, draw and step into a conditional model, its snapshots and
samples.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers import same, weights
from torch import Tensor
from torch.nn.functional import one_hot

import genzoo
from genzoo import Trainer, registry, resolve
from genzoo.data import open_dataset
from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.models.autoencoder import Autoencoder
from genzoo.nn import build_decoder
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Step, Update, detached
from genzoo.registry import get_spec
from genzoo.training.plan import plan

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = (
    "data.name=digits",
    "data.size=8x8",
    "data.channels=1",
    "arch.channels=8",
    "arch.z_dim=4",
    "train.batch=16",
    "train.duration=96",
    "train.snapshot_every=50%",
)


class Labelled(Autoencoder):
    """A VAE whose decoder sees the class beside the latent."""

    conditional = True

    def networks(self):
        wider = replace(self.arch, z_dim=self.arch.z_dim + len(self.classes))
        return {**super().networks(), "decoder": build_decoder(self.shape, wider)}

    def decoder_input(self, z: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        return torch.cat([z, one_hot(labels, len(self.classes)).to(z.dtype)], dim=1)


class Batch(NamedTuple):
    x: Tensor
    labels: Tensor
    eps: Tensor


SEEN: list[tuple[int, Tensor, Tensor]] = []


class LabelledObjective(Objective):
    def draw(self, items: Items, noise: Noise) -> Batch:
        assert items.labels is not None
        return Batch(items.x, items.labels, noise.normal("eps", *self.spaces.latent))

    def step(self, nets: Any, batch: Batch, at: Progress) -> Step:
        SEEN.append((at.step, batch.x, batch.labels))
        mu, logvar = nets.encoder(batch.x)
        z = nets.decoder_input(reparameterize(mu, logvar, batch.eps), batch.labels)
        loss = sse(batch.x, nets.decoder(z)).mean() + 0.1 * kl_to_prior(mu, logvar).mean()
        yield Update(("encoder", "decoder"), loss, detached({"loss/elbo": loss}))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    SEEN.clear()
    monkeypatch.setattr(registry, "_registered", {})
    spec = replace(get_spec("vae"), name="labelled", model=lambda: Labelled, objective=LabelledObjective)
    genzoo.register_model(spec)


def test_every_item_keeps_its_label_and_the_model_samples_classes():
    run = Trainer(resolve("labelled", settings=[*SETTINGS, "data.labels=label"]), out="run", progress=False).fit()
    dataset = open_dataset(resolve("vae", settings=SETTINGS).data)
    images, labels = dataset.batch(range(dataset.size)), dataset.labels()["label"]
    by_image = {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    steps = [step for step, _, _ in SEEN]
    assert steps == list(range(6))
    for _, x, seen in SEEN:
        pixels = (x * 255).round().to(torch.uint8)
        assert [by_image[image.contiguous().numpy().tobytes()] for image in pixels] == seen.tolist()
    model = genzoo.load(run)
    assert model.classes == tuple("0123456789")
    assert model.sample(3, labels=torch.tensor([0, 5, 9])).shape == (3, 1, 8, 8)
    assert (run / "preview.png").exists()


def test_a_resumed_run_sees_the_same_labels():
    for out, durations in (("straight", (96,)), ("halves", (48, 96))):
        for duration in durations:
            settings = [*SETTINGS, "data.labels=label", f"train.duration={duration}", "train.accumulate=2"]
            Trainer(resolve("labelled", settings=settings), out=out, progress=False).fit()
    assert same(weights(Path("straight")), weights(Path("halves")))


def test_a_dry_run_knows_the_number_of_classes():
    assert "networks:" in plan(resolve("labelled", settings=[*SETTINGS, "data.labels=label"]))
    with pytest.raises(UsageError, match="known with the data only"):
        plan(resolve("labelled", settings=[*SETTINGS, "data.labels=label", "data.name=owner/name"]))


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ((), r"set data\.labels"),
        (("data.labels=style",), r"label"),
        (("data.name=8gaussians", "data.labels=label"), "digits"),
        (("data.name=toyfaces", "data.channels=3", "data.size=16x16", "data.labels=hair"), "hair_"),
    ],
    ids=["none asked for", "wrong name", "data without labels", "several kinds"],
)
def test_labels_that_are_not_there_are_refused(settings, fix):
    with pytest.raises(UsageError, match=fix) as caught:
        Trainer(resolve("labelled", settings=[*SETTINGS, *settings]), out="run", progress=False)
    assert "\n" not in str(caught.value)
