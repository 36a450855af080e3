"""Formats that people try: each is read as it is meant, or refused by a line that says what to type or to save."""

import csv
import gzip
import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny_run
from PIL import Image
from sample_data import cells, folder_of, noise, parquet_of, png, refusal, saved

from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import facts, heldout_split, open_dataset
from genzoo.data.decoding import CorruptImageError
from genzoo.data.formats import open_path
from genzoo.data.found import Found
from genzoo.data.npy import open_npy
from genzoo.data.places import by_folder, split_in
from genzoo.data.sets import ArraySet, EndlessSet
from genzoo.errors import UsageError
from genzoo.evaluation.evaluate import Job, result_line
from genzoo.evaluation.extractors import get_extractor
from genzoo.evaluation.protocols import get_protocol
from genzoo.evaluation.subject import open_subject
from genzoo.metrics.frechet import frechet_distance, statistics
from genzoo.pictures import save_grid
from genzoo.spec import DataConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache_root(tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))


def opened(path: Path, split: str | None = None, **settings):
    return open_dataset(DataConfig(name=str(path), **settings), split, progress=False)


def found(path: Path, split: str = "train", **settings) -> Found:
    """What is reported of one split of the data."""
    source = open_path(path, DataConfig(name=str(path), **settings)).source(split)
    assert not isinstance(source, ArraySet | EndlessSet)
    return source.found()


def pixels(data) -> np.ndarray:
    """All images of a set, uint8 [n,H,W,C]."""
    return data.batch(range(data.size)).numpy().transpose(0, 2, 3, 1)


def noises(*seeds: int) -> np.ndarray:
    return np.stack([noise(seed) for seed in seeds])


# --- arrays ---------------------------------------------------------------------------------------------------------


def test_rounding_outside_the_range_is_tolerated_and_more_is_shown(tmp_path):
    values = np.linspace(0, 1, 2 * 3 * 16, dtype=np.float64).reshape(2, 3, 4, 4)
    values[0, 0, 0, 0], values[1, 2, 3, 3] = -1e-9, 1.0000001
    data = opened(saved(tmp_path / "x.npy", values))
    assert np.array_equal(pixels(data), np.rint(np.clip(values, 0, 1) * 255).transpose(0, 2, 3, 1))
    for low, high, fix in (
        (0, 254.5, "divide by 255"),
        (-1, 1, "(x + 1) / 2"),
        (0, 4080, "divide by their maximum, 4080"),
    ):
        line = refusal(saved(tmp_path / "y.npy", np.linspace(low, high, 96).reshape(2, 3, 4, 4)))
        assert f"all lie in [{low}, {high}]" in line and fix in line and "item " in line


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.arange(96).reshape(2, 3, 4, 4), ("int64", "[0, 95]", "x.astype('uint8')")),
        (np.arange(96).reshape(2, 3, 4, 4) % 2, ("int64", "[0, 1]", "(x / 1)")),
        (np.arange(96, dtype=np.int8).reshape(2, 3, 4, 4) - 50, ("int8", "[-50, 45]", "(x - -50) / 95")),
        (np.full((2, 3, 4, 4), "a"), ("<U1", "uint8")),
        (np.zeros((64, 64, 3), np.uint8), ("[64, 64, 3]", "looks like one image", "[n,H,W,C]")),
        (np.zeros((64, 64, 4), np.uint8), ("[64, 64, 4]", "looks like one image")),
        (np.zeros((64, 64), np.uint8), ("[64, 64]", "looks like one gray image")),
        (np.zeros((5, 768), np.uint8), ("rows of 768 bytes", "3x16x16", "x.reshape(-1, 3, 16, 16)", "x / 255")),
        (np.zeros((5, 784), np.uint8), ("rows of 784 bytes", "1x28x28", "x.reshape(-1, 1, 28, 28)")),
    ],
)
def test_arrays_that_are_refused_with_the_way(tmp_path, array, words):
    line = refusal(saved(tmp_path / "x.npy", array))
    assert all(word in line for word in words), line


def test_bytes_that_are_no_images_are_vectors_in_0_to_1(tmp_path):
    rows = np.arange(12, dtype=np.uint8).reshape(4, 3) * 20
    with pytest.warns(UserWarning, match=r"bytes are scaled from \[0,255\] to \[0,1\]"):
        data = opened(saved(tmp_path / "x.npy", rows))
    assert torch.equal(data.batch(range(4)), torch.from_numpy(rows).float() / 255)


def npy_header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


LIES = {
    "too many": "(100000000000, 3, 64, 64)",
    "beyond 64 bits": "(99999999999, 99999999999, 3, 4)",
    "negative": "(-2, 3, 4, 4)",
    "twice as many": "(4, 3, 4, 4)",
}


