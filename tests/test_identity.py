"""Data counts by its content, wherever it lies; and the way in which a run read it travels with the run."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, as_options, tiny_run
from PIL import Image
from safetensors.torch import save_file
from sample_data import cells, folder_of, noise, parquet_of, saved

from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.data import describe, identity, open_dataset
from genzoo.errors import UsageError
from genzoo.evaluation.classifier import classifier_folder, namesakes
from genzoo.evaluation.extractors import get_extractor
from genzoo.metrics.frechet import frechet_distance, statistics
from genzoo.spec import DataConfig

pytestmark = pytest.mark.usefixtures("one_thread")

READING = ("train.prior=normal", "data.fit=pad", "data.background=black", "data.split=train[:15]")


@pytest.fixture(scope="module")
def trained(own_cache, tmp_path_factory) -> Path:
    """A folder with 20 images in `imgs`, and a `run` on the first 15 of them, padded with black."""
    root = tmp_path_factory.mktemp("place")
    folder_of(root / "imgs", 20, height=12, width=20)
    Trainer(tiny_run("vae", f"data.name={root / 'imgs'}", *READING), out=root / "run", progress=False).fit()
    return root


@pytest.fixture
def place(trained, tmp_path) -> Path:
    """A copy of `trained` in the working directory, whose run knows of the first place only."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def scored(run: Path | str, *options: str, metric: str = "rec20_train") -> dict:
    assert main(["eval", str(run), "--metrics", metric, "--out", "lines.jsonl", *options]) == 0
    return json.loads(Path("lines.jsonl").read_text(encoding="utf-8").splitlines()[-1])


def error_of(args: list[str], capsys) -> str:
    assert main(args) == 2
    return capsys.readouterr().err.strip()


# ---- identity


@pytest.mark.parametrize("kind", ["folder", "npy", "vectors", "parquet"])
def test_a_copy_is_the_same_data_and_shares_its_cache(tmp_path, kind):
    root = tmp_path / "a"
    root.mkdir()
    {
        "folder": lambda: folder_of(root / "x", 3),
        "npy": lambda: saved(root / "x", np.stack([noise(i) for i in range(3)])),
        "vectors": lambda: saved(root / "x", np.random.default_rng(0).random((5, 4))),
        "parquet": lambda: parquet_of(root / "x" / "train.parquet", cells(1, 2, 3)),
    }[kind]()
    name = next(root.iterdir()).name
    before, first = describe(DataConfig(name=str(root / name))), open_dataset(DataConfig(name=str(root / name)))
    shutil.copytree(root, tmp_path / "b")
    for path in (tmp_path / "b").rglob("*"):
        os.utime(path, ns=(1, 1))
    after, second = (f(DataConfig(name=f"b/{name}")) for f in (describe, open_dataset))
    assert after.identity == before.identity and second.fingerprint == first.fingerprint
    assert (before.name, after.name, after.place) == (str(root / name), f"b/{name}", str(tmp_path / "b" / name))


def test_a_renamed_folder_is_the_same_data(tmp_path):
    folder_of(tmp_path / "a", 3)
    before, _ = describe(DataConfig(name="a")), open_dataset(DataConfig(name="a"))
    (tmp_path / "a").rename("z")
    assert describe(DataConfig(name="z")).identity == before.identity
    assert describe(DataConfig(name="z/")).identity == describe(DataConfig(name="./z")).identity == before.identity


def test_what_is_other_content(tmp_path):
    folder = folder_of(tmp_path / "x", 4)
    found = [describe(DataConfig(name="x"))]

    def change(action):
        action()
        found.append(describe(DataConfig(name="x")))
        return identity.file_changes(found[-2].files, found[-1].files)

    pixels = bytearray((folder / "1.png").read_bytes())
    pixels[-20] ^= 1
    assert change(lambda: (folder / "1.png").write_bytes(pixels)) == "files: 1 changed (1.png)"
    assert change(lambda: (folder / "2.png").rename(folder / "9.png")) == "files: 1 added (9.png), 1 removed (2.png)"
    assert (
        change(lambda: [(folder / name).unlink() for name in ("0.png", "9.png")]) == "files: 2 removed (0.png, 9.png)"
    )
    assert change(lambda: folder_of(folder, 9)).startswith("files: 7 added (0.png, 2.png, 4.png, ...), 1 changed")
    assert change(lambda: os.utime(folder / "0.png", ns=(1, 1))) == ""
    assert len({one.identity for one in found}) == 5


