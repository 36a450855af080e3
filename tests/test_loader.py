"""From the dataset to the tensor that a step sees: the fast paths give the same pixels as the plain ones."""

import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from sample_data import folder_of

from genzoo.data import batches as loader
from genzoo.data import decoding, materialize, open_dataset
from genzoo.data.batches import (
    RESIDENT_SHARE,
    Batches,
    Resident,
    as_real,
    fits_in_memory,
    load,
    make_resident,
    to_float,
    useful_workers,
)
from genzoo.items import Items
from genzoo.spec import DataConfig

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_pixel_value_is_divided_exactly(layout):
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(2, 3, 16, 8).contiguous(memory_format=layout)
    real = to_float(pixels, CPU)
    assert real.dtype == torch.float32 and real.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(real, pixels.float() / 255)
    assert torch.equal(to_float(points := torch.randn(5, 2), CPU), points)
    items = as_real(Items(pixels, torch.tensor([3, 1])), CPU)
    assert torch.equal(items.x, real) and items.labels.tolist() == [3, 1]
    assert as_real(Items(pixels), CPU).labels is None


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_images_are_mirrored_and_the_dataset_stays_as_it_is(cached, channels):
    data = open_dataset(DataConfig(name="digits", size=(8, 12), channels=channels, limit=40, cache=cached))
    before = data.batch(range(40))
    assert before.is_contiguous(memory_format=torch.channels_last)
    plain, mirrored = (
        Batches(data, seed=0, batch=40, start=8, stop=40, mirror=mirror)[0][0].x for mirror in (False, True)
    )
    flipped = (mirrored == plain.flip(-1)).flatten(1).all(1)
    assert 0 < flipped.sum() < 32
    assert torch.equal(mirrored[~flipped], plain[~flipped])
    assert torch.equal(data.batch(range(40)), before)


def test_workers_are_for_images_that_are_not_cached(monkeypatch):
    cached, uncached = (
        open_dataset(DataConfig(name="digits", size=(8, 8), channels=1, limit=40, cache=cache))
        for cache in (True, False)
    )
    monkeypatch.setattr(loader.sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert (useful_workers(cached), useful_workers(uncached)) == (0, 15)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert useful_workers(uncached) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "32")
    assert useful_workers(uncached) == 0
    monkeypatch.setattr(loader.sys, "platform", "darwin")
    assert useful_workers(uncached) == 0


def test_workers_change_no_batch():
    data = open_dataset(DataConfig(name="digits", size=(8, 8), channels=1, limit=20, cache=False))
    batches = Batches(data, seed=0, batch=8, start=0, stop=8, mirror=True)
    alone, together = (torch.stack([parts[0].x for parts in load(batches, 1, 6, workers)]) for workers in (0, 2))
    assert torch.equal(alone, together)
    order = np.concatenate([batches.indices(step) for step in range(5)])  # two epochs in five steps of 8
    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20))


def stuck(reports: Connection) -> NoReturn:
    """Reports the process that calls this, and keeps it."""
    reports.send(os.getpid())
    time.sleep(600)
    raise AssertionError("nobody ended this process")


class Stuck:
    """A set that keeps every process that reads it."""

    size, shape, is_image, cached = 8, (2,), False, False

    def __init__(self, reports: Connection) -> None:
        self.reports = reports

    def batch(self, indices) -> NoReturn:
        stuck(self.reports)


def load_batches(folder: Path, reports: Connection) -> None:
    batches = Batches(Stuck(reports), seed=0, batch=8, start=0, stop=8, mirror=False)
    next(load(batches, 0, 1, workers=1))


def decode_into_the_cache(folder: Path, reports: Connection) -> None:
    main, read = os.getpid(), decoding.read  # the first image, which decides the size, is decoded by the main process
    decoding.read = lambda raw: read(raw) if os.getpid() == main else stuck(reports)
    materialize.CHUNK_ITEMS = 1  # enough chunks for a worker
    open_dataset(DataConfig(name=str(folder)))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux only")
@pytest.mark.parametrize("way", [load_batches, decode_into_the_cache])
def test_workers_end_with_a_killed_parent(way, tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    context = multiprocessing.get_context("fork")
    reader, reports = context.Pipe(duplex=False)
    parent = context.Process(target=way, args=(folder_of(tmp_path / "x", 9), reports))
    parent.start()
    assert reader.poll(60), "no worker was started"
    worker = reader.recv()
    assert worker != parent.pid and running(worker)
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 10
    while (left := running(worker)) and time.monotonic() < deadline:
        time.sleep(0.01)
    if left:
        os.kill(worker, 9)
    assert not left, "the worker outlived its parent"


def digits(channels: int = 1):
    return open_dataset(DataConfig(name="digits", size=(8, 12), channels=channels, limit=41))


def vectors(folder):
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(41, 5)).astype(np.float32))
    return open_dataset(DataConfig(name=str(folder / "vectors.npy")))


