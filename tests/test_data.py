"""The data package: sources, decoding, cache, splits, labels, and errors that name the fix."""

import builtins
import io
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sample_data import cells, folder_of, noise, parquet_of, png, refusal, saved
from torch.utils.data import DataLoader

from genzoo.data import (
    cache,
    decoding,
    heldout_split,
    list_datasets,
    load_image,
    materialize,
    open_dataset,
)
from genzoo.data.decoding import to_uint8
from genzoo.data.embedded import toyfaces
from genzoo.data.hub_table import HUB
from genzoo.errors import UsageError
from genzoo.spec import DataConfig

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")
POINT_SETS = ("8gaussians", "25gaussians", "2spirals", "checkerboard", "rings")
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(autouse=True)
def cache_root(tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


@pytest.fixture
def decodes(monkeypatch):
    """Counts the images decoded in this process."""
    counted = []
    monkeypatch.setattr(decoding, "read", lambda raw, read=decoding.read: (counted.append(raw), read(raw))[1])
    return counted


def corner(array: np.ndarray) -> tuple[int, ...]:
    return tuple(array[:, 0, 0].tolist())


# --- decoding: each mode that Pillow opens --------------------------------------------------------------------------


def test_native_size_is_pixel_exact():
    assert np.array_equal(to_uint8(Image.fromarray(noise(0)), (8, 8), 3), noise(0).transpose(2, 0, 1))
    assert np.array_equal(to_uint8(Image.fromarray(noise(0)), None, 3), noise(0).transpose(2, 0, 1))


def test_gray_is_the_luma_and_rgb_of_gray_repeats():
    pixel = Image.new("RGB", (1, 1), (10, 200, 30))
    assert to_uint8(pixel, None, 1).item() == round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)
    assert corner(to_uint8(Image.new("L", (2, 2), 77), None, 3)) == (77, 77, 77)


def test_alpha_is_composited_over_the_background():
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert corner(to_uint8(half, None, 3, background="white")) == (255, 127, 127)
    assert corner(to_uint8(half, None, 3, background="#000000")) == (128, 0, 0)
    assert corner(to_uint8(Image.new("LA", (4, 4), (9, 0)), None, 1, background="white")) == (255,)


def test_alpha_is_composited_before_resizing():
    """Otherwise the invisible color of transparent pixels (here black) bleeds into the edges."""
    layer = np.zeros((8, 8, 4), np.uint8)
    layer[:, 4:] = (255, 255, 255, 255)
    assert to_uint8(Image.fromarray(layer), (4, 4), 3, background="white").min() == 255


def test_palette_with_a_transparent_entry():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    pixels = to_uint8(decoding.read(file.getvalue()), None, 3, background="red")
    assert corner(pixels) == RED and tuple(pixels[:, 0, 1]) == GREEN


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_rescaled_not_clipped(kind):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    assert np.array_equal(to_uint8(decoding.read(file.getvalue()), None, 1)[0], np.rint(values / 257))


def test_32_bit_modes():
    assert to_uint8(Image.new("I", (2, 2), 65535), None, 1).max() == 255
    assert to_uint8(Image.new("F", (2, 2), 0.5), None, 1).max() == 128
    for image, message in ((Image.new("I", (2, 2), 70000), "outside"), (Image.new("F", (2, 2), float("nan")), "NaN")):
        with pytest.raises(UsageError, match=message):
            to_uint8(image, None, 1)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [("CMYK", (255, 0, 0, 0), (0, 255, 255)), ("1", 1, WHITE), ("HSV", (0, 255, 255), RED)],
)
def test_other_color_spaces(mode, color, expected):
    assert corner(to_uint8(Image.new(mode, (2, 2), color), None, 3)) == expected
    assert to_uint8(Image.new(mode, (2, 2), color), None, 1).shape == (1, 2, 2)


def test_exif_orientation_is_applied():
    upright = Image.new("RGB", (4, 2), WHITE)
    upright.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    file = io.BytesIO()
    upright.save(file, "PNG", exif=exif)
    pixels = to_uint8(decoding.read(file.getvalue()), None, 3)
    assert pixels.shape == (3, 4, 2) and tuple(pixels[:, 0, 1]) == RED