@pytest.mark.parametrize("kind", LIES)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_headers_that_lie_are_refused_before_memory_is_taken(tmp_path, kind, suffix):
    content, file = npy_header(LIES[kind]) + bytes(96), tmp_path / f"x{suffix}"
    if suffix == ".npz":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
    else:
        file.write_bytes(content)
    line = refusal(file)
    assert "its header claims the shape" in line and "cannot be read" in line


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x09\x00" + bytes(200),
        npy_header("(" * 60),
        npy_header("(2, 3)", "'nonsense'"),
        npy_header("(2, 3)")[:40],
        b"PK\x03\x04" + bytes(40),
    ],
)
def test_broken_arrays_are_one_line(tmp_path, content):
    for suffix in (".npy", ".npz"):
        (tmp_path / f"x{suffix}").write_bytes(content)
        assert "cannot be read" in refusal(tmp_path / f"x{suffix}")


def test_a_zip_entry_cannot_claim_more_than_deflate_can_hold(tmp_path):
    file = tmp_path / "x.npz"
    np.savez_compressed(file, x=np.zeros((2, 3, 4, 4), np.uint8))
    content = bytearray(file.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 2**31)
    file.write_bytes(content)
    assert "claims 2,147,483,648 bytes" in refusal(file)


def test_objects_and_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}, {}], dtype=object))
    (tmp_path / "y.npy").write_bytes(pickle.dumps([1, 2]))
    np.savez(tmp_path / "z.npz", images=np.array([{}, {}], dtype=object), labels=np.arange(2))
    for name in ("x.npy", "y.npy", "z.npz"):
        line = refusal(tmp_path / name)
        assert "which genzoo never reads: save uint8 [n,H,W,C]" in line and "pickle" in line


def test_an_npz_without_an_array(tmp_path):
    np.savez(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    for name in ("x.npz", "y.npz"):
        assert "holds no array: save one with numpy.savez" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("train", "test", "labels", "tested"),
    [
        ("train_images", "test_images", "train_labels", "test_labels"),  # MedMNIST
        ("x_train", "x_test", "y_train", "y_test"),  # Keras
        ("X_training", "X_testing", "target_training", "target_testing"),
    ],
)
def test_names_of_arrays_mention_splits_and_labels(tmp_path, train, test, labels, tested):
    arrays = {
        train: noises(0, 1, 2),
        labels: np.array([[4], [0], [2]]),
        test: noises(3, 4),
        tested: np.array([[1], [0]]),
    }
    np.savez(tmp_path / "x.npz", **arrays, val_images=noises(5), notes=np.arange(7))
    data, config = opened(tmp_path / "x.npz"), DataConfig(name=str(tmp_path / "x.npz"))
    assert np.array_equal(pixels(data), noises(0, 1, 2)) and data.labels()["label"].tolist() == [4, 0, 2]
    assert heldout_split(config) == "test"
    held_out = opened(tmp_path / "x.npz", "test")
    assert np.array_equal(pixels(held_out), noises(3, 4)) and held_out.labels()["label"].tolist() == [1, 0]
    about = found(tmp_path / "x.npz")
    assert about.role == "split train of train, val, test by array name"
    assert about.notes == (f"array {train}", "unused arrays: notes")


def test_images_are_preferred_to_other_arrays_of_an_npz(tmp_path):
    """As dSprites has it; `data.column` takes another array."""
    np.savez(tmp_path / "x.npz", imgs=noises(0, 1)[..., 0], latents=np.zeros((2, 6)), about=np.array({}, dtype=object))
    assert np.array_equal(pixels(opened(tmp_path / "x.npz", channels=1)), noises(0, 1)[..., :1])
    assert opened(tmp_path / "x.npz", column="latents").shape == (6,)
    assert "give data.column one of imgs, latents, about" in refusal(tmp_path / "x.npz", column="labels")
    np.savez(tmp_path / "y.npz", train_images=noises(0), train_masks=noises(1), train_labels=noises(2))
    assert "several arrays of the split train: give data.column one of train_images, train_masks" in refusal(
        tmp_path / "y.npz"
    )
    assert np.array_equal(pixels(opened(tmp_path / "y.npz", column="masks")), noises(1))