def test_few_files_of_a_large_set_are_read(tmp_path, monkeypatch):
    folder_of(tmp_path / "x", 12)
    monkeypatch.setattr(identity, "FEW_FILES", 5)
    monkeypatch.setattr(identity, "SAMPLED", 3)
    read, hashed = [], identity._hash
    monkeypatch.setattr(identity, "_hash", lambda path, *args: read.append(path.name) or hashed(path, *args))
    before = describe(DataConfig(name="x"))
    assert read == ["0.png", "4.png", "8.png"] and before.items == 12
    folder_of(tmp_path / "x", 1, height=9)
    assert describe(DataConfig(name="x")).identity != before.identity


def test_blocks_of_a_large_file_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "FEW_BYTES", 0)
    monkeypatch.setattr(identity, "BLOCK_BYTES", 512)
    array = np.zeros((400, 8, 8, 3), np.uint8)
    saved(tmp_path / "x", array)
    before = describe(DataConfig(name="x.npy")).identity
    for position in (0, 399):
        changed = array.copy()
        changed[position] = 1
        saved(tmp_path / "x", changed)
        assert describe(DataConfig(name="x.npy")).identity != before
    saved(tmp_path / "x", array)
    assert describe(DataConfig(name="x.npy")).identity == before


def test_an_edit_in_place_that_no_sample_shows_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "FEW_FILES", 1)
    monkeypatch.setattr(identity, "SAMPLED", 1)
    (tmp_path / "x").mkdir()
    for i in range(4):
        Image.fromarray(noise(i)).save(tmp_path / "x" / f"{i}.bmp")
        os.utime(tmp_path / "x" / f"{i}.bmp", ns=(10, 10))
    first = open_dataset(DataConfig(name="x"))
    Image.fromarray(noise(50)).save(tmp_path / "x" / "2.bmp")
    second = open_dataset(DataConfig(name="x"))
    assert second.fingerprint == first.fingerprint  # the key: the old cache is replaced
    assert torch.equal(second[2], torch.from_numpy(noise(50).transpose(2, 0, 1)))


# ---- the same run, the same data


@pytest.mark.parametrize("spelling", ["imgs", "imgs/", "./imgs", "../{0}/imgs", "{1}/imgs"])
def test_a_run_is_resumed_on_the_same_content(place, spelling, capsys):
    name = spelling.format(place.name, place)
    config = tiny_run("vae", f"data.name={name}", *READING)
    before = (place / "run" / "log.jsonl").read_text(encoding="utf-8")
    Trainer(config, out="run", progress=False).fit()
    assert (place / "run" / "log.jsonl").read_text(encoding="utf-8") == before
    assert "warning" not in capsys.readouterr().out
    record = json.loads((place / "run" / "run.json").read_text(encoding="utf-8"))
    assert (record["config"]["data"]["name"], record["data"]["place"]) == (name, str(place / "imgs"))


def test_a_resume_on_other_content_is_refused_and_says_what_differs(place, capsys):
    options = as_options(*TINY, *READING)
    (place / "imgs" / "3.png").unlink()
    (place / "imgs" / "7.png").unlink()
    Image.fromarray(noise(99)).save(place / "imgs" / "new.png")
    err = error_of(["train", "vae", "--data", "imgs", *options, "--out", "run"], capsys)
    assert f"data: imgs ({place / 'imgs'}) differs from" in err
    assert "files: 1 added (new.png), 2 removed (3.png, 7.png)" in err


def test_a_changed_file_of_a_run_is_named(place):
    Image.fromarray(noise(99, 12, 20)).save(place / "imgs" / "5.png")
    with pytest.raises(UsageError, match=r"1 changed \(5.png\)"):
        Trainer(tiny_run("vae", "data.name=imgs", *READING), out="run")


# ---- the way of reading


@pytest.mark.parametrize("spelling", [None, "imgs", "./imgs/", "moved"])
def test_a_run_is_scored_as_it_read_its_data(trained, place, spelling):
    (place / "imgs").rename("moved")
    shutil.copytree("moved", "imgs")
    expected = scored(trained / "run")
    line = scored(trained / "run", *(["--data", spelling] if spelling else []))
    assert line["values"] == expected["values"] and line["details"]["n_real"] == 15
    assert line["details"]["read"] == {
        "size": [16, 16], "fit": "pad", "background": "black", "split": "train[:15]", "limit": 64
    }  # fmt: skip
    assert not line["details"].keys() & {"read_in_training", "data_differs"}


