"""Few images: the lines of the recipe, the check for copies of training images, and its picture."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from helpers import TINY, as_options, tiny_run
from PIL import Image

from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import open_dataset
from genzoo.evaluation.copies import NAMES, ROWS, SHOWN, TITLE, check_copies
from genzoo.evaluation.subject import every
from genzoo.metrics.copies import RARE, Neighbors, Space, chance
from genzoo.metrics.symmetry import farther_mirrored
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.sealing import is_intact
from genzoo.recipes import FEW, few_lines, recipe_lines, without
from genzoo.registry import get_spec
from genzoo.runs.card import with_section
from genzoo.spec import DataConfig
from genzoo.suggestions import suggest_preset, suggest_recipe

DIGITS = DataConfig(name="digits", size=(8, 8), channels=1, limit=120)


def as_dict(lines) -> dict[str, str]:
    return {line.setting: line.value for line in lines}


# ---- the recipe


def test_few_images_are_mirrored():
    def settings(count: int | None) -> dict[str, str]:
        return as_dict(recipe_lines(get_spec("introvae"), (3, 32, 32), False, 180, count, mirrored=0.5))

    assert settings(FEW)["data.mirror"] == "true"
    assert all("data.mirror" not in settings(many) for many in (None, FEW + 1))


def test_what_the_user_chooses_is_left_out():
    assert without(few_lines(300, 0.5), ["data.mirror=false"]) == []


def test_networks_and_batch_suit_few_images():
    few, many = (as_dict(recipe_lines(get_spec("vae"), (3, 32, 32), True, 600, n)) for n in (300, 50_000))
    assert (few["arch.channels"], few["train.batch"]) == ("16,64,128", "72")
    assert (many["arch.channels"], many["train.batch"]) == ("16,192,384", "512")
    line = next(line for line in recipe_lines(get_spec("vae"), (3, 32, 32), False, 600, 50) if "batch" in line.setting)
    assert (line.value, line.reason) == ("8", "at most a quarter of 50 images")


@pytest.mark.parametrize(("data", "mirrors"), [("digits", False), ("toyfaces", True)])
def test_images_are_mirrored_where_mirrored_ones_are_like_them(data, mirrors):
    config = DataConfig(name=data, size=None, limit=200)
    for _, lines in (
        suggest_preset(get_spec("introvae"), config, None, False),
        suggest_recipe(get_spec("introvae"), config, None, False, 180),
    ):
        found = as_dict(lines)
        assert ("data.mirror" in found) == mirrors


def test_the_share_of_images_that_are_farther_when_mirrored():
    """Bright on the left or on the right by chance, bright on the left only, and symmetric."""
    left = torch.zeros(20, 1, 4, 4)
    left[:, :, :, 0] = 1 + torch.arange(20.0).view(-1, 1, 1) / 100
    both = torch.cat([left, left.flip(3)])
    assert farther_mirrored(left) == 1
    assert farther_mirrored(both) == 0  # its own mirror image is among the others
    assert farther_mirrored(left + left.flip(3)) == 0.5


# ---- figures


@pytest.mark.parametrize("heldout", [2, 10, 30, 100, 300])
def test_more_copies_than_chance_explains_are_rare(heldout):
    """Fresh samples beside held-out images of the same distribution."""
    rng = torch.Generator().manual_seed(heldout)
    shares = torch.rand(4000, heldout, generator=rng, dtype=torch.float64).quantile(RARE, dim=1)  # below the threshold
    exceeding = (shares > chance(heldout)).double().mean().item()
    assert exceeding < 0.015
    assert chance(heldout) == 1 or (shares > chance(heldout) / 3).any()


def test_the_share_that_chance_explains_falls_with_held_out_images():
    found = [chance(n) for n in (1, 5, 20, 100, 1000)]
    assert found[0] == 1 and found == sorted(found, reverse=True) and found[-1] <= 0.03


def test_the_distance_is_relative_to_held_out_images():
    near, far = (Neighbors(torch.tensor([[d, 2 * d]]).expand(9, -1), torch.zeros(9, 2)) for d in (1.0, 4.0))
    assert Space(near, far).ratio == 0.25
    assert Space(far, far).share == 0


def test_held_out_images_that_are_training_images_set_no_threshold():
    """Of a model that copies everything, copies would lie no nearer than theirs."""

    def neighbors(*nearest: float) -> Neighbors:
        distances = torch.tensor([[d, 1.0, 1.0] for d in nearest])
        return Neighbors(distances, torch.zeros(len(nearest), 3, dtype=torch.int64))

    copies, heldout = neighbors(0.001, 0.001, 0.001), neighbors(0.0, 0.0, 0.8, 0.9)
    assert Space(copies, heldout).share == 1
    assert Space(neighbors(0.85), heldout).share == 0
    assert Space(copies, heldout).duplicates == 2
    assert Space(copies, neighbors(0.0, 0.0)).share == 1


class Remembering(Autoencoder):
    """A model whose samples are training images, or held-out ones, with a little noise."""

    source = "train"

    def sample(self, n, *args, **kwargs):
        dataset = open_dataset(DIGITS, self.source, progress=False)
        images = dataset.batch([i % dataset.size for i in range(n)]).float() / 255
        return (images + 0.05 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


class InMemory:
    """A model without its folder."""

    name, device, weights, prior = "model", torch.device("cpu"), "raw", "normal"
    run = folder = images_seen = trained_on = chosen_on = None

    def __init__(self, source: str):
        self.model = Remembering(shape=(1, 8, 8), arch={"channels": (4,), "z_dim": 16}).eval()
        self.model.source = source

    def samples(self, n, seed, mine=every, batch=100):
        yield from self.model.sample(n).split(batch)

    def policy(self, protocol, data):
        return nullcontext(self)


@pytest.mark.parametrize(("source", "copies"), [("train", True), ("test", False)])
def test_copies_are_warned_about_and_drawn(source, copies, tmp_path):
    checked = check_copies(InMemory(source), DIGITS, n=60, progress=False)
    values = checked.line.values
    assert (values["pixels"] > 0.9, values["pixels_distance"] < 0.5) == (copies, copies)
    assert bool(checked.warning()) == copies
    assert f"60 samples: {values['pixels']:.0%} {NAMES['pixels']}" in checked.summary()
    distances = checked.line.details["pyramid_frechet"]
    assert (distances["train"] < distances["heldout"]) == copies and distances["n"] == 60
    checked.save(tmp_path / "copies.png")
    with Image.open(tmp_path / "copies.png") as picture:
        assert picture.size == ((2 * (1 + SHOWN) + 1) * 66 - 2, (2 * ROWS + 1) * 66 - 2)
    sample = next(iter(checked.found.samples))
    nearest = checked.found.take(checked.found.spaces["pixels"].samples.numbers[0, :1])[0]
    assert ((sample - nearest).abs().max() <= 0.05 + 1e-6) == copies


# ---- commands


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A tiny run on 64 faces, with 64 held-out ones."""
    return Trainer(tiny_run(), out=tmp_path_factory.mktemp("few") / "run", progress=False).fit()


