"""Runs that end early, are damaged, made longer or continued by another version: what is said, and what is kept."""

import itertools
import json
import os
import pty
import random
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers import TINY, as_options, environment, read_log, same, tiny_run, weights

import genzoo
from genzoo import Trainer
from genzoo.changes import depends_on_length, differences
from genzoo.cli import main
from genzoo.configure import resolve
from genzoo.errors import UsageError
from genzoo.files import CHECKSUM, JsonLines, digest, replacing, write_text
from genzoo.runs.checkpoint import HASH, Checkpoints
from genzoo.runs.curves import MOST, Curves
from genzoo.runs.folder import damaged_lines, read_config, run_events, run_log
from genzoo.training.monitor import read_findings
from genzoo.training.stopping import StopFlag

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = "diffusion_pytorch_model.safetensors"
RUN = ("train.snapshot_every=4it", "train.log_every=2")


@pytest.fixture(autouse=True)
def default_signals():
    """As in a terminal: background jobs start with hangups, or Ctrl-C, ignored."""
    hangup, interrupt = signal.signal(signal.SIGHUP, signal.SIG_DFL), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGHUP, hangup)
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, own_cache) -> Path:
    """A VAE's run of 12 steps, with checkpoints at 8 and 12."""
    return Trainer(tiny_run("vae", *RUN), out=tmp_path_factory.mktemp("runs") / "vae", progress=False).fit()


@pytest.fixture
def run(finished) -> Path:
    """A copy of it."""
    shutil.copytree(finished, "run")
    return Path("run")


@pytest.fixture
def begun(run) -> Path:
    """The same run as it was after 8 steps."""
    shutil.rmtree(run / "checkpoints" / f"{12:09d}")
    return run


def same_bytes(first: Path, second: Path) -> bool:
    return first.read_bytes() == second.read_bytes()


def resumed(*settings: str) -> Path:
    return Trainer(tiny_run("vae", *RUN, *settings), out="run", progress=False).fit()


# ---- checkpoints


@pytest.fixture
def saved() -> Checkpoints:
    checkpoints = Checkpoints(Path("checkpoints"), keep=2)
    for step in (10, 20):
        checkpoints.save(step, {"model": {"w": torch.full((64, 64), step)}, "optimizer-encoder": {"lr": 0.1}})
    return checkpoints


