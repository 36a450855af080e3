"""Several processes on one machine: gloo, two processes, some of them through real launchers.

One pair of processes trains every equality case, one after the other; the tests compare what it left with runs of one.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from helpers import MISSING, ONCE, ROOT, TINY, as_options, environment, read_log, weights
from safetensors.torch import load_file
from warm import Command, ended

from genzoo import Trainer, list_models, resolve
from genzoo.cli import main
from genzoo.registry import get_spec
from genzoo.runs.checkpoint import Checkpoints
from genzoo.training.launch import launch_mistake

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
FEW = (*TINY, "train.duration=40", *ONCE, "train.ema=0", "train.device=cpu")  # five steps
LONG = (
    *TINY,
    "train.duration=256",
    "train.snapshot_every=4it",
    "train.log_every=2",
    "train.prior=normal",
    "train.device=cpu",
    "objective.warmup=2it",
)
AUTO = (
    "arch.hidden=8,8", "train.batch=64", "train.duration=260it", *ONCE, "train.device=cpu",
    "objective.margin=auto", "objective.warmup=200it",
)  # fmt: skip
# Of a weight after five steps: a sum in another order is off by 1e-7 of a gradient, and Adam divides by its size.
TOLERANCE = 1e-5
WIDER = {"aae": 1e-4}  # in float64 it is exact: tests/test_aae.py

DRIVER = """
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from genzoo import Trainer, resolve

for out, (model, settings) in json.loads(Path("runs.json").read_text()).items():
    trainer = Trainer(resolve(model, settings=settings), out=out, progress=False)
    trainer.fit()
    contiguous = {"memory_format": torch.contiguous_format}
    state = {name: value.clone(**contiguous) for name, value in trainer.model.state_dict().items()}
    save_file(state, f"{out}-rank{trainer.rank}.safetensors")
"""


def forms() -> list[tuple[str, str | None]]:
    """Every model in every form that its configuration offers."""
    hints = {model: get_type_hints(get_spec(model).config) for model in list_models()}
    return [
        (model, form)
        for model in hints
        for form in (get_args(hints[model]["form"]) if "form" in hints[model] else (None,))
    ]


def few(model: str, form: str | None, *more: str) -> list[str]:
    warmup = ("objective.warmup=1it",) if "warmup" in get_type_hints(get_spec(model).config) else ()
    prior = ("train.prior=sphere",) if model == "age" else ()  # its own
    norms = [f"arch.{name}=none" for name in ("norm", "critic_norm") if name in get_type_hints(get_spec(model).arch)]
    return [*FEW, *warmup, *prior, *([f"objective.form={form}"] if form else []), *norms, *more]


def alone(model: str, settings: list[str], out: Path) -> dict[str, torch.Tensor]:
    """Trains in this process; returns the networks' weights and buffers."""
    trainer = Trainer(resolve(model, settings=settings), out=out, progress=False)
    trainer.fit()
    return trainer.model.state_dict()


def one_thread(**changes: str) -> dict[str, str]:
    return environment(OMP_NUM_THREADS="1", **changes)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[key] - b[key]).abs().max().item() for key in a)


@pytest.fixture(scope="module")
def both(tmp_path_factory, warm) -> Path:
    """The folder in which two processes have trained everything that the tests compare: runs, and each process's
    weights.
    """
    folder = tmp_path_factory.mktemp("both")
    alone("introvae", few("introvae", "official", "train.duration=16"), folder / "one-then-two")
    runs = {
        f"{model}-{form}-{k}": (model, few(model, form, f"train.accumulate={k}"))
        for model, form in forms()
        for k in (1, 2)
    }
    normalized = "introvae" if "softintrovae" in MISSING else "softintrovae"
    runs["batchnorm"] = (normalized, few(normalized, "official", "arch.norm=batch"))
    runs["one-then-two"] = ("introvae", few("introvae", "official"))
    runs["two-then-one"] = ("introvae", few("introvae", "official", "train.duration=16"))
    runs["whole"] = ("introvae", LONG)
    runs["auto"] = ("introvae.8gaussians", AUTO)
    (folder / "runs.json").write_text(json.dumps(runs))
    for rank in ended(warm.on_two(["-c", DRIVER], folder, one_thread())):
        assert rank.returncode == 0, rank.stderr
    return folder


