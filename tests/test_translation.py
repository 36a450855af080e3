"""Soft-IntroVAE with two encoders: networks, objective, exchange of class and content, and `genzoo translate`."""

import copy
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from helpers import as_options, same, tiny_run
from PIL import Image
from reference import players
from steps import LR, STEPS, TOLERANCE, N, data, distance, draw, train
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.errors import UsageError
from genzoo.metrics.transfer import transferred
from genzoo.models.softintrovae_translation import SoftIntroVAETranslation, TranslationArch
from genzoo.models.translating import mixed
from genzoo.objective import Spaces
from genzoo.registry import get_spec

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "softintrovae-translation"
ARCH = {"channels": (4, 8), "z_dim": 5, "z_class": 2}
SHAPE = (3, 8, 4)


def create(**changes) -> SoftIntroVAETranslation:
    model = genzoo.create_model(NAME, **{"shape": SHAPE, **ARCH, **changes})
    assert isinstance(model, SoftIntroVAETranslation)
    return model


def images(n: int = N, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


# ---- networks


def straight_line(p: dict[str, Tensor], z: Tensor) -> Tensor:
    """The decoder of channels 4, 8, in train mode, from its parameters: z [N, 5] -> [N, 3, 8, 4]."""

    def conv(name: str, x: Tensor) -> Tensor:
        weight = p[f"main.{name}.weight"]
        return functional.conv2d(x, weight, p.get(f"main.{name}.bias"), padding=weight.shape[-1] // 2)

    def normalized(name: str, x: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, p[f"main.{name}.weight"], p[f"main.{name}.bias"], training=True)

    def block(name: str, x: Tensor, upsampled: bool) -> Tensor:
        x = functional.interpolate(x, scale_factor=2.0) if upsampled else x
        y = functional.leaky_relu(normalized(f"{name}.branch.1", conv(f"{name}.branch.0", x)), 0.2)
        y = normalized(f"{name}.norm", conv(f"{name}.branch.3", y))
        projected = conv(f"{name}.shortcut", x) if f"main.{name}.shortcut.weight" in p else x
        return functional.leaky_relu(y + projected, 0.2)

    def adain(name: str, x: Tensor) -> Tensor:
        affine = z[:, :2] @ p[f"modulations.{name}.affine.weight"].T + p[f"modulations.{name}.affine.bias"]
        scale, shift = affine[:, : x.shape[1]], affine[:, x.shape[1] :]
        return functional.instance_norm(x, eps=1e-5) * (1 + scale)[..., None, None] + shift[..., None, None]

    x = torch.relu(z[:, 2:] @ p["head.0.weight"].T + p["head.0.bias"]).reshape(len(z), 8, 2, 1)
    x = adain("up1", block("up1.0", x, upsampled=False))
    x = adain("up2", block("up2.0", x, upsampled=True))
    x = adain("last", block("last", x, upsampled=True))
    return conv("image", x)


def test_the_decoder_is_a_straight_line_of_blocks_and_adain():
    decoder = create().double().decoder
    z = torch.randn(N, 5, dtype=torch.float64)
    ours, theirs = decoder(z), straight_line(dict(decoder.named_parameters()), z)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    parameters = list(decoder.parameters())
    weights = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), parameters),
        torch.autograd.grad((theirs * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_the_encoders_are_joined_and_their_kls_add_up():
    model, x = create().eval(), images()
    posterior = model.encode(x).latent_dist
    parts = model.encoder.class_encoder(x), model.encoder.content_encoder(x)
    assert [mu.shape[1] for mu, _ in parts] == [2, 3]
    assert torch.equal(posterior.mean, torch.cat([mu for mu, _ in parts], 1))
    kls = [kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum(1) for mu, logvar in parts]
    torch.testing.assert_close(posterior.kl(), kls[0] + kls[1])
    for ours, theirs in zip(model.kl_of_parts(x), kls, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("networks", ["conv", "shuffle"])
def test_the_class_acts_through_adain_alone(networks):
    model = create(encoder=networks, decoder=networks, shape=(3, 16, 16)).eval()
    contents, classes = torch.randn(4, 5), torch.randn(4, 5)
    swapped = mixed(classes, contents, 2)
    changes = (model.decode(swapped).sample - model.decode(contents).sample).abs().amax(dim=(1, 2, 3))
    assert (changes > 1e-4).all()
    for module in model.decoder.modulations.values():
        nn.init.zeros_(module.affine.weight)
    assert torch.equal(model.decode(swapped).sample, model.decode(contents).sample)


def test_checkpointing_keeps_the_gradients():
    model, z = create(), torch.randn(N, 5)

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(model.decoder(z).square().sum(), list(model.decoder.parameters())))

    plain = gradients()
    model.enable_gradient_checkpointing()
    assert model.decoder.gradient_checkpointing
    for a, b in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(a, b)


def test_half_of_the_latent_is_the_class_unless_a_size_is_given():
    assert [TranslationArch(z_dim=5, z_class=given).class_size for given in (None, 1, 4)] == [2, 1, 4]
    assert create(z_class=None).z_class == 2 and create(z_class=4).z_class == 4


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"z_class": 5}, "set arch.z_class between them"),
        ({"z_dim": 1, "z_class": None}, "arch.z_dim to 2 or more"),
        ({"latent": "grid"}, "set arch.latent=flat"),
        ({"shape": (2,)}, "give images, or train softintrovae"),
        ({"decoder": "mlp"}, "set arch.decoder=conv or arch.decoder=shuffle"),
        ({"channels": (4, 4, 8), "shape": (3, 8, 8)}, "set arch.channels to 2 entries"),
    ],
)
def test_networks_that_cannot_translate_are_refused(changes, fix):
    with pytest.raises(UsageError, match=fix) as caught:
        create(**changes)
    assert "\n" not in str(caught.value)