def test_fit_crops_pads_or_stretches():
    bands = np.zeros((20, 40, 3), np.uint8)
    bands[:, :10], bands[:, 10:30], bands[:, 30:] = RED, GREEN, BLUE
    image = Image.fromarray(bands)
    assert (to_uint8(image, (20, 20), 3, fit="crop").transpose(1, 2, 0) == GREEN).all()
    padded = to_uint8(image, (40, 40), 3, fit="pad", background="white")
    assert corner(padded) == WHITE and tuple(padded[:, 20, 20]) == GREEN and tuple(padded[:, 20, 0]) == RED
    assert to_uint8(image.convert("L"), (40, 40), 1, fit="pad", background="white")[0, 0, 0] == 255
    stretched = to_uint8(image, (20, 20), 3, fit="stretch")
    assert tuple(stretched[:, 10, 0]) == RED and tuple(stretched[:, 10, 19]) == BLUE


def test_precrop_cuts_the_center_out_before_resizing():
    array = np.zeros((6, 8, 3), np.uint8)
    array[2:4, 3:5] = GREEN
    assert (to_uint8(Image.fromarray(array), (4, 4), 3, precrop=2).transpose(1, 2, 0) == GREEN).all()
    with pytest.raises(UsageError, match="precrop"):
        to_uint8(Image.fromarray(array), (4, 4), 3, precrop=7)


def test_resizing_is_antialiased():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = to_uint8(Image.fromarray(checks), (9, 9), 1).astype(float)
    assert abs(small - 127.5).max() < 16


# --- folders --------------------------------------------------------------------------------------------------------


def test_folder_is_read_in_natural_order(tmp_path):
    folder_of(tmp_path / "faces", 12)
    (tmp_path / "faces" / ".hidden.png").write_bytes(b"")
    (tmp_path / "faces" / "notes.txt").write_text("no image", encoding="utf-8")
    data = open_dataset(DataConfig(name=str(tmp_path / "faces")))
    assert (data.size, len(data), data.shape, data.cached, data.labels()) == (12, 12, (3, 8, 8), True, {})
    batch = data.batch([10, 2])
    assert batch.dtype == torch.uint8
    assert np.array_equal(batch.numpy(), np.stack([noise(10), noise(2)]).transpose(0, 3, 1, 2))
    assert torch.equal(data[10], batch[0])