@pytest.mark.parametrize("chunk", [1, 8 * 12 * 7, 2**26])
@pytest.mark.parametrize("kind", ["gray", "rgb", "vectors"])
def test_a_resident_dataset_gives_the_loaders_batches_bit_for_bit(kind, chunk, monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "CHUNK_BYTES", chunk)
    data = vectors(tmp_path) if kind == "vectors" else digits(1 if kind == "gray" else 3)
    resident = Resident(data, CPU)
    plain = {"seed": 3, "batch": 16, "start": 4, "stop": 12, "mirror": kind != "vectors"}
    changes = [{}, {"mirror": False}, {"left_out": (0, 7, 40)}, {"seed_of": lambda seed, step: seed + (step in (2, 3))}]
    shown = []
    for change in changes:
        batches = Batches(data, **plain | change)
        pairs = zip(load(batches, 1, 7, 0), resident.load(batches, 1, 7), strict=True)  # two epochs end within
        for (loaded,), (gathered,) in pairs:
            shown.append(loaded.x)
            assert gathered.x.dtype == loaded.x.dtype and gathered.x.stride() == loaded.x.stride()
            assert torch.equal(gathered.x, loaded.x) and gathered.labels is loaded.labels is None
            assert torch.equal(to_float(gathered.x, CPU), to_float(loaded.x, CPU))
    usual, unmirrored, without, redrawn = (torch.stack(shown[start : start + 6]) for start in range(0, 24, 6))
    assert torch.equal(usual, unmirrored) == (kind == "vectors")
    assert not torch.equal(usual, without)
    assert [torch.equal(a, b) for a, b in zip(usual, redrawn, strict=True)] == [
        step not in (2, 3) for step in range(1, 7)
    ]


def test_a_resident_dataset_takes_its_share_of_the_memory_and_no_more():
    assert fits_in_memory(100, 100 * RESIDENT_SHARE) and not fits_in_memory(100, 100 * RESIDENT_SHARE - 1)
    assert not fits_in_memory(1, 0)


def test_on_a_cpu_no_dataset_is_copied():
    reports = []
    assert make_resident(digits(), CPU, reports.append) is None and not reports


@pytest.mark.parametrize("parts", [1, 3])
def test_labels_travel_with_their_items(parts):
    data = digits()
    numbers = torch.from_numpy(data.labels()["label"])
    settings = {"labels": "label", "parts": parts, "left_out": (0, 7, 40)}
    batches = Batches(data, seed=3, batch=16, start=4, stop=12, mirror=True, **settings)
    ways = (
        load(batches, 0, 5, workers=0),
        load(batches, 0, 5, workers=2),
        Resident(data, CPU).load(batches, 0, 5),
        (batches[step] for step in range(5)),
    )
    for step, loaded in enumerate(zip(*ways, strict=True)):
        for way in loaded:
            assert type(way) is tuple and len(way) == parts
            for part, (items, first) in enumerate(zip(way, loaded[0], strict=True)):
                expected = numbers[torch.from_numpy(batches.indices(step, part)[4:12])]
                assert items.labels.dtype == torch.int64 and torch.equal(items.labels, expected)
                assert torch.equal(items.x, first.x) and items.x.stride() == first.x.stride()


def test_labels_change_no_pixel():
    settings = {"seed": 3, "batch": 16, "start": 4, "stop": 12, "mirror": True}
    plain, labeled = Batches(digits(), **settings), Batches(digits(), **settings, labels="label")
    for step in range(4):
        assert torch.equal(plain[step][0].x, labeled[step][0].x)


def test_the_parts_of_a_step_are_cut_from_one_epoch():
    """Three batches of 8 a step read the permutations as one batch of 24 does."""
    data = digits()
    one = Batches(data, seed=3, batch=24, start=0, stop=24, mirror=False)
    three = Batches(data, seed=3, batch=8, start=0, stop=8, mirror=False, parts=3)
    for step in range(5):  # three epochs of 41 begin within
        assert np.array_equal(one.indices(step), np.concatenate([three.indices(step, part) for part in range(3)]))
        assert torch.equal(one[step][0].x, torch.cat([items.x for items in three[step]]))


@pytest.mark.parametrize("kind", ["points", "images"])
def test_the_parts_of_a_step_are_drawn_independently(kind):
    """The first of them as in a step with one part."""
    data = open_dataset(DataConfig(name="rings")) if kind == "points" else digits()
    settings = {"seed": 3, "batch": 16, "start": 0, "stop": 16, "mirror": True}
    one, two = (Batches(data, **settings, parts=parts, seed_of=lambda seed, step: seed + 1) for parts in (1, 2))
    first, second = two[0]
    assert torch.equal(one[0][0].x, first.x) and not torch.equal(first.x, second.x)
    assert torch.equal(one.mirrored(0), two.mirrored(0)) and not torch.equal(two.mirrored(0, 0), two.mirrored(0, 1))
    if kind == "images":
        assert not np.array_equal(two.indices(0, 0), two.indices(0, 1))
        without = Batches(data, **settings, parts=2, left_out=range(20))
        replaced = [without.indices(0, part)[two_part < 20] for part, two_part in enumerate(plain_indices(data))]
        assert not np.array_equal(replaced[0][:4], replaced[1][:4]) and min(map(min, replaced)) >= 20


def plain_indices(data):
    batches = Batches(data, seed=3, batch=16, start=0, stop=16, mirror=True, parts=2)
    return [batches.indices(0, part) for part in range(2)]


def test_vectors_are_not_mirrored(tmp_path):
    data = vectors(tmp_path)
    plain, mirrored = (Batches(data, seed=0, batch=8, start=0, stop=8, mirror=mirror)[0][0] for mirror in (False, True))
    assert torch.equal(plain.x, mirrored.x)


def test_the_order_of_batches_is_frozen():
    """A change here makes resumed runs differ from those that were not interrupted, and runs from published ones."""
    batches = Batches(digits(), seed=3, batch=8, start=0, stop=8, mirror=True)
    assert batches.indices(5).tolist() == [9, 37, 28, 21, 22, 25, 39, 2]
    assert batches.mirrored(5).tolist() == [False, True, False, True, True, False, True, True]