def test_ctrl_c_while_a_checkpoint_is_read_is_no_damage(saved):
    began = time.monotonic()
    saved.load_latest()
    takes, rng, interrupted = time.monotonic() - began, random.Random(0), 0
    for _ in range(60):
        timer = threading.Timer(rng.uniform(0, takes), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            step, state, complaints = saved.load_latest()
            assert (step, state["model"]["w"][0, 0], complaints) == (20, 20, [])
            timer.join()
            time.sleep(0.001)
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            timer.join()
    assert interrupted > 30
    assert saved.steps() == [10, 20]


def test_ctrl_c_in_a_library_is_held_back(saved, monkeypatch):
    """A library that turns an interruption into an error of its own must not see it."""
    real, seen = __import__("genzoo.runs.checkpoint", fromlist=["load_file"]).load_file, []

    def load_file(path):
        try:
            signal.raise_signal(signal.SIGINT)
            return real(path)
        except KeyboardInterrupt:
            seen.append(path)
            raise ValueError("could not determine the shape of object type") from None

    monkeypatch.setattr("genzoo.runs.checkpoint.load_file", load_file)
    with pytest.raises(KeyboardInterrupt):
        saved.load_latest()
    assert not seen and saved.steps() == [10, 20]


@pytest.mark.parametrize("name", ["manifest.json", "model.json", "model.safetensors"])
def test_what_cannot_be_read_now_is_no_damage(saved, name):
    path = Path("checkpoints") / f"{20:09d}" / name
    path.unlink()
    path.symlink_to(path.name)  # an error of the operating system, as of a disk
    with pytest.raises(UsageError, match="cannot be read .* nothing was changed") as caught:
        saved.load_latest()
    assert "\n" not in str(caught.value)
    assert saved.steps() == [10, 20]


def test_what_was_written_and_cannot_be_understood_is_an_error(saved):
    folder = Path("checkpoints") / f"{20:09d}"
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model.safetensors"] = digest(folder / "model.safetensors", HASH)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="cannot be read .* nothing was changed"):
        saved.load_latest()


def flipped(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def without(name: str):
    """Leaves a file out of the manifest."""

    def change(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest[name]
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return change


DAMAGE = {
    "bit": flipped,
    "missing file": lambda folder: (folder / "model.json").unlink(),
    "missing manifest": lambda folder: (folder / "manifest.json").unlink(),
    "part left out": without("optimizer-encoder.safetensors"),
    **{
        f"manifest {text}": lambda folder, text=text: (folder / "manifest.json").write_text(text)
        for text in ("{}", "[]", "null", "3", '{"model.json"', '{"../x.json": "0"}')
    },
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_falls_back_and_is_kept_until_the_next_save(saved, damage):
    damage(Path("checkpoints") / f"{20:09d}")
    step, _, complaints = saved.load_latest()
    assert step == 10
    assert len(complaints) == 1 and "checkpoint 000000020 is damaged" in complaints[0]
    assert saved.steps() == [10, 20]
    saved.rewind(10)
    assert saved.steps() == [10] and (saved.folder / "000000020.damaged").is_dir()
    saved.save(15, {"model": {}})
    assert sorted(path.name for path in saved.folder.iterdir()) == ["000000010", "000000015"]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_the_last_checkpoint_always_survives(saved, damage):
    shutil.rmtree(saved.folder / f"{10:09d}")
    damage(saved.folder / f"{20:09d}")
    with pytest.raises(UsageError, match="None of the 1 checkpoints"):
        saved.load_latest()
    assert saved.steps() == [20]


def test_an_empty_manifest_is_not_a_checkpoint_without_state(begun):
    (begun / "checkpoints" / f"{8:09d}" / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="None of the 1 checkpoints"):
        resumed()
    assert Checkpoints(begun / "checkpoints", 2).steps() == [8]


def test_one_checkpoint_too_many_is_dropped_at_the_start(run):
    shutil.copytree(run / "checkpoints" / f"{8:09d}", run / "checkpoints" / f"{4:09d}")
    resumed()
    assert Checkpoints(run / "checkpoints", 2).steps() == [8, 12]


# ---- logs


def test_a_damaged_byte_costs_one_line_at_most(begun, finished, capsys):
    log = (begun / "log.jsonl").read_bytes().split(b"\n")
    log[0] = log[0].replace(b"loss/", b"los\xff/", 1)  # in a text: what is left is JSON
    log[1] = log[1].replace(b'"step"', b'"st\xffp"')
    log[2] = log[2].replace(b'"nimg": ', b'"nimg": \xff')
    (begun / "log.jsonl").write_bytes(b"\n".join(log))
    (begun / "events.jsonl").write_bytes(b'{"step": 0}\n' + (begun / "events.jsonl").read_bytes() + b'{"step": 1, "ki')
    assert [f.partition(": ")[2] for f in damaged_lines(begun)] == [
        "3 lines (1, 2, 3) are damaged and left out",
        "line 1 is damaged and left out",  # and not the last one, which a kill cut short
    ]
    assert main(["doctor", "run"]) in (0, 1)
    assert "log.jsonl: 3 lines (1, 2, 3) are damaged and left out" in capsys.readouterr().out
    resumed()
    assert "warning: run/log.jsonl: 3 lines (1, 2, 3) are damaged and left out" in capsys.readouterr().out
    assert list(damaged_lines(begun)) == []
    assert [line["step"] for line in read_log(begun)] == [line["step"] for line in read_log(finished)][3:]
    assert same(weights(begun), weights(finished))


@pytest.mark.parametrize("key", ["problem", "text", "fix", "kind", "nimg"])
def test_an_event_without_a_key_is_left_out(run, key, capsys):
    event = {"step": 2, "nimg": 16, "kind": "begins", "problem": "p", "text": "t", "fix": "f"}
    del event[key]
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n" + json.dumps({**event, "kind": "ends", "step": 3}) + "\n")
    assert main(["doctor", "run"]) == 0
    assert "damaged and left out" in capsys.readouterr().out


def test_a_long_log_is_read_once_and_thinned_for_pictures():
    read = []
    log = JsonLines(Path("log.jsonl"), lambda line: not read.append(line["step"]))
    curves = Curves(log)
    for start in range(0, 5 * MOST, MOST):
        log.append(*({"step": step, "nimg": step, "loss/all": 1.0} for step in range(start, start + MOST)))
        log.append({"step": start + MOST - 1, "nimg": start + MOST - 1, "score/x": 1.0})
        lines = curves.lines()
        assert len(lines) <= MOST + 6
        assert lines[-1]["step"] == start + MOST - 1
    assert len(read) == 5 * (MOST + 1)
    assert sum("score/x" in line for line in lines) == 5
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    with Path("log.jsonl").open("a") as file:
        file.write('{"step": 1')  # a line that is being written
    assert curves.lines() == lines
    log.rewind(9)
    assert [line["step"] for line in curves.lines()] == list(range(10))


# ---- every ending saves and says so


def sending(trainer: Trainer, *numbers: int, at: int = 4) -> Trainer:
    """Sends signals to this process at a step."""
    real_step = trainer.train_step

    def step(parts, progress):
        if progress.step == at:
            for number in numbers:
                signal.raise_signal(number)
        return real_step(parts, progress)

    trainer.train_step = step
    return trainer


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGUSR1", "SIGXCPU"])
def test_a_signal_saves_and_is_named_at_once(name, capfd):
    number = signal.Signals[name]
    before = signal.getsignal(number)
    trainer = sending(Trainer(tiny_run("vae"), out="run", progress=False), number)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    said, cause = capfd.readouterr(), "Ctrl-C" if name == "SIGINT" else name
    assert f"{cause}: saving after this step; Ctrl-C again stops without saving" in said.err
    assert f"Stopped by {cause} at 40 images; everything is saved." in said.out
    assert Checkpoints(Path("run/checkpoints"), 2).steps() == [5]
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_stops_without_saving(monkeypatch, capfd):
    monkeypatch.setattr("genzoo.training.stopping.AGAIN_S", -1.0)
    trainer = sending(Trainer(tiny_run("vae"), out="run", progress=False), signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert "stopping without saving" in capfd.readouterr().err
    assert Checkpoints(Path("run/checkpoints"), 2).steps() == []


def test_a_launcher_that_repeats_ctrl_c_does_not_interrupt():
    with pytest.raises(KeyboardInterrupt):
        numbers = (signal.SIGINT, signal.SIGINT, signal.SIGTERM)
        sending(Trainer(tiny_run("vae"), out="run", progress=False), *numbers).fit()
    assert Checkpoints(Path("run/checkpoints"), 2).steps() == [5]


def test_a_signal_while_a_run_is_loaded_or_pictured_saves(begun, finished, monkeypatch, capfd):
    """It is answered then, and obeyed after the next step."""
    trainer = Trainer(tiny_run("vae", *RUN), out="run", progress=False)
    real = trainer.state.checkpoints.load_latest
    monkeypatch.setattr(trainer.state.checkpoints, "load_latest", lambda: signal.raise_signal(signal.SIGINT) or real())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert "Ctrl-C: saving after this step" in capfd.readouterr().err
    assert Checkpoints(begun / "checkpoints", 2).steps() == [8, 9]
    resumed()
    assert same(weights(begun), weights(finished))


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        config = tiny_run("vae", "train.duration=48")
        run = sending(Trainer(config, out="run", progress=False), signal.SIGHUP).fit()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert read_log(run)[-1]["nimg"] == 48


def test_a_closed_terminal_does_not_end_the_run_before_it_is_saved():
    kept, (master, terminal) = os.dup(2), pty.openpty()
    os.dup2(terminal, 2)
    os.close(terminal)
    os.close(master)
    try:
        with pytest.raises(OSError):
            os.write(2, b"hung up")
        with StopFlag() as stop:
            signal.raise_signal(signal.SIGHUP)
        os.write(2, b"to nobody")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert stop.is_set and stop.cause == "SIGHUP"


@pytest.mark.process
def test_a_run_whose_launcher_is_killed_saves_and_stops(tmp_path, genzoo_process):
    command = ["train", "vae", *as_options(*TINY, "train.duration=200k", "train.snapshot_every=100%"), "--out", "run"]
    started = genzoo_process(command, cwd=tmp_path, env=environment(TORCHELASTIC_RUN_ID="none"))
    process, deadline = psutil.Process(started.pid), time.monotonic() + 120
    while not (tmp_path / "run" / "log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    parent = process.parent()
    assert parent is not None
    parent.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.02)
    started.returncode = -1  # nobody is left to report it
    started.stdout.seek(0)
    assert "Stopped by the end of its launcher at" in started.stdout.read().decode()
    assert len(Checkpoints(tmp_path / "run" / "checkpoints", 2).steps()) == 1


def test_a_launcher_that_ends_before_training_begins_is_missed(monkeypatch, capsys):
    """While images are decoded, for example."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    trainer = Trainer(tiny_run("vae"), out="run", progress=False)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert "Stopped by the end of its launcher at 8 images" in capsys.readouterr().out
    assert Checkpoints(Path("run/checkpoints"), 2).steps() == [1]


@pytest.mark.process
def test_a_hangup_of_a_real_process_saves(tmp_path, genzoo_process):
    command = ["train", "vae", *as_options(*TINY, "train.duration=200k", "train.snapshot_every=100%"), "--out", "run"]
    started, deadline = genzoo_process(command, cwd=tmp_path, env=environment()), time.monotonic() + 120
    while not (tmp_path / "run" / "log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(signal.SIGHUP)
    done = started.completed(timeout=120)
    assert done.returncode == 130
    assert "Stopped by SIGHUP at" in done.stdout
    assert len(Checkpoints(tmp_path / "run" / "checkpoints", 2).steps()) == 1


# ---- files


def test_the_umask_decides_who_reads_a_run():
    before = os.umask(0o027)
    try:
        run = Trainer(tiny_run("vae", "train.duration=16"), out="run", progress=False).fit()
        genzoo.load(run).save_pretrained("saved")
        assert main(["encode", "run", "--n", "4", "--out", "z.safetensors"]) == 0
    finally:
        os.umask(before)
    files = [path for folder in ("run", "saved") for path in Path(folder).rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix in (".json", ".safetensors", ".md", ".jsonl")]
    modes = {path.as_posix(): stat.S_IMODE(path.stat().st_mode) for path in [*files, Path("z.safetensors")]}
    assert sum(name.endswith(".safetensors") for name in modes) > 8
    assert {name for name, mode in modes.items() if mode != 0o640} == set()


def test_every_rename_is_flushed(tmp_path, monkeypatch):
    done = []

    def recorded(name: str, real):
        def call(*args):
            done.append((name, Path(args[-1]).name if name == "rename" else os.readlink(f"/proc/self/fd/{args[0]}")))
            return real(*args)

        return call

    monkeypatch.setattr(os, "fsync", recorded("flush", lambda _: None))
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, recorded("rename", getattr(os, name)))
    write_text(tmp_path / "run.json", "{}")
    assert done[-2:] == [("rename", "run.json"), ("flush", str(tmp_path))]
    done.clear()
    for _ in range(2):
        with replacing(tmp_path / "new" / "folder") as temporary:
            (temporary / "file").write_text("")
    assert done[0] == ("flush", str(tmp_path))  # the entry of `new`
    after = [done[i + 1] for i, (what, _) in enumerate(done) if what == "rename"]
    assert after == [("flush", str(tmp_path / "new"))] * 3


# ---- resuming without the command


def test_a_run_is_resumed_by_its_folder_and_made_longer(begun, finished, capsys):
    assert main(["train", "--resume", "run"]) == 0
    assert "Resuming run at 64 of 96 images." in capsys.readouterr().out
    assert same(weights(begun), weights(finished))
    assert main(["train", "--resume", "run/", "--images", "128", "--set", "train.keep=5"]) == 0
    assert read_log(begun)[-1]["nimg"] == 128
    assert read_config(begun).train.keep == 5


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--resume", "run", "--set", "objective.beta=3"], "objective.beta: "),
        (["--resume", "run", "--set", "objective.bta=3"], "Did you mean beta"),
        (["--resume", "run", "--seed", "3"], "train.seed: 0 -> 3"),
        (["vae", "--resume", "run", "--out", "x"], "leave out MODEL, --out"),
        (["--resume", "run", "--budget", "3min"], "leave out --budget"),
        (["--resume", "nowhere"], "contains no run.json"),
        (["run"], "run is a run: resume it with `genzoo train --resume run`"),
        (["vae", "--out", "run", "--images", "1k"], "genzoo train --resume run"),
    ],
)
def test_what_cannot_be_resumed_names_the_way(run, args, said, capsys):
    assert main(["train", *args]) == 2
    assert said in capsys.readouterr().err


def test_a_new_run_takes_the_settings_of_another(run, finished):
    assert main(["train", "--config", "run", "--out", "again"]) == 0
    assert same(weights(Path("again")), weights(finished))
    assert main(["train", "--config", "run/run.json", "--out", "other", "--seed", "1", "--images", "8"]) == 0
    assert differences(read_config(run), read_config(Path("other"))) == ["train.seed: 0 -> 1"]


def test_a_new_run_takes_the_settings_of_a_toml_file(capsys):
    Path("run.toml").write_text(
        'model = "vae"\n[data]\nlimit = 64\nsize = [16, 16]\n[arch]\nchannels = [4, 8]\nz_dim = 4\n'
        '[train]\nbatch = 8\nduration = 16\nlr_of = {decoder = 1e-4}\nbudget = "3min"\n'
    )
    assert main(["train", "--config", "run.toml", "--out", "run", "--set", "arch.z_dim=5"]) == 0
    config = read_config(Path("run"))
    assert (config.arch.channels, config.arch.z_dim, config.train.duration) == ((4, 8), 5, "16")
    assert config.train.lr_of == {"decoder": 1e-4} and config.train.budget is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "[trian]\nlr = 1\n", "unknown section 'trian'. Did you mean train"),
        ("a.toml", "[train]\nlrr = 1\n", "Unknown option train.lrr"),
        ("a.toml", "train = 3\n", "must be a table"),
        ("a.toml", "lr = = 1", "is not TOML"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "has no settings"),
        ("a.json", '{"model": "introvae"}', "is for introvae, not for vae"),
        ("none.json", None, "cannot be read (No such file"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_line(name, text, said, capsys):
    if text is not None:
        Path(name).write_text(text)
    assert main(["train", "vae", "--config", name]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_misspelt_section_is_refused():
    with pytest.raises(UsageError, match="Unknown section 'trian'.* Did you mean train"):
        resolve("vae", trian={"lr": 1})


# ---- run.json: lost, of other versions


def test_checkpoints_know_the_settings_of_their_run(begun, finished):
    (begun / "run.json").unlink()
    with pytest.raises(UsageError, match="objective.beta: "):
        resumed("objective.beta=3")
    assert not (begun / "run.json").exists()
    assert read_config(begun) == read_config(finished)
    assert main(["train", "--resume", "run"]) == 0
    again, whole = (json.loads((run / "run.json").read_text()) for run in (begun, finished))
    assert again | {CHECKSUM: ""} == whole | {CHECKSUM: ""}  # 1 and 1.0 are equal, and have different checksums
    assert same(weights(begun), weights(finished))


def test_a_checkpoint_of_another_run_is_refused(begun):
    content = json.loads((begun / "run.json").read_text())
    content["config"]["train"]["lr"] = 0.5
    (begun / "run.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"train.lr: 0.001 -> 0.5"):
        resumed("train.lr=0.5")


def test_a_run_records_all_versions_and_says_that_they_change(begun, capsys):
    content = json.loads((begun / "run.json").read_text())
    (now,) = content["versions"]
    content["versions"] = now | {"torch": "1.0"}  # as it was written before there was a history
    (begun / "run.json").write_text(json.dumps(content))
    for _ in range(2):
        resumed()
    assert capsys.readouterr().out.count(f"(torch 1.0 -> {now['torch']})") == 1
    assert json.loads((begun / "run.json").read_text())["versions"] == [now | {"torch": "1.0"}, now]


@pytest.mark.parametrize("verb", [("train", "--resume"), ("reconstruct",), ("doctor",)], ids=" ".join)
def test_a_run_of_a_newer_version_says_upgrade(run, verb, capsys):
    content = json.loads((run / "run.json").read_text())
    content["config"]["train"]["from_the_future"] = 1
    content["versions"].append({"genzoo": "99.1.0"})
    (run / "run.json").write_text(json.dumps(content))
    assert main([*verb, "run"]) == 2
    error = capsys.readouterr().err
    assert f"was written by genzoo 99.1.0, this is {genzoo.__version__}: upgrade" in error
    assert error.count("\n") == 1 and "remove" not in error


@pytest.mark.parametrize("text", ["{", "3", "[]", '{"format": 2, "config": {"model": 3}}', '{"format": 2}'])
def test_no_message_advises_to_remove_a_run(run, text, capsys):
    (run / "run.json").write_text(text)
    assert main(["train", "--resume", "run"]) == 2
    error = capsys.readouterr().err
    assert "cannot be read as a run" in error and "remove" not in error and error.count("\n") == 1
    (run / "run.json").rename(run / "broken.json")  # as the line says
    assert main(["train", "--resume", "run"]) == 0


# ---- lengths


def test_a_share_that_would_move_is_named_and_can_be_written_out():
    shares = ("objective.warmup=30%", "train.lr_drops=50%,24", "train.snapshot_every=100%")
    shared, longer = (tiny_run("introvae", *shares, f"train.duration={n}") for n in (32, 48))
    (line,) = differences(shared, longer)
    assert line.startswith("train.duration: 32 -> 48 (")
    assert "objective.warmup=30% would move: write it in images to extend, --set objective.warmup=10" in line
    assert "--set train.lr_drops=16,24" in line
    Trainer(shared, out="run", progress=False).fit()
    typed = ("objective.warmup=10", "train.lr_drops=16,24", "train.duration=48")
    assert main(["train", "--resume", "run", *as_options(*typed)]) == 0
    straight = Trainer(tiny_run("introvae", *shares, *typed), out="straight", progress=False).fit()
    assert same(weights(Path("run")), weights(straight))


@pytest.mark.parametrize(("total", "part"), [("10ep", "2ep"), ("2000it", "400it"), ("32k", "6400"), ("1.5M", "300000")])
def test_a_share_is_written_in_the_unit_of_the_run(total, part):
    old, new = (tiny_run("introvae", f"train.duration={total}", f"objective.warmup={text}") for text in ("20%", part))
    assert differences(old, new) == []
    assert depends_on_length(old) and not depends_on_length(new)


@pytest.mark.parametrize("setting", ["data.name=my%20images", "data.split=train[:50%]", "train.snapshot_every=5%"])
def test_other_percent_signs_are_no_share_of_the_run(setting):
    assert not depends_on_length(tiny_run("vae", setting))


def test_suggested_settings_can_be_extended(capsys):
    """With so few images a warm-up of a fifth of the run is proposed."""
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
    np.save("few.npy", images)
    assert main(["suggest", "introvae", "--data", "few.npy"]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert "objective.warmup=" in command and "%" not in command


def test_a_run_that_ends_in_its_warm_up_says_so(capsys):
    options = as_options(*TINY, "train.duration=16", "objective.warmup=24", "train.snapshot_every=100%")
    assert main(["train", "softintrovae", *options, "--out", "run"]) == 0
    said = capsys.readouterr()
    assert "ends after 16 images, in its warm-up of 24" in said.out + said.err
    assert "--images 48" in said.out and "healthy" not in said.out
    assert main(["doctor", "run"]) == 1
    for length in ("24", "24", "48"):  # the second one changes nothing
        assert main(["train", "--resume", "run", "--images", length]) == 0
    first, second = [f for f in read_findings(run_events(Path("run")).read()) if f.problem == "ends in its warm-up"]
    assert (first.began, first.ended, second.began, second.ended) == (0, 2, 2, 3)
    assert "ends after 24 images" in second.text and second.fix == ""
    assert main(["doctor", "run"]) == 0


@pytest.mark.parametrize("lost", ["", WEIGHTS, "prior.safetensors", "config.json", "damaged"])
def test_what_a_finished_run_has_exported_is_made_again(lost, run, finished, capsys):
    exported = run / "model"
    if lost == "damaged":
        path = exported / WEIGHTS
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    elif lost:
        (exported / lost).unlink()
    else:
        shutil.rmtree(exported)
    resumed()
    assert "The last snapshot is taken again: run/model is not complete." in capsys.readouterr().out
    for name in (WEIGHTS, "prior.safetensors"):
        assert same_bytes(run / "model" / name, finished / "model" / name)
    assert [line["step"] for line in run_log(run).read()] == [line["step"] for line in run_log(finished).read()]
    assert len(run_events(run).read()) == len(run_events(finished).read())
    resumed()
    assert "taken again" not in capsys.readouterr().out


# ---- what the clock decides


def test_the_best_weights_do_not_depend_on_the_clock(begun, finished):
    resumed("train.snapshot_minutes=1e-9")
    logs = [run_log(path).read() for path in (finished, begun)]
    planned, all_of_them = (sum("score/pyramid_frechet" in line for line in log) for log in logs)
    assert planned == 3 and all_of_them == 6
    scores = [
        {line["step"]: line["score/pyramid_frechet"] for line in log if "score/pyramid_frechet" in line} for log in logs
    ]
    assert scores[0].items() <= scores[1].items()
    for folder, name in itertools.product(("model", "best"), (WEIGHTS, "prior.safetensors")):
        assert same_bytes(*(run / folder / name for run in (begun, finished)))
    for preview in (finished / "previews").iterdir():
        assert (begun / "previews" / preview.name).read_bytes() == preview.read_bytes()