def test_split_and_class_folders(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for label in ("cat", "dog"):
            folder_of(tmp_path / split / label, count)
    config = DataConfig(name=str(tmp_path))
    assert open_dataset(config).labels()["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert heldout_split(config) == "test" and open_dataset(config, "test").size == 4
    assert "it has train, test" in refusal(tmp_path, "validation")


def test_folder_without_splits_is_train(tmp_path):
    folder_of(tmp_path)
    assert heldout_split(DataConfig(name=str(tmp_path))) is None
    assert "it has train" in refusal(tmp_path, "test")


def test_parts_of_a_split(tmp_path):
    folder_of(tmp_path, 5)
    config = DataConfig(name=str(tmp_path), split="train[:3]")
    assert heldout_split(config) == "train[3:]"
    train, test = open_dataset(config), open_dataset(config, heldout_split(config))
    assert (train.size, test.size) == (3, 2) and torch.equal(test[0], torch.from_numpy(noise(3).transpose(2, 0, 1)))
    assert train.fingerprint != test.fingerprint
    assert "none of them" in refusal(tmp_path, "train[5:]") and "is not a split" in refusal(tmp_path, "train[3")


def test_what_is_not_a_folder_of_images(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("text", encoding="utf-8")
    assert "no images" in refusal(tmp_path / "empty")
    assert "lists no images" in refusal(tmp_path / "x.txt")
    assert "no file or folder" in refusal(tmp_path / "missing")
    assert "no file or folder" in refusal("./missing") and "no file or folder" in refusal("~/missing-genzoo")


def test_sizes_that_differ_need_a_size(tmp_path):
    folder_of(tmp_path, 2)
    Image.fromarray(noise(9, 6, 8)).save(tmp_path / "9.png")
    line = refusal(tmp_path)
    assert "9.png has 6x8" in line and "--res" in line
    assert open_dataset(DataConfig(name=str(tmp_path), size=(4, 4))).shape == (3, 4, 4)


# --- corrupt files --------------------------------------------------------------------------------------------------


def truncated_jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(0, 64, 64)).save(file, "JPEG")
    return file.getvalue()[:1000]


BROKEN = {
    "truncated": truncated_jpeg(),
    "empty": b"",
    "text": b"this is not an image",
    "half_png": png(noise(0, 64, 64))[:2000],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_corrupt_file_is_named_or_skipped(tmp_path, kind):
    folder_of(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(BROKEN[kind])
    line = refusal(tmp_path)
    assert "1.png" in line and "data.skip_corrupt=true" in line
    with pytest.warns(UserWarning, match=r"1 unreadable left out: .*1\.png"):
        data = open_dataset(DataConfig(name=str(tmp_path), skip_corrupt=True))
    assert data.size == 2 and len(data.skipped) == 1 and "1.png" in data.skipped[0]
    assert torch.equal(data[1], torch.from_numpy(noise(2).transpose(2, 0, 1)))
    with pytest.warns(UserWarning, match="1 unreadable"):  # repeated when the cache is opened
        assert open_dataset(DataConfig(name=str(tmp_path), skip_corrupt=True)).skipped == data.skipped


def test_first_image_corrupt_and_all_corrupt(tmp_path):
    folder_of(tmp_path, 2)
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.warns(UserWarning):
        assert open_dataset(DataConfig(name=str(tmp_path), skip_corrupt=True)).size == 1
    (tmp_path / "1.png").write_bytes(b"")
    assert "no readable image" in refusal(tmp_path, skip_corrupt=True)


def test_labels_follow_skipped_images(tmp_path):
    folder_of(tmp_path / "a", 2)
    folder_of(tmp_path / "b", 2)
    (tmp_path / "a" / "0.png").write_bytes(b"")
    for settings in ({"cache": True}, {"cache": False}):
        with pytest.warns(UserWarning):
            data = open_dataset(DataConfig(name=str(tmp_path), skip_corrupt=True, **settings))
        assert data.labels()["label"].tolist() == [0, 1, 1] and data.classes("label") == ("a", "b")


# --- parquet --------------------------------------------------------------------------------------------------------


def test_parquet_folder_with_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("genzoo.data.parquet._HELD_BYTES", 1)  # one row group at a time
    parquet_of(tmp_path / "data" / "train-00000-of-00002.parquet", cells(0, 1, 2))
    parquet_of(tmp_path / "data" / "train-00001-of-00002.parquet", cells(3, 4))
    parquet_of(tmp_path / "data" / "extra-00000-of-00001.parquet", cells(5))
    parquet_of(tmp_path / "data" / "test-00000-of-00001.parquet", cells(6))
    config = DataConfig(name=str(tmp_path), cache=False)
    data = open_dataset(config)
    assert data.size == 5 and data.labels()["label"].tolist() == [0, 1, 2, 0, 1] and heldout_split(config) == "test"
    order = [4, 0, 3, 2, 1]
    assert np.array_equal(data.batch(order).numpy(), np.stack([noise(i) for i in order]).transpose(0, 3, 1, 2))
    assert "it has train, test, extra" in refusal(tmp_path, "dev")


def test_one_parquet_file_and_its_column(tmp_path):
    file = parquet_of(tmp_path / "x.parquet", [png(noise(0)), png(noise(1))], column="bytes_only", metadata={})
    assert open_dataset(DataConfig(name=str(file))).size == 2
    assert "no column 'nope'" in refusal(file, column="nope")
    assert "holds int64 values" in refusal(file, column="kind")
    pq.write_table(pa.table({"a": cells(0), "b": cells(1)}), tmp_path / "two.parquet")
    assert "data.column one of a, b" in refusal(tmp_path / "two.parquet")
    second = open_dataset(DataConfig(name=str(tmp_path / "two.parquet"), column="b"))
    assert torch.equal(second[0], torch.from_numpy(noise(1).transpose(2, 0, 1)))
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "none.parquet")
    assert "no column of images" in refusal(tmp_path / "none.parquet")


def test_broken_parquet(tmp_path):
    parquet_of(tmp_path / "0.parquet", cells(0, 1))
    rows = [*cells(0, 1, 2), {"bytes": b"broken", "path": None}]
    assert "x.parquet row 3" in refusal(parquet_of(tmp_path / "x.parquet", rows))
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "0.parquet").read_bytes()[:200])
    assert "damaged" in refusal(tmp_path / "bad.parquet")
    paths_only = [{"bytes": None, "path": "gone.png"}]
    assert "gone.png" in refusal(parquet_of(tmp_path / "paths.parquet", paths_only))


def test_parquet_of_numbers(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"v": values.tolist(), "label": [3, 1, 2, 0]}), file)
    data = open_dataset(DataConfig(name=str(file)))
    assert data.shape == (3,) and torch.equal(data.batch([3, 0]), torch.from_numpy(values[[3, 0]]))
    assert data.labels()["label"].tolist() == [3, 1, 2, 0]
    values[2, 1] = np.nan
    pq.write_table(pa.table({"v": values.tolist()}), file)
    assert "item 2 " in refusal(file) and "NaN" in refusal(file)
    pq.write_table(pa.table({"v": [[1.0], [1.0, 2.0]]}), file)
    assert "item 1 " in refusal(file)
    pq.write_table(pa.table({"v": [[1.0], [None]]}), file)
    assert "item 1 " in refusal(file)
    pixels = np.random.default_rng(0).random((2, 3, 4, 4)).astype(np.float32)
    pq.write_table(pa.table({"v": pixels.tolist()}), file)
    assert np.array_equal(open_dataset(DataConfig(name=str(file))).batch([0, 1]).numpy(), np.rint(pixels * 255))