def test_a_folder_of_npy_files_of_one_image_each(tmp_path):
    for i in range(12):
        folder = tmp_path / "x" / ("a" if i % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        saved(folder / f"{i}.npy", noise(i) if i % 3 else noise(i).transpose(2, 0, 1) / 255)
    data = opened(tmp_path / "x")
    assert np.array_equal(pixels(data), noises(1, 3, 5, 7, 9, 11, 0, 2, 4, 6, 8, 10))
    assert data.classes("label") == ("a", "b") and data.labels()["label"].tolist() == [0] * 6 + [1] * 6
    assert found(tmp_path / "x").notes == ("each .npy file is one image",)
    (tmp_path / "x" / "a" / "5.npy").write_bytes(npy_header("(8, 8, 3)") + bytes(7))
    line = refusal(tmp_path / "x")
    assert "a/5.npy (cannot be read (its header claims the shape [8, 8, 3], 192 bytes, and 7 follow)" in line
    with pytest.warns(UserWarning, match=r"1 unreadable left out: .*5\.npy"):
        assert opened(tmp_path / "x", skip_corrupt=True).size == 11


def test_folders_of_npy_files_are_splits_or_classes_as_those_of_images(tmp_path):
    for i, name in enumerate(("car", "train", "test", "train/car", "train/bus", "test/car", "test/bus")):
        folder = tmp_path / ("vehicles" if i < 3 else "split") / name
        folder.mkdir(parents=True)
        saved(folder / "0.npy", noise(i))
    assert opened(tmp_path / "vehicles").classes("label") == ("car", "test", "train")
    note = found(tmp_path / "vehicles").notes[-1]
    assert note.startswith("test/, train/ are read as classes, because car/ beside them")
    assert np.array_equal(pixels(opened(tmp_path / "split")), noises(4, 3))
    assert np.array_equal(pixels(opened(tmp_path / "split", "test")), noises(6, 5))


def test_a_folder_of_npy_shards_with_splits_and_labels(tmp_path):
    for name, array in {
        "train_0.npy": noises(0, 1),
        "train_1.npy": noises(2),
        "test_0.npy": noises(3),
        "train_labels.npy": np.array([7, 8, 9]),
    }.items():
        saved(tmp_path / name, array)
    data = opened(tmp_path)
    assert np.array_equal(pixels(data), noises(0, 1, 2)) and data.labels()["label"].tolist() == [7, 8, 9]
    assert np.array_equal(pixels(opened(tmp_path, "test")), noises(3))
    about = found(tmp_path)
    assert (
        about.parts == {"train_0.npy": 2, "train_1.npy": 1} and about.role == "split train of train, test by file name"
    )
    saved(tmp_path / "train_labels.npy", np.array([7, 8]))
    assert "has 3 items and 2 labels" in refusal(tmp_path)


def test_a_folder_of_npy_vectors(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    rows = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    for i, row in enumerate(rows):
        saved(tmp_path / "one" / f"{i}.npy", row)
    for i in range(2):
        saved(tmp_path / "many" / f"{i}.npy", rows[3 * i : 3 * i + 3])
    for name in ("one", "many"):
        assert torch.equal(opened(tmp_path / name).batch(range(6)), torch.from_numpy(rows))
    for i in range(2):
        (tmp_path / "squares").mkdir(exist_ok=True)
        saved(tmp_path / "squares" / f"{i}.npy", rows[:5])
    assert "squares/0.npy holds values outside [0,1]" in refusal(tmp_path / "squares")
    saved(tmp_path / "one" / "6.npy", rows[0, :3])
    assert "one/6.npy [3]: bring all to one width" in refusal(tmp_path / "one")
    saved(tmp_path / "one" / "6.npy", rows[:2])
    assert "[5] and " in refusal(tmp_path / "one") and "different folders" in refusal(tmp_path / "one")


# --- channels -------------------------------------------------------------------------------------------------------


def test_channels_are_kept_where_they_are_asked_for(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 4), dtype=np.uint8)
    file = saved(tmp_path / "rgba.npy", rgba)
    assert np.array_equal(pixels(opened(file, channels=4)), rgba)
    composited = [Image.alpha_composite(Image.new("RGBA", (8, 8), "white"), Image.fromarray(x)) for x in rgba]
    assert np.array_equal(pixels(opened(file)), np.stack([np.asarray(x.convert("RGB")) for x in composited]))
    assert found(file).notes == ("4 channels are RGBA, composited over data.background; data.channels=4 keeps them",)
    (tmp_path / "x").mkdir()
    Image.fromarray(rgba[0]).save(tmp_path / "x" / "0.png")
    assert np.array_equal(pixels(opened(tmp_path / "x", channels=4)), rgba[:1])
    (note,) = facts(opened(tmp_path / "x", background="black")).notes
    assert note == (
        "1 of 1 images looked at have an alpha channel: composited over data.background=black; data.channels=4 keeps it"
    )
    assert not facts(opened(tmp_path / "x", channels=4)).notes
    assert "image files have 1 (gray), 2 (gray, alpha), 3 or 4 (RGBA)" in refusal(tmp_path / "x", channels=5)
    gray = saved(tmp_path / "gray.npy", rgba.transpose(3, 0, 1, 2)[:, 0])
    assert found(gray).notes == ("4 gray images; one RGBA image has the shape [1,4,H,W]",)
    two = rgba[..., :2].transpose(0, 3, 1, 2)
    file = saved(tmp_path / "two.npy", two)
    assert "to keep 2 channels, give data.channels=2" in refusal(file)
    assert np.array_equal(opened(file, channels=2).batch(range(3)).numpy(), two)
    assert opened(file, channels=2, size=(4, 4)).shape == (2, 4, 4)
    assert "give data.channels=2" in refusal(file, channels=4)
    assert "give data.channels=3" in refusal("toyfaces", channels=5, limit=2)


@pytest.fixture(scope="module")
def run(own_cache, tmp_path_factory) -> Path:
    """A run on RGBA images."""
    root = tmp_path_factory.mktemp("rgba")
    saved(root / "x.npy", np.random.default_rng(0).integers(0, 256, (16, 8, 8, 4), dtype=np.uint8))
    settings = (f"data.name={root / 'x.npy'}", "data.channels=4", "data.size=8x8", "train.duration=2it")
    return Trainer(tiny_run("vae", *settings), out=root / "run", progress=False).fit()


def test_a_model_of_four_channels_is_trained_shown_and_scored(run, tmp_path):
    assert Image.open(run / "preview.png").mode == "RGBA"
    assert main(["reconstruct", str(run), "--n", "2", "--out", str(tmp_path / "r.png")]) == 0
    assert Image.open(tmp_path / "r.png").mode == "RGBA"
    scores = result_line(Job(open_subject(str(run), torch.device("cpu")), get_protocol("rec8_train"), rgba_data(run)))
    assert 0 < scores.values["ssim"] < 1 and scores.values["sse"] > 0


def rgba_data(run: Path) -> DataConfig:
    return DataConfig(name=str(run.parent / "x.npy"), channels=4, size=(8, 8))


def test_pictures_of_two_and_five_channels(tmp_path):
    for channels, mode in ((2, "L"), (4, "RGB"), (5, "RGB")):
        save_grid([torch.rand(3, channels, 8, 8)], tmp_path / "x.jpg")
        assert Image.open(tmp_path / "x.jpg").mode == mode


# --- archives -------------------------------------------------------------------------------------------------------


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def pictures(*names: str) -> dict[str, bytes]:
    """PNG files by name; the i-th is noise(i)."""
    return {name: png(noise(i)) for i, name in enumerate(names)}


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_folders_of_an_archive_are_splits_and_classes(tmp_path, make):
    suffix = {zip_of: ".zip", tar_of: ".tar"}[make]
    others = {
        "__MACOSX/train/._0.png": b"x",
        "data/.DS_Store": b"x",
        "../evil.png": b"x",
        "data/@eaDir/0.png": b"x",
    }
    names = ("data/train/cat/2.png", "data/train/dog/10.png", "data/test/dog/0.png", "data/test/cat/1.png")
    file = make(tmp_path / f"x{suffix}", pictures(*names) | others)
    data = opened(file)
    assert np.array_equal(pixels(data), noises(0, 1))
    assert data.classes("label") == ("cat", "dog") and data.labels()["label"].tolist() == [0, 1]
    assert heldout_split(DataConfig(name=str(file))) == "test" and opened(file, "test").size == 2
    about = found(file)
    assert about.role == "split train of train, test by folder name, 2 classes by folder"
    assert about.parts == {"cat/": 1, "dog/": 1}
    classes = make(tmp_path / f"y{suffix}", pictures("bus/0.png", "train/0.png", "train/1.png") | {"notes.txt": b"x"})
    assert opened(classes).classes("label") == ("bus", "train") and opened(classes).size == 3  # two kinds of vehicles
    assert found(classes).role == "2 classes by folder" and found(classes).left_out == {".txt": 1}
    copy = pickle.loads(pickle.dumps(opened(file, cache=False)))  # as worker processes get it
    assert torch.equal(copy.batch([1, 0]), data.batch([1, 0]))
    assert "no images in" in refusal(make(tmp_path / f"z{suffix}", {"a.txt": b"", "b.csv": b""}))


def test_styleganss_dataset_json_gives_labels(tmp_path):
    names = [f"{i // 2:05d}/img{i:08d}.png" for i in range(5)]
    labels = {"labels": [[name, (3 * i) % 5] for i, name in enumerate(names[:4])]}
    file = zip_of(tmp_path / "x.zip", pictures(*names) | {"dataset.json": json.dumps(labels).encode()})
    data = opened(file)
    assert np.array_equal(pixels(data), noises(*range(5))) and data.labels()["label"].tolist() == [0, 3, 1, 4, -1]
    assert found(file).role == "5 classes by dataset.json"
    file = zip_of(tmp_path / "y.zip", pictures(*names) | {"dataset.json": b'{"labels": null}'})
    assert opened(file).labels() == {}  # its folders are no classes
    for content in (b"[1]", b"{", b'{"labels": 5}', b"[" * 100000):
        line = refusal(zip_of(tmp_path / "z.zip", pictures(*names) | {"dataset.json": content}))
        assert "z.zip/dataset.json cannot be read" in line


def test_entries_of_a_zip_that_cannot_be_read_are_named_or_skipped(tmp_path):
    file = zip_of(tmp_path / "x.zip", pictures("0.png", "1.png", "2.png", "3.png"))
    content = bytearray(file.read_bytes())
    second, third = (content.index(name) for name in (b"1.png", b"2.png"))
    content[second + 60] ^= 0xFF  # inside the entry: its checksum fails
    content[third - 30 + 6] |= 1  # "encrypted", in the entry and in the directory
    content[content.rindex(b"2.png") - 46 + 8] |= 1
    file.write_bytes(content)
    assert f"{file}/1.png (Bad CRC-32 for file '1.png')" in refusal(file)
    with pytest.warns(UserWarning, match=r"2 unreadable left out: .*1\.png.*2\.png \(it is encrypted\)"):
        assert np.array_equal(pixels(opened(file, skip_corrupt=True)), noises(0, 3))
    file.write_bytes(bytes(content)[:-40])
    assert "is damaged or not an archive" in refusal(file)


def test_webdataset_shards(tmp_path):
    seen = iter(range(9))
    for shard in ("train-000000", "train-000001", "val-000000"):
        members = {}
        for i in range(3):
            number = next(seen)
            members |= {f"{i:03d}.seg.png": png(noise(90)), f"{i:03d}.png": png(noise(number))}
            members |= {f"{i:03d}.cls": str(number % 4).encode(), f"{i:03d}.json": b"{}"}
        tar_of(tmp_path / "wds" / f"{shard}.tar", members)
    assert "wds/train-000000.tar/000. has several images: give data.column one of seg.png, png" in refusal(
        tmp_path / "wds"
    )
    data = opened(tmp_path / "wds", column="png")
    assert np.array_equal(pixels(data), noises(*range(6))) and data.labels()["label"].tolist() == [0, 1, 2, 3, 0, 1]
    assert np.array_equal(pixels(opened(tmp_path / "wds", "val", column="png")), noises(6, 7, 8))
    about = found(tmp_path / "wds", column="png")
    assert about.parts == {"train-000000.tar": 3, "train-000001.tar": 3} and not about.left_out
    assert about.role == "split train of train, val by file name, classes by .cls"


def test_a_tar_of_a_numbered_series_is_images(tmp_path):
    file = tar_of(tmp_path / "x.tar", pictures("./cat.0.png", "./cat.1.png", "./dog.0.png"))
    assert np.array_equal(pixels(opened(file)), noises(0, 1, 2))


def test_a_tar_that_ends_early(tmp_path):
    file = tar_of(tmp_path / "x.tar", pictures("0.png", "1.png", "2.png"))
    content = file.read_bytes()
    third = content.rindex(b"2.png")
    file.write_bytes(content[: third + 512 + 30])
    assert f"{file}/2.png (the archive ends inside it)" in refusal(file)
    with pytest.warns(UserWarning, match="2.png"):
        assert opened(file, skip_corrupt=True).size == 2
    file.write_bytes(content[:third])  # nothing of the third file is left
    assert opened(file).size == 2 and found(file).left_out == {"archive that is cut off or damaged": 1}
    file.write_bytes(gzip.compress(content))
    assert "is damaged or not an archive" in refusal(file)


# --- tables ---------------------------------------------------------------------------------------------------------


def test_save_to_disk_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    one, two = (
        datasets.Dataset.from_dict({"image": cells(*seeds), "label": [0, 1, 1][: len(seeds)]}, features=features)
        for seeds in ((0, 1, 2), (3, 4))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets.DatasetDict(train=one, test=two).save_to_disk(tmp_path / "both")
        one.with_format("torch").save_to_disk(tmp_path / "one")
    data = opened(tmp_path / "both")
    assert np.array_equal(pixels(data), noises(0, 1, 2)) and data.classes("label") == ("a", "b")
    assert heldout_split(DataConfig(name=str(tmp_path / "both"))) == "test"
    assert np.array_equal(pixels(opened(tmp_path / "both", "test")), noises(3, 4))
    assert np.array_equal(pixels(opened(tmp_path / "one")), noises(0, 1, 2))
    assert found(tmp_path / "both").role == "split train of train, test by dataset_dict.json"
    arrow = next((tmp_path / "one").glob("*.arrow"))
    content = arrow.read_bytes()
    arrow.unlink()  # it is mapped into memory
    arrow.write_bytes(content[:300])
    assert "is damaged or not written by `save_to_disk`" in refusal(tmp_path / "one")
    next((tmp_path / "both" / "train").glob("*.arrow")).unlink()
    assert "both/train holds no rows" in refusal(tmp_path / "both")
    (tmp_path / "both" / "dataset_dict.json").write_text("{}")
    assert "is damaged or not written by `save_to_disk`" in refusal(tmp_path / "both")


@pytest.mark.parametrize("name", ["metadata.parquet", "metadata.csv", "metadata.jsonl"])
def test_an_image_folder_with_metadata_is_its_images(tmp_path, name):
    folder_of(tmp_path, 8)
    rows = [{"file_name": f"{i}.png", "text": "a cat"} for i in range(8)]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    elif name.endswith(".csv"):
        with open(tmp_path / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert np.array_equal(pixels(opened(tmp_path)), noises(*range(8)))


def test_a_table_of_facts_beside_tables_of_images_is_none_of_them(tmp_path):
    pq.write_table(pa.table({"file_name": ["0.png"]}), tmp_path / "metadata.parquet")
    assert "column 'file_name' holds string values" in refusal(tmp_path)
    for i, name in enumerate(("train/a", "train/b/a")):
        parquet_of(tmp_path / f"{name}.parquet", cells(i, i + 1))
    assert np.array_equal(pixels(opened(tmp_path)), noises(0, 1, 1, 2))
    assert found(tmp_path).parts == {"a.parquet": 2, "b/a.parquet": 2}


def test_parquet_with_images_beside_a_picture_is_the_parquet(tmp_path):
    folder_of(tmp_path / "assets", 1)
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": cells(3, 4)}), tmp_path / "data" / "train-00000-of-00001.parquet")
    assert np.array_equal(pixels(opened(tmp_path)), noises(3, 4))
    assert found(tmp_path).notes == ("column 'image'",)


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            pa.array([[{"bytes": b"x", "path": None}]], pa.list_(IMAGE)),
            ("list<", "struct<bytes", "one image a row", "flatten()"),
        ),
        (
            pa.array([{"left": None}], pa.struct([("left", IMAGE)])),
            ("struct<left", "data.column=images.left", "table.flatten()"),
        ),
        (pa.array(["aGVsbG8="]), ("string", "b64decode")),
        (pa.array(["0.png"]), ("string", "to_csv('list.csv')")),
        (pa.array([["0.png"]]), ("list<", "one path a line in a .txt")),
        (pa.array([[[1, 300], [2, 3]]]), ("int64", "[1, 300]", "(x / 300)")),
        (pa.array([0.5]), ("images (double)", "binary column")),
    ],
)
def test_parquet_columns_of_other_types_name_the_type_and_the_cure(tmp_path, column, words):
    pq.write_table(pa.table({"images": column}), tmp_path / "x.parquet")
    line = refusal(tmp_path / "x.parquet")
    assert all(word in line for word in words), line


