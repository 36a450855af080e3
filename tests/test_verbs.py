"""The verbs on models that cannot do everything, or do it differently: without an encoder, with point codes, on latent
grids.
"""

import numpy as np
import pytest
from distributions import installed
from PIL import Image
from safetensors.numpy import load_file

import genzoo
from genzoo.cli import main

MODELS = """
from dataclasses import replace
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.generative import Generative
from genzoo.models.vae import SPEC

class Points(Autoencoder):
    code = "point"

class Blind(Generative):
    pass

POINTS = replace(SPEC, name="points", model=lambda: Points)
BLIND = replace(SPEC, name="blind", model=lambda: Blind)
"""
POINTS = {"points": "elsewhere_models:POINTS", "blind": "elsewhere_models:BLIND"}
ARCH = {"shape": (3, 16, 16), "channels": (4, 8), "z_dim": 5}


@pytest.fixture(autouse=True)
def models(monkeypatch, tmp_path):
    """Two models of another distribution, and an image."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save("a.png")
    with installed(monkeypatch, tmp_path / "site", "genzoo.models", POINTS, elsewhere_models=MODELS):
        yield


@pytest.mark.parametrize("verb", ["reconstruct", "encode", "interpolate"])
def test_a_model_without_encoder_is_refused_in_one_line(verb, capsys):
    genzoo.create_model("blind", **ARCH).save_pretrained("saved")
    assert main([verb, "saved", "a.png"]) == 2
    message = capsys.readouterr().err
    assert f"saved holds a Blind, which has no encoder, and `genzoo {verb}` needs one" in message
    assert len(message.splitlines()) == 1
    assert main(["sample", "saved", "--n", "4"]) == 0
    assert main(["sample", "saved", "--prior", "gmm"]) == 2
    assert "has no fitted prior, as it has no encoder: take normal" in capsys.readouterr().err


def test_a_point_code_is_encoded_to_its_mean_only(capsys):
    model = genzoo.create_model("points", **ARCH).eval()
    model.save_pretrained("saved")
    assert main(["encode", "saved", "a.png", "--out", "z.npz"]) == 0
    assert "mean of 1 items, 5 latent dimensions" in capsys.readouterr().out
    assert set(np.load("z.npz")) == {"mean", "path"}


def test_latents_on_a_grid_are_encoded(capsys):
    genzoo.create_model("introvae", latent="grid", **ARCH).save_pretrained("saved")
    assert main(["encode", "saved", "a.png", "a.png", "--out", "z.safetensors"]) == 0
    assert "mean and logvar of 2 items, 5x4x4 latent dimensions" in capsys.readouterr().out
    arrays = load_file("z.safetensors")
    assert arrays["mean"].shape == arrays["logvar"].shape == (2, 5, 4, 4)
    kl = 0.5 * (arrays["mean"] ** 2 + np.exp(arrays["logvar"]) - 1 - arrays["logvar"]).sum((1, 2, 3))
    np.testing.assert_allclose(arrays["kl"], kl, rtol=1e-5)
    for verb in ("reconstruct", "interpolate"):
        assert main([verb, "saved", "a.png", "a.png", "--out", f"{verb}.png"]) == 0


def test_out_of_distribution_scores_need_an_encoder(capsys):
    genzoo.create_model("blind", **ARCH).save_pretrained("saved")
    assert main(["ood", "saved", "--out-data", "noise"]) == 2
    assert "saved holds a Blind, which has no encoder" in capsys.readouterr().err


def test_the_error_of_a_point_code_is_an_out_of_distribution_score(capsys):
    genzoo.create_model("points", **ARCH).save_pretrained("saved")
    command = ["ood", "saved", "--data", "toyfaces", "--out-data", "noise", "--n", "6", "--out", "a.png"]
    assert main(command) == 2
    assert "--scores kl: the encoder of saved outputs points: take sse, --scores sse" in capsys.readouterr().err
    assert main([*command, "--scores", "sse", "--set", "data.limit=40"]) == 0
    assert "a.jsonl: 2 lines added" in capsys.readouterr().out