# --- arrays ---------------------------------------------------------------------------------------------------------


def test_npy_images(tmp_path):
    floats = np.random.default_rng(0).random((5, 3, 4, 4))
    assert np.array_equal(
        open_dataset(DataConfig(name=str(saved(tmp_path / "f.npy", floats))))[2].numpy(), np.rint(floats[2] * 255)
    )
    last = np.stack([noise(i) for i in range(3)])
    assert np.array_equal(
        open_dataset(DataConfig(name=str(saved(tmp_path / "l.npy", last))))[2].numpy(), noise(2).transpose(2, 0, 1)
    )
    gray = open_dataset(DataConfig(name=str(saved(tmp_path / "g.npy", last[..., 0])), channels=1, size=(4, 4), limit=2))
    assert gray.shape == (1, 4, 4) and gray.size == 2


def test_npy_vectors(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(6, 5))
    data = open_dataset(DataConfig(name=str(saved(tmp_path / "v.npy", vectors)), limit=4))
    assert (data.size, data.shape) == (4, (5,)) and torch.equal(data.batch([3]), torch.from_numpy(vectors[[3]]).float())


def test_npz_arrays_are_splits(tmp_path):
    np.savez(tmp_path / "x.npz", train=np.zeros((4, 2)), test=np.ones((3, 2)))
    config = DataConfig(name=str(tmp_path / "x.npz"))
    assert open_dataset(config).size == 4 and open_dataset(config, heldout_split(config)).size == 3
    np.savez(tmp_path / "one.npz", whatever=np.zeros((4, 2)))
    assert open_dataset(DataConfig(name=str(tmp_path / "one.npz"))).size == 4


def test_bad_arrays(tmp_path):
    images_ = np.full((5, 3, 4, 4), 0.5)
    images_[3, 0, 0, 0] = np.inf
    assert "item 3 " in refusal(saved(tmp_path / "a.npy", images_))
    assert "divide by 255" in refusal(saved(tmp_path / "b.npy", np.full((2, 3, 4, 4), 200.0)))
    assert "int64" in refusal(saved(tmp_path / "c.npy", np.zeros((2, 3, 4, 4), np.int64)))
    assert "1 or 3 channels" in refusal(saved(tmp_path / "d.npy", np.zeros((2, 5, 5, 5))))
    assert "shape" in refusal(saved(tmp_path / "e.npy", np.zeros(3)))
    (tmp_path / "f.npy").write_bytes(b"nonsense")
    assert "cannot be read" in refusal(tmp_path / "f.npy")


# --- embedded -------------------------------------------------------------------------------------------------------


