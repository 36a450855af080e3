"""One process at a time trains into a run folder."""

import errno
import fcntl
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from helpers import TINY, as_options, environment, read_log, tiny_run

from genzoo import Trainer
from genzoo.cli import main
from genzoo.errors import UsageError
from genzoo.runs.checkpoint import Checkpoints
from genzoo.runs.folder import RunFolder
from genzoo.runs.lock import locked


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr("genzoo.runs.lock.WAIT_S", 0.0)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.process
def test_the_same_command_again_is_refused_until_the_first_is_killed(tmp_path, genzoo_process, capsys):
    command = ["train", "vae", *as_options(*TINY, "train.duration=100k", "train.snapshot_every=4it"), "--out", "run"]
    first = genzoo_process(command, cwd=tmp_path, env=environment())
    wait_for(tmp_path / "run" / "checkpoints" / f"{4:09d}")
    assert main(command) == 2
    busy = f"another process (PID {first.pid} on {socket.gethostname()}) trains into run: wait for it, stop it, or"
    assert busy in capsys.readouterr().err
    assert first.poll() is None
    first.kill()
    assert first.wait() == -signal.SIGKILL
    with locked(Path("run")):
        pass
    steps = [line["step"] for line in read_log(tmp_path / "run")]
    assert steps == sorted(steps)


def test_a_lock_is_held_once_and_names_its_holder(tmp_path):
    busy = rf"\(PID {os.getpid()} on .*\) trains into .*choose another --out"
    with locked(tmp_path):
        with pytest.raises(UsageError, match=busy), locked(tmp_path):
            pass
        assert json.loads((tmp_path / ".holder.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".holder.json").exists()
    with locked(tmp_path):
        pass


def test_a_refused_command_changes_nothing():
    Trainer(tiny_run("vae", "train.duration=8"), out="run", progress=False).fit()
    before = Path("run/run.json").read_text()
    longer = tiny_run("vae", "train.duration=16")
    trainer = Trainer(longer, out="other", progress=False)
    trainer.folder = RunFolder("run", longer)
    with locked(Path("run")):
        for refused in (trainer.folder.create, trainer.fit, lambda: Trainer(longer, out="run", progress=False)):
            with pytest.raises(UsageError, match="another process"):
                refused()
    assert Path("run/run.json").read_text() == before
    assert Checkpoints(Path("run/checkpoints"), 2).steps() == [1]


def test_another_run_is_not_begun_over_one_that_began_meanwhile():
    """Two commands that found the folder empty."""
    first, second, same = (RunFolder("run", tiny_run("vae", f"train.seed={seed}")) for seed in (0, 1, 0))
    first.create()
    before = Path("run/run.json").read_text()
    with pytest.raises(UsageError, match="train.seed: 0 -> 1"):
        second.create()
    same.create()
    assert Path("run/run.json").read_text() == before


def test_a_holder_that_cannot_be_read_is_another_process(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".holder.json").write_text("[]")
        with pytest.raises(UsageError, match="another process trains into"), locked(tmp_path):
            pass


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_trained_on_with_a_warning(tmp_path, monkeypatch, error):
    def flock(*_):
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as network:
        network.setattr(fcntl, "flock", flock)
        for _ in range(2):  # nothing stays that would refuse the second
            with pytest.warns(UserWarning, match="has no locks"), locked(tmp_path):
                assert not (tmp_path / ".holder.json").exists()
    with locked(tmp_path):
        pass
