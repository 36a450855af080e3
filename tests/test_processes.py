"""Processes that are killed, launchers, runs that lack memory: nothing outlives its parent, each error is one line."""

import errno
import multiprocessing
import os
import resource
import signal
import sys
import time
import warnings
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import numpy as np
import psutil
import pytest
import torch
from helpers import as_options, environment, tiny_run
from sample_data import folder_of

from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import decoding, materialize, open_dataset
from genzoo.data.batches import Batches, load
from genzoo.data.workers import watch_parent
from genzoo.errors import RunStopped, UsageError, lacks_memory
from genzoo.factory import build, build_objective
from genzoo.items import Items
from genzoo.spec import DataConfig
from genzoo.training.launch import launch_mistake, make_accelerator
from genzoo.training.misfits import refuse_misfits
from genzoo.training.recovery import Ladder

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux only")
DATA = ("data.size=16x16", "data.limit=64")
SMALL = (*DATA, "arch.channels=4,8", "arch.z_dim=4", "train.batch=8", "train.duration=16")


def one_line(text: str) -> str:
    """The only line of an error."""
    assert text.count("\n") == 1 and text.endswith("\n"), text
    return text.strip()


# Killed while images are decoded


def train_slowly(folder: Path, reports: Connection) -> NoReturn:
    """A training whose loader processes take a fifth of a second per image, and report that they began."""
    trainer, read = os.getpid(), decoding.read

    def slow(raw):
        if os.getpid() != trainer:  # the first image, which decides the size, is decoded by the trainer
            reports.send(os.getpid())
            time.sleep(0.2)
        return read(raw)

    decoding.read = slow
    materialize.CHUNK_ITEMS = 1  # enough chunks for two processes
    sys.exit(main(["train", "vae", "--data", str(folder), "--out", str(folder.parent / "run"), *as_options(*SMALL)]))


def running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@LINUX
@pytest.mark.process
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_killed_while_it_decodes_leaves_nothing(number, status, tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    folder, context = folder_of(tmp_path / "images", 40), multiprocessing.get_context("fork")
    reader, reports = context.Pipe(duplex=False)
    parent = context.Process(target=train_slowly, args=(folder, reports))
    parent.start()
    assert reader.poll(60), "no loader process was started"
    workers = psutil.Process(parent.pid).children(recursive=True)
    assert reader.recv() in [worker.pid for worker in workers]
    os.kill(parent.pid, number)
    parent.join(30)
    left = [worker for worker in psutil.wait_procs(workers, timeout=10)[1] if running(worker)]
    for worker in left:
        worker.kill()
    assert parent.exitcode == status
    assert not left, "a loader process outlived its parent"

    pixels = tmp_path / "cache" / "pixels"
    unfinished = [path for path in pixels.iterdir() if path.name.endswith(".tmp")]
    assert not (unfinished and number == signal.SIGTERM)  # SIGKILL leaves no time to tidy up
    assert open_dataset(DataConfig(name=str(folder), size=(16, 16))).size == 36  # a tenth is held out
    assert not [path for path in pixels.iterdir() if path.name.endswith(".tmp")]


def watched(reports: Connection) -> None:
    watch_parent(0)
    reports.send(os.getpid())
    time.sleep(600)


def parent_of_watched(reports: Connection) -> None:
    multiprocessing.get_context("fork").Process(target=watched, args=(reports,)).start()
    time.sleep(600)


@LINUX
@pytest.mark.process
def test_a_process_that_watches_its_parent_ends_with_it():
    """What loader processes do where Linux's request is not known."""
    context = multiprocessing.get_context("fork")
    reader, reports = context.Pipe(duplex=False)
    parent = context.Process(target=parent_of_watched, args=(reports,))
    parent.start()
    assert reader.poll(60)
    child = psutil.Process(reader.recv())
    parent.kill()
    parent.join()
    left = [process for process in psutil.wait_procs([child], timeout=10)[1] if running(process)]
    for process in left:
        process.kill()
    assert not left


def test_sigterm_ends_a_command_in_one_line_and_the_handler_is_put_back(monkeypatch, capfd):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("genzoo.cli.list.run", lambda *_: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)))
    assert main(["list"]) == 143
    assert one_line(capfd.readouterr().err) == "genzoo: ended by SIGTERM."
    assert signal.getsignal(signal.SIGTERM) == before