def test_digits():
    config = DataConfig(name="digits", channels=1)
    train, test = open_dataset(config), open_dataset(config, "test")
    assert (train.size, test.size, train.shape, heldout_split(config)) == (1500, 297, (1, 8, 8), "test")
    assert np.bincount(train.labels()["label"]).min() > 100 and len(test.labels()["label"]) == 297
    assert int(train.batch(range(1500)).max()) == 255
    rows = {row.numpy().tobytes() for row in train.batch(range(1500))}
    assert not rows & {row.numpy().tobytes() for row in test.batch(range(297))}
    assert open_dataset(DataConfig(name="digits", size=(32, 32))).shape == (3, 32, 32)


def test_toyfaces():
    data = open_dataset(DataConfig(name="toyfaces", limit=6))
    assert (data.shape, data.size) == ((3, 64, 64), 6)
    assert np.array_equal(data.batch([5, 0]).numpy(), toyfaces.draw(np.array(toyfaces.SPLITS["train"])[[5, 0]], 64))
    assert {len(values) for values in data.labels().values()} == {6}
    assert open_dataset(DataConfig(name="toyfaces", limit=2, size=(16, 24), channels=1)).shape == (1, 16, 24)
    assert heldout_split(DataConfig(name="toyfaces")) == "test"


@pytest.mark.parametrize("name", POINT_SETS)
def test_points_are_endless_or_a_fixed_sample(name):
    data = open_dataset(DataConfig(name=name))
    assert (data.size, data.shape, heldout_split(DataConfig(name=name))) == (None, (2,), None)
    first = data.draw(100, torch.Generator().manual_seed(3))
    assert first.shape == (100, 2) and torch.equal(first, data.draw(100, torch.Generator().manual_seed(3)))
    sample = [open_dataset(DataConfig(name=name, limit=50)).batch(range(50)) for _ in range(2)]
    assert sample[0].shape == (50, 2) and torch.equal(*sample)


# --- cache ----------------------------------------------------------------------------------------------------------


def test_second_open_decodes_nothing(tmp_path, decodes, cache_root):
    config = DataConfig(name=str(folder_of(tmp_path / "x", 4)))
    first = open_dataset(config)
    assert len(decodes) == 5  # the first one twice: its size decides the shape
    decodes.clear()
    again = open_dataset(config)
    assert (
        not decodes and again.fingerprint == first.fingerprint and torch.equal(again.batch([3, 1]), first.batch([3, 1]))
    )
    assert [path.name for path in cache_root.iterdir() if path.is_dir()] == [
        first.fingerprint
    ]  # and nothing unfinished


def test_fingerprint_follows_files_and_settings(tmp_path):
    config = DataConfig(name=str(folder_of(tmp_path / "x", 3)))
    before = {open_dataset(config).fingerprint}
    for settings in (
        {"size": (4, 4)},
        {"channels": 1},
        {"background": "black"},
        {"limit": 2},
        {"precrop": 4},
        {"fit": "pad"},
    ):
        before.add(open_dataset(DataConfig(name=config.name, **settings)).fingerprint)
    Image.fromarray(noise(50)).save(tmp_path / "x" / "1.png")
    os.utime(tmp_path / "x" / "1.png", ns=(1, 1))
    changed = open_dataset(config)
    assert changed.fingerprint not in before and len(before) == 7
    assert torch.equal(changed[1], torch.from_numpy(noise(50).transpose(2, 0, 1)))


def test_settings_that_change_no_pixel_share_a_cache(tmp_path, decodes):
    config = DataConfig(name=str(folder_of(tmp_path / "x", 3)))
    open_dataset(config)
    decodes.clear()
    open_dataset(DataConfig(name=config.name, mirror=True, limit=100))
    assert not decodes


def test_uncached_images_are_decoded_by_each_batch(tmp_path, decodes, cache_root):
    config = DataConfig(name=str(folder_of(tmp_path / "x", 6)), cache=False)
    data = open_dataset(config)
    decodes.clear()
    batch = data.batch([4, 2])
    assert len(decodes) == 2 and not data.cached and not cache_root.exists()
    assert torch.equal(batch, open_dataset(DataConfig(name=config.name)).batch([4, 2]))