def test_copies_of_a_run(run, capsys):
    assert main(["copies", str(run), "--n", "20", "--out", "a.png"]) == 0
    shown = capsys.readouterr().out
    assert "copies of training images among 20 samples" in shown and "Fréchet distance" in shown
    line = json.loads(Path("a.jsonl").read_text())
    assert line["protocol"] == "copies20_train_fitted"
    assert line["details"]["n_real"] == 64 and line["details"]["n_heldout"] == 20


def test_the_card_of_a_checked_model_names_the_result_once(run, capsys):
    card, picture = (run / "best" / name for name in ("README.md", "copies.png"))
    assert main(["copies", str(run / "best"), "--n", "20", "--out", "a.png"]) == 0
    before = card.read_text()
    assert TITLE not in before and not picture.exists()
    for n in (30, 20):
        capsys.readouterr()
        assert main(["copies", str(run / "best"), "--n", str(n)]) == 0
    shown = capsys.readouterr().out
    assert f"{card}: names the result" in shown and picture.exists()
    sentence = shown.splitlines()[0]
    section = f"## {TITLE}\n\n{sentence[0].upper()}{sentence[1:]}.\n\n![copies](copies.png)\n\n"
    text = card.read_text()
    assert section in text and text.count(f"## {TITLE}") == 1 and text.index(TITLE) < text.index("## Use")
    assert text.replace(text[text.index(f"## {TITLE}") : text.index("## Use")], "") == before
    assert is_intact(run / "best")


