"""Atomic writing: what a kill leaves, and what the next process makes of it."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from genzoo.files import replacing, restore_all, write_text
from genzoo.runs.checkpoint import Checkpoints


def killed_at_rename(number: int, write: Callable[[], None]) -> None:
    """Runs `write` in a process that is killed instead of its rename of that number, counted from 1."""

    def run() -> None:
        rename, times = os.rename, []

        def counted(source: Path, target: Path) -> None:
            times.append(target)
            if len(times) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)

        os.rename = counted
        write()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def fill(folder: Path, text: str) -> None:
    with replacing(folder) as temporary:
        (temporary / "text").write_text(text)


def content(folder: Path) -> str:
    return (folder / "text").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_while_a_folder_is_replaced_loses_nothing(tmp_path, rename):
    folder = tmp_path / "v1.0"
    fill(folder, "old")
    killed_at_rename(rename, lambda: fill(folder, "new"))
    assert folder.exists() == (rename == 1)
    with pytest.raises(KeyError), replacing(folder) as temporary:
        assert content(folder) == "old" and names(tmp_path) == sorted([temporary.name, "v1.0"])
        raise KeyError
    assert content(folder) == "old" and names(tmp_path) == ["v1.0"]
    fill(folder, "newer")
    assert content(folder) == "newer" and names(tmp_path) == ["v1.0"]


def test_every_folder_that_was_moved_aside_is_put_back(tmp_path):
    for name in ("model", "best"):
        fill(tmp_path / name, name)
    killed_at_rename(2, lambda: fill(tmp_path / "best", "new"))
    killed_at_rename(1, lambda: fill(tmp_path / "new", "new"))  # which nothing may write again
    assert "best" not in names(tmp_path) and len(names(tmp_path)) == 4
    restore_all(tmp_path)
    assert names(tmp_path) == ["best", "model"] and content(tmp_path / "best") == "best"


def test_a_kill_while_the_newest_checkpoint_is_saved_again_does_not_lose_it(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (10, 20):
        checkpoints.save(step, {"progress": step})
    killed_at_rename(2, lambda: checkpoints.save(20, {"progress": 20}))
    assert not (tmp_path / f"{20:09d}").exists()
    left = [name for name in names(tmp_path) if name.endswith(".tmp")]
    assert checkpoints.load_latest() == (10, {"progress": 10}, [])  # a reader changes nothing
    assert names(tmp_path) == sorted([*left, f"{10:09d}"])
    checkpoints.repair()
    assert Checkpoints(tmp_path, keep=2).load_latest() == (20, {"progress": 20}, [])
    assert checkpoints.steps() == [10, 20]


def test_only_files_of_processes_that_are_gone_are_removed(tmp_path):
    ended = multiprocessing.get_context("fork").Process(target=int)
    ended.start()
    ended.join()
    running = os.getppid()
    for pid in (ended.pid, running):
        (tmp_path / f".model.{pid}.tmp").mkdir()
        (tmp_path / f".text.{pid}.tmp").touch()
    fill(tmp_path / "model", "new")
    write_text(tmp_path / "text", "new")
    assert names(tmp_path) == sorted([f".model.{running}.tmp", f".text.{running}.tmp", "model", "text"])


def test_an_error_between_the_renames_puts_the_old_folder_back(tmp_path, monkeypatch):
    fill(tmp_path / "model", "old")
    rename, targets = os.rename, []

    def refused(source: Path, target: Path) -> None:
        targets.append(target)
        if len(targets) == 2:
            raise OSError("disk quota exceeded")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(OSError, match="quota"):
        fill(tmp_path / "model", "new")
    assert content(tmp_path / "model") == "old" and names(tmp_path) == ["model"]