def test_what_is_read_in_another_way_is_printed_and_recorded(trained, capsys):
    line = scored(trained / "run", "--set", "data.fit=crop")
    assert "note: data.fit=crop, and" in (out := capsys.readouterr().out) and "was trained with pad" in out
    assert line["details"]["read_in_training"] == {"data.fit": "pad"} and "fit" not in line["details"]["read"]
    assert line["values"] != scored(trained / "run")["values"]


def test_other_data_is_read_in_the_same_way_and_said_to_be_other(trained, place, capsys):
    Image.fromarray(noise(99)).save(place / "imgs" / "new.png")
    line = scored(trained / "run", "--data", "imgs")
    assert line["details"]["data_differs"] == "files: 1 added (new.png)" and line["details"]["n_real"] == 15
    assert "imgs is not what" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "interpolate"])
def test_verbs_take_the_way_of_reading(trained, place, verb, capsys):
    further = ["--n", "4"] if verb == "interpolate" else []
    outputs = []
    for data in ([], ["--data", "imgs/"]):
        out = f"{len(outputs)}.{'npz' if verb == 'encode' else 'png'}"
        assert main([verb, str(trained / "run"), *data, *further, "--out", out]) == 0
        outputs.append(np.load(out)["mean"] if verb == "encode" else np.asarray(Image.open(out)))
    assert np.array_equal(*outputs)


def test_a_shared_model_reads_images_as_its_run_did(trained, tmp_path, capsys):
    shutil.copytree(trained / "run" / "model", tmp_path / "shared")
    image = str(trained / "imgs" / "3.png")
    errors = []
    for model in (trained / "run", "shared"):
        assert main(["reconstruct", str(model), image, "--out", "x.png"]) == 0
        errors.append(re.search(r"error ([\d.]+)", capsys.readouterr().out)[1])
    assert errors[0] == errors[1]
    assert main(["reconstruct", "shared", image, "--out", "x.png", "--set", "data.fit=crop"]) == 0
    assert re.search(r"error ([\d.]+)", out := capsys.readouterr().out)[1] != errors[0]
    assert "note: data.fit=crop, and shared was trained with pad" in out
    assert scored("shared", "--data", str(trained / "imgs"))["values"] == scored(trained / "run")["values"]
    kept = json.loads(Path("shared/config.json").read_text(encoding="utf-8"))["data"]
    assert (kept["fit"], kept["background"], kept["split"]) == ("pad", "black", "train[:15]")
    assert str(trained) not in json.dumps(kept)
    assert "data.fit=pad, data.background=black" in Path("shared/README.md").read_text(encoding="utf-8")


def test_a_relative_path_means_the_place_of_training(place, tmp_path_factory, monkeypatch, capsys):
    (place / "a").mkdir()
    shutil.move("imgs", "a/imgs")
    monkeypatch.chdir(place / "a")
    shutil.rmtree(place / "run")
    Trainer(tiny_run("vae", "data.name=imgs", *READING), out="../run", progress=False).fit()
    expected = scored(place / "run")
    other = tmp_path_factory.mktemp("b")
    folder_of(other / "imgs", 20)
    monkeypatch.chdir(other)
    assert scored(place / "run")["values"] == expected["values"]
    run = str(place / "run")
    assert main(["train", "--resume", run]) == 0
    (place / "a" / "imgs" / "3.png").rename(place / "3.png")
    changed = f"data: {place / 'a' / 'imgs'} has changed: files: 1 removed (3.png)"
    assert changed in error_of(["train", "--resume", run], capsys)
    (place / "3.png").rename(place / "a" / "imgs" / "3.png")
    shutil.move(place / "a", place / "gone")
    for command in (["eval", run, "--metrics", "rec20_train"], ["train", "--resume", run]):
        assert f"{place / 'a' / 'imgs'}, which is not there: give --data" in error_of(command, capsys)
    assert scored(place / "run", "--data", str(place / "gone" / "imgs"))["values"] == expected["values"]


def test_a_preset_on_a_copy_of_its_data_says_how_it_reads_it(tmp_path):
    folder_of(tmp_path / "faces")
    (note,) = (text for text in resolve("introvae.celeba128", data="faces").notes if "read it as" in text)
    assert note == "if faces holds celeba, read it as the preset does: --set data.precrop=148"
    assert not [text for text in resolve("introvae.celeba128", data="toyfaces").notes if "read it as" in text]
    asked = resolve("introvae.celeba128", data="faces", settings=["data.precrop=100"])
    assert not [text for text in asked.notes if "read it as" in text]