@pytest.mark.parametrize("card", [None, b"\xff"])
def test_a_card_that_cannot_be_read_is_left_alone(run, card, tmp_path, capsys):
    saved = shutil.copytree(run / "model", tmp_path / "saved")
    (saved / "README.md").unlink() if card is None else (saved / "README.md").write_bytes(card)
    options = ["--data", "toyfaces", *as_options("data.limit=64", "data.size=16x16")]
    assert main(["copies", str(saved), "--n", "20", *options]) == 0
    assert "names the result" not in capsys.readouterr().out
    assert ((saved / "README.md").read_bytes() if card else None) == card


@pytest.mark.parametrize("earlier", ["", "## T\n\nold\n\n"])
@pytest.mark.parametrize("use", ["", "## Use\n\n```python\n```\n\n## License\n"])
def test_a_section_of_a_card_is_replaced(earlier, use):
    assert with_section(f"# x\n\n| a |\n\n{earlier}{use}", "T", "new") == f"# x\n\n| a |\n\n## T\n\nnew\n\n{use}"


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (["missing"], "does not exist"),
        (["--n", "1"], "at least 2"),
        (["--n", "1M"], "at most"),
        (["--out", "a.txt"], "end it in .png"),
        (["--set", "data.limit=10"], "needs 20 training images or more, and there are 10"),
        (["--data", "missing"], "missing"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(run, args, fix, capsys):
    assert main(["copies", *([str(run)] if args[0].startswith("-") else []), *args]) == 2
    error = capsys.readouterr().err
    assert fix in error and len(error.splitlines()) == 1


def faces(folder: str, n: int) -> str:
    Path(folder).mkdir()
    images = open_dataset(DataConfig(name="toyfaces", size=(16, 16), limit=64), progress=False).batch(range(n))
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(f"{folder}/{i}.png")
    return folder


def test_training_on_few_images_ends_with_the_check(capsys):
    own = [text for text in TINY if not text.startswith("data.limit")]
    assert main(["train", "vae", "--data", faces("faces", 40), "--out", "run", *as_options(*own)]) == 0
    shown = capsys.readouterr().out
    assert "run/copies.png: copies of training images among 256 samples" in shown
    assert "may be chance with 4 of these" in shown
    assert Path("run/copies.png").read_bytes() == Path("run/model/copies.png").read_bytes()
    (said,) = [line.removeprefix("run/copies.png: c") for line in shown.splitlines() if "of these)" in line]
    assert f"\nC{said}.\n" in Path("run/model/README.md").read_text()


def test_three_images_are_trained_on_and_nothing_is_held_out_to_compare_with(capsys):
    own = [text for text in TINY if not text.startswith(("data.limit", "train.batch"))]
    options = ["--data", faces("faces", 3), "--out", "run", *as_options(*own, "train.batch=2")]
    assert main(["train", "vae", *options]) == 0
    assert "note: samples were not compared with training images: nothing of" in capsys.readouterr().out
    assert main(["copies", "run"]) == 2
    assert "genzoo sample RUN --neighbors 4" in capsys.readouterr().err


def test_one_image_is_refused_in_one_line(capsys):
    for args in (["train", "introvae", "--budget", "60s"], ["suggest", "introvae"]):
        folder = faces(args[0], 1)
        assert main([*args, "--data", folder]) == 2
        assert (
            capsys.readouterr().err == "genzoo: there is one item, and nothing to learn from how it varies: add data.\n"
        )
