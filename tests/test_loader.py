"""From the dataset to the tensor that a step sees: the fast ways give the pixels of the plain ones."""

import os

import numpy as np
import pytest
import torch

from genzoo.data import open_dataset
from genzoo.spec import DataConfig
from genzoo.training import loader
from genzoo.training.loader import RESIDENT_SHARE, Batches, Resident, as_real, fits, load, make_resident, useful_workers

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_pixel_value_is_divided_exactly(layout):
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(2, 3, 16, 8).contiguous(memory_format=layout)
    real = as_real(pixels, CPU)
    assert real.dtype == torch.float32 and real.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(real, pixels.float() / 255)
    assert torch.equal(as_real(points := torch.randn(5, 2), CPU), points)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_images_are_mirrored_and_the_dataset_stays_as_it_is(cached, channels):
    data = open_dataset(DataConfig(name="digits", size=(8, 12), channels=channels, limit=40, cache=cached))
    before = data.batch(range(40))
    assert before.is_contiguous(memory_format=torch.channels_last)
    plain, mirrored = (Batches(data, seed=0, batch=40, start=8, stop=40, mirror=mirror)[0] for mirror in (False, True))
    flipped = (mirrored == plain.flip(-1)).flatten(1).all(1)
    assert 0 < flipped.sum() < 32
    assert torch.equal(mirrored[~flipped], plain[~flipped])
    assert torch.equal(data.batch(range(40)), before)


def test_workers_are_for_images_that_are_not_cached(monkeypatch):
    cached, uncached = (open_dataset(DataConfig(name="digits", size=(8, 8), channels=1, limit=40, cache=cache)) for cache in (True, False))
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
    alone, together = (torch.stack(list(load(batches, 1, 6, workers))) for workers in (0, 2))
    assert torch.equal(alone, together)
    order = np.concatenate([batches.indices(step) for step in range(5)])  # two epochs in five steps of 8
    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20))


def digits(channels: int = 1):
    return open_dataset(DataConfig(name="digits", size=(8, 12), channels=channels, limit=41))


def vectors(folder):
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(41, 5)).astype(np.float32))
    return open_dataset(DataConfig(name=str(folder / "vectors.npy")))


@pytest.mark.parametrize("chunk", [1, 8 * 12 * 7, 2**26])
@pytest.mark.parametrize("kind", ["grey", "rgb", "vectors"])
def test_a_resident_dataset_gives_the_loaders_batches_bit_for_bit(kind, chunk, monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "CHUNK_BYTES", chunk)
    data = vectors(tmp_path) if kind == "vectors" else digits(1 if kind == "grey" else 3)
    resident = Resident(data, CPU)
    plain = {"seed": 3, "batch": 16, "start": 4, "stop": 12, "mirror": kind != "vectors"}
    changes = [{}, {"mirror": False}, {"left_out": (0, 7, 40)}, {"seed_of": lambda seed, step: seed + (step in (2, 3))}]
    seen = []
    for change in changes:
        batches = Batches(data, **plain | change)
        for loaded, gathered in zip(load(batches, 1, 7, 0), resident.load(batches, 1, 7), strict=True):  # two epochs end within
            seen.append(loaded)
            assert gathered.dtype == loaded.dtype and gathered.stride() == loaded.stride()
            assert torch.equal(gathered, loaded) and torch.equal(as_real(gathered, CPU), as_real(loaded, CPU))
    usual, unmirrored, without, redrawn = (torch.stack(seen[start : start + 6]) for start in range(0, 24, 6))
    assert torch.equal(usual, unmirrored) == (kind == "vectors")
    assert not torch.equal(usual, without)
    assert [torch.equal(a, b) for a, b in zip(usual, redrawn, strict=True)] == [step not in (2, 3) for step in range(1, 7)]


def test_a_resident_dataset_takes_its_share_of_the_memory_and_no_more():
    assert fits(100, 100 * RESIDENT_SHARE) and not fits(100, 100 * RESIDENT_SHARE - 1)
    assert not fits(1, 0)


def test_on_a_cpu_no_dataset_is_copied():
    told = []
    assert make_resident(digits(), CPU, told.append) is None and not told
