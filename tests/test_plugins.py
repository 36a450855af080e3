"""tests/plugin, a real distribution, installed elsewhere. Its models are trained, killed, resumed like built-in ones.

A VAE/GAN of three networks with gated updates, and a WGAN-GP without encoder that asks for fresh batches.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers import ONCE, ROOT, as_options, environment, read_log, same, weights
from safetensors.torch import load_file

import genzoo
from genzoo import Trainer, plugins, resolve
from genzoo.cli import main
from genzoo.runs.checkpoint import Checkpoints
from genzoo.training.plan import estimate, plan

pytestmark = pytest.mark.usefixtures("one_thread")

WGANGP = "wgangp-example"  # genzoo's own have the names without it
VAEGAN = "vaegan-example"
MODELS = [VAEGAN, WGANGP]
SHORT = (
    "data.limit=64",
    "train.duration=24it",
    "train.snapshot_every=50%",
    "train.log_every=1",
    "train.ema=0.9",
    "train.device=cpu",
)
POINTS = (
    "arch.encoder=mlp",
    "arch.decoder=mlp",
    "arch.hidden=8,8",
    "train.batch=32",
    "train.duration=6it",
    "train.snapshot_every=100%",
)
DRIVER = """
import json
from pathlib import Path

from safetensors.torch import save_file

from genzoo import Trainer, resolve

for model, settings in json.loads(Path("runs.json").read_text()).items():
    trainer = Trainer(resolve(model, settings=settings), out=model, progress=False)
    trainer.fit()
    state = {key: value.contiguous() for key, value in trainer.model.state_dict().items()}
    save_file(state, f"{model}-rank{trainer.rank}.safetensors")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(folder), str(ROOT / "tests" / "plugin")], check=True)
    return folder


@pytest.fixture(autouse=True)
def importable(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(site)
    plugins.refresh()
    yield
    plugins.refresh()


def everywhere(site: Path) -> dict[str, str]:
    """An environment in which child processes find the plugins and this checkout."""
    return environment(site, OMP_NUM_THREADS="1")


def train(model: str, *settings: str, out: str = "run") -> Path:
    return Trainer(resolve(model, settings=[*SHORT, *settings]), out=out, progress=False).fit()


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[key] - b[key]).abs().max().item() for key in a)


@pytest.mark.parametrize(("model", "networks"), [(VAEGAN, "encoder decoder critic"), (WGANGP, "decoder critic")])
def test_a_plugin_trains_saves_loads_and_samples(model, networks, capsys):
    run = train(model)
    assert {"preview.png", "curves.png", "model", "best", "checkpoints"} <= {path.name for path in run.iterdir()}
    loaded = genzoo.load(run)
    assert [name for name, _ in loaded.named_children()] == networks.split()
    assert same(weights(run), {key: value.contiguous() for key, value in loaded.state_dict().items()})
    samples = loaded.sample(3, torch.Generator().manual_seed(0))
    assert samples.shape == (3, 3, 16, 16) and samples.isfinite().all()
    assert main(["sample", str(run), "--n", "4"]) == 0
    assert main(["doctor", str(run)]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


def test_a_gate_is_logged_and_gated_networks_rest():
    moves = [line for line in read_log(train(VAEGAN, "objective.margin=0")) if "moves/decoder" in line]
    assert len(moves) == 24
    assert {line[f"moves/{name}"] for line in moves for name in ("decoder", "critic")} <= {0.0, 1.0}
    for line in moves:
        assert ("gradient/critic" in line) == (line["moves/critic"] == 1)
        assert line["moves/decoder"] or line["moves/critic"]  # if neither would move, both do
    assert 0 < sum(line["moves/critic"] for line in moves) < 24


def test_all_real_batches_of_a_step_are_counted():
    run = train(WGANGP, "objective.critic_steps=3", "train.duration=240", "train.snapshot_every=100%")
    lines = [line for line in read_log(run) if "loss/critic" in line]
    assert [line["nimg"] for line in lines] == list(range(24, 264, 24))
    assert [("loss/decoder" in line) for line in lines] == [step % 2 == 0 for step in range(1, 11)]


@pytest.mark.process
@pytest.mark.parametrize("model", MODELS)
def test_kill_minus_nine_changes_nothing(model, site, tmp_path, genzoo_process: Callable):
    options = as_options(*SHORT, "train.duration=120it", "train.snapshot_every=20it")
    env = everywhere(site)
    killed = genzoo_process(["train", model, *options, "--out", "killed"], cwd=tmp_path, env=env)
    saved, deadline = Checkpoints(tmp_path / "killed" / "checkpoints", keep=2), time.monotonic() + 120
    while len(saved.steps()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    for name in ("killed", "straight"):
        done = genzoo_process(["train", model, *options, "--out", name], cwd=tmp_path, env=env).completed()
        assert done.returncode == 0, done.stderr
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "straight"))


