"""Labels from a dataset through batches, draw and step into a conditional model, its snapshots and its samples."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from helpers import same, weights
from PIL import Image
from torch import Tensor
from torch.nn.functional import one_hot

import genzoo
from genzoo import Trainer, registry, resolve
from genzoo.cli import main
from genzoo.data import open_dataset
from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.models.autoencoder import Autoencoder
from genzoo.nn import build_decoder
from genzoo.noise import Noise, generator
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


class Labeled(Autoencoder):
    """A VAE whose decoder sees the class beside the latent."""

    conditional = True

    def networks(self):
        wider = replace(self.arch, z_dim=self.arch.z_dim + len(self.classes))
        return {**super().networks(), "decoder": build_decoder(self.shape, wider)}

    with_labels: ClassVar[list[Tensor]] = []  # that the decoder was given

    def decoder_input(self, z: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        self.with_labels.append(labels)
        return torch.cat([z, one_hot(labels, len(self.classes)).to(z.dtype)], dim=1)


class Batch(NamedTuple):
    x: Tensor
    labels: Tensor
    eps: Tensor


SEEN: list[tuple[int, Tensor, Tensor]] = []


class LabeledObjective(Objective):
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
    spec = replace(get_spec("vae"), name="labeled", model=lambda: Labeled, objective=LabeledObjective)
    genzoo.register_model(spec)


def test_every_item_keeps_its_label_and_the_model_samples_classes():
    run = Trainer(resolve("labeled", settings=[*SETTINGS, "data.labels=label"]), out="run", progress=False).fit()
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
            Trainer(resolve("labeled", settings=settings), out=out, progress=False).fit()
    assert same(weights(Path("straight")), weights(Path("halves")))


def test_a_dry_run_knows_the_number_of_classes():
    assert "networks:" in plan(resolve("labeled", settings=[*SETTINGS, "data.labels=label"]))
    with pytest.raises(UsageError, match="known with the data only"):
        plan(resolve("labeled", settings=[*SETTINGS, "data.labels=label", "data.name=owner/name"]))


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ((), r"set data\.labels"),
        (("data.labels=style",), r"label"),
        (("data.name=8gaussians", "data.labels=label"), "digits"),
        (("data.name=toyfaces", "data.limit=64", "data.channels=3", "data.size=16x16", "data.labels=hair"), "hair_"),
    ],
    ids=["none asked for", "wrong name", "data without labels", "several kinds"],
)
def test_labels_that_are_not_there_are_refused(settings, fix):
    with pytest.raises(UsageError, match=fix) as caught:
        Trainer(resolve("labeled", settings=[*SETTINGS, *settings]), out="run", progress=False)
    assert "\n" not in str(caught.value)


def test_the_command_line_samples_encodes_and_reconstructs_with_labels(capsys):
    settings = [*SETTINGS, "data.labels=label", "train.duration=16"]
    run = str(Trainer(resolve("labeled", settings=settings), out="run", progress=False).fit())
    assert main(["sample", run, "--n", "12", "--out", "many"]) == 0
    assert "12 images, of 10 classes in turn, prior normal" in capsys.readouterr().out
    assert main(["sample", run, "--prior", "gmm"]) == 2
    assert "has no fitted prior, as it encodes with labels: take normal" in capsys.readouterr().err
    model = genzoo.load(run)
    expected = model.sample(12, generator(0, "sample"), torch.arange(12) % 10)[:, 0]
    images = [np.asarray(Image.open(path).convert("L")) / 255 for path in sorted(Path("many").iterdir())]
    np.testing.assert_allclose(np.stack(images), expected, atol=0.003)
    assert main(["encode", run, "--out", "z.npz", "--n", "20"]) == 0
    z = np.load("z.npz")
    assert z["mean"].shape == (20, 4) and z["label"].shape == (20,)
    Labeled.with_labels.clear()
    assert main(["reconstruct", run, "--out", "pairs.png", "--n", "20"]) == 0
    assert torch.cat(Labeled.with_labels).tolist() == z["label"].tolist()  # the same items, by the same seed


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (["encode", "saved", "a.png"], "take images of a dataset, --data"),
        (["reconstruct", "saved", "a.png"], "take images of a dataset, --data"),
        (["interpolate", "saved", "a.png", "a.png"], "model.interpolate"),
        (["encode", "saved", "--data", "digits"], "--set data.labels=label"),
        (["encode", "saved", "--data", "digits", "--set", "data.labels=label"], "are not those of saved, a, b"),
    ],
)
def test_a_verb_without_the_labels_that_a_model_needs_is_refused_in_one_line(args, fix, capsys):
    genzoo.create_model("labeled", shape=(1, 8, 8), classes=("a", "b"), channels=(8,), z_dim=4).save_pretrained("saved")
    Image.new("L", (8, 8)).save("a.png")
    assert main(args) == 2
    message = capsys.readouterr().err
    assert fix in message and len(message.splitlines()) == 1
