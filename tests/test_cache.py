"""Decoded images on disk are those that were decoded; `genzoo cache` lists and clears them."""

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_data import folder_of, noise

from genzoo.cli import main
from genzoo.data import cache, cache_entries, open_dataset
from genzoo.errors import UsageError
from genzoo.spec import DataConfig


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


@pytest.fixture
def built(tmp_path, root) -> Path:
    """The cache of the images in `x`."""
    folder_of(tmp_path / "x", 4)
    return root / open_dataset(DataConfig(name="x")).fingerprint


def set_header(path: Path, **changes) -> None:
    """Writes another header over that of an .npy file."""
    with path.open("r+b") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (4, 8, 8, 3)}
        np.lib.format.write_array_header_1_0(file, header | changes)


def flip(path: Path) -> None:
    """Flips one bit of the last image."""
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def set_about(folder: Path, text: str) -> None:
    (folder / cache.ABOUT).write_text(text, encoding="utf-8")


def changed_about(folder: Path, **changes) -> None:
    about = json.loads((folder / cache.ABOUT).read_text(encoding="utf-8"))
    set_about(folder, json.dumps({key: value for key, value in (about | changes).items() if value is not None}))


def zeros(path: Path) -> None:
    """Clears a block, as a file system does that has lost it."""
    content = bytearray(path.read_bytes())
    content[256:512] = bytes(256)
    path.write_bytes(content)