def test_uncached_set_in_a_loader_with_workers(tmp_path):
    data = open_dataset(DataConfig(name=str(folder_of(tmp_path / "x", 6)), cache=False))
    loaded = torch.cat(list(DataLoader(data, batch_size=4, num_workers=2)))
    assert torch.equal(loaded, data.batch(range(6)))
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch([5]), data.batch([5]))


def test_too_large_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2 * 3 * 192 - 1}))
    config = DataConfig(name=str(folder_of(tmp_path / "x", 3)))
    with pytest.warns(UserWarning, match="more than half of the free disk.*stay in memory"):
        assert open_dataset(config).cached
    monkeypatch.setattr(materialize, "RAM_BYTES", 100)
    with pytest.warns(UserWarning, match="every batch decodes"):
        assert not open_dataset(config).cached
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2 * 3 * 192}))
    assert open_dataset(config).cached


def test_cache_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be written.*stay in memory"):
        data = open_dataset(DataConfig(name=str(folder_of(tmp_path / "x", 3))))
    assert torch.equal(data[2], torch.from_numpy(noise(2).transpose(2, 0, 1)))


def test_full_disk_while_writing(tmp_path, monkeypatch, cache_root):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_header", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert open_dataset(DataConfig(name=str(folder_of(tmp_path / "x", 3)))).size == 3
    assert not [path for path in cache_root.iterdir() if path.is_dir()]


def test_damaged_cache(tmp_path, cache_root):
    data = open_dataset(DataConfig(name=str(folder_of(tmp_path / "x", 3))))
    pixels = cache_root / data.fingerprint / cache.PIXELS
    pixels.write_bytes(pixels.read_bytes()[:200])
    with pytest.warns(UserWarning, match="the cache of x is damaged"):
        again = open_dataset(DataConfig(name=str(tmp_path / "x")))
    assert torch.equal(again[2], torch.from_numpy(noise(2).transpose(2, 0, 1)))


def test_interrupted_build_leaves_no_cache(tmp_path, cache_root):
    folder_of(tmp_path / "x", 3)
    (tmp_path / "x" / "2.png").write_bytes(b"")
    refusal(tmp_path / "x")
    assert not [path for path in cache_root.iterdir() if path.is_dir()]


def test_processes_decode_alike_and_leave_the_random_state_alone(tmp_path, monkeypatch):
    name = str(folder_of(tmp_path / "x", 9))
    monkeypatch.setattr(materialize, "CHUNK_ITEMS", 1)  # nine chunks: enough for a second process
    before = torch.get_rng_state()
    data = open_dataset(DataConfig(name=name))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(data.batch(range(9)), open_dataset(DataConfig(name=name, cache=False)).batch(range(9)))
    (tmp_path / "x" / "7.png").write_bytes(b"")
    assert "7.png" in refusal(name)  # one line, also from another process


def _open_in_process(name, log, start, results):
    read = decoding.read

    def logged(raw):
        with open(log, "a", encoding="utf-8") as file:
            file.write("x")
        return read(raw)

    decoding.read = logged
    start.wait()
    results.put(
        open_dataset(DataConfig(name=name, holdout=0)).batch(range(40)).numpy().sum().item()
    )  # no torch arithmetic after a fork


