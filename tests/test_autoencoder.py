"""The model that is shared: save, load, card, and the interface of diffusers' autoencoders."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm
import torch
from helpers import same
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

import genzoo
from genzoo import hub
from genzoo.errors import UsageError
from genzoo.factory import build_objective
from genzoo.items import Items
from genzoo.models.autoencoder import Autoencoder, PointCode, Posterior, can_encode
from genzoo.models.generative import Generative
from genzoo.models.introvae import IntroVAE
from genzoo.models.vae import VAE
from genzoo.nn import build_decoder, build_encoder
from genzoo.noise import Noise
from genzoo.objective import Progress, Spaces, phases
from genzoo.priors import Prior
from genzoo.registry import get_spec
from genzoo.spec import ArchConfig


@pytest.fixture
def model():
    return genzoo.create_model("introvae", shape=(3, 16, 16), channels=(4, 8), z_dim=5).eval()


def assert_same_model(loaded: Autoencoder, model: Autoencoder, x: torch.Tensor) -> None:
    """Weights, buffers and outputs are equal bit for bit."""
    assert same(dict(loaded.state_dict()), dict(model.state_dict()))
    for a, b in (
        (loaded.encode(x).latent_dist.mean, model.encode(x).latent_dist.mean),
        (loaded(x).sample, model(x).sample),
    ):
        assert torch.equal(a, b)


def test_create_model_takes_names_presets_and_overrides():
    model = genzoo.create_model("introvae.celeba128", z_dim=8)
    assert (type(model).__name__, model.shape, model.arch.z_dim) == ("IntroVAE", (3, 128, 128), 8)
    assert model.arch.channels == (64, 128, 256, 512, 512)
    with pytest.raises(UsageError, match="Did you mean"):
        genzoo.create_model("introvae", zdim=3)


def test_a_saved_model_is_read_back_bit_for_bit(model):
    model.save_pretrained("saved")
    assert {path.name for path in Path("saved").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "README.md",
    }
    x = torch.rand(2, 3, 16, 16)
    for again in (IntroVAE.from_pretrained("saved").eval(), genzoo.load("saved")):
        assert type(again) is IntroVAE
        assert_same_model(again, model, x)
    config = json.loads(Path("saved/config.json").read_text())
    assert config["preset"] == "introvae.toyfaces32"
    assert config["arch"]["norm_place"] == "after"


def test_a_saved_model_keeps_its_networks_when_defaults_change(monkeypatch):
    model = IntroVAE(shape=(3, 16, 16), arch={"channels": (4, 8), "z_dim": 3}).eval()
    model.save_pretrained("saved")
    assert json.loads(Path("saved/config.json").read_text())["arch"].keys() == asdict(model.arch).keys()
    monkeypatch.setattr(IntroVAE, "arch_class", ArchConfig)  # the norms of its blocks have another place by default
    assert_same_model(IntroVAE.from_pretrained("saved").eval(), model, torch.rand(2, 3, 16, 16))


def test_pretrained_weights_are_fetched_once_and_saved_with_the_model(monkeypatch):
    asked, create = [], timm.create_model
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr(
        timm, "create_model", lambda *a, pretrained=False, **k: (asked.append(pretrained), create(*a, **k))[1]
    )
    arch = {"encoder": "timm:test_resnet", "pretrained": True, "channels": (4, 8), "z_dim": 5}
    model = genzoo.create_model("introvae", shape=(3, 32, 32), **arch).eval()
    model.save_pretrained("saved")
    assert_same_model(genzoo.load("saved"), model, torch.rand(2, 3, 32, 32))
    assert asked == [True, False, False]  # when it is loaded: without memory, then with the saved weights


def test_encode_decode_sample_reconstruct_interpolate_score(model):
    x = torch.rand(2, 3, 16, 16)
    posterior = model.encode(x).latent_dist
    assert posterior.mean.shape == posterior.logvar.shape == (2, 5)
    reference = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
    torch.testing.assert_close(posterior.kl(), reference.sum(1))
    draw = posterior.sample(torch.Generator().manual_seed(1))
    assert torch.equal(draw, posterior.sample(torch.Generator().manual_seed(1)))
    assert torch.equal(model.reconstruct(x), model.decode(posterior.mode()).sample.clamp(0, 1))
    assert torch.equal(
        model.sample(3, torch.Generator().manual_seed(2)), model.sample(3, torch.Generator().manual_seed(2))
    )
    walk = model.interpolate(x[:1], x[1:], steps=4)
    assert walk.shape == (1, 4, 3, 16, 16)
    torch.testing.assert_close(walk[0, 0], model.reconstruct(x)[0])
    torch.testing.assert_close(walk[0, -1], model.reconstruct(x)[1])
    score = model.score(x)
    torch.testing.assert_close(score["kl"], posterior.kl())
    torch.testing.assert_close(score["sse"], (model(x).sample - x).square().flatten(1).sum(1))
    assert model.has_energy and torch.equal(model.energy(x), score["kl"] + score["sse"])


def test_another_image_size_is_refused(model):
    with pytest.raises(ValueError, match=r"takes items of shape \(3, 16, 16\)"):
        model.encode(torch.rand(1, 3, 32, 32))


def test_missing_folders_are_not_taken_for_hub_ids():
    for path in ("missing", "./a/b", "/a/b"):
        with pytest.raises(UsageError, match="does not exist"):
            genzoo.load(path)
    Path("empty").mkdir()
    with pytest.raises(UsageError, match="contains no model"):
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
    with pytest.raises(UsageError, match=r"diffusion_pytorch_model.bin, a pickle file, which is never read"):
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


@pytest.mark.parametrize("name", sorted(genzoo.list_models()))
def test_a_models_settings_are_the_class_that_its_spec_names(name):
    spec = get_spec(name)
    assert spec.arch is spec.model().arch_class


def test_a_model_built_by_hand_has_its_own_residual_blocks():
    arch = {"channels": (4, 8), "z_dim": 3}
    blocks = {
        cls: [m for m in cls(shape=(3, 16, 16), arch=arch).modules() if hasattr(m, "norm_after")]
        for cls in (IntroVAE, VAE)
    }
    assert blocks[IntroVAE] and all(block.norm_after for block in blocks[IntroVAE])
    assert blocks[VAE] and not any(block.norm_after for block in blocks[VAE])


def test_an_unknown_field_of_the_networks_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match="Did you mean z_dim"):
        IntroVAE(arch={"zdim": 3})


def test_networks_are_built_in_order_and_described_to_the_objective():
    class Judged(VAE):
        code = "point"

        def critics(self):
            return {"critic": build_encoder(self.shape, self.arch, outputs=1)}

        @property
        def prior(self):
            return Prior("sphere", 2.0)

    model = Judged(shape=(1, 8, 8), arch={"channels": (4,), "z_dim": 3}, classes=("a", "b"))
    assert [name for name, _ in model.named_children()] == ["encoder", "decoder", "critic"]
    assert model.spaces == Spaces((1, 8, 8), (3,), Prior("sphere", 2.0), ("a", "b"))
    norms = []
    model.decoder.register_forward_pre_hook(lambda net, args: norms.append(args[0].norm(dim=1)))
    model.sample(5)
    torch.testing.assert_close(norms[0], torch.full((5,), 2.0))


def test_a_gaussian_code_needs_the_standard_normal_prior():
    class Wide(VAE):
        @property
        def prior(self):
            return Prior("normal", 2.0)

    with pytest.raises(UsageError, match=r"Wide has a Gaussian code.*scale=2.0.*set code = \"point\"") as caught:
        Wide(shape=(1, 8, 8), arch={"channels": (4,), "z_dim": 3})
    assert "\n" not in str(caught.value)


def test_a_generator_has_no_encoder():
    torch.manual_seed(0)
    model = Generative(shape=(1, 8, 8), arch={"channels": (4,), "z_dim": 3}).eval()
    assert not isinstance(model, Autoencoder) and not can_encode(model)
    assert [name for name, _ in model.named_children()] == ["decoder"]
    model.save_pretrained("saved")
    assert ".encode(" not in Path("saved/README.md").read_text()
    again, rng = Generative.from_pretrained("saved").eval(), torch.Generator()
    assert torch.equal(again.sample(2, rng.manual_seed(1)), model.sample(2, rng.manual_seed(1)))


def test_a_point_code_has_no_kl():
    class Plain(VAE):
        code = "point"

    model, x = Plain(shape=(1, 8, 8), arch={"channels": (4,), "z_dim": 3}).eval(), torch.rand(2, 1, 8, 8)
    posterior = model.encode(x).latent_dist
    assert isinstance(posterior, PointCode)
    assert torch.equal(posterior.mode(), model.encoder(x)) and torch.equal(posterior.sample(), posterior.mean)
    assert model.score(x).keys() == {"sse"} and can_encode(model) and not model.has_energy
    assert model.interpolate(x, x, 3).shape == (2, 3, 1, 8, 8)


class Labeled(VAE):
    """p(x|z, y) and q(z|x, y) by one-hot labels beside latents and as constant planes, and p(z|y) = N(y, I)."""

    conditional = True

    def networks(self):
        k, channels = len(self.classes), self.shape[0]
        return {
            "encoder": build_encoder((channels + k, *self.shape[1:]), self.arch),
            "decoder": build_decoder(self.shape, replace(self.arch, z_dim=self.arch.z_dim + k)),
        }

    def encoder_input(self, x: Tensor, labels: Tensor) -> Tensor:
        planes = functional.one_hot(labels, len(self.classes))[..., None, None].expand(-1, -1, *x.shape[2:])
        return torch.cat([x, planes.to(x.dtype)], dim=1)

    def decoder_input(self, z: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([z, functional.one_hot(labels, len(self.classes)).to(z.dtype)], dim=1)

    def draw_latents(self, n: int, generator: torch.Generator | None, labels: Tensor) -> Tensor:
        return super().draw_latents(n, generator, labels) + labels[:, None]


def test_a_conditional_model_takes_labels_everywhere():
    model = Labeled(shape=(1, 8, 8), arch={"channels": (4,), "z_dim": 3}, classes=("a", "b", "c")).eval()
    x, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    images = model.sample(4, torch.Generator().manual_seed(0), labels)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    torch.testing.assert_close(images, model.decode(z, labels).sample.clamp(0, 1))
    assert not torch.allclose(images, model.sample(4, torch.Generator().manual_seed(0), labels.flip(0)))
    walk = model.interpolate(x, x, 3, labels)
    torch.testing.assert_close(walk[:, 1], model.reconstruct(x, labels))
    assert set(model.score(x, labels)) == {"kl", "sse"} and not can_encode(model) and not model.has_energy
    assert model.classes_in_turn(4, start=2).tolist() == [2, 0, 1, 2]
    model.save_pretrained("saved")
    again = Labeled.from_pretrained("saved").eval()
    assert again.classes == ("a", "b", "c")
    assert torch.equal(again.sample(4, torch.Generator().manual_seed(0), labels), images)


@pytest.mark.parametrize(
    ("labels", "fix"),
    [
        (None, r"give labels, int64 \[2\], numbers of \('a', 'b'\)"),
        (torch.tensor([0, 2]), "from 0 to 1"),
        (torch.tensor([0]), r"give int64 \[2\]"),
        (torch.tensor([0.0, 1.0]), r"give int64 \[2\]"),
    ],
)
def test_wrong_labels_are_refused(labels, fix):
    model = Labeled(shape=(1, 8, 8), arch={"channels": (4,), "z_dim": 3}, classes=("a", "b"))
    with pytest.raises(UsageError, match=fix) as caught:
        model.sample(2, labels=labels)
    assert "\n" not in str(caught.value)


def test_labels_and_classes_are_asked_for_where_they_mean_something(model):
    with pytest.raises(UsageError, match="IntroVAE is not conditional"):
        model.sample(2, labels=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(UsageError, match="Labeled is conditional: it needs `classes`"):
        Labeled(shape=(1, 8, 8), arch={"channels": (4,)})


@pytest.fixture
def on_a_grid():
    return genzoo.create_model("introvae", shape=(3, 16, 16), channels=(4, 8), z_dim=5, latent="grid").eval()


def test_every_operation_works_on_a_grid(on_a_grid):
    model, x = on_a_grid, torch.rand(2, 3, 16, 16)
    assert model.latent_shape == (5, 4, 4)
    posterior = model.encode(x).latent_dist
    assert isinstance(posterior, Posterior)
    assert posterior.mean.shape == posterior.sample().shape == (2, 5, 4, 4)
    reference = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(posterior.kl(), reference)
    torch.testing.assert_close(model.score(x)["kl"], reference)
    assert model.sample(3).shape == (3, 3, 16, 16)
    walk = model.interpolate(x[:1], x[1:], steps=3)
    torch.testing.assert_close(walk[0, 2], model.reconstruct(x)[1])


@pytest.mark.parametrize("name", ["vae", "introvae", "softintrovae"])
def test_an_objective_steps_on_a_grid(name):
    run = genzoo.resolve(name, settings=["data.size=16x16", "arch.channels=4,8", "arch.z_dim=2", "arch.latent=grid"])
    model = genzoo.create_model(name, shape=(3, 16, 16), channels=(4, 8), z_dim=2, latent="grid")
    objective, at = build_objective(run, model.spaces), Progress(step=10**6, batch=4, total_nimg=10**6)
    x = torch.rand(4, 3, 16, 16)
    batch = objective.draw(Items(x), Noise(seed=0, step=0, batch=4, start=0, stop=4, like=x))
    assert batch.eps.shape == (4, 2, 4, 4)
    mean, logvar = model.encoder(x)
    kl = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    for number, phase in enumerate(phases(objective, model, [[batch]], at)):
        if number == 0:
            torch.testing.assert_close(phase.logs["kl/real"], kl.detach())
        assert all(value.isfinite() for value in phase.logs.values())
        for role in phase.trains:
            gradients = [p.grad for p in model.get_submodule(role).parameters() if p.grad is not None]
            assert gradients and all(gradient.isfinite().all() for gradient in gradients)
        model.zero_grad()


def test_weights_are_aligned_after_loading(model):
    model.save_pretrained("saved")
    assert all(p.data_ptr() % 64 == 0 for p in genzoo.load("saved").parameters())


def test_the_hub_is_asked_once_for_a_config(monkeypatch, model):
    model.save_pretrained("saved")
    asked = []

    def download(repo_id, filename, **_):
        asked.append(filename)
        return f"saved/{filename}"

    monkeypatch.setattr(hub, "download", download)
    monkeypatch.setattr(IntroVAE, "read", classmethod(lambda cls, source, **_: model))
    assert genzoo.load("owner/name") is model
    assert asked == ["config.json"]


@pytest.mark.parametrize("reachable", [True, False])
def test_without_network_only_the_hubs_cache_is_asked_for_weights(monkeypatch, model, reachable):
    model.save_pretrained("saved")
    asked = []

    def download(repo_id, filename, local_files_only=False, **_):
        asked.append((filename, local_files_only))
        return f"saved/{filename}"

    monkeypatch.setattr(hub, "is_reachable", lambda: reachable)
    monkeypatch.setattr(hub, "download", download)
    monkeypatch.setattr(hub, "download_optional", lambda repo_id, filename, **_: None)
    for source in ("owner/name", "saved"):
        genzoo.load(source)
    files = ["config.json", "diffusion_pytorch_model.safetensors"]
    assert asked == [("config.json", False), *((name, not reachable) for name in files)]
