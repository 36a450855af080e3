"""Tests see no network, no user cache and no user runs."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or every child process would compile torch and diffusers again: 10 s each
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the tests of several files share the cores

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"  # real images beside the checkout; tests that need them skip where they are absent


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """One decoded cache for the whole session, thrown away afterwards; child processes use it too."""
    os.environ["GENZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def one_thread():
    """For networks that are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CLASSIFIER_IMAGES = 150 * 128  # seen by the tests' classifier of digits: 150 steps


@pytest.fixture(scope="session")
def digits_classifier(own_cache: None) -> Path:
    """A quickly trained classifier of digits in the session's cache: its folder."""
    from genzoo.metrics.classifier import train_classifier
    from genzoo.spec import DataConfig

    return train_classifier(DataConfig(name="digits", size=(8, 8), channels=1), images=CLASSIFIER_IMAGES, progress=False)


@pytest.fixture(autouse=True)
def clean_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs land in the test's own folder; a second Accelerator in one process starts from nothing."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)


TINY = (
    "arch.channels=4,8",
    "arch.z_dim=4",
    "train.batch=8",
    "train.duration=96",
    "data.limit=64",
    "data.size=16x16",
    "train.ema=0.9",
    "train.snapshot_every=50%",
)


def tiny_run(model: str = "introvae", *settings: str):
    """A run of 12 steps on 16x16 faces: seconds."""
    from genzoo import resolve

    warmup = () if model.startswith("vae") else ("objective.warmup=2it",)
    return resolve(model, settings=[*TINY, *warmup, *settings])