# Errors of loader processes


class Deadly:
    """A dataset whose reader dies as the out-of-memory killer lets it die, or finds no memory."""

    size, shape, is_image, cached = 8, (2,), False, False

    def __init__(self, ends: str) -> None:
        self.ends = ends

    def batch(self, indices) -> NoReturn:
        if self.ends == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MemoryError("no memory for a batch")


@LINUX
@pytest.mark.process
def test_an_image_that_goes_missing_is_the_same_line_with_and_without_loader_processes(tmp_path):
    data = open_dataset(DataConfig(name=str(folder_of(tmp_path / "images", 8)), cache=False))
    (tmp_path / "images" / "5.png").unlink()
    messages = []
    for workers in (0, 2):
        with pytest.raises(UsageError) as caught:
            list(load(Batches(data, seed=0, batch=8, start=0, stop=8, mirror=False), 0, 4, workers))
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "5.png" in messages[0] and "\n" not in messages[0]


@LINUX
@pytest.mark.process
@pytest.mark.parametrize(("ends", "error", "text"), [("killed", RunStopped, "workers=0"), ("", MemoryError, "no mem")])
def test_a_loader_process_that_dies_or_lacks_memory_is_one_line(ends, error, text):
    batches = Batches(Deadly(ends), seed=0, batch=8, start=0, stop=8, mirror=False)
    with pytest.raises(error, match=text) as caught:
        list(load(batches, 0, 1, workers=1))
    assert "\n" not in str(caught.value)
    assert ends not in ("killed",) or "A loader process is killed by signal: Killed" in str(caught.value)


# Memory


@LINUX
@pytest.mark.process
def test_a_run_without_enough_memory_says_what_it_needs_and_what_needs_less(genzoo_process, tmp_path):
    """A real process with a limit on its address space, as `ulimit -v` sets it."""
    settings = ("data.limit=64", "data.channels=1", "arch.channels=16,32", "arch.z_dim=4", "train.batch=4096")
    args = ["train", "vae", "--data", "digits", "--res", "64", "--images", "8192", *as_options(*settings)]
    command = genzoo_process([*args, "--out", "run"], cwd=tmp_path, env=environment())
    size = int(Path(f"/proc/{command.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(command.pid, resource.RLIMIT_AS, (size + 2**29, size + 2**29))
    done = command.completed(timeout=120)
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and line.startswith("genzoo: Out of memory: the run needs about ")
    assert " GiB by the estimate of --dry-run, and this machine has " in line
    assert line.endswith(
        "Less is needed with --set train.accumulate=2, --set train.checkpointing=true, --set train.precision=bf16, "
        "a smaller --res or a smaller train.batch than 4096."
    )


def raised(function, *args) -> BaseException:
    with pytest.raises(Exception) as caught:
        function(*args)
    return caught.value


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: raised(torch.empty, 2**60), True),
        (lambda: raised(np.empty, 2**58), True),
        (lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (lambda: RuntimeError("std::bad_alloc"), True),
        (lambda: OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), False),
        (lambda: raised(torch.ones(2).view, 3), False),
        (lambda: RunStopped("Cannot write ([Errno 12] Cannot allocate memory)"), False),
    ],
    ids=["torch on a CPU", "numpy", "CUDA", "C++", "fork", "disk", "shape", "known"],
)
def test_lack_of_memory_is_told_from_other_errors(make, expected):
    assert lacks_memory(make()) == expected


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "Out of memory: give a smaller --res"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that"), "Bus error:"),
        (RuntimeError("Could not determine home directory."), "~ has no meaning here"),
    ],
)
def test_what_any_command_may_meet_is_one_line(error, text, monkeypatch, capsys):
    def failing(*_):
        raise error

    monkeypatch.setattr("genzoo.cli.list.run", failing)
    assert main(["list"]) in (1, 2)
    assert text in one_line(capsys.readouterr().err)