# ---- objective


@pytest.mark.parametrize("form", ["official", "paper"])
def test_the_step_is_softintrovaes_on_the_joined_latent(form):
    spec = get_spec(NAME)
    weights = {"b_kl": 0.7, "b_rec": 1.3, "b_neg": 2.0, "gamma_r": 0.4}
    options = {"beta_kl": 0.7, "beta_rec": 1.3, "beta_neg": 2.0, "gamma_r": 0.4}
    objective = spec.objective(spec.config(form=form, recompute=True, **options), Spaces(SHAPE, (5,)))
    torch.manual_seed(0)
    model = create(channels=(4,)).double()  # a map of 8 pixels: of 2, AdaIN leaves gradients that are rounding
    nets = nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder})
    start, p = copy.deepcopy(nets), players(*copy.deepcopy(nets).values(), lr=LR)
    curves, expected = train(objective, nets), []
    for step in range(STEPS):
        b = draw(objective, step, data(step))
        eps = (b.eps_e, b.eps_d) if form == "official" else (b.eps_e[1], b.eps_d[1])
        algorithm = {"official": reference.softintrovae_official, "paper": reference.softintrovae_paper}[form]
        expected.append(algorithm(p, b.x, b.eps, b.z_p, *eps, s=1 / (3 * 8 * 4), **weights, twice=True))
    for name, theirs in (("encoder", p.enc), ("decoder", p.dec)):
        assert distance(nets[name], start[name]) > LR
        assert distance(nets[name], theirs) < TOLERANCE
    for got, want in zip(curves, expected, strict=True):
        assert got == pytest.approx({name: want[name] for name in got}, rel=1e-10)


def test_both_encoders_and_all_modulations_are_trained():
    spec, model = get_spec(NAME), create().double()
    nets = nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder})
    start = {name: value.clone() for name, value in nets.named_parameters()}
    train(spec.objective(spec.config(), Spaces(SHAPE, (5,))), nets, steps=2)
    assert not [name for name, value in nets.named_parameters() if torch.equal(value, start[name])]


# ---- exchange


def test_swapping_twice_gives_the_reconstructions():
    model, x = create().eval(), images(4)
    a, b = model.encode(x[:2]).latent_dist.mode(), model.encode(x[2:]).latent_dist.mode()
    ab, ba = mixed(a, b, 2), mixed(b, a, 2)
    assert torch.equal(mixed(ab, ba, 2), a) and torch.equal(mixed(ba, ab, 2), b)
    assert not torch.equal(ab, a) and not torch.equal(ab, b)
    twice = model.shown(model.decode(mixed(ab, ba, 2)).sample)
    assert torch.equal(twice, model.reconstruct(x[:2]))


def test_translation_takes_each_code_from_its_image():
    model, x = create().eval(), images(4)
    assert torch.equal(model.translate(x, x), model.reconstruct(x))
    z_class, z_content = (encoder(x)[0] for encoder in (model.encoder.class_encoder, model.encoder.content_encoder))
    for n, translated in enumerate(model.translate(x, x.roll(1, 0))):
        z = torch.cat([z_class[n - 1], z_content[n]])[None]
        torch.testing.assert_close(translated[None], model.decoder(z).clamp(0, 1))


def test_codes_of_a_row_and_a_column_are_mixed_to_a_table():
    a, b = torch.randn(3, 5), torch.randn(2, 5)
    table = mixed(a[None], b[:, None], 2)
    assert table.shape == (2, 3, 5)
    assert torch.equal(table[1, 2], torch.cat([a[2, :2], b[1, 2:]]))


