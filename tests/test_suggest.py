"""`genzoo suggest`: statistics of data, and a command that can be typed."""

import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genzoo import suggestions
from genzoo.cli import main
from genzoo.configure import resolve
from genzoo.registry import get_spec
from genzoo.spec import DataConfig
from genzoo.suggestions import intrinsic_dimension, look, suggest_preset, suggest_recipe


def ramps(folder: str, n: int, size: tuple[int, int], gray: bool = True) -> DataConfig:
    """Images [height, width] with two degrees of freedom: a level and a slope from left to right."""
    Path(folder).mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        level, slope = rng.uniform(0.3, 0.7), rng.uniform(-0.3, 0.3)
        image = np.full(size, level) + slope * np.linspace(-1, 1, size[1])
        pixels = np.rint(255 * np.stack([image, image, image if gray else 1 - image], axis=-1)).astype(np.uint8)
        Image.fromarray(pixels).save(f"{folder}/{i:03}.png")
    return DataConfig(name=folder, size=None, holdout=0)


def as_dict(lines) -> dict[str, str]:
    return {line.setting: line.value for line in lines}


def test_it_counts_the_degrees_of_freedom_and_detects_gray():
    gray, color = look(ramps("gray", 40, (24, 24))), look(ramps("color", 40, (24, 24), gray=False))
    assert (gray.count, gray.own, gray.components) == (40, (1, 24, 24), 2)
    assert (color.own, color.components) == ((3, 24, 24), 2)
    assert len(gray.variances) >= 2


def test_the_data_are_read_once(monkeypatch):
    """Photographs are decoded in their own size, which takes long."""
    read, calls = suggestions.peek, []
    monkeypatch.setattr(suggestions, "peek", lambda *args: calls.append(args) or read(*args))
    config = ramps("images", 12, (40, 48))
    _, lines = suggestions.suggest_recipe(get_spec("vae"), config, None, False, 180.0)
    assert len(calls) == 1 and as_dict(lines)["data.size"] == "32x32"


def test_the_detail_is_in_units_of_the_error_at_the_size_that_is_trained_on():
    """The variance of the whole image is the SSE of the mean image, and grows with its pixels."""
    config = ramps("ramps", 40, (64, 64))
    images = np.stack(
        [np.asarray(Image.open(path).convert("L"), dtype=float) / 255 for path in sorted(Path("ramps").iterdir())]
    )
    error = ((images - images.mean(0)) ** 2).sum((1, 2)).sum() / 39
    assert look(config).variances.sum() == pytest.approx(error, rel=0.03)
    assert look(config, lambda own: (128, 128)).detail == pytest.approx(4 * look(config).detail)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((28, 28), "28x28"), ((64, 70), "64x64"), ((48, 64), "48x64"), ((100, 40), "96x40"), ((300, 300), "64x64")],
    ids=str,
)
def test_it_chooses_a_resolution_that_the_networks_take(size, expected):
    _, lines = suggest_preset(get_spec("introvae"), ramps("images", 12, size), None, accelerated=False)
    assert as_dict(lines)["data.size"] == expected


def test_a_resolution_that_is_asked_for_is_taken():
    _, lines = suggest_preset(get_spec("introvae"), ramps("images", 12, (40, 40)), (32, 32), accelerated=True)
    assert as_dict(lines)["data.size"] == "32x32"


def test_finer_detail_gives_the_error_more_weight():
    fine, coarse = (float(get_spec("introvae").suggested(detail, (3, 32, 32))["beta"][0]) for detail in (0.1, 1.0))
    assert fine == 10 * coarse


@pytest.mark.parametrize("detail", [0.1, 1.0])
def test_the_weights_of_softintrovae_are_those_of_a_decoder_with_that_variance(detail):
    weights = get_spec("softintrovae").suggested(detail, (3, 32, 32))
    assert float(weights["beta_kl"][0]) / float(weights["beta_rec"][0]) == pytest.approx(2 * detail)


@pytest.mark.parametrize("model", ["vae", "introvae", "softintrovae"])
@pytest.mark.parametrize("data", ["rings", "digits", "ramps", "vectors.npy"])
def test_the_command_it_prints_can_be_typed(model, data, capsys):
    if data == "ramps":
        ramps(data, 40, (24, 30))
    elif data.endswith(".npy"):
        np.save(data, np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32))
    assert main(["suggest", model, "--data", data]) == 0
    shown = capsys.readouterr().out
    command = shlex.split(shown.splitlines()[-1])
    assert command[:3] == ["genzoo", "train", model]
    settings = [text for flag, text in pairwise(command) if flag == "--set"]
    assert settings
    assert all(f"  {text} " in shown for text in settings)  # a line with a reason for each
    run = resolve(model, data=data, settings=settings)
    for field in ("margin", "beta_neg"):
        assert getattr(run.objective, field, "auto") == "auto"
    if not data.endswith(".npy"):
        assert main([*command[1:], "--dry-run"]) == 0