@pytest.mark.parametrize("model", MODELS)
def test_a_dry_run_lists_networks_and_updates(model):
    text = plan(resolve(model, settings=SHORT))
    assert "critic" in text and estimate(resolve(model)).step > 0
    expected = {
        VAEGAN: ["1. encoder, by", "2. decoder (gated), by", "3. critic (gated), by"],
        WGANGP: ["warm-up: 1. critic, by", "then: 1. critic, by", "then: 2. critic, by", "then: 3. decoder, by"],
    }
    for line in expected[model]:
        assert line in text


@pytest.mark.parametrize("model", MODELS)
def test_four_micro_batches_are_the_batch(model):
    twelve = ("train.duration=12it", *ONCE)
    whole, parts = (weights(train(model, *twelve, f"train.accumulate={k}", out=f"run{k}")) for k in (1, 4))
    assert distance(whole, parts) < 1e-6
    assert distance(whole, weights(train(model, "train.duration=2it", *ONCE, out="other"))) > 1e-4


def test_two_processes_are_one(site, tmp_path, genzoo_on_two):
    settings = [*SHORT, "train.duration=6it", *ONCE]
    (tmp_path / "runs.json").write_text(json.dumps({model: settings for model in MODELS}))
    done = genzoo_on_two(["-c", DRIVER], cwd=tmp_path, env=everywhere(site))
    assert done.returncode == 0, done.stderr
    for model in MODELS:
        trainer = Trainer(resolve(model, settings=settings), out=f"{model}-alone", progress=False)
        trainer.fit()
        first, second = (load_file(tmp_path / f"{model}-rank{rank}.safetensors") for rank in (0, 1))
        assert same(first, second)
        # Of 1e-3 that six steps move a weight; Adam's first step divides a gradient that is rounding by its own size.
        assert distance(first, trainer.model.state_dict()) < 5e-5


@pytest.mark.parametrize("model", MODELS)
def test_points_train_compiled_as_uncompiled(model, monkeypatch):
    monkeypatch.setattr("genzoo.training.iteration.COMPILER", None)
    found = []
    for compiled in ("false", "true"):
        settings = [*POINTS, f"train.compile={compiled}"]
        trainer = Trainer(resolve(model, data="8gaussians", settings=settings), out=compiled, progress=False)
        trainer.fit()
        found.append(trainer.model.state_dict())
    assert distance(*found) < 1e-6


def test_a_model_without_encoder_refuses_to_encode_in_one_line(capsys):
    run = str(train(WGANGP, "train.duration=2it", *ONCE))
    for verb in ("reconstruct", "encode", "interpolate"):
        assert main([verb, run]) == 2
        error = capsys.readouterr().err
        assert "encoder" in error and len(error.splitlines()) == 1
    assert main(["eval", run, "--metrics", "rec10_test"]) == 2
    assert "encoder" in capsys.readouterr().err
    assert main(["eval", run, "--metrics", "msssim4_train"]) == 0