# ---- saved, trained, shown


def test_a_saved_model_is_read_back():
    model, x = create().eval(), images()
    model.save_pretrained("saved")
    for again in (SoftIntroVAETranslation.from_pretrained("saved"), genzoo.load("saved")):
        assert type(again) is SoftIntroVAETranslation and again.z_class == 2
        assert same(dict(again.state_dict()), dict(model.state_dict()))
        assert torch.equal(again.translate(x, x.flip(0)), model.translate(x, x.flip(0)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translation") / "run"
    Trainer(tiny_run(NAME), out=folder, progress=False).fit()
    return folder


def test_a_run_is_trained_and_names_its_settings_as_ours(run):
    card = (run / "model" / "README.md").read_text()
    assert "networks and settings of this application: ours" in card
    assert genzoo.load(run).sample(3, torch.Generator().manual_seed(0)).shape == (3, 3, 16, 16)


def test_the_grid_has_the_images_along_its_edges(run, capsys):
    assert main(["translate", str(run), "--n", "3", "--out", "grid.png"]) == 0
    out = capsys.readouterr().out
    assert "content of the first column with the class of the first row, 3x3 images" in out and "nats, content" in out
    pixels = np.asarray(Image.open("grid.png"))
    assert pixels.shape == (4 * 66 - 2, 4 * 66 - 2, 3) and (pixels[:64, :64] == 255).all()
    cells = [[pixels[r * 66 : r * 66 + 64 : 4, c * 66 : c * 66 + 64 : 4] for c in range(4)] for r in range(4)]
    for n in (1, 2, 3):
        assert np.array_equal(cells[0][n], cells[n][0])
        Image.fromarray(cells[0][n]).save(f"{n}.png")
    files = [torch.from_numpy(cells[0][n].copy()).permute(2, 0, 1)[None] / 255 for n in (1, 2, 3)]
    expected = genzoo.load(run).translate(files[1], files[2])[0].permute(1, 2, 0).mul(255).round()
    assert np.abs(cells[2][3] - expected.numpy()).max() <= 1  # content of the second, class of the third
    assert main(["translate", str(run), "1.png", "2.png", "3.png", "--out", "again.png"]) == 0
    assert np.abs(np.asarray(Image.open("again.png")).astype(int) - pixels).max() <= 1


def test_wrong_requests_are_refused_in_one_line(run, capsys):
    Image.effect_noise((16, 16), 50).convert("RGB").save("a.png")
    genzoo.create_model("vae", shape=(3, 16, 16), channels=(4, 8), z_dim=5).save_pretrained("single")
    for args, fix in (
        (["single", "a.png", "a.png"], "train softintrovae-translation"),
        ([str(run), "a.png"], "give two or more"),
        ([str(run), "--n", "1"], "give two or more"),
        ([str(run), "a.png", "--data", "toyfaces"], "choose one"),
        ([str(run), "a.png", "a.png", "--out", "grid.txt"], "end it in .png"),
        (["missing", "a.png", "a.png"], "does not exist"),
    ):
        assert main(["translate", *args]) == 2
        err = capsys.readouterr().err
        assert fix in err and len(err.splitlines()) == 1


def test_points_are_refused_before_training(capsys):
    assert main(["train", NAME, "--data", "8gaussians", "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert "give images, or train softintrovae" in err and len(err.splitlines()) == 1


def test_presets_say_what_is_not_published():
    for name in ("cars3d", "kth"):
        preset = get_spec(NAME).presets[name]
        assert preset.source.startswith("ours") and preset.deviations.startswith("not found")
        assert genzoo.resolve(f"{NAME}.{name}", data="FOLDER").data.size == (64, 64)
    assert "--set data.channels=1" in get_spec(NAME).presets["kth"].deviations
    small = as_options("data.size=64x64", "arch.channels=8")
    assert main(["train", f"{NAME}.cars3d", "--data", "digits", "--dry-run", *small]) == 0


# ---- measurement


def test_a_factor_is_counted_where_the_two_images_differ():
    content, classes = torch.tensor([0, 0, 1, 2, 1]), torch.tensor([1, 1, 2, 2, 0])
    found = transferred(torch.tensor([0, 1, 1, 0, 2]), content, classes)
    assert (found.kept, found.moved, found.pairs) == (0.5, 0.25, 4)


def test_a_factor_on_which_all_pairs_agree_is_refused():
    with pytest.raises(UsageError, match="differ"):
        transferred(torch.zeros(3), torch.ones(3), torch.ones(3))
