"""`genzoo data`: what it says of each kind of dataset, and the picture that it writes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_data import cells, folder_of, noise, parquet_of, saved

from genzoo.cli import main
from genzoo.data.survey import survey
from genzoo.spec import DataConfig


def shown(capsys, *args: str) -> str:
    """What the verb prints, in words that do not depend on the table's columns."""
    assert main(["data", *args]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture
def photos() -> Path:
    """12 images in two classes and several sizes, with a copy, a broken file and one of another kind."""
    folder_of(Path("photos/cat"), 6, height=20, width=30)
    folder_of(Path("photos/dog"), 4, height=30, width=30)
    Image.fromarray(noise(50, 20, 30)[..., 0]).save("photos/dog/gray.png")
    Path("photos/dog/copy.png").write_bytes(Path("photos/cat/2.png").read_bytes())
    Path("photos/dog/broken.png").write_bytes(b"not an image")
    Path("photos/dog/phone.heic").write_bytes(b"x")
    return Path("photos")


def test_a_folder_of_images(photos, capsys):
    text = shown(capsys, "photos")
    assert text.startswith(
        "photos: 13 images (6 in cat/, 7 in dog/), 2 classes by folder; left out: 1 .heic (pip install pillow-heif)"
    )
    assert "splits train 13" in text and "2 in label: cat 6, dog 7" in text
    assert "height 20 to 30, median 20" in text and "width / height 1 to 1.5, median 1.5" in text
    assert "RGB 11, L 1" in text and "values 0 to 255" in text
    assert "photos/dog/copy.png = photos/cat/2.png" in text
    assert "photos/dog/broken.png (it is not an image that Pillow can read)" in text
    assert "data.skip_corrupt=true" in text and "picture: photos.png" in text
    assert Image.open("photos.png").size == (8 * 98 - 2, 2 * 98 - 2)
    assert not list(photos.glob("*.png")) and not Path("runs").exists()


def test_pictures_are_as_a_model_gets_them(photos, capsys):
    text = shown(capsys, "photos", "--set", "data.size=16x16", "--out", "sheets/small.png")
    assert "cropping cuts off" in text and "data.fit=pad" in text
    assert Image.open("sheets/small.png").size == (8 * (64 + 2) - 2, 2 * (64 + 2) - 2)
    seen = survey(DataConfig(name="photos", size=(16, 16)), progress=False)
    assert {pixels.shape for pixels in seen.thumbnails} == {(3, 16, 16)} and len(seen.thumbnails) == 12


@pytest.mark.parametrize("out", [None, "photos/sheet.png", "sheet.txt"])
def test_the_picture_never_becomes_data(photos, out, capsys, monkeypatch):
    if out is None:
        monkeypatch.chdir(photos)
        assert main(["data", "."]) == 0
        assert not list(Path().glob("*.png")) and Path("../photos.png").is_file()
        return
    assert main(["data", "photos", "--out", out]) == 2
    line = capsys.readouterr().err
    assert ("lies inside the data" in line) == out.endswith(".png") and line.count("\n") == 1


def test_splits_and_dark_values(capsys):
    for split, n in (("train", 3), ("test", 2)):
        Path(f"scans/{split}").mkdir(parents=True)
        for i in range(n):
            values = np.linspace(0, 4080, 64).astype(np.uint16).reshape(8, 8)
            Image.fromarray(values + i).save(f"scans/{split}/{i}.png")
    text = shown(capsys, "scans", "--set", "data.split=test")
    assert "scans/test: 2 images, split test of train, test by folder name" in text
    assert "splits train 3, test 2" in text and "values 0 to 4081" in text and "I;16 2" in text
    assert "are these 12-bit values?" in text and "data.range=4095" in text
    assert "dark" not in shown(capsys, "scans", "--set", "data.range=4095")


@pytest.mark.parametrize(
    ("name", "expected", "has_picture"),
    [
        ("digits", ("digits/train: 1,500 images", "train 1,500, test 297", "10 in label", "8x8"), True),
        ("x.npy", ("x: 4 images", "uint8 with 3 channels 4", "8x8 (height x width), all alike"), True),
        ("x.parquet", ("x: 3 images", "RGB 3"), True),
        ("rings", ("rings: endless points", "train endless"), True),
        ("vectors.npy", ("vectors: 6 vectors", "numbers per item 5"), False),
    ],
)
def test_every_kind_of_dataset(name, expected, has_picture, capsys):
    saved(Path("x.npy"), np.stack([noise(i) for i in range(4)]))
    saved(Path("vectors.npy"), np.random.default_rng(0).normal(size=(6, 5)))
    parquet_of(Path("x.parquet"), cells(0, 1, 2))
    text = shown(capsys, name)
    assert all(part in text for part in expected), text
    assert (f"picture: {name}.png" in text) == has_picture == Path(f"{name}.png").is_file()


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (["toyface"], "Did you mean toyfaces"),
        (["./missing"], "no file or folder"),
        (["digits", "--set", "data.split=dev"], "it has train, test"),
        (["digits", "--set", "train.lr=1"], "Unknown section"),
        ([], "DATA"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_with_the_fix(args, fix, capsys):
    assert main(["data", *args]) == 2
    line = capsys.readouterr().err
    assert fix in line and line.count("\n") == 1