# BatchNorm of a single value

GRID = "arch.channels=4,8,8,64"  # of 16x16 images: 1x1


def test_a_batchnorm_of_one_value_is_refused_before_the_first_step(capsys):
    train = ["train", "vae", "--out", "run", *as_options(*SMALL, GRID, "train.accumulate=8")]
    for options in ([], ["--dry-run"]):
        assert main([*train, *options]) == 2
        text = one_line(capsys.readouterr().err)
        assert "see a single value" in text and "larger micro-batches" in text and "arch.norm=group" in text
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("settings", "world", "refused"),
    [
        (("train.batch=2",), 1, False),
        (("train.batch=2",), 2, True),
        (("train.batch=4", "train.accumulate=2"), 2, True),
        (("train.batch=2", "arch.norm=group"), 2, False),
        (("train.batch=2", "arch.channels=4,8"), 2, False),  # a grid of 4x4
    ],
)
def test_processes_count_as_micro_batches_do(settings, world, refused):
    run = tiny_run("vae", GRID, *settings)
    with torch.device("meta"):
        objective = build_objective(run, build(run, (3, 16, 16), ()).spaces)
    with pytest.raises(UsageError, match="a single value") if refused else nullcontext():
        refuse_misfits(run, objective, world, total_steps=1)


# Launchers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOCAL_WORLD_SIZE", "x"),
        ("RANK", "x"),
        ("RANK", ""),
        ("WORLD_SIZE", "2.0"),
        ("LOCAL_WORLD_SIZE", "0"),
        ("RANK", "3"),
        ("OMPI_COMM_WORLD_SIZE", "two"),
        ("MASTER_PORT", "http"),
    ],
)
def test_a_variable_that_no_launcher_sets_so_is_one_line(name, value, monkeypatch, capsys):
    monkeypatch.setenv(name, value)
    assert main(["list", "models"]) == 2
    assert f"{name}={value}" in one_line(capsys.readouterr().err.lstrip())
    with pytest.raises(UsageError, match=f"{name}={value}"):
        make_accelerator("cpu", "fp32", (), Path("run"))


def test_of_several_processes_the_first_one_warns(monkeypatch, capsys):
    monkeypatch.setattr("genzoo.cli.list.run", lambda *_: warnings.warn("2 left out", stacklevel=1))
    for rank, lines in (("0", ["genzoo: warning: 2 left out"]), ("1", [])):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert main(["list"]) == 0
        assert capsys.readouterr().err.splitlines() == lines


def test_launch_mistakes_read_numbers_as_everything_does():
    with pytest.raises(UsageError, match="LOCAL_WORLD_SIZE=x is not a whole number"):
        launch_mistake({"LOCAL_WORLD_SIZE": "x"}, gpus=1)


# A run that breaks before anything is logged


def test_without_a_logged_norm_the_ladder_says_so_and_keeps_a_clip():
    ladder = Ladder(rung=2, settled=100)
    assert ladder.climb(0, 1, 100, []).startswith("gradients not clipped, as no step before this one was logged")
    assert ladder.clip == {}
    ladder = Ladder(rung=2, settled=100, clip={"decoder": 0.5})
    assert ladder.climb(0, 1, 100, []) == "gradients clipped at their typical norm: decoder 0.5"
    logged = [{"gradient/decoder": 2.0, "gradient/critic": 3.0}]
    assert ladder.climb(0, 1, 100, logged) == "gradients clipped at their typical norm: decoder 0.5, critic 3"


def test_a_run_that_breaks_at_once_has_no_empty_figure():
    trainer = Trainer(tiny_run("vae"), out="run", progress=False)
    real_step = trainer.train_step

    def poisoned(parts, at):
        return real_step([Items(torch.full(items.x.shape, torch.nan)) for items in parts], at)

    trainer.train_step = poisoned
    with pytest.raises(RunStopped):
        trainer.fit()
    did = [event["did"] for event in trainer.folder.events.read() if event["kind"] == "trouble"]
    assert did[2].startswith("gradients not clipped") and did[3] == "stopped"