@pytest.mark.filterwarnings("ignore:another process is decoding")
def test_processes_that_build_the_same_cache(tmp_path, cache_root):
    name, context = str(folder_of(tmp_path / "x", 40, height=64, width=64)), multiprocessing.get_context("fork")
    start, results, log = context.Barrier(3), context.Queue(), tmp_path / "log"
    processes = [context.Process(target=_open_in_process, args=(name, log, start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    sums = {results.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {open_dataset(DataConfig(name=name, holdout=0)).batch(range(40)).numpy().sum().item()}
    assert len(log.read_text(encoding="utf-8")) <= 40 + 3  # all images once, and each process the first for its size


# --- single images --------------------------------------------------------------------------------------------------


def test_load_image(tmp_path):
    folder_of(tmp_path, 1, height=8, width=16)
    config = DataConfig()
    assert load_image(tmp_path / "0.png", (3, 8, 16), config).equal(
        torch.from_numpy(noise(0, 8, 16).transpose(2, 0, 1))
    )
    assert load_image(tmp_path / "0.png", (1, 4, 4), config).shape == (1, 4, 4)
    (tmp_path / "1.png").write_bytes(b"")
    for path, shape, message in (
        ("1.png", (3, 4, 4), "empty"),
        ("2.png", (3, 4, 4), "no file"),
        ("0.png", (2,), "vectors of 2"),
    ):
        with pytest.raises(UsageError, match=message):
            load_image(tmp_path / path, shape, config)


# --- names and the hub ----------------------------------------------------------------------------------------------


def test_unknown_names_bring_suggestions():
    assert "Did you mean" in refusal("celebahq") and "celeba-hq" in refusal("celebahq")
    assert "toyfaces" in refusal("toyface")
    assert "is not a color" in refusal("digits", background="whit")


def test_catalog_rows_are_complete():
    rows = list_datasets()
    assert [row.name for row in rows][-len(HUB) :] == [*HUB] and len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.what and row.terms and row.note and row.kind in ("embedded", "points", "hub")
        assert (row.images is None) == (row.kind == "points")
    for row in HUB.values():
        assert (
            row.repository.count("/") == 1 and row.column and "train" in row.splits and row.evidence in ("page", "code")
        )
    assert {row.name for row in rows if row.kind == "points"} == set(POINT_SETS)
    assert all((row.extent is not None) == (row.kind == "points") for row in rows)
    assert heldout_split(DataConfig(name="celeba-hq")) == "test" and heldout_split(DataConfig(name="ffhq")) is None


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from genzoo.data import list_datasets; assert len(list_datasets()) > 10; "
        "print(sorted({'torch', 'datasets', 'sklearn', 'pyarrow', 'PIL', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's libraries, with an empty cache and a network that refuses; `load_dataset` must not be reached."""
    import datasets
    from huggingface_hub import constants

    def refused(*args, **kwargs):
        raise ConnectionRefusedError

    def called(*args, **kwargs):
        pytest.fail("the hub's own retries were started")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for name in ("load_dataset", "get_dataset_split_names"):
        monkeypatch.setattr(datasets, name, called)
    return datasets


@pytest.mark.parametrize("name", ["cifar10", "svhn", "someone/something"])
def test_hub_without_network_fails_at_once(hub, name):
    line = refusal(name)
    repository = HUB[name].repository if name in HUB else name
    assert f"hf download {repository} --repo-type dataset" in line and "cannot be reached" in line
    assert ("--include 'cropped_digits/*'" in line) == (name == "svhn")


def test_hub_stays_offline_when_asked(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal("cifar10")


def test_probe_goes_through_the_proxy(monkeypatch):
    from huggingface_hub import constants

    from genzoo.data.hub import is_reachable

    asked = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        socket, "create_connection", lambda address, timeout: (asked.append(address), socket.socket())[1]
    )
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert is_reachable()
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert is_reachable()
    assert asked[1] == ("proxy.example", 3128) and asked[0][1] == 443


@pytest.mark.parametrize(
    ("kind", "error", "fix"),
    [
        (
            "DatasetNotFoundError",
            "Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated to access it.",
            "hf auth login",
        ),
        ("DatasetNotFoundError", "Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.", "check the name"),
        (
            "ValueError",
            "Config name is missing.\nPlease pick one among the available configs: ['x', 'y']",
            "a/b:<configuration>",
        ),
        ("RuntimeError", "Dataset scripts are no longer supported, but found b.py", "pass a folder"),
        ("OSError", "No space left on device", "No space left"),
        ("ConnectionError", "Couldn't reach 'a/b' on the Hub", "hf download a/b"),
        ("HTTPError", "502 Bad Gateway", "502 Bad Gateway. a/b is neither"),
    ],
)
def test_hub_errors_name_the_fix(hub, monkeypatch, kind, error, fix):
    from huggingface_hub import errors

    kinds = {"DatasetNotFoundError": hub.exceptions.DatasetNotFoundError, "HTTPError": errors.HTTPError}

    def fail(*args):
        raise kinds.get(kind, getattr(builtins, kind, None))(error)

    monkeypatch.setattr("genzoo.data.hub.is_reachable", lambda: True)
    monkeypatch.setattr(hub, "get_dataset_split_names", fail)
    assert fix in refusal("a/b")


def test_cached_hub_set_is_used_without_network(hub, monkeypatch, tmp_path):
    (tmp_path / "hf" / "uoft-cs___cifar10").mkdir(parents=True)
    file = parquet_of(tmp_path / "x.parquet", cells(0, 1, 2))
    calls = []

    def load(repository, configuration, split):
        calls.append((repository, configuration, split, hub.config.HF_HUB_OFFLINE))
        return hub.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "arrow")).rename_column("picture", "img")

    monkeypatch.setattr(hub, "load_dataset", load)
    data = open_dataset(DataConfig(name="cifar10"), "test", progress=False)
    assert calls == [("uoft-cs/cifar10", None, "test", True)] and not hub.config.HF_HUB_OFFLINE
    assert data.name == "cifar10/test" and torch.equal(data[1], torch.from_numpy(noise(1).transpose(2, 0, 1)))


def test_hub_tables(hub):
    from genzoo.data.hub import open_table

    sixteen = np.full((4, 4), 65535 // 2, np.uint16)
    features = hub.Features(
        image=hub.Image(), fine=hub.ClassLabel(names=["a", "b"]), coarse=hub.ClassLabel(names=["c", "d"])
    )
    rows = {
        "image": [{"bytes": png(sixteen), "path": None}, {"bytes": b"bad", "path": None}],
        "fine": [0, 1],
        "coarse": [1, 0],
    }
    source = open_table(hub.Dataset.from_dict(rows, features=features), "x", "id", None)
    good, bad = source.fetch([0, 1])
    assert to_uint8(decoding.read(good), None, 1).max() == 127 and bad == b"bad"
    labels = {name: (label.values.tolist(), label.classes) for name, label in source.labels().items()}
    assert labels == {"fine": ([0, 1], ("a", "b")), "coarse": ([1, 0], ("c", "d"))}
    vectors = open_table(hub.Dataset.from_dict({"v": [[0.5, 1.0], [2.0, 3.0]], "label": [7, 8]}), "x", "id", None)
    assert vectors.batch([1]).tolist() == [[2.0, 3.0]] and vectors.labels()["label"].tolist() == [7, 8]


# --- the shared real images -----------------------------------------------------------------------------------------


@needs_shared
def test_emoji_stand_on_white():
    name = str(SHARED / "noto-emoji-128")
    data = open_dataset(DataConfig(name=name, size=(64, 64), limit=64))
    assert heldout_split(DataConfig(name=name)) == "test"
    corners = data.batch(range(64))[:, :, 0, 0]
    assert (corners == 255).all(1).float().mean() > 0.8 and data.shape == (3, 64, 64)
    black = open_dataset(DataConfig(name=name, size=(64, 64), limit=64, background="black")).batch(range(64))[
        :, :, 0, 0
    ]
    assert (black == 0).all(1).float().mean() > 0.8


@needs_shared
def test_cifar10():
    config = DataConfig(name=str(SHARED / "cifar10"), limit=2000)
    data = open_dataset(config)
    assert (
        data.shape == (3, 32, 32)
        and data.size == 2000
        and len(data.labels()["label"]) == 2000
        and set(data.labels()["label"]) == set(range(10))
        and data.classes("label")[:2] == ("airplane", "automobile")
    )
    assert heldout_split(config) == "test"
    first = pq.read_table(SHARED / "cifar10" / "train.parquet").column("img")[1999].as_py()["bytes"]
    assert np.array_equal(data[1999].numpy(), np.asarray(Image.open(io.BytesIO(first))).transpose(2, 0, 1))


def test_split_folders_are_found_in_any_case(tmp_path):
    for folder, n in (("Train", 3), ("TEST", 2)):
        (tmp_path / folder).mkdir()
        for i in range(n):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(
                tmp_path / folder / f"{i}²{i}.png"
            )  # a superscript is not a number
    config = DataConfig(name=str(tmp_path), size=(8, 8))
    assert (open_dataset(config).size, open_dataset(config, heldout_split(config)).size) == (3, 2)


def test_an_npz_of_objects_is_refused_in_one_line(tmp_path):
    np.savez(tmp_path / "objects.npz", train=np.array([{}], dtype=object))
    with pytest.raises(UsageError, match=r"holds Python objects \(a pickle\), which genzoo never reads: save uint8"):
        open_dataset(DataConfig(name=str(tmp_path / "objects.npz")))