def test_array_columns_of_datasets_are_numbers(tmp_path):
    datasets = pytest.importorskip("datasets")
    values = np.random.default_rng(0).random((2, 3, 4, 4)).astype(np.float32)
    features = datasets.Features(x=datasets.Array3D((3, 4, 4), "float32"))
    datasets.Dataset.from_dict({"x": values}, features=features).to_parquet(tmp_path / "x.parquet")
    assert np.array_equal(opened(tmp_path / "x.parquet").batch([0, 1]).numpy(), np.rint(values * 255))


@pytest.mark.parametrize(
    ("name", "text", "labels", "classes"),
    [
        ("x.txt", "imgs/2.png\n\nimgs/0.png\n", None, ()),
        ("x.txt", "imgs/2.png 1\nimgs/0.png 0\n", [1, 0], ("0", "1")),
        ("x.csv", "id,file,label\n7,imgs/2.png,dog\n8,imgs/0.png,cat\n", [1, 0], ("cat", "dog")),
        ("x.csv", "imgs/2.png,a\nimgs/0.png,b\n", None, ()),
        ("x.csv", "file;label\nimgs/2.png;a,b\nimgs/0.png;c\n", [0, 1], ("a,b", "c")),
        ("x.csv", "file,split\nimgs/2.png,1\nimgs/0.png,2\n", None, ()),
        ("x.tsv", "\ufefffile\tclass\nimgs/2.png\t3\nimgs/0.png\t0\n", [3, 0], ("0", "1", "2", "3")),
        ("x.jsonl", '{"image": "imgs/2.png"}\n{"image": "imgs/0.png"}\n', None, ()),
    ],
)
def test_lists_of_paths(tmp_path, name, text, labels, classes):
    """Paths are relative to the list, not to the working directory."""
    folder_of(tmp_path / "here" / "imgs", 3)
    (tmp_path / "here" / name).write_text(text, encoding="utf-8")
    data = opened(tmp_path / "here" / name)
    assert np.array_equal(pixels(data), noises(2, 0))
    assert (data.labels()["label"].tolist() if labels else data.labels()) == (labels or {})
    assert not classes or data.classes("label") == classes


