"""Runs on tiny real networks: what is written, what a resume does, what stops a run and what it leaves."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ONCE, TINY, as_options, environment, read_log, same, tiny_run, weights
from PIL import Image
from torch import nn

import genzoo
from genzoo import Trainer, registry
from genzoo.data.sets import ArraySet
from genzoo.errors import RunStopped, UsageError
from genzoo.items import Items
from genzoo.models.vae.objective import VAEObjective
from genzoo.objective import Spaces, Update
from genzoo.registry import get_spec
from genzoo.runs.checkpoint import Checkpoints
from genzoo.training import launch
from genzoo.training.evaluators import fixed_items
from genzoo.training.misfits import can_compile
from genzoo.training.plan import estimate

SAVED = ("train.snapshot_every=4it", "train.prior=normal")


@pytest.mark.parametrize("model", ["vae", "introvae", "softintrovae"])
def test_a_run_leaves_everything_behind(model, finished):
    run = finished(model)
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        "run.json", "log.jsonl", "events.jsonl", "curves.png", "quality.png", "preview.png", "previews", "checkpoints",
        "model", "best",
    }  # fmt: skip
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["nimg"] == 96
    assert any("score/pyramid_frechet" in line for line in lines)
    assert Image.open(run / "preview.png").size == (8 * 66 - 2, 4 * 66 - 2)
    loaded = genzoo.load(run)
    assert type(loaded).__name__.lower() == model
    assert not loaded.training
    assert "images seen | 96" in (run / "model" / "README.md").read_text()


@pytest.mark.parametrize("model", ["vae", "introvae", "softintrovae"])
def test_training_lowers_the_reconstruction_error(model):
    run = Trainer(
        tiny_run(
            model,
            "train.duration=640",
            "objective.warmup=1" if model != "vae" else "objective.beta=0.1",
            "train.lr=5e-3",
            *ONCE,
        ),
        out="run",
    ).fit()
    errors = [
        line["error/sse"]
        for line in map(json.loads, (run / "log.jsonl").read_text().splitlines())
        if "error/sse" in line
    ]
    assert errors[-1] < 0.5 * errors[0]


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(finished):
    a = finished()
    b, c = (Trainer(tiny_run("introvae", f"train.seed={seed}", *ONCE), out=f"run{seed}").fit() for seed in (0, 1))
    assert same(weights(a), weights(b))
    assert not same(weights(a), weights(c))


def test_a_finished_run_is_left_alone_and_a_longer_one_goes_on(a_finished):
    run = a_finished()
    before = weights(run)
    Trainer(tiny_run(), out="run").fit()
    assert same(before, weights(run))
    Trainer(tiny_run("introvae", "train.duration=160"), out="run").fit()
    straight = Trainer(tiny_run("introvae", "train.duration=160"), out="straight").fit()
    assert same(weights(run), weights(straight))


def test_a_changed_setting_is_refused_and_listed(a_finished):
    a_finished()
    with pytest.raises(UsageError, match=r"objective.margin: 150.0 -> 61.0"):
        Trainer(tiny_run("introvae", "objective.margin=61"), out="run")
    Trainer(tiny_run("introvae", "train.keep=5"), out="run").fit()  # changes no weight, so it may change


@pytest.mark.process
def test_kill_minus_nine_changes_nothing(tmp_path, genzoo_process):
    """A real process, killed at a random step; the same command again ends bit-identical to an uninterrupted run."""
    settings = [*TINY, "objective.warmup=2it", "train.duration=400", "train.snapshot_every=12it", "train.prior=normal"]
    command = ["train", "softintrovae", *as_options(*settings), "--out"]
    killed = genzoo_process([*command, "killed"], cwd=tmp_path, env=environment())
    saved, deadline = Checkpoints(tmp_path / "killed" / "checkpoints", keep=2), time.monotonic() + 120
    while len(saved.steps()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    for name in ("killed", "whole"):
        done = genzoo_process([*command, name], cwd=tmp_path, env=environment()).completed()
        assert done.returncode == 0, done.stderr
    steps = [line["step"] for line in read_log(tmp_path / "killed")]
    assert steps == sorted(steps)
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_ctrl_c_saves_and_prints_how_to_resume(monkeypatch, capsys, finished):
    trainer = Trainer(tiny_run(), out="run")
    real_step = trainer.train_step

    def interrupted(parts, at):
        if at.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(parts, at)

    monkeypatch.setattr(trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert "everything is saved. To resume:\n  Trainer(config, out='run').fit()" in capsys.readouterr().out
    assert Checkpoints(Path("run/checkpoints"), 2).steps() == [5]
    assert same(weights(Trainer(tiny_run(), out="run").fit()), weights(finished()))


def test_a_broken_loss_stops_the_run_and_keeps_the_last_good_checkpoint(monkeypatch):
    trainer = Trainer(tiny_run("introvae", *SAVED), out="run")
    real_step = trainer.train_step

    def poisoned(parts, at):
        return real_step(parts if at.step != 6 else [Items(torch.full((8, 3, 16, 16), float("nan")))], at)

    monkeypatch.setattr(trainer, "train_step", poisoned)
    with pytest.raises(
        RunStopped,
        match=r"loss/encoder is nan in the encoder phase of step 6\. Last finite values: .*kl/real.*"
        r"Last good checkpoint: step 4",
    ):
        trainer.fit()
    _, state, _ = Checkpoints(Path("run/checkpoints"), 2).load_latest()
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_truncated_checkpoint_falls_back_to_the_one_before(capsys, finished):
    run = Trainer(tiny_run("introvae", *SAVED), out="run").fit()
    newest = sorted((run / "checkpoints").iterdir())[-1]
    broken = newest / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    Trainer(tiny_run("introvae", *SAVED), out="run").fit()
    assert "is damaged" in capsys.readouterr().out
    assert same(weights(run), weights(finished()))


def test_a_full_disk_stops_in_one_line_and_keeps_what_was_saved(monkeypatch):
    trainer = Trainer(tiny_run("introvae", *SAVED), out="run")
    checkpoints = trainer.state.checkpoints
    real_save = checkpoints.save

    def full(step, state):
        if step == 8:
            raise OSError(28, "No space left on device")
        real_save(step, state)

    monkeypatch.setattr(checkpoints, "save", full)
    with pytest.raises(RunStopped, match=r"the disk is full.*the checkpoint of step 4 is intact"):
        trainer.fit()


def test_an_unwritable_run_folder_is_refused():
    Path("file").write_text("not a folder")
    with pytest.raises(UsageError, match="choose another with --out"):
        Trainer(tiny_run(), out="file/run")


def test_a_run_cut_short_at_its_last_snapshot_is_finished_on_resume(monkeypatch, finished):
    trainer = Trainer(tiny_run(), out="run")
    real_save = type(trainer.model).save_pretrained

    def full(*args, **kwargs):
        if trainer.step == trainer.total_steps:
            raise OSError(28, "No space left on device")
        real_save(*args, **kwargs)

    with monkeypatch.context() as full_disk, pytest.raises(RunStopped, match="Make room"):
        full_disk.setattr(type(trainer.model), "save_pretrained", full)
        trainer.fit()
    run = Trainer(tiny_run(), out="run").fit()
    assert same(weights(run), weights(finished()))
    assert "images seen | 96" in (run / "model" / "README.md").read_text()


def test_a_refused_command_leaves_its_folder_to_the_corrected_one():
    for wrong in ("train.optimizer=adamm", "data.name=digitz", "data.size=17x17", "train.duration=0"):
        with pytest.raises(UsageError):
            Trainer(tiny_run("introvae", wrong), out="run")
    Trainer(tiny_run("introvae", "train.duration=24", *ONCE), out="run").fit()


def test_without_an_intact_checkpoint_a_run_does_not_start_over(a_finished):
    run = a_finished()
    log = (run / "log.jsonl").read_text()
    for manifest in (run / "checkpoints").glob("*/manifest.json"):
        manifest.write_text("{")
    with pytest.raises(UsageError, match="None of the 2 checkpoints .* is intact: .* different --out"):
        Trainer(tiny_run(), out="run").fit()
    assert (run / "log.jsonl").read_text() == log


def test_damaged_checkpoints_make_room_for_new_ones():
    checkpoints = Checkpoints(Path("checkpoints"), keep=2)
    for step in (10, 20):
        checkpoints.save(step, {"progress": step})
    Path("checkpoints/000000020/manifest.json").write_text("{")
    step, state, complaints = checkpoints.load_latest()
    assert (step, state["progress"], len(complaints)) == (10, 10, 1)
    checkpoints.rewind(step)
    checkpoints.save(15, {"progress": 15})
    assert checkpoints.steps() == [10, 15]


def test_a_run_knows_the_data_it_began_on():
    items = np.random.default_rng(0).integers(0, 256, (80, 3, 16, 16), dtype=np.uint8)

    def train(items: np.ndarray, duration: int) -> Path:
        np.save("images.npy", items)
        settings = ("data.name=images.npy", "data.limit=none", f"train.duration={duration}", *ONCE)
        return Trainer(tiny_run("introvae", *settings), out="run").fit()

    train(items[-64:], 24)
    with pytest.raises(UsageError, match="images.npy.* has changed: 40 items, not 64"):
        train(items[-40:], 160)
    with pytest.raises(UsageError, match="images.npy.* has changed: other content"):
        train(items[:64], 160)


def test_only_the_last_checkpoints_are_kept():
    run = Trainer(
        tiny_run("introvae", "train.snapshot_every=3it", "train.keep=2", "train.prior=normal"), out="run"
    ).fit()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["000000009", "000000012"]


def test_gradient_accumulation_equals_the_whole_batch():
    """Both players' gradients over micro-batches are the batch's, also for the official hinge on the batch mean."""
    four = ("train.duration=32", *ONCE)
    for form in ("paper", "official"):
        runs = [
            Trainer(
                tiny_run("introvae", "arch.norm=none", f"objective.form={form}", f"train.accumulate={k}", *four),
                out=f"{form}{k}",
            ).fit()
            for k in (1, 4)
        ]
        a, b = map(weights, runs)
        assert max((a[key] - b[key]).abs().max().item() for key in a) < 1e-5


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lion"])
def test_optimizers_by_name_train_and_resume(optimizer):
    settings = (f"train.optimizer={optimizer}", "train.lr_of.decoder=1e-3", "train.lr_drops=4it", "train.clip=1", *ONCE)
    Trainer(tiny_run("introvae", *settings, "train.duration=48"), out="run").fit()
    run = Trainer(tiny_run("introvae", *settings), out="run").fit()
    assert same(weights(run), weights(Trainer(tiny_run("introvae", *settings), out="straight").fit()))


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        (["train.optimizer=adamww"], "Did you mean .*adamw"),
        (["train.optimizer=sgd", "train.betas=0.5,0.9"], "leave train.betas out"),
        (["train.lr_of.decodr=1"], "Did you mean decoder"),
    ],
)
def test_settings_that_no_optimizer_takes_are_refused(settings, fix):
    with pytest.raises(UsageError, match=fix):
        Trainer(tiny_run("introvae", *settings), out="run")


def test_moment_decays_reach_every_optimizer_that_has_them():
    for name in ("adam", "adamw"):
        trainer = Trainer(tiny_run("introvae", f"train.optimizer={name}", "train.betas=0.5,0.9"), out=name)
        assert {group["betas"] for o in trainer.optimizers.values() for group in o.param_groups} == {(0.5, 0.9)}
    own = (
        Trainer(tiny_run("introvae", "train.optimizer=lion"), out="lion").optimizers["encoder"].param_groups[0]["betas"]
    )
    assert own == (0.9, 0.99)


def test_the_rate_drops_where_it_should():
    trainer = Trainer(
        tiny_run("introvae", "train.lr_drops=4it,8it", "train.lr=1e-3", "train.lr_of.decoder=1e-4", *ONCE), out="run"
    )
    rates = []
    real_step = trainer.train_step
    trainer.train_step = lambda batch, at: (
        real_step(batch, at),
        rates.append(trainer.optimizers["encoder"].param_groups[0]["lr"]),
    )[0]
    trainer.fit()
    assert rates == pytest.approx([1e-3] * 4 + [1e-4] * 4 + [1e-5] * 4)
    assert trainer.optimizers["decoder"].param_groups[0]["lr"] == pytest.approx(1e-6)


def test_bf16_runs_and_keeps_fp32_weights():
    run = Trainer(tiny_run("softintrovae", "train.precision=bf16", "train.duration=32", *ONCE), out="run").fit()
    assert {value.dtype for key, value in weights(run).items() if "num_batches" not in key} == {torch.float32}


def test_one_process_can_train_in_another_precision_next():
    for precision in ("fp32", "bf16"):
        settings = ("train.duration=8", f"train.precision={precision}", *ONCE)
        Trainer(tiny_run("vae", *settings), out=precision + "run").fit()
        assert (Path(precision + "run") / "model").exists()


def test_trackers_are_accelerates(tmp_path):
    run = Trainer(tiny_run("introvae", "train.trackers=tensorboard", "train.duration=24", *ONCE), out="run").fit()
    assert list((run / "trackers").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    "settings",
    [
        ("data.size=48x64", "arch.channels=4,8,8"),
        ("data.name=digits", "data.size=28x28", "data.channels=1"),
        ("arch.encoder=timm:test_resnet",),
        ("arch.norm=group",),
        ("arch.encoder=mlp", "arch.decoder=mlp", "arch.hidden=16,16"),
        ("data.mirror=true", "train.workers=2", "data.cache=false"),
    ],
    ids=["48x64", "gray 28x28", "timm", "group norm", "mlp on images", "mirror, uncached, workers"],
)
def test_other_shapes_and_networks_train(settings):
    run = Trainer(tiny_run("introvae", "train.duration=24", "train.snapshot_every=100%", *settings), out="run").fit()
    assert genzoo.load(run).sample(2).shape[0] == 2


@pytest.mark.parametrize("name", ["8gaussians", "2spirals", "checkerboard", "rings"])
def test_points_train_and_are_plotted(name):
    config = genzoo.resolve(
        "softintrovae",
        data=name,
        settings=["train.duration=4it", "objective.warmup=2it", "train.batch=32", "arch.hidden=16,16"],
    )
    run = Trainer(config, out="run").fit()
    assert Image.open(run / "preview.png").size == (1200, 440)


def test_the_card_of_vectors_shows_no_missing_picture():
    np.save("vectors.npy", np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32))
    settings = ("data.name=vectors.npy", "data.size=none", "arch.encoder=mlp", "arch.decoder=mlp", "arch.hidden=8")
    card = (Trainer(tiny_run("introvae", *settings), out="run").fit() / "model" / "README.md").read_text()
    assert "vectors of 5 numbers" in card and "# [16, 5]" in card and "preview" not in card


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UsageError, match="choose a multiple"):
        Trainer(tiny_run("introvae", "train.accumulate=3"), out="run")


def test_epochs_of_endless_data_are_refused():
    config = genzoo.resolve("softintrovae", data="rings", settings=["train.duration=3ep"])
    with pytest.raises(UsageError, match="endless"):
        Trainer(config, out="run")


def test_a_launch_that_would_silently_run_alone_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    class Alone:
        num_processes, log_with = 1, ()

        def __init__(self, **_):
            pass

    monkeypatch.setattr(launch, "Processes", Alone)
    with pytest.raises(UsageError, match="announced 2 processes and this one sees 1"):
        launch.make_accelerator("cpu", "fp32", (), Path("run"))


UNEQUAL = ("_files", "_checksum")  # digests: safetensors writes the metadata of a prior in any order


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointing_is_not_part_of_a_model(precision):
    """The same weights and statistics bit for bit, the same saved config; a run may be resumed with it."""
    settings = (f"train.precision={precision}", "arch.channels=4,8", "train.duration=32", *ONCE)
    plain, ours = (
        Trainer(tiny_run("introvae", *settings, f"train.checkpointing={value}"), out=f"run-{value}").fit()
        for value in ("false", "true")
    )
    assert same(weights(plain), weights(ours))
    configs = [json.loads((run / "model" / "config.json").read_text()) for run in (plain, ours)]
    assert {**configs[0], **dict.fromkeys(UNEQUAL)} == {**configs[1], **dict.fromkeys(UNEQUAL)}
    assert not genzoo.load(ours).is_gradient_checkpointing
    Trainer(tiny_run("introvae", *settings, "train.checkpointing=true"), out=plain)  # not refused


def test_checkpointing_needs_convolutions():
    with pytest.raises(UsageError, match="train.checkpointing=false"):
        Trainer(
            tiny_run(
                "introvae", "data.name=8gaussians", "arch.encoder=mlp", "arch.decoder=mlp", "train.checkpointing=true"
            ),
            out="run",
        )


def test_a_run_of_another_version_is_refused_in_one_line(a_finished):
    run = a_finished()
    content = json.loads((run / "run.json").read_text())
    del content["format"]
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"written by another version of genzoo \(format 1, not 2\)") as caught:
        Trainer(tiny_run(), out="run")
    assert "\n" not in str(caught.value)


class CountingObjective(VAEObjective, nn.Module):
    """Holds a frozen network, and a buffer that counts steps."""

    steps: torch.Tensor

    def __init__(self, config, spaces):
        super().__init__(config, spaces)
        self.features = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
        self.register_buffer("steps", torch.zeros(()))

    def step(self, nets, batch, at):
        self.steps += 1
        loss = self.features(nets.decoder(batch.eps)).square().mean()
        yield Update(("decoder",), loss, {"loss/features": loss.detach()})
        yield from super().step(nets, batch, at)


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    genzoo.register_model(replace(get_spec("vae"), name="vae-counting", objective=CountingObjective))


@pytest.mark.usefixtures("counting")
def test_an_objective_that_is_a_module_is_saved_and_never_trained():
    features: dict[str, torch.Tensor] = {}
    for duration, resumed in ((48, False), (96, True)):
        trainer = Trainer(tiny_run("vae-counting", f"train.duration={duration}", *ONCE), out="run", progress=False)
        objective = trainer.objective
        assert isinstance(objective, CountingObjective)
        assert not any(p.requires_grad for p in objective.parameters()) and not objective.features.training
        trainer.fit()
        assert objective.steps == duration // 8
        if resumed:  # the first run's, not those of a new initialization
            assert same(objective.features.state_dict(), features)
        features = {name: value.clone() for name, value in objective.features.state_dict().items()}


@pytest.mark.usefixtures("counting")
def test_an_objective_that_is_a_module_is_planned_and_not_compiled():
    plain, ours = (estimate(tiny_run(model)) for model in ("vae", "vae-counting"))
    assert ours.kept - plain.kept == sum(
        value.nbytes
        for value in CountingObjective(get_spec("vae").config(), Spaces((3, 16, 16), (4,))).state_dict().values()
    )
    with pytest.raises(UsageError, match="objective with networks of its own"):
        Trainer(tiny_run("vae-counting", "train.compile=true"), out="run", progress=False)
    objective = CountingObjective(get_spec("vae").config(), Spaces((3, 16, 16), (4,)))
    assert not can_compile(tiny_run("vae-counting").train, objective, world=1)


def test_a_dataset_of_ones_own_is_what_snapshots_show():
    items = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    dataset = ArraySet("mine", "mine", items)
    trainer = Trainer(tiny_run("vae", "train.duration=24", *ONCE), out="run", progress=False, dataset=dataset)
    trainer.fit()
    fixed = fixed_items(trainer.config, dataset, None, trainer.model)
    pixels = {item.tobytes() for item in items}
    shown = (fixed.real.x * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert all(image.contiguous().numpy().tobytes() in pixels for image in shown)
    assert not any("vitals/heldout" in line for line in read_log(Path("run")))


def test_a_gpu_computes_the_same_bits_again_and_other_code_is_left_alone():
    """A CPU always does; that a GPU does is measured by benchmarks/gpu."""
    memory = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    with pytest.raises(ZeroDivisionError), launch.deterministic(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled() and not memory.fill_uninitialized_memory
        raise ZeroDivisionError
    assert (torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory) == before
    with launch.deterministic(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled() == before[0]