def replicas(folder: Path, run: str) -> dict[str, torch.Tensor]:
    """The weights and buffers that both processes ended with, after making sure that they are the same bits."""
    first, second = (load_file(folder / f"{run}-rank{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    return first


@pytest.mark.parametrize(("model", "form"), forms())
def test_processes_and_micro_batches_equal_the_whole_batch(both, model, form):
    """2 processes, 2 micro-batches, and 2 x 2, against the same batch in one piece; no BatchNorm, which sees its own
    part only.
    """
    whole, tolerance = alone(model, few(model, form), Path("whole")), WIDER.get(model, TOLERANCE)
    assert distance(whole, alone(model, few(model, form, "train.accumulate=2"), Path("micro"))) < tolerance
    for k in (1, 2):
        assert distance(whole, replicas(both, f"{model}-{form}-{k}")) < tolerance


def test_batchnorm_is_the_same_in_all_processes(both):
    """Each process normalizes by its own part of the batch; the running statistics are averaged, so the replicas stay
    the same bits.
    """
    state = replicas(both, "batchnorm")
    means = [value for key, value in state.items() if key.endswith("running_mean")]
    assert means
    assert all(mean.abs().max() > 0 for mean in means)


def test_a_setting_that_adjusts_itself_is_the_same_in_all_processes(both):
    """The choice uses the spread within each process's part of the batch, slightly less than the whole batch's."""
    replicas(both, "auto")
    alone("introvae.8gaussians", list(AUTO), Path("auto"))
    margins = [
        [line["control/margin"] for line in map(json.loads, (run / "log.jsonl").open()) if "control/margin" in line]
        for run in (both / "auto", Path("auto"))
    ]
    assert margins[0][-1] != margins[0][0]  # it was chosen
    assert margins[0] == pytest.approx(margins[1], rel=0.05)


def test_a_checkpoint_resumes_on_another_number_of_processes(both):
    whole = alone("introvae", few("introvae", "official"), Path("whole"))
    assert distance(whole, replicas(both, "one-then-two")) < TOLERANCE
    shutil.copytree(both / "two-then-one", "two-then-one")
    assert distance(whole, alone("introvae", few("introvae", "official"), Path("two-then-one"))) < TOLERANCE
    steps = [json.loads(line)["step"] for line in (both / "one-then-two" / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 2, 5, 5]  # the losses and the score, written once, before and after


def launch(launcher: list[str], script: str, folder: Path, **changes: str) -> subprocess.Popen:
    command = [*launcher, str(ROOT / "tests" / script), "train", "introvae", *as_options(*LONG), "--out", "run"]
    env = one_thread(**changes)
    return subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_beyond(step: int, run: subprocess.Popen | Command, folder: Path) -> None:
    saved = Checkpoints(folder / "run" / "checkpoints", keep=2)
    deadline = time.monotonic() + 120
    while max(saved.steps(), default=0) <= step and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def test_stopped_then_a_process_killed_then_finished(both, tmp_path, warm):
    """SIGTERM to the launcher saves; SIGKILL to one process ends the other; resumed each time, it ends bit-identical to
    an uninterrupted run.
    """
    run = launch(TWO, "shortened.py", tmp_path)
    wait_beyond(0, run, tmp_path)
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate(timeout=120)
    assert (
        "everything is saved. To resume:\n  torchrun --standalone --nproc_per_node 2 -m genzoo train introvae --set"
        in out
    )
    stopped = Checkpoints(tmp_path / "run" / "checkpoints", keep=2).steps()[-1]

    killed, other = warm.on_two(["train", "introvae", *as_options(*LONG), "--out", "run"], tmp_path, one_thread())
    wait_beyond(stopped, killed, tmp_path)
    killed.kill()
    first, second = ended([killed, other], timeout=120)  # not gloo's half an hour
    assert first.returncode == -signal.SIGKILL and second.returncode > 0
    assert f"Resuming run at {stopped * 8} of 256 images." in first.stdout
    errors = second.stderr
    assert errors.count("genzoo: Process 1 of 2 lost another one, which died or stopped first (Connection ") == 1
    assert "continue from there:\n  torchrun --standalone --nproc_per_node 2 -m genzoo train introvae --set" in errors
    assert "Traceback" not in errors

    accelerate = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
    ]  # works without a GPU
    run = launch(accelerate, "shortened.py", tmp_path)
    out, errors = run.communicate(timeout=240)
    assert run.returncode == 0, errors
    assert "on 2 x cpu" in out
    ends = [
        load_file(folder / "model" / "diffusion_pytorch_model.safetensors")
        for folder in (tmp_path / "run", both / "whole")
    ]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[1])


def test_accelerate_that_starts_one_process_instead_of_two_is_refused(tmp_path, warm):
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    run = launch(accelerate, "forked.py", tmp_path, GENZOO_WARM=warm.address)
    _, errors = run.communicate(timeout=120)
    assert run.returncode != 0
    assert (
        "asked for several processes and started one: "
        "start with `torchrun --standalone --nproc_per_node N -m genzoo ...`" in errors
    )
    assert not (tmp_path / "run").exists()


TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("env", "gpus", "mistake"),
    [
        ({}, None, None),
        ({}, 1, None),
        (TORCHRUN, None, None),
        (TORCHRUN, 2, None),
        (TORCHRUN, 1, "2 processes share 1 GPU here"),
        (TORCHRUN | {"ACCELERATE_USE_FSDP": "true"}, 2, "FSDP would shard nothing"),
        (TORCHRUN | {"ACCELERATE_USE_FSDP": "false"}, 2, None),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, None, "DeepSpeed would shard nothing"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, None, "train.accumulate"),
        ({"ACCELERATE_USE_CPU": "True"}, None, None),  # one process, as asked for
        ({"ACCELERATE_USE_CPU": "True", "MASTER_PORT": "29500", "OMPI_COMM_WORLD_SIZE": "2"}, None, None),
        ({"ACCELERATE_USE_CPU": "False", "MASTER_PORT": "29500"}, 1, "started one"),
    ],
)
def test_launch_mistakes(env, gpus, mistake):
    found = launch_mistake(env, gpus)
    assert (found is None) if mistake is None else (mistake in found and "\n" not in found)