def test_a_column_of_a_list_names_splits(tmp_path):
    folder_of(tmp_path / "imgs", 4)
    rows = ("imgs/2.png,Training", "imgs/0.png,test", "imgs/1.png,Training", "imgs/3.png,test")
    file = tmp_path / "x.csv"
    file.write_text("\n".join(("file,split", *rows)), encoding="utf-8")
    assert np.array_equal(pixels(opened(file)), noises(2, 1)) and heldout_split(DataConfig(name=str(file))) == "test"
    assert np.array_equal(pixels(opened(file, "test")), noises(0, 3))
    assert found(file).role == "split train of train, test by column"


def test_lists_that_name_no_images(tmp_path):
    folder_of(tmp_path, 1)
    for name, text, words in (
        ("a.csv", "label,pixel0,pixel1\n1,2,3\n", ("it has label, pixel0, pixel1", "numpy.loadtxt")),
        ("b.csv", "", ("lists no images",)),
        ("c.csv", "file\nhttps://example.org/0.png\n", ("item 1", "is an address")),
        ("d.csv", "file\n0.png\ngone.png\n", ("gone.png",)),
        ("e.jsonl", "{", ("cannot be read as a list",)),
        ("f.jsonl", "[1]", ("cannot be read as a list",)),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        line = refusal(tmp_path / name)
        assert all(word in line for word in words), line
    (tmp_path / "g.csv").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal(tmp_path / "g.csv")
    assert "no column 'x': give data.column one of file" in refusal(tmp_path / "d.csv", column="x")


# --- idx ------------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files(tmp_path, compressed):
    raw, gray = tmp_path / "MNIST" / "raw", noises(0, 1, 2, 3, 4)[..., 0]
    raw.mkdir(parents=True)
    for name, array in {
        "train-images-idx3-ubyte": gray[:3],
        "train-labels-idx1-ubyte": np.array([5, 0, 4]),
        "t10k-images-idx3-ubyte": gray[3:],
        "t10k-labels-idx1-ubyte": np.array([7, 2]),
    }.items():
        (raw / f"{name}{'.gz' * compressed}").write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    root = tmp_path / "MNIST"
    data, test = opened(root, channels=1), opened(root, "test", channels=1)
    assert np.array_equal(pixels(data)[..., 0], gray[:3]) and data.labels()["label"].tolist() == [5, 0, 4]
    assert np.array_equal(pixels(test)[..., 0], gray[3:]) and test.labels()["label"].tolist() == [7, 2]
    assert heldout_split(DataConfig(name=str(root))) == "test"
    images = next(raw.glob("t10k-images*"))
    assert opened(images).labels()["label"].tolist() == [7, 2] and opened(images).size == 2
    assert "holds labels: give the file of images" in refusal(next(raw.glob("train-labels*")))
    assert found(root).role == "split train of train, test by file name"


@pytest.mark.parametrize("shape", [(3, 8, 9), (2**31, 2**31, 8), (2, 8, 8)])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_headers_that_lie(tmp_path, shape, ending):
    content = struct.pack(">HBB3I", 0, 8, 3, *shape) + noises(0, 1, 2)[..., 0].tobytes()
    file = tmp_path / f"train-images-idx3-ubyte{ending}"
    file.write_bytes(gzip.compress(content) if ending else content)
    assert "its header claims the shape" in refusal(file)
    file.write_bytes(b"\x00\x00\x08")
    assert "is damaged or not an idx file" in refusal(file)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("scan.dcm", b"", ("DICOM", "pydicom.dcmread", "data.range", "4095")),
        ("scan", bytes(128) + b"DICM", ("DICOM", "data.range")),
        ("x.h5", b"\x89HDF\r\n", ("HDF5", "h5py.File(", "x.h5")),
        ("x.hdf5", b"", ("HDF5", "numpy.save")),
        ("data.mdb", b"", ("LMDB", ".tar")),
        ("walk.MP4", b"", ("video", "ffmpeg -i", "walk.MP4")),
        ("data_batch_1", pickle.dumps({}), ("pickle", "never read", "--data cifar10")),
        ("x.pkl", pickle.dumps({}), ("pickle", "never read", "numpy.save")),
        ("x.pt", b"PK", ("torch.load(", "weights_only=True", "numpy.save")),
        ("x.tar.gz", b"", ("compressed", "tar xf")),
        ("x.mat", b"", ("MATLAB", "scipy.io.loadmat")),
        ("x.arrow", b"", ("to_parquet",)),
        ("x.tfrecord", b"", ("TFRecord", ".tar")),
        ("x.rar", b"", ("unpack it",)),
        ("train_X.bin", b"", ("numpy.fromfile(", "'uint8'")),
        ("x.nc", b"", ("NetCDF", "xarray")),
        ("x.safetensors", b"", ("load_file(", "numpy.save")),
        ("1.2.840.113", bytes(128) + b"DICM", ("DICOM", "data.range")),
    ],
)
def test_formats_that_are_refused_with_the_way(tmp_path, name, content, words):
    """The file itself, and a folder that holds nothing else, deep down."""
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / name).write_bytes(content)
    for path in (tmp_path / "x" / "y" / name, tmp_path / "x"):
        line = refusal(path)
        assert all(word in line for word in words), line
        assert "{" not in line