# ---- folders of images


@pytest.fixture(scope="module")
def two_folders(tmp_path_factory) -> Path:
    """Folders a and b with 12 smooth images each, of aspects 1:1 to 2:1, and random weights of timm's test_resnet."""
    import timm

    root = tmp_path_factory.mktemp("folders")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), root / "model.safetensors")
    rng = np.random.default_rng(0)
    for name, contrast in (("a", 1.0), ("b", 0.7)):
        (root / name).mkdir()
        for i in range(12):
            small = Image.fromarray((rng.random((6, 6, 3)) * 255 * contrast).astype(np.uint8))
            small.resize((60 + 5 * i, 60), Image.Resampling.BICUBIC).save(root / name / f"{i}.png")
    return root


def compared(root: Path, *options: str) -> dict:
    metric, weights = "fd_timm_test_resnet_12_train", ["--extractor-weights", str(root)]
    return scored(root / "a", "--data", str(root / "b"), *weights, *options, metric=metric)


@pytest.mark.filterwarnings("ignore:.*fewer")
def test_images_of_any_aspect_are_measured_as_clean_fid_does(two_folders):
    from cleanfid.resize import make_resizer

    extractor, resize = (
        get_extractor("timm:test_resnet", weights=two_folders),
        make_resizer("PIL", False, "bicubic", (160, 160)),
    )

    def expected(name: str) -> object:
        files = sorted((two_folders / name).iterdir())
        images = np.stack([resize(np.asarray(Image.open(path))) for path in files]).transpose(0, 3, 1, 2)
        return statistics(extractor(torch.from_numpy(images / 255).float().clamp(0, 1)), "x")

    theirs = frechet_distance(expected("b"), expected("a"))
    line, cropped = compared(two_folders), compared(two_folders, "--res", "160")
    (ours,), (other,) = line["values"].values(), cropped["values"].values()
    assert ours == pytest.approx(theirs, rel=2e-3) and other != pytest.approx(theirs, rel=2e-2)
    assert line["resolution"] is None and line["details"]["resize"] == "bicubic antialias"
    assert cropped["details"]["resize"] == "crop to 160x160 in 8 bits, then bicubic antialias"


@pytest.mark.filterwarnings("ignore:.*fewer")
def test_both_sides_of_a_folder_evaluation_are_read_as_set(two_folders, tmp_path, capsys):
    shutil.copytree(two_folders, "both")
    (tmp_path / "both" / "a" / "broken.png").write_bytes(b"no picture")
    command = ["eval", "both/a", "--data", "both/b", "--extractor-weights", "both"]
    err = error_of([*command, "--metrics", "fd_timm_test_resnet_12_train"], capsys)
    assert "broken.png" in err and "data.skip_corrupt=true" in err and "--skip-corrupt" not in err
    line = compared(tmp_path / "both", "--set", "data.skip_corrupt=true")
    assert line["values"] == pytest.approx(compared(two_folders)["values"])
    padded = compared(tmp_path / "both", *as_options("data.skip_corrupt=true", "data.fit=pad"), "--res", "160")
    assert padded["details"]["resize"].startswith("pad to 160x160") and padded["details"]["read"]["fit"] == "pad"


# ---- classifiers


def test_a_classifier_is_of_one_content(tmp_path):
    for name in ("a", "b"):
        for label in range(2):
            folder_of(tmp_path / name / "faces" / str(label), 3, height=8 + (name == "b"))
    first, second = (classifier_folder(DataConfig(name=f"{name}/faces", size=(8, 8))) for name in ("a", "b"))
    assert first != second and first.name.startswith("faces-") and first.name.endswith("-3x8x8")
    assert classifier_folder(DataConfig(name=str(tmp_path / "a" / "faces"), size=(8, 8))) == first
    shutil.copytree("a", "c")
    assert classifier_folder(DataConfig(name="c/faces", size=(8, 8))) == first
    for folder in (first, second):
        folder.mkdir(parents=True)
    assert (namesakes(first), namesakes(second)) == ([second], [first])
    assert classifier_folder(DataConfig(name="digits", size=(8, 8), channels=1)).name == "digits-1x8x8"
    for folder in (first, second):
        folder.rmdir()
