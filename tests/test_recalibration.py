"""BatchNorm's statistics of saved weights, recomputed from real items."""

from pathlib import Path

import pytest
import torch
from helpers import same, tiny_run, weights
from safetensors.torch import load_file

import genzoo
from genzoo import Trainer
from genzoo.data import open_dataset
from genzoo.data.batches import to_float
from genzoo.data.sets import some
from genzoo.nn.batchnorm import batchnorms
from genzoo.noise import generator
from genzoo.runs.checkpoint import Checkpoints
from genzoo.runs.recalibration import CHUNK, ITEMS, even

FEW = "data.limit=130"  # two chunks


@pytest.fixture(scope="module", params=["introvae", "softintrovae", "vae"])
def runs(request, tmp_path_factory):
    """The same run with running averages and with recomputed ones."""
    folder = tmp_path_factory.mktemp("recalibration")
    for asked in ("false", "true"):
        Trainer(tiny_run(request.param, FEW, f"train.recalibrate={asked}"), out=folder / asked, progress=False).fit()
    return folder


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint."""
    saved = Checkpoints(run / "checkpoints", keep=2)
    folder = run / "checkpoints" / f"{saved.steps()[-1]:09d}"
    paths = sorted(folder.glob("*.safetensors"))
    return {f"{path.name}:{name}": value for path in paths for name, value in load_file(path).items()}


def test_training_does_not_notice(runs):
    """The losses and the last checkpoint are those of the run without: statistics are restored after a snapshot."""
    before, after = (checkpoint(runs / asked) for asked in ("false", "true"))
    assert before and same(before, after)


def test_saved_statistics_are_averages_over_real_items_and_their_latents(runs):
    """By forward hooks: mean and unbiased variance of each layer's input, averaged over the batches."""
    model, config = genzoo.load(runs / "true"), tiny_run("vae", FEW).data
    dataset = open_dataset(config, progress=False)
    x = to_float(some(dataset, ITEMS, generator(0, "recalibrated")).x, torch.device("cpu"))
    rng, layers = generator(0, "recalibrated latents"), batchnorms(model)
    seen = {layer: [] for layer in layers}
    saved = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]

    def note(layer, args):
        values = args[0].transpose(0, 1).flatten(1)
        seen[layer].append((values.mean(1), values.var(1)))

    for layer in layers:
        layer.register_forward_pre_hook(note)
        layer.train()
    with torch.no_grad():
        for part in x.split(65):
            model.decode(model.encode(part).latent_dist.sample(rng))
    for layer, (mean, var) in zip(layers, saved, strict=True):
        assert len(seen[layer]) == 2
        torch.testing.assert_close(mean, torch.stack([m for m, _ in seen[layer]]).mean(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(var, torch.stack([v for _, v in seen[layer]]).mean(0), rtol=1e-3, atol=1e-4)


def test_chunks_are_of_about_the_same_size():
    for n in (1, 2, 127, 128, 129, 130, 257, 511, 512):
        sizes = [len(part) for part in torch.zeros(n).split(even(n))]
        assert max(sizes) <= CHUNK and max(sizes) - min(sizes) < len(sizes)


def test_the_weights_are_the_same_and_the_statistics_are_not(runs):
    plain, recalibrated = (weights(runs / asked) for asked in ("false", "true"))
    differ = {name.rpartition(".")[2] for name in plain if not torch.equal(plain[name], recalibrated[name])}
    assert differ == {"running_mean", "running_var", "num_batches_tracked"}


def test_networks_without_batchnorm_are_left_alone(tmp_path):
    for asked in ("false", "true"):
        run = tiny_run("introvae", "arch.norm=group", f"train.recalibrate={asked}")
        Trainer(run, out=tmp_path / asked, progress=False).fit()
    assert same(weights(tmp_path / "false"), weights(tmp_path / "true"))