def test_a_folder_of_one_other_container_names_it(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", train=noises(0))
    assert f"give one file, e.g. {tmp_path / 'x.npz'}" in refusal(tmp_path)
    folder_of(tmp_path / "imgs", 1)
    assert f"is one image: give the folder that it is in, {tmp_path / 'imgs'}" in refusal(tmp_path / "imgs" / "0.png")
    monkeypatch.chdir(tmp_path / "imgs")
    assert refusal("0.png").endswith(f"the folder that it is in, {tmp_path / 'imgs'}.")
    (tmp_path / "a.zarr").mkdir()
    assert "zarr.open(" in refusal(tmp_path / "a.zarr")
    (tmp_path / "x.xyz").write_bytes(b"abc")
    assert "is not a dataset: give a folder of images" in refusal(tmp_path / "x.xyz")


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        ("s3://bucket/faces", "aws s3 sync s3://bucket/faces faces, and give ./faces"),
        ("S3://bucket/faces", "aws s3 sync S3://bucket/faces faces"),
        ("ssh://host/faces", "copy it here, and give its path"),
        ("wds/{00000..00009}.tar", "is a pattern of names: give the folder of these files"),
        ("wds/*.tar", "is a pattern of names: give the folder of these files"),
        ("gs://bucket/faces/", "gcloud storage cp -r gs://bucket/faces/ ., and give ./faces"),
        ("https://example.org/faces.zip", "curl -LO https://example.org/faces.zip"),
        ("https://huggingface.co/datasets/owner/faces/tree/main", "give the dataset's name, owner/faces"),
        ("hf://datasets/owner/faces", "give the dataset's name, owner/faces"),
        ("file:///data/faces", "give the path, /data/faces"),
    ],
)
def test_addresses_are_refused_with_the_way(address, fix):
    assert fix in refusal(address)