DAMAGE = {
    "a bit": lambda folder: flip(folder / cache.PIXELS),
    "a block": lambda folder: zeros(folder / cache.PIXELS),
    "fewer images in the header": lambda folder: set_header(folder / cache.PIXELS, shape=(3, 8, 8, 3)),
    "other sides in the header": lambda folder: set_header(folder / cache.PIXELS, shape=(4, 8, 4, 6)),
    "another order": lambda folder: set_header(folder / cache.PIXELS, fortran_order=True),
    "another type": lambda folder: set_header(folder / cache.PIXELS, descr="<f2"),
    "no type": lambda folder: set_header(folder / cache.PIXELS, descr="|O"),
    "a short file": lambda folder: os.truncate(folder / cache.PIXELS, 500),
    "an empty file": lambda folder: os.truncate(folder / cache.PIXELS, 0),
    "a long file": lambda folder: os.truncate(folder / cache.PIXELS, 5000),
    "no file": lambda folder: (folder / cache.PIXELS).unlink(),
    "a list": lambda folder: set_about(folder, "[]"),
    "no JSON": lambda folder: set_about(folder, "{"),
    "an empty record": lambda folder: set_about(folder, "{}"),
    "endless JSON": lambda folder: set_about(folder, "[" * 100_000),
    "no digest": lambda folder: changed_about(folder, digest=None),
    "text for a number": lambda folder: changed_about(folder, count="4"),
    "other items in the record": lambda folder: changed_about(folder, skipped={"0": "x"}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_cache_is_set_aside_and_rebuilt(built, what):
    DAMAGE[what](built)
    with pytest.warns(
        UserWarning, match=f"the cache of x is damaged .* is kept as .*{built.name}.damaged, and rebuilt"
    ):
        data = open_dataset(DataConfig(name="x"))
    assert main(["cache"]) == 0
    assert all(torch.equal(data[i], torch.from_numpy(noise(i).transpose(2, 0, 1))) for i in range(4))
    assert built.with_name(f"{built.name}.damaged").is_dir() and not cache.damage(built, 4, thorough=True)


def test_a_large_cache_is_checked_on_demand(built, monkeypatch, capsys):
    assert main(["cache", "--check"]) == 0
    monkeypatch.setattr(cache, "DIGESTED_BYTES", 0)
    flip(built / cache.PIXELS)
    assert open_dataset(DataConfig(name="x")).size == 4
    capsys.readouterr()
    assert main(["cache", "--check"]) == 1
    assert f"{built.name} is damaged: its pixels are not those" in capsys.readouterr().out
    set_header(built / cache.PIXELS, shape=(3, 8, 8, 3))  # which costs nothing to see
    with pytest.warns(UserWarning, match="damaged"):
        open_dataset(DataConfig(name="x"))


def test_a_cache_that_is_cut_while_it_is_read_is_told_in_one_line(built):
    data = open_dataset(DataConfig(name="x"))
    assert data.batch([3]).shape == (1, 3, 8, 8)
    os.truncate(built / cache.PIXELS, 500)
    with pytest.raises(UsageError, match="x were cut to 500 of 896 bytes while they were read") as caught:
        data.batch([3])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["npy", "idx"])
def test_an_array_that_is_cut_while_it_is_read_is_told_in_one_line(kind):
    """Which is mapped as well: without the check, the process would be killed."""
    images = np.zeros((200, 16, 16), np.uint8)
    name = {"npy": "own.npy", "idx": "train-images-idx3-ubyte"}[kind]
    if kind == "npy":
        np.save(name, images)
    else:
        Path(name).write_bytes(bytes([0, 0, 8, 3]) + np.array(images.shape, ">i4").tobytes() + images.tobytes())
    data = open_dataset(DataConfig(name=name, channels=1, cache=False))
    assert data.batch([150]).shape == (1, 1, 16, 16)
    os.truncate(name, 2000)
    with pytest.raises(UsageError, match="were cut to 2,000 of .* bytes while they were read: copy the file again"):
        data.batch([150])


def test_a_cache_that_is_removed_while_it_is_read_can_be_read(built):
    data = open_dataset(DataConfig(name="x"))
    assert main(["cache", "--clear"]) == 0 and not built.exists()
    assert torch.equal(data[3], torch.from_numpy(noise(3).transpose(2, 0, 1)))


def test_touched_and_copied_files_share_a_cache(built, root):
    for path in Path("x").iterdir():
        os.utime(path)
    shutil.copytree("x", "elsewhere/y")
    for name in ("x", "./x/", "elsewhere/y"):
        assert open_dataset(DataConfig(name=name)).fingerprint == built.name
    assert [path for path in root.iterdir() if path.is_dir()] == [built]


def test_caches_are_listed(built, capsys):
    open_dataset(DataConfig(name="x", size=(4, 4)))
    two_days = time.time() - 2 * 86400
    changed_about(built, built=two_days - 86400)
    os.utime(built / cache.ABOUT, (two_days, two_days))
    os.utime(built / cache.PIXELS, (two_days, two_days))
    features = built.parent.parent / "features" / "abc"
    features.mkdir(parents=True)
    (features / cache.ABOUT).write_text('{"data": "digits/test", "n": 297}', encoding="utf-8")
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    row = next(line.split() for line in out.splitlines() if built.name in line)
    assert row[1:6] == ["pixels", "x", "8x8x3", "4", "1"] and row[-6:] == ["3", "d", "ago", "2", "d", "ago"]
    assert "x 4x4x3" in out and "digits/test" in out and "3 caches" in out
    assert cache_entries.entries()[-1].key == built.name  # used last of all, so that old ones are at the end


def test_what_is_being_written_is_neither_listed_nor_cleared(built, root, capsys):
    ended = multiprocessing.get_context("fork").Process(target=int)
    ended.start()
    ended.join()
    for pid in (ended.pid, os.getppid()):
        (root / f".abc.{pid}.tmp").mkdir()
    flip(built / cache.PIXELS)
    with pytest.warns(UserWarning, match="is damaged"):
        open_dataset(DataConfig(name="x"))
    assert main(["cache", "--check"]) == 0  # what was set aside is listed as damaged, and needs no check
    out = capsys.readouterr().out
    assert "2 caches" in out and "x 8x8x3 (damaged)" in out and "abc" not in out
    assert main(["cache", "--clear"]) == 0
    assert [path.name for path in root.iterdir()] == [f".abc.{os.getppid()}.tmp"]


def test_caches_are_cleared(built, root, capsys):
    small = root / open_dataset(DataConfig(name="x", size=(4, 4))).fingerprint
    classifier = root.parent / "classifiers" / "faces-3x8x8"
    classifier.mkdir(parents=True)
    old = time.time() - 40 * 86400
    for path in built.iterdir():
        os.utime(path, (old, old))
    assert main(["cache", "--clear", "nothing"]) == 2
    assert "no cache has the key 'nothing'" in capsys.readouterr().err
    assert main(["cache", "--clear", "50d"]) == 0 and built.exists()
    assert main(["cache", "--clear", "30d"]) == 0
    assert not built.exists() and small.exists() and "removed 1 of 3 caches" in capsys.readouterr().out
    assert main(["cache", "--clear", small.name[:6]]) == 0 and not small.exists()
    open_dataset(DataConfig(name="x"))
    assert main(["cache", "--clear", "all"]) == 0
    assert not list(root.iterdir()) and classifier.exists()
    assert main(["cache", "--clear", "faces-3x8x8"]) == 0 and not classifier.exists()
    assert main(["cache"]) == 0 and "0 caches" in capsys.readouterr().out
