"""What a user sees while something takes time: bars that fit, announcements, curves with units, tracked pictures."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, as_options, tiny_run
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm.utils import disp_len

from genzoo import Trainer, pictures
from genzoo.cli import main
from genzoo.cli.guard import print_error
from genzoo.errors import UsageError
from genzoo.evaluation.classifier import load_classifier
from genzoo.evaluation.classifier_training import train_classifier
from genzoo.pictures import axis_scale, save_curves
from genzoo.progress import WIDTH, Bar, bar, columns, write_line
from genzoo.spec import DataConfig
from genzoo.training.budget import Pace
from genzoo.training.log import progress_bar

pytestmark = pytest.mark.usefixtures("one_thread")

VALUES = {f"curve{i}/of-a-long-name": f"{i}.25e+0{i}" for i in range(8)}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def as_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Makes standard error a terminal that does not tell its width; a fixture's would be replaced before the test."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


# Bars


@pytest.mark.parametrize("budget", [None, "3min"])
@pytest.mark.parametrize("name", ["vae.toyfaces32", "softintrovae.a-very-long-name-of-a-preset-of-many-pixels"])
def test_a_bar_fits_on_a_line_and_cuts_no_value(name, budget, monkeypatch):
    terminal = as_terminal(monkeypatch)
    with progress_bar(name, 0, 1_000_000, True, Pace(budget, 0.0, lambda: 30.0)) as shown:
        shown.set_postfix(VALUES)
        shown.update(123_456)
        shown.refresh()
    lines = [line.strip() for line in re.split(r"[\r\n]", terminal.getvalue()) if line.strip()]
    assert lines and max(disp_len(line) for line in lines) <= WIDTH == 80
    assert "123k/1.00M" in lines[-1] and name[:14] in lines[-1]
    shown = re.findall(r"curve\d\S*?=([^],]*)", lines[-1])
    assert shown == list(VALUES.values())[: len(shown)]


def test_as_many_values_are_shown_as_find_room():
    shown = Bar(total=100, file=io.StringIO(), desc="run")
    shown.set_postfix_str("a=1, b=2, " + ", ".join(f"long{i}={i:020}" for i in range(5)))
    assert "a=1, b=2" in str(shown) and "long4" not in str(shown) and len(str(shown)) <= WIDTH
    assert columns(io.StringIO()) == columns(None) == WIDTH


def test_where_the_output_is_no_terminal_only_what_is_logged_has_a_bar(monkeypatch):
    as_terminal(monkeypatch)
    assert not bar(total=1).disable and not bar(total=1, logged=True).disable and bar(total=1, shown=False).disable
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert bar(total=1).disable and not bar(total=1, logged=True).disable
    monkeypatch.setattr(sys, "stderr", None)
    assert bar(total=1, logged=True).disable


def test_lines_begin_anew_beside_bars(monkeypatch):
    terminal = as_terminal(monkeypatch)
    shown = bar(total=10, name="left open")
    shown.refresh()
    write_line("a line", error=True)
    print_error("broken")
    assert "\ra line\n" in re.sub(r"\r +\r", "\r", terminal.getvalue())
    assert terminal.getvalue().endswith("\ngenzoo: broken\n") and shown.disable
    monkeypatch.setenv("WORLD_SIZE", "2")  # the bar of the other process stands in the same terminal
    print_error("lost")
    assert terminal.getvalue().endswith("\n\ngenzoo: lost\n")


# Classifiers that are trained on first use


def labeled(root: Path, count: int) -> DataConfig:
    """`count` images to train on and two to test on, of two classes."""
    for number in range(count + 2):
        (folder := root / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (7 * number, 0, 0)).save(folder / f"{number}.png")
    return DataConfig(name=str(root), split=f"train[:{count}]")


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))


def test_a_classifier_is_announced_with_its_time_and_trained_once(empty_cache, tmp_path, capsys):
    data = labeled(tmp_path / "pictures", 10)
    folder = train_classifier(data, images=8 * 128)
    err = capsys.readouterr().err
    assert f"classifier:pictures is trained first: once, then it is kept in {folder}" in err
    assert re.search(r"\r8 steps, about \d+s from here on this machine\n", err)
    assert "classifier:pictures:" in err  # the bar, though this is no terminal
    assert train_classifier(data, images=8 * 128) == folder
    assert capsys.readouterr().err == ""


def test_a_classifier_of_too_few_images_names_the_smallest_number(empty_cache, tmp_path):
    with pytest.raises(UsageError, match="has 8 labeled images .* needs at least 10"):
        train_classifier(labeled(tmp_path / "eight", 8), progress=False)
    about = load_classifier(train_classifier(labeled(tmp_path / "ten", 10), progress=False)).about
    assert about["images_seen"] == 5 * 128
    short = load_classifier(train_classifier(labeled(tmp_path / "short", 10), images=4 * 128, progress=False)).about
    assert short["images_seen"] == 4 * 128


def test_a_classifier_is_tested_on_two_images_or_more(empty_cache, tmp_path):
    data = labeled(tmp_path / "one", 12)
    one_held_out = DataConfig(name=data.name, split="train[:13]")
    with pytest.raises(UsageError, match="has 1 labeled images to test .* at least 2"):
        train_classifier(one_held_out, images=128, progress=False)


# curves.png


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 9.0], "linear"),
        ([1.0, 20.0, 300.0], "log"),
        ([0.5, 5.0], "log"),
        ([0.0, 0.0], "linear"),
        (list(np.linspace(-1, 1, 50)), "linear"),
        ([0.0, *np.logspace(-3, 2, 50)], "symlog"),
        ([*-np.logspace(-3, 2, 50), 1.0], "symlog"),
    ],
)
def test_axes_are_logarithmic_where_values_span_decades(values, scale):
    name, options = axis_scale(values)
    assert name == scale and (options == {}) == (scale != "symlog")


@pytest.mark.rendered
def test_curves_have_axes_with_names_and_units(monkeypatch, tmp_path):
    drawn, subplots = [], pictures._subplots
    monkeypatch.setattr(pictures, "_subplots", lambda *a, **o: drawn.append(subplots(*a, **o)) or drawn[-1])
    lines = [
        {"nimg": n, "error/sse": 5000 / n, "gradient/x": -1.0 + n, "kl/real": 5.0, "loss/x": 100.0 * n, "mine/x": 1.0}
        | {"kl/reconstruction_updated": 4.0}
        for n in (1, 10, 100, 1000)
    ]
    save_curves(lines, {"kl": 7.0}, tmp_path / "curves.png")
    ((_, axes),) = drawn
    found = {ax.get_ylabel(): ax.get_yscale() for ax in axes}
    assert found == {
        "squared error, sum over an item (SSE)": "log",
        "gradient norm": "symlog",
        "KL to the prior, nats": "linear",
        "loss, weighted sum": "log",
        "mine": "linear",
    }
    assert axes[-1].get_xlabel() == "images seen"
    picture = Image.open(tmp_path / "curves.png").convert("L")
    assert picture.size == (900, 1300)
    assert (np.asarray(picture)[:, -3:] == 255).all()  # no legend is cut off


# Pictures in trackers, and samples of several models


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("progress") / "run"
    assert main(["train", "vae", *as_options(*TINY, "train.trackers=tensorboard"), "--out", str(out)]) == 0
    return out


def tracked(run: Path) -> list[tuple[int, np.ndarray]]:
    """The previews in a run's TensorBoard: (step, pixels)."""
    folders = {file.parent for file in (run / "trackers").rglob("events.out.tfevents.*")}
    found = []
    for folder in folders:
        events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
        for image in events.Images("preview") if "preview" in events.Tags()["images"] else ():
            found.append((image.step, np.asarray(Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB"))))
    return sorted(found, key=lambda one: one[0])


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_tensorboard_gets_the_previews_of_a_run(run):
    shown, previews = tracked(run), sorted((run / "previews").iterdir())
    assert [step for step, _ in shown] == [6, 12] and len(previews) == 2
    for (_, image), path in zip(shown, previews, strict=True):
        assert np.array_equal(image, pixels(path))


def test_tensorboard_gets_plots_of_points_too():
    settings = ("data.name=8gaussians", "arch.encoder=mlp", "arch.decoder=mlp", "arch.hidden=8", "data.size=none")
    config = tiny_run("vae", *settings, "train.duration=16", "train.trackers=tensorboard")
    out = Trainer(config, out="run", progress=False).fit()
    assert np.array_equal(tracked(out)[-1][1], pixels(out / "preview.png"))


def test_samples_are_not_mixed_with_those_of_another_draw(run, capsys):
    assert main(["sample", str(run), "--n", "3", "--out", "many"]) == 0
    before = {path.name: path.read_bytes() for path in Path("many").iterdir()}
    capsys.readouterr()
    assert main(["sample", str(run), "--n", "2", "--seed", "5", "--out", "many"]) == 2
    assert "--out many holds 3 pictures already, such as 000000.png" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("many").iterdir()} == before
    Path("notes").mkdir()
    Path("notes/readme.txt").write_text("kept", encoding="utf-8")
    assert main(["sample", str(run), "--n", "2", "--out", "notes"]) == 0
    assert len(list(Path("notes").glob("*.png"))) == 2