def test_the_command_line_refuses_formats_with_status_2(tmp_path, capsys):
    (tmp_path / "x.h5").write_bytes(b"")
    assert main(["suggest", "--data", str(tmp_path / "x.h5")]) == 2
    assert "h5py.File" in capsys.readouterr().err


# --- splits by name -------------------------------------------------------------------------------------------------


def test_names_that_mention_splits():
    names = {"train2017": "train", "x_train": "train", "VAL": "val", "cifar10-test": "test", "Testing": "test"}
    assert {name: split_in(name) for name in names} == names
    assert not any(map(split_in, ("trains", "evaluate", "contest", "images", "")))
    assert by_folder(["/a/0.png", "b/0.png"]) == ({"train": ["/a/0.png", "b/0.png"]}, ())
    assert by_folder(["test/b.png", "2.png", "1.png"])[0] == {"train": ["2.png", "1.png"], "test": ["test/b.png"]}


# --- statistics of features -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The statistics of MNIST's classifier on test digits, in a file; and a folder of other digits."""
    root = tmp_path_factory.mktemp("statistics")
    config = DataConfig(name="digits", size=(8, 8), channels=1)
    extractor = get_extractor("classifier:mnist")
    how = {"precision": extractor.best_precision("eval")}
    images = open_dataset(config, "test", progress=False).batch(range(297)) / 255
    real = statistics(extractor(images, **how))
    np.savez(root / "stats.npz", mu=real.mean.numpy(), sigma=real.cov.numpy())
    named = {"extractor": np.array("classifier:mnist"), "n": np.array(297)}
    np.savez(root / "named.npz", mu=real.mean.numpy(), sigma=real.cov.numpy(), **named)
    fakes = open_dataset(config, "train", progress=False).batch(range(60))
    (root / "fakes").mkdir()
    for i, x in enumerate(fakes):
        Image.fromarray(x[0].numpy()).save(root / "fakes" / f"{i:02d}.png")
    expected = frechet_distance(real, statistics(extractor(fakes / 255, **how)))
    return root, expected


