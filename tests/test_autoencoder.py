"""The model that is shared: save, load, card, and the interface of diffusers' autoencoders."""

import json
from pathlib import Path

import pytest
import timm
import torch

import genzoo
from genzoo.errors import UsageError
from genzoo.models.introvae import IntroVAE


@pytest.fixture
def model():
    return genzoo.create_model("introvae", shape=(3, 16, 16), channels=(4, 8), z_dim=5).eval()


def test_create_model_takes_names_presets_and_overrides():
    model = genzoo.create_model("softintrovae.mnist")
    assert (type(model).__name__, model.shape, model.arch.z_dim, model.arch.channels) == ("SoftIntroVAE", (1, 28, 28), 32, (64, 128))
    with pytest.raises(UsageError, match="Did you mean"):
        genzoo.create_model("introvae", zdim=3)


def test_a_saved_model_is_read_back_bit_for_bit(model):
    model.save_pretrained("saved")
    assert {path.name for path in Path("saved").iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors", "README.md"}
    x = torch.rand(2, 3, 16, 16)
    for again in (IntroVAE.from_pretrained("saved").eval(), genzoo.load("saved")):
        assert type(again) is IntroVAE
        assert torch.equal(again.encode(x).latent_dist.mean, model.encode(x).latent_dist.mean)
        assert torch.equal(again(x).sample, model(x).sample)
    config = json.loads(Path("saved/config.json").read_text())
    assert config["preset"] == "introvae.toyfaces32"
    assert config["arch"]["norm_place"] == "after"


def test_pretrained_weights_are_fetched_once_and_saved_with_the_model(monkeypatch):
    asked, create = [], timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, pretrained=False, **k: (asked.append(pretrained), create(*a, **k))[1])
    arch = {"encoder": "timm:test_resnet", "pretrained": True, "channels": (4, 8), "z_dim": 5}
    model = genzoo.create_model("introvae", shape=(3, 32, 32), **arch).eval()
    model.save_pretrained("saved")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(genzoo.load("saved")(x).sample, model(x).sample)
    assert asked == [True, False]


def test_encode_decode_sample_reconstruct_interpolate_score(model):
    x = torch.rand(2, 3, 16, 16)
    posterior = model.encode(x).latent_dist
    assert posterior.mean.shape == posterior.logvar.shape == (2, 5)
    reference = torch.distributions.kl_divergence(
        torch.distributions.Normal(posterior.mean, posterior.std), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(posterior.kl(), reference.sum(1))
    draw = posterior.sample(torch.Generator().manual_seed(1))
    assert torch.equal(draw, posterior.sample(torch.Generator().manual_seed(1)))
    assert torch.equal(model.reconstruct(x), model.decode(posterior.mode()).sample.clamp(0, 1))
    assert torch.equal(model.sample(3, torch.Generator().manual_seed(2)), model.sample(3, torch.Generator().manual_seed(2)))
    walk = model.interpolate(x[:1], x[1:], steps=4)
    assert walk.shape == (1, 4, 3, 16, 16)
    torch.testing.assert_close(walk[0, 0], model.reconstruct(x)[0])
    torch.testing.assert_close(walk[0, -1], model.reconstruct(x)[1])
    score = model.score(x)
    torch.testing.assert_close(score["kl"], posterior.kl())
    torch.testing.assert_close(score["sse"], (model(x).sample - x).square().flatten(1).sum(1))


def test_another_image_size_is_refused(model):
    with pytest.raises(ValueError, match=r"takes items of shape \(3, 16, 16\)"):
        model.encode(torch.rand(1, 3, 32, 32))


def test_missing_folders_are_not_taken_for_hub_ids():
    for path in ("missing", "./a/b", "/a/b"):
        with pytest.raises(UsageError, match="does not exist"):
            genzoo.load(path)
    Path("empty").mkdir()
    with pytest.raises(UsageError, match="holds no model"):
        genzoo.load("empty")


def test_a_foreign_config_is_refused():
    Path("foreign").mkdir()
    Path("foreign/config.json").write_text("{}")
    with pytest.raises(UsageError, match="names no preset"):
        genzoo.load("foreign")


def test_pickled_weights_are_never_loaded(model):
    model.save_pretrained("saved")
    torch.save(model.state_dict(), "saved/diffusion_pytorch_model.bin")
    Path("saved/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(OSError):
        genzoo.load("saved")


def test_push_to_hub_uploads_weights_config_and_card(model, monkeypatch):
    uploaded = {}

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, commit_message):
            uploaded[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            return "done"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert model.push_to_hub("me/faces") == "done"
    assert set(uploaded["me/faces"]) == {"config.json", "diffusion_pytorch_model.safetensors", "README.md"}
    assert b"library_name: genzoo" in uploaded["me/faces"]["README.md"]