def test_named_points_come_near_the_published_weights_of_softintrovae():
    """Soft-IntroVAE's table has beta_kl = beta_rec = 0.2 for rings."""
    _, lines = suggest_preset(get_spec("softintrovae"), DataConfig(name="rings", size=None), None, accelerated=False)
    assert float(as_dict(lines)["objective.beta_kl"]) == pytest.approx(0.2, rel=0.3)
    assert float(as_dict(lines)["objective.beta_rec"]) == pytest.approx(0.2, rel=0.3)


def test_it_looks_at_the_part_that_is_trained_on(capsys):
    assert main(["suggest", "--data", "digits", "--set", "data.split=train[:300]", "--set", "data.limit=200"]) == 0
    assert "digits: 200 items" in capsys.readouterr().out
    for args, fix in (
        (["--set", "data.split=foo"], "it has train, test"),
        (["--set", "data.split=train[:1500]"], "write 'train', or a smaller number"),
        (["--res", "100"], "use --res 96x96"),
    ):
        assert main(["suggest", "--data", "digits", *args]) == 2
        assert fix in capsys.readouterr().err
    assert main(["suggest", "introvae.celeba128", "--data", "digits"]) == 2
    assert "give the model alone, introvae" in capsys.readouterr().err


def test_constant_images_are_refused(capsys):
    Path("flat").mkdir()
    for i in range(5):
        Image.new("RGB", (16, 16), "red").save(f"flat/{i}.png")
    assert main(["suggest", "--data", "flat"]) == 2
    assert "all items looked at are the same" in capsys.readouterr().err


def test_unreadable_files_are_skipped_and_a_folder_of_nothing_else_is_refused(capsys):
    ramps("images", 12, (24, 24))
    Path("images/broken.png").write_bytes(b"not a picture")
    assert main(["suggest", "--data", "images"]) == 0
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(b"not a picture")
    assert main(["suggest", "--data", "broken"]) == 2
    assert "can be read" in capsys.readouterr().err


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_the_intrinsic_dimension_is_that_of_the_manifold(dim):
    rng = np.random.RandomState(0)
    flat = rng.uniform(size=(600, dim)) @ rng.normal(size=(dim, 40))
    bent = np.concatenate([np.sin(flat), np.cos(flat)], 1)
    assert intrinsic_dimension(flat) == pytest.approx(dim, rel=0.2)  # items near an edge have neighbors on one side
    assert intrinsic_dimension(bent) == pytest.approx(dim, rel=0.3)
    assert intrinsic_dimension(np.concatenate([flat, flat[:300]])) == pytest.approx(intrinsic_dimension(flat))


def test_the_intrinsic_dimension_by_hand():
    """Points 0, 1 and 3 on a line have the ratios 3/1, 2/1 and 3/2 of their two distances."""
    assert intrinsic_dimension(np.array([[0.0], [1.0], [3.0]])) == pytest.approx(min(1, 3 / np.log(3 * 2 * 1.5)))
    assert intrinsic_dimension(np.array([[0.0, 0], [1, 0], [3, 0]])) == pytest.approx(3 / np.log(9))
    assert intrinsic_dimension(np.zeros((5, 4))) == 1


def test_the_recipe_takes_latents_by_the_intrinsic_dimension(tmp_path):
    """Images that are mixtures of few patterns have many principal components if the mixture is bent."""
    rng = np.random.RandomState(1)
    angles = rng.uniform(0, 2 * np.pi, size=(300, 2))
    waves = np.concatenate([f(k * angles) for k in range(1, 5) for f in (np.sin, np.cos)], 1)
    images = 127 + 8 * waves @ rng.normal(size=(16, 8 * 8 * 3))
    np.save(tmp_path / "bent.npy", images.clip(0, 255).reshape(300, 8, 8, 3).astype(np.uint8))
    spec, data = get_spec("introvae"), DataConfig(name=str(tmp_path / "bent.npy"))
    stats, lines = suggest_recipe(spec, data, None, False, 180)
    assert 1.5 < stats.intrinsic < 6 < stats.components
    assert {line.setting: line.value for line in lines}["arch.z_dim"] == "32"