def score(root: Path, file: str, protocol: str):
    data = DataConfig(name=str(root / file), channels=1)
    subject = open_subject(str(root / "fakes"), torch.device("cpu"), like=data)
    return result_line(Job(subject, get_protocol(protocol), data, progress=False))


@pytest.mark.filterwarnings("ignore:Fréchet distance of 60 items")
def test_frechet_distances_to_a_file_of_statistics(scored):
    root, expected = scored
    with pytest.warns(UserWarning, match="stats.npz does not say which extractor made it"):
        line = score(root, "stats.npz", "fd_classifier_mnist_60_test")
    assert line.values["frechet"] == pytest.approx(expected, rel=1e-3)
    assert (line.data, line.split, line.resolution, line.details["n_real"]) == ("stats.npz", None, None, None)
    assert line.details["real_statistics"]["extractor"] == "not stated"
    line = score(root, "named.npz", "fd_classifier_mnist_60_train")
    assert line.values["frechet"] == pytest.approx(expected, rel=1e-3) and line.details["n_real"] == 297
    assert line.details["real_statistics"]["extractor"] == "classifier:mnist"


def test_other_metrics_and_other_statistics_are_refused(scored, tmp_path):
    root, _ = scored
    for word in ("kd", "prdc"):
        name = f"{word}_classifier_mnist_60_test"
        with pytest.raises(
            UsageError, match=f"{name} needs the features of real images, and .*stats.npz holds their mean"
        ):
            score(root, "stats.npz", name)
    (tmp_path / "fakes").symlink_to(root / "fakes")
    arrays = dict(np.load(root / "named.npz"))
    for changes, words in (
        ({"mu": np.array("text")}, r"x\.npz\[mu\] holds <U4 \[\], not numbers"),
        ({"mu": np.array([None])}, "holds object"),
        ({"n": np.array([])}, "not numbers"),
        ({"n": np.array(np.nan)}, "NaN or infinity"),
        ({"extractor": np.array("inception")}, "holds statistics of inception, not of classifier:mnist"),
        ({"mu": arrays["mu"][:5], "sigma": arrays["sigma"][:5, :5]}, "of 5 dimensions"),
        ({"mu": arrays["mu"] * np.nan}, "NaN or infinity"),
        ({"sigma": -arrays["sigma"]}, "sigma in .* is not a covariance"),
        ({"sigma": np.triu(arrays["sigma"])}, "sigma in .* is not a covariance"),
    ):
        np.savez(tmp_path / "x.npz", **(arrays | changes))
        with pytest.raises(UsageError, match=words):
            score(tmp_path, "x.npz", "fd_classifier_mnist_60_test")
    assert "holds statistics of features (mu and sigma), not images" in refusal(root / "stats.npz")


def test_batchnorm_is_checked_on_the_runs_own_images(run, scored):
    subject = open_subject(str(run), torch.device("cpu"))
    own = subject.batchnorm_alarm(rgba_data(run))
    assert subject.batchnorm_alarm(DataConfig(name=str(scored[0] / "named.npz"))) == own


def test_damaged_items_are_never_objects(tmp_path):
    """A header that says `object` is not followed, and an item that cannot be read says why."""
    (tmp_path / "0.npy").write_bytes(npy_header("(2, 2, 3)", "'|O'") + bytes(96))
    with pytest.raises(UsageError, match="never reads"):
        open_npy(tmp_path / "0.npy").load()
    assert isinstance(open_path(tmp_path, DataConfig()).source("train").fetch([0])[0], CorruptImageError)