def test_two_processes_score_as_one(tmp_path, digits_classifier, monkeypatch, genzoo_on_two):
    """The features of 250 samples and of the split, extracted in turns; one line is written."""
    settings = (*TINY, "data.size=8,8", "arch.channels=8", "data.channels=1", "train.duration=40")
    Trainer(resolve("vae", data="digits", settings=settings), out=tmp_path / "run", progress=False).fit()
    args = ["eval", "run", "--metrics", "fd_classifier_digits_250_train,elbo50_test", "--out"]
    for out in ("one", "two"):  # a cache for each, or the second would find the first's features
        shutil.copytree(digits_classifier, tmp_path / f"cache-{out}" / "classifiers" / digits_classifier.name)
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache-one"))
    assert main([*args, "one"]) == 0
    env = one_thread(GENZOO_CACHE=str(tmp_path / "cache-two"))
    done = genzoo_on_two([*args, "two"], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    found = {
        out: [json.loads(line)["values"] for line in (tmp_path / out).read_text().splitlines()]
        for out in ("one", "two")
    }
    assert len(found["two"]) == 2
    for one, both in zip(found["one"], found["two"], strict=True):
        assert both == pytest.approx(one, rel=1e-5)


def test_two_processes_measure_as_one(tmp_path, digits_classifier, monkeypatch, genzoo_on_two):
    """`train.measure`: all processes extract the features of real images, the first one those of samples."""
    settings = (*TINY, "data.size=8,8", "arch.channels=8", "arch.norm=group", "data.channels=1", "train.duration=40")
    options = as_options(*settings, "train.measure=classifier:digits")
    args = ["train", "vae", "--data", "digits", *options, "--out"]
    for out in ("one", "two"):
        shutil.copytree(digits_classifier, tmp_path / f"cache-{out}" / "classifiers" / digits_classifier.name)
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache-one"))
    assert main([*args, str(tmp_path / "one")]) == 0
    env = one_thread(GENZOO_CACHE=str(tmp_path / "cache-two"))
    done = genzoo_on_two([*args, "two"], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    name = "distance/classifier:digits"
    one, two = ([line[name] for line in read_log(tmp_path / out) if name in line] for out in ("one", "two"))
    assert len(one) == 3
    assert two == pytest.approx(one, rel=1e-2)
    assert distance(weights(tmp_path / "one"), weights(tmp_path / "two")) < TOLERANCE  # the averaged ones
    assert done.stdout.count("copies.png: copies of training images") == 1  # by the first process
