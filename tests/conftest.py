"""Tests see no network, no user cache and no user runs."""

import inspect
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or every child process would compile torch and diffusers: 10 s each
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # for a few small functions, starting workers would take longer
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the tests of several files share the cores

import pytest
import torch
from helpers import CLASSIFIER_IMAGES, MISSING, ROOT, tiny_run
from shortcuts import leave_out_figures, leave_out_fsync, score_few
from warm import Command, Warm, ended
from xdist.scheduler import LoadFileScheduling

leave_out_fsync()
ALL_SCORED, DRAWN = score_few(), leave_out_figures()

# Long modules whose tests share little that takes time: workers take these tests one by one, after whole modules.
SHARED_OUT = {
    "test_budget", "test_controller", "test_graph", "test_objectives", "test_optim", "test_plan", "test_trainer"
}  # fmt: skip
FAST = {"test_architecture", "test_density2d", "test_nn", "test_objectives", "test_protocols"}  # modules


class Scheduling(LoadFileScheduling):
    """Sends modules to workers as a whole, for the fixtures that their tests share, and those SHARED_OUT in parts."""

    def _split_scope(self, nodeid: str) -> str:
        module = super()._split_scope(nodeid)
        return nodeid if Path(module).stem in SHARED_OUT else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that are `fast` by their module, and those that start a `process` through a fixture.

    A test that names a built-in model which is not installed is skipped.
    """
    for item in items:
        if item.path.stem in FAST:
            item.add_marker("fast")
        if "warm" in getattr(item, "fixturenames", ()):
            item.add_marker("process")
        if MISSING and (names := MISSING & set(re.findall(r"\w+", f"{item.nodeid} {_source(item)}"))):
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(names)}"))


def _source(item: pytest.Item) -> str:
    return inspect.getsource(item.function) if isinstance(item, pytest.Function) else ""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One decoded cache for the whole session, deleted afterwards; child processes use it too."""
    os.environ["GENZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path_factory.mktemp("inductor"))  # torch's own may be damaged


@pytest.fixture(scope="session")
def warm(own_cache: None) -> Iterator[Warm]:
    """An interpreter with torch and genzoo imported, that commands are forked from."""
    server = Warm(ROOT)
    yield server
    server.close()


@pytest.fixture
def genzoo_process(warm: Warm) -> Iterator[Callable[..., Command]]:
    """`genzoo_process(args, cwd=, env=)` starts `genzoo ARGS` in a process of its own; the test's end kills it."""
    started: list[Command] = []

    def start(args: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Command:
        started.append(warm.start(args, cwd, env))
        return started[-1]

    yield start
    for command in started:
        command.kill()


@pytest.fixture
def genzoo_on_two(warm: Warm) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`genzoo_on_two(args, cwd=, env=)` runs `genzoo ARGS` in two processes with the environment that torchrun gives
    them, and waits for their ends; returns the first.
    """

    def run(
        args: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        first, second = ended(warm.on_two(args, cwd, env))
        assert second.returncode == 0, second.stderr
        return first

    return run


@pytest.fixture
def genzoo_command(genzoo_process: Callable[..., Command]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`genzoo_command(args, cwd=, env=)` runs `genzoo ARGS` in a process of its own and waits for its end."""
    return lambda *args, **options: genzoo_process(*args, **options).completed()


@pytest.fixture(scope="module")
def one_thread():
    """For networks that are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def digits_classifier(own_cache: None) -> Path:
    """A quickly trained classifier of digits in the session's cache: its folder."""
    from genzoo.evaluation.classifier_training import train_classifier
    from genzoo.spec import DataConfig

    return train_classifier(
        DataConfig(name="digits", size=(8, 8), channels=1), images=CLASSIFIER_IMAGES, progress=False
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`finished(model, *settings)` returns the folder of that tiny run, which is trained once. Tests only read it."""

    @cache
    def trained(model: str = "introvae", *settings: str) -> Path:
        from genzoo import Trainer

        folder = tmp_path_factory.mktemp("finished") / "run"
        return Trainer(tiny_run(model, *settings), out=folder, progress=False).fit()

    return trained


@pytest.fixture
def a_finished(finished: Callable[..., Path]) -> Callable[..., Path]:
    """`a_finished(model, *settings)` copies the folder of that tiny run to `run`, where a test may change it."""
    return lambda *args: shutil.copytree(finished(*args), Path("run"))


@pytest.fixture
def fully_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the score's values: as many images as outside of tests."""
    monkeypatch.setattr("genzoo.training.evaluators.N_SCORED", ALL_SCORED)


@pytest.fixture(autouse=True)
def drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn only in tests marked `rendered`: it took most of the time of short runs."""
    if request.node.get_closest_marker("rendered") is not None:
        monkeypatch.setattr("genzoo.pictures._subplots", DRAWN)


@pytest.fixture(autouse=True)
def clean_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs land in the test's own folder; a second Accelerator in one process starts from nothing."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
