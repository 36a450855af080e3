"""Scores of tiny trained models and of folders of images: what a line records, and what is refused."""

import json
import math
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distributions import installed
from helpers import environment, tiny_run
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import catalog, open_dataset
from genzoo.data.batches import to_float
from genzoo.errors import UsageError
from genzoo.evaluation.evaluate import Job, evaluate, result_line
from genzoo.evaluation.extractors import get_extractor
from genzoo.evaluation.features import Features
from genzoo.evaluation.inception import TORCHSCRIPT
from genzoo.evaluation.protocols import examples, get_protocol
from genzoo.evaluation.subject import ALARM, FolderSubject, ModelSubject, every, open_subject
from genzoo.fitted import flow
from genzoo.losses import sse
from genzoo.metrics.copies import NEIGHBORS, closeness, copied_share, nearest, pixels
from genzoo.metrics.frechet import frechet_distance, statistics
from genzoo.metrics.inputs import BATCH
from genzoo.metrics.vitals import batchnorm_gap
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.generative import Generative
from genzoo.nn.batchnorm import batch_statistics, batchnorms, disagreement, recalibrate
from genzoo.spec import DataConfig

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
DIGITS = DataConfig(name="digits", size=(8, 8), channels=1)
IMAGES = (
    "data.name=digits",
    "data.size=8,8",
    "data.limit=none",
    "arch.channels=4",
    "train.batch=32",
    "train.duration=40it",
)
POINTS = (
    "data.name=8gaussians",
    "data.size=none",
    "data.limit=none",
    "arch.hidden=8,8",
    "train.duration=40it",
    "train.ema=0",
)
FAST = ("train.log_every=1", "train.snapshot_every=100%")


@pytest.fixture(scope="module")
def digits(digits_classifier, tmp_path_factory) -> Path:
    """A run on 8x8 images, and a classifier of them in the cache."""
    return Trainer(
        tiny_run("introvae", *IMAGES, *FAST), out=tmp_path_factory.mktemp("runs") / "digits", progress=False
    ).fit()


@pytest.fixture(scope="module")
def points(own_cache, tmp_path_factory) -> Path:
    return Trainer(
        tiny_run("vae", *POINTS, *FAST), out=tmp_path_factory.mktemp("runs") / "points", progress=False
    ).fit()


@pytest.fixture
def spoiled(digits, tmp_path) -> Path:
    """The run with wrong running averages of BatchNorm."""
    run = shutil.copytree(digits, tmp_path / "spoiled")
    file = run / "model" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.mul_(3).add_(0.5)
        elif name.endswith("running_var"):
            value.mul_(9)
    save_file(state, file)
    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """60 of the test digits as gray PNG files."""
    (tmp_path / "pictures").mkdir()
    for i, x in enumerate(open_dataset(DIGITS, "test", progress=False).batch(range(60))):
        Image.fromarray(x[0].numpy()).save(tmp_path / "pictures" / f"{i:03}.png")
    return tmp_path / "pictures"


def job(path: Path, name: str, data: DataConfig | None = None, **options) -> Job:
    protocol = get_protocol(name)
    subject = open_subject(str(path), CPU, raw=protocol.weights == "raw", like=DIGITS)
    return Job(subject, protocol, data or subject.run.data, progress=False, **options)


def values(path: Path, name: str, **options) -> dict[str, float]:
    return evaluate(job(path, name, **options)).values


# ---- BatchNorm


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), nn.BatchNorm1d(2)).eval()


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_batch_statistics_normalize_each_batch_and_leave_no_trace():
    net, x = network(), 5 + 2 * torch.randn(64, 3)
    before, plain = state(net), net(x)
    with batch_statistics(net):
        own = net(x)
        assert not net[0].training  # BatchNorm alone, so that dropout stays off
    assert torch.allclose(own.mean(0), torch.zeros(2), atol=1e-5) and torch.allclose(
        own.var(0, correction=0), torch.ones(2), atol=1e-3
    )
    assert (own - plain).abs().max() > 0.1
    assert same(state(net), before) and not any(layer.training for layer in batchnorms(net))
    with pytest.raises(RuntimeError), batch_statistics(net):
        net(x)
        raise RuntimeError
    assert same(state(net), before) and not any(layer.training for layer in batchnorms(net))


def test_recalibration_takes_plain_averages_over_all_batches():
    net = nn.Sequential(nn.BatchNorm1d(3)).eval()
    batches = [torch.randn(50, 3) * 3 + i for i in range(4)]
    recalibrate(net, lambda: [net(x) for x in batches])
    assert torch.allclose(net[0].running_mean, torch.cat(batches).mean(0), atol=1e-5)
    assert torch.allclose(net[0].running_var, torch.stack([x.var(0) for x in batches]).mean(0), atol=1e-4)
    assert net[0].momentum == 0.1 and not net[0].training


def test_disagreement_is_zero_where_the_statistics_are_the_batchs():
    net, x = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval(), torch.randn(2000, 3)
    assert disagreement(net, x) > 0.1
    recalibrate(net, lambda: net(x))
    assert disagreement(net, x) < 1e-3
    assert batchnorms(nn.Linear(2, 2)) == [] and disagreement(nn.Linear(3, 2), x) == 0


# ---- metrics


OF_IMAGES = (
    "rec50_test", "elbo50_test", "msssim20_train", "fd_classifier_digits_260_test", "kd_classifier_digits_60_test",
    "prdc_classifier_digits_60_test", "speed",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_metric_of_images_yields_what_is_listed(digits, name):
    asked = job(digits, name)
    found = evaluate(asked)
    assert found.values.keys() == asked.protocol.values.keys()
    assert all(math.isfinite(value) for value in found.values.values())
    assert found.spreads.keys() <= found.values.keys()
    assert result_line(asked).details.keys() >= {"n_real", "n_fake", "weights", "batchnorm", "definition"}


@pytest.mark.parametrize("name", ["density2d", "speed"])
def test_every_metric_of_points_yields_what_is_listed(points, name):
    asked = job(points, name)
    found = evaluate(asked)
    assert found.values.keys() == asked.protocol.values.keys()
    assert all(math.isfinite(value) for value in found.values.values())


def test_all_metrics_but_lpips_are_run_here():
    run = {get_protocol(name).metric.word for name in (*OF_IMAGES, "density2d")}
    every = {get_protocol(name).metric.word for name in examples()}
    assert every - run == {"lpips", "classes", "labels", "copies"}  # see test_metrics, test_classes, and below


def test_density2d_is_repeated_and_has_its_floor(points):
    found = evaluate(job(points, "density2d"))
    assert found.spreads.keys() == {"kl_raw", "jsd_raw", "kl", "jsd"}
    for name, spread in found.spreads.items():
        assert 0 < spread < found.values[name]
        assert 0 < found.details[f"{name}_floor"] < found.values[name]  # forty steps do not make a good model
    assert found.details["draws"] == 10 and found.details["extent"] == 2


def test_a_run_on_few_points_is_measured_against_the_density(points):
    few = replace(job(points, "density2d").data, limit=100)
    assert values(points, "density2d", data=few) == values(points, "density2d")


SPOT = """
from genzoo.data.embedded.points import point_set


@point_set("spot", "one blurred point", extent=1.5)
def open_spot(n, generator):
    import torch

    return 0.1 * torch.randn((n, 2), generator=generator)
"""


def test_a_2d_set_of_another_distribution_is_measured(points, tmp_path, monkeypatch, genzoo_command):
    """In a process that has not opened the set before: nothing but its name leads to it."""
    run, site = shutil.copytree(points, tmp_path / "run"), tmp_path / "site"
    content = json.loads((run / "run.json").read_text())
    content["config"]["data"]["name"] = "spot"
    (run / "run.json").write_text(json.dumps(content))
    with installed(monkeypatch, site, catalog.GROUP, {"spot": "genzoo_spot:open_spot"}, genzoo_spot=SPOT):
        pass  # which leaves the distribution in its folder, for the other process
    env = environment(site, OMP_NUM_THREADS="1")
    done = genzoo_command(["eval", str(run), "--metrics", "density2d"], env=env)
    assert done.returncode == 0, done.stderr
    (line,) = lines_of(run / "eval.jsonl")
    assert (line["data"], line["details"]["extent"]) == ("spot", 1.5) and line["values"]["jsd"] > 0


def test_the_numbers_are_the_models(digits):
    model, data = genzoo.load(digits), open_dataset(DIGITS, "test", progress=False)
    x = data.batch(range(data.size)) / 255
    found = values(digits, "rec10k_test") | values(digits, "elbo10k_test")  # more than there are: all
    assert found["sse"] == pytest.approx(sse(x, model.reconstruct(x)).mean().item(), rel=1e-4)
    scores = model.score(x)
    assert found["kl_real"] == pytest.approx(scores["kl"].mean().item(), rel=1e-4)
    assert found["elbo"] == pytest.approx(-(scores["kl"] + scores["sse"] / 2).mean().item(), rel=1e-4)
    assert evaluate(job(digits, "rec10k_test")).details["n_real"] == 297


def test_the_distance_is_that_of_the_features(digits):
    asked = job(digits, "fd_classifier_digits_297_test")
    extractor = get_extractor("classifier:digits")
    how = {"precision": extractor.best_precision("eval")}
    real = extractor(open_dataset(DIGITS, "test", progress=False).batch(range(297)) / 255, **how)
    fake = torch.cat([extractor(x, **how) for x in asked.subject.samples(297, seed=0)])
    assert evaluate(asked).values["frechet"] == pytest.approx(
        frechet_distance(*(statistics(f, "here") for f in (real, fake))), rel=1e-3
    )


def test_a_seed_decides_everything(digits, points):
    for run, name in (
        (digits, "msssim20_train"),
        (digits, "kd_classifier_digits_60_test"),
        (digits, "rec50_test"),
        (points, "density2d"),
    ):
        assert values(run, name) == values(run, name)
        assert values(run, name) != values(run, name, seed=1)


def test_protocols_of_one_command_share_features(digits):
    memo = {}
    shared = [evaluate(job(digits, f"{name}_classifier_digits_60_test", memo=memo)).values for name in ("kd", "prdc")]
    assert len(memo) == 1
    assert shared == [values(digits, f"{name}_classifier_digits_60_test") for name in ("kd", "prdc")]
    raw = evaluate(job(digits, "kd_classifier_digits_60_test_raw", memo=memo)).values
    assert len(memo) == 2 and raw != shared[0]


def test_features_in_train_mode_are_another_number_and_never_mix(digits):
    """How a published FID differs: its extractor, which has BatchNorm, runs in train mode."""
    right = job(digits, "fd_classifier_digits_260_test")
    wrong = replace(right, protocol=replace(right.protocol, extractor_mode="train", batchnorm="batch"))
    a, b = evaluate(right).values["frechet"], evaluate(wrong).values["frechet"]
    assert abs(a - b) > 0.1 * a
    extractor, x = get_extractor("classifier:digits"), torch.rand(300, 1, 8, 8)
    sets = [Features(extractor(x, mode=mode), extractor.identity(mode)) for mode in ("eval", "train")]
    with pytest.raises(UsageError, match="Statistics of two extractors cannot be compared"):
        frechet_distance(*(statistics(features.values, features.extractor) for features in sets))


# ---- lines


def test_a_line_has_all_that_decides_a_number(digits):
    line = json.loads(json.dumps(result_line(job(digits, "fd_classifier_digits_260_test")).to_json()))
    assert {
        key: line[key]
        for key in ("kind", "run", "model", "data", "split", "resolution", "seed", "images_seen", "protocol")
    } == {
        "kind": "score",
        "run": "digits",
        "model": "introvae.toyfaces32",
        "data": "digits",
        "split": "test",
        "resolution": [8, 8],
        "seed": 0,
        "images_seen": 40 * 32,
        "protocol": "fd_classifier_digits_260_test",
    }
    assert line["overrides"]["arch.channels"] == [4] and line["overrides"]["train.duration"] == "40it"
    assert {
        key: line["details"][key]
        for key in ("n_real", "n_fake", "weights", "batchnorm", "eval_seed", "extractor", "resize")
    } == {
        "n_real": 260,
        "n_fake": 260,
        "weights": "ema",
        "batchnorm": "ema",
        "eval_seed": 0,
        "extractor": "classifier:digits",
        "resize": "bilinear antialias",
    }
    assert line["details"]["extractor_hash"] == get_extractor("classifier:digits").digest
    assert line["details"]["definition"] == get_protocol("fd_classifier_digits_260_test").definition
    assert line["versions"]["torch"] == torch.__version__.partition("+")[0] and line["device"] == "cpu, 1 threads"
    assert line["commit"] and line["seconds"] >= 0 and line["values"]["frechet"] > 0


def test_a_line_of_points(points):
    line = json.loads(json.dumps(result_line(job(points, "density2d")).to_json()))
    assert (line["data"], line["split"], line["resolution"], line["details"]["weights"]) == (
        "8gaussians",
        "train",
        None,
        "raw",
    )
    assert line["details"]["n_real"] == [5_000, 50_000, 12_800] and line["details"]["n_fake"] == [5_000, 50_000]


def test_raw_and_averaged_weights_are_distinguished(digits):
    averaged, raw = (result_line(job(digits, name)) for name in ("rec50_test", "rec50_test_raw"))
    assert averaged.values != raw.values
    assert (averaged.details["weights"], raw.details["weights"]) == ("ema", "raw")


def test_a_model_without_its_run_is_scored_as_saved(digits, tmp_path):
    shutil.copytree(digits / "model", tmp_path / "shared")
    line = result_line(job(tmp_path / "shared", "rec50_test", data=DIGITS))
    assert line.values == values(digits, "rec50_test")
    assert (line.run, line.model, line.details["weights"]) == ("shared", "shared", "as saved")
    assert line.seed is None and line.images_seen is None and line.overrides == {}
    with pytest.raises(UsageError, match="leave `_raw` out"):
        values(tmp_path / "shared", "rec50_test_raw", data=DIGITS)


def test_the_best_snapshot_is_not_the_newest(digits):
    """best/ has the averaged weights only, and does not record after how many images it was taken."""
    assert (open_subject(str(digits / "model"), CPU).name, open_subject(str(digits / "best"), CPU).name) == (
        "digits",
        "digits/best",
    )
    assert result_line(job(digits / "best", "rec50_test")).images_seen is None
    with pytest.raises(UsageError, match="leave `_raw` out"):
        job(digits / "best", "rec50_test_raw")


def test_images_seen_are_the_saved_models(digits, tmp_path):
    """A run that was stopped has logged more than it has saved."""
    run = shutil.copytree(digits, tmp_path / "run")
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 45, "nimg": 1440, "seconds": 9.0, "loss/encoder": 1.0}\n{"step": 46, "ni')
    assert open_subject(str(run), CPU).images_seen == 1280


# ---- BatchNorm of a model


@pytest.mark.parametrize("ending", ["", "_bnbatch", "_bnrecalibrated"])
def test_a_policy_leaves_the_model_as_it_was(digits, ending):
    asked = job(digits, f"rec50_test{ending}")
    before = state(asked.subject.model)
    evaluate(asked)
    assert same(state(asked.subject.model), before)
    assert not any(module.training for module in asked.subject.model.modules())


@pytest.mark.parametrize(("name", "value"), [("rec297_test", "sse"), ("msssim200_train", "ms_ssim")])
def test_policies_reveal_and_fix_spoiled_statistics(spoiled, name, value):
    running, batch, recalibrated = (
        values(spoiled, f"{name}{ending}")[value] for ending in ("", "_bnbatch", "_bnrecalibrated")
    )
    assert abs(running - batch) > 2 * abs(recalibrated - batch)  # measured: 18 times (sse) and 16 times (ms_ssim)


def test_recalibration_does_not_depend_on_what_was_spoiled(digits, spoiled):
    a, b = (values(run, "rec50_test_bnrecalibrated") for run in (digits, spoiled))
    assert a == pytest.approx(b, rel=1e-5)


def test_the_warning_is_for_spoiled_statistics_only(spoiled, tmp_path):
    subject = open_subject(str(spoiled), CPU)
    alarm = subject.batchnorm_alarm(DIGITS)
    assert "_bnbatch and _bnrecalibrated" in alarm and "\n" not in alarm
    images = to_float(open_dataset(DIGITS, progress=False).batch(range(1500)), CPU)
    model, z = subject.model, torch.randn(100, 4)
    model.encoder.head.bias.data[:4] += 5  # a posterior that has not met the prior yet
    recalibrate(model.decoder, lambda: model.decoder(model.encode(images).latent_dist.sample()))
    model.save_pretrained(tmp_path / "sound")
    assert disagreement(model.decoder, z) > ALARM > batchnorm_gap(model, model.encode(images[:100]).latent_dist, z)
    assert open_subject(str(tmp_path / "sound"), CPU).batchnorm_alarm(DIGITS) is None


def test_a_model_without_batchnorm_has_no_policies(points):
    assert open_subject(str(points), CPU).batchnorm_alarm(DataConfig(name="8gaussians")) is None
    assert values(points, "density2d") == evaluate(replace(job(points, "density2d"), protocol=DENSITY_BNBATCH)).values


DENSITY_BNBATCH = replace(get_protocol("density2d"), batchnorm="batch")


# ---- folders of images


def test_a_folder_of_images_is_scored_like_a_model(folder, digits):
    subject = open_subject(str(folder), CPU, like=DIGITS)
    assert isinstance(subject, FolderSubject) and isinstance(open_subject(str(digits), CPU), ModelSubject)
    line = result_line(job(folder, "kd_classifier_digits_60_test", data=DIGITS))
    assert (line.run, line.seed, line.images_seen, line.details["weights"]) == ("pictures", None, None, "none")
    assert line.details["n_fake"] == 60
    assert (
        line.values["kernel"] < 0.1 * values(digits, "kd_classifier_digits_60_test")["kernel"]
    )  # real digits, and a toy model's
    assert values(folder, "msssim30_train", data=DIGITS).keys() == {"ms_ssim", "ms_ssim_real"}


def test_a_folder_that_is_named_like_a_built_in_set_is_the_folder(folder):
    shutil.copytree(folder, "digits")
    assert open_subject("digits", CPU, like=DIGITS).dataset.size == 60


def test_what_a_folder_cannot_be_asked(folder):
    with pytest.raises(UsageError, match="holds 60 images and the protocol takes 61"):
        values(folder, "kd_classifier_digits_61_test", data=DIGITS)
    for name in ("rec50_test", "elbo50_test", "density2d"):
        with pytest.raises(UsageError, match="needs a model, and pictures is a folder of images: take fid, fd, "):
            values(folder, name, data=DIGITS)
    with pytest.raises(UsageError, match="not a run folder"):
        values(folder, "speed", data=DIGITS)


def test_one_image_has_no_distance(digits, folder):
    with pytest.raises(UsageError, match="at least 2 items"):
        values(folder, "fd_classifier_digits_1_test", data=DIGITS)
    with pytest.raises(UsageError, match="at least 2 pairs"):
        values(digits, "msssim1_train")
    with pytest.raises(UsageError, match="need k of 1 or more and 7 items or more"):
        values(digits, "prdc_classifier_digits_5_test")


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_too_few_images_are_warned_about(digits):
    with pytest.warns(UserWarning, match="use at least 256 images"):
        values(digits, "fd_classifier_digits_60_test")


# ---- what does not fit


def test_points_and_images_are_not_mixed_up(digits, points):
    with pytest.raises(UsageError, match="density2d is for points"):
        values(digits, "density2d")
    for name in ("rec50_test", "msssim20_train", "fid10k_test"):
        with pytest.raises(UsageError, match=f"{name} is for images"):
            values(points, name)


def test_points_are_not_images_to_compare_with(digits):
    for name in ("rec50_train", "elbo50_train", "msssim20_train", "kd_classifier_digits_60_train"):
        with pytest.raises(UsageError, match="8gaussians contains none"):
            values(digits, name, data=DataConfig(name="8gaussians"))


def test_data_without_a_held_out_split(digits, folder):
    with pytest.raises(UsageError, match=r"no held-out split: .* _train, or set data.split=train\[:N\]"):
        values(digits, "rec50_test", data=DataConfig(name=str(folder), channels=1, holdout=0))
    held_out = DataConfig(name=str(folder), channels=1, split="train[:50]")
    assert evaluate(job(digits, "rec50_test", data=held_out)).details["n_real"] == 10


def test_a_point_set_without_a_square(points, tmp_path):
    with pytest.raises(UsageError, match="on 2-D densities, and digits is not one: choose from 8gaussians"):
        values(points, "density2d", data=DIGITS)


def test_a_run_too_short_to_time(digits, tmp_path):
    for name, log in (
        ("one", '{"step": 1, "nimg": 32, "seconds": 1.0, "loss/encoder": 1.0}\n'),
        ("none", ""),
        ("torn", '{"step"'),
    ):
        run = shutil.copytree(digits, tmp_path / name)
        (run / "log.jsonl").write_text(log)
        with pytest.raises(UsageError, match="too short to time"):
            values(run, "speed")
    (run / "log.jsonl").write_text(
        "".join(f'{{"step": {i}, "nimg": {i}, "seconds": 0.0, "loss/encoder": 1.0}}\n' for i in range(5))
    )
    with pytest.raises(UsageError, match="too short to time"):
        values(run, "speed")


def test_the_fitted_prior_has_protocols_of_its_own(digits, tmp_path, monkeypatch):
    """Those without the ending sample N(0, I), whatever the model has; each line names the prior."""
    name, memo = "fd_classifier_digits_260_test", {}
    own, fitted = (evaluate(job(digits, protocol, memo=memo)) for protocol in (name, f"{name}_gmm"))
    assert own.details["prior"] == "normal" and fitted.details["prior"] == genzoo.load(digits).prior_name()
    assert len(memo) == 2 and own.values != fitted.values
    assert "fitted prior" in get_protocol(f"{name}_gmm").definition
    bare = shutil.copytree(digits, tmp_path / "bare")
    (bare / "model" / "prior.safetensors").unlink()
    assert evaluate(job(bare, name)).values == own.values
    assert evaluate(job(bare, f"{name}_gmm")).details["prior"].startswith("gmm:")  # of the run's training data
    assert evaluate(job(digits, f"{name}_raw_gmm")).values != fitted.values
    assert evaluate(job(digits, f"{name}_fitted")).values == fitted.values
    monkeypatch.setattr(flow, "STEPS", 10)
    assert evaluate(job(digits, f"{name}_flow")).details["prior"] == "flow:10"  # fitted now: a mixture was saved
    shutil.copytree(bare / "model", tmp_path / "saved")
    with pytest.raises(UsageError, match=f"saved without the prior gmm: give its run, or take {name}"):
        evaluate(job(tmp_path / "saved", f"{name}_gmm", data=DIGITS))


@pytest.mark.parametrize("ending", ["_bnbatch_gmm", "_sintrovae2021_gmm"])
def test_the_fitted_prior_is_scored_as_models_are_run(ending):
    with pytest.raises(UsageError, match="leave one of the endings out"):
        get_protocol(f"fid50k_train{ending}")


def test_a_folder_of_images_has_no_prior(folder):
    with pytest.raises(UsageError, match="folder of images: leave out _gmm"):
        values(folder, "fd_classifier_digits_60_test_gmm", data=DIGITS)


class Remembering(Autoencoder):
    """A model whose samples are training images, or held-out ones, with a little noise."""

    source = "train"

    def sample(self, n, *args, **kwargs):
        images = open_dataset(DIGITS, self.source, progress=False).batch(range(n)).float() / 255
        return (images + 0.05 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def test_samples_that_are_training_images_are_found():
    model = Remembering(shape=(1, 8, 8), arch={"channels": (4,), "z_dim": 16})
    found = {}
    for source in ("train", "test"):
        model.source = source
        found[source] = evaluate(Job(InMemory(model), get_protocol("copies100_train"), DIGITS, progress=False))
    copies, fresh = (found[source].values for source in ("train", "test"))
    assert copies["pixels"] > 0.9 and copies["features"] > 0.9
    assert fresh["pixels"] < 0.1 and fresh["features"] < 0.1
    assert found["train"].details["n_real"] == 1500 and found["train"].details["n_heldout"] == 100
    with pytest.raises(UsageError, match="end the protocol's name in _train"):
        evaluate(Job(InMemory(model), get_protocol("copies100_test"), DIGITS, progress=False))


def test_what_is_near_to_all_images_is_no_copy():
    """Means of twenty training images, like a model's blur: a bare distance would take them for copies."""
    dataset = open_dataset(DIGITS, progress=False)
    train, heldout = (to_float(dataset.batch(part), CPU) for part in (range(1000), range(1000, 1400)))
    blurred = train[nearest(pixels(heldout), [pixels(train)], 20)[1]].mean(1)
    blur, real = (nearest(pixels(x), [pixels(train)], NEIGHBORS)[0] for x in (blurred, heldout))
    assert copied_share(blur[:, 0], real[:, 0]) > 0.1
    assert copied_share(closeness(blur), closeness(real)) < 0.02


def test_nearest_items_are_found_across_batches():
    items, queries = torch.randn(70, 6), torch.randn(9, 6)
    distances, numbers = nearest(queries, items.split(16), 5)
    expected = torch.cdist(queries, items).topk(5, largest=False)
    assert torch.equal(numbers, expected.indices)
    torch.testing.assert_close(distances, expected.values)


def test_no_model_and_no_images(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")
    for name, fix in (("empty", "empty"), ("begun", "at its first snapshot"), ("nowhere", "does not exist")):
        with pytest.raises(UsageError, match=fix) as raised:
            open_subject(str(tmp_path / name), CPU)
        assert "\n" not in str(raised.value)


class InMemory:
    """A model without its folder."""

    name, device, weights, prior = "model", CPU, "raw", "normal"
    run = folder = images_seen = trained_on = chosen_on = None

    def __init__(self, model: Generative):
        self.model = model.eval()

    def samples(self, n, seed, mine=every, batch=BATCH):
        yield from self.model.sample(n, labels=self.labels(n), prior=self.prior).split(batch)

    def labels(self, n):
        return torch.arange(n) % len(self.model.classes) if self.model.conditional else None

    def policy(self, protocol, data):
        return nullcontext(self)


class PointAutoencoder(Autoencoder):
    code = "point"


class LabeledDecoder(Generative):
    conditional = True


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        (Generative, {"rec": "has none", "lpips": "has none", "elbo": "has none"}),
        (PointAutoencoder, {"elbo": "the encoder of model outputs points"}),
        (LabeledDecoder, {"rec": "has none", "lpips": "has none", "elbo": "has none"}),
    ],
)
def test_a_model_is_scored_as_far_as_it_has_an_encoder(model, refused, digits_classifier):
    arch = {"channels": (4,), "z_dim": 4}
    subject = InMemory(model(shape=(1, 8, 8), arch=arch, classes=("odd", "even") if model.conditional else ()))
    for name in ("rec20_test", "lpips20_test", "elbo20_test", "msssim20_train", "kd_classifier_digits_20_test"):
        asked = Job(subject, get_protocol(name), DIGITS, progress=False)
        word = asked.protocol.metric.word
        if word in refused:
            with pytest.raises(
                UsageError, match=rf"^{name} needs .*{refused[word]}: take .*fid, fd, .*msssim"
            ) as raised:
                evaluate(asked)
            assert "\n" not in str(raised.value)
        elif word != "lpips":
            assert evaluate(asked).values.keys() == asked.protocol.values.keys()


def test_a_generator_of_points_has_no_elbo():
    subject = InMemory(Generative(shape=(2,), arch={"decoder": "mlp", "hidden": (8,), "z_dim": 2}))
    found = evaluate(Job(subject, get_protocol("density2d"), DataConfig(name="8gaussians"), progress=False))
    assert found.values.keys() == {"kl_raw", "jsd_raw", "kl", "jsd"}


# ---- the command


def lines_of(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_eval_explains_its_protocols(capsys):
    assert main(["eval", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in examples())
    assert get_protocol("fid50k_train").definition in text


def test_eval_prints_a_table_and_appends_lines(digits, tmp_path, capsys):
    run = shutil.copytree(digits, tmp_path / "run")
    for times in (1, 2):
        assert main(["eval", str(run), "--metrics", "rec50_test, rec50_test_raw,kd_classifier_digits_60_test"]) == 0
        assert len(lines_of(run / "eval.jsonl")) == 3 * times
    lines = lines_of(run / "eval.jsonl")
    assert [line["protocol"] for line in lines[:3]] == ["rec50_test", "rec50_test_raw", "kd_classifier_digits_60_test"]
    assert [line["details"]["weights"] for line in lines[:3]] == ["ema", "raw", "ema"]
    assert [line["values"] for line in lines[:3]] == [line["values"] for line in lines[3:]]
    text = capsys.readouterr().out
    assert (
        "rec50_test_raw" in text and f"{lines[0]['values']['sse']:.5g}" in text and "eval.jsonl: 3 lines added" in text
    )


def test_eval_chooses_protocols_that_need_nothing(points, digits, tmp_path):
    assert main(["eval", str(points), "--out", "new/points.jsonl"]) == 0
    assert [line["protocol"] for line in lines_of(Path("new/points.jsonl"))] == ["density2d"]
    assert main(["eval", str(digits), "--out", "digits.jsonl", "--seed", "3"]) == 0
    lines = lines_of(Path("digits.jsonl"))
    assert [get_protocol(line["protocol"]).metric.word for line in lines] == ["rec", "elbo", "msssim"]
    assert {line["details"]["eval_seed"] for line in lines} == {3}


def test_eval_warns_when_the_policies_disagree(spoiled, capsys):
    assert main(["eval", str(spoiled), "--metrics", "rec50_test"]) == 0
    assert "BatchNorm's running averages" in capsys.readouterr().out


def test_eval_scores_a_folder(folder, capsys):
    command = ["eval", str(folder), "--data", "digits", "--metrics", "prdc_classifier_digits_60_test"]
    assert main(command) == 0
    (line,) = lines_of(Path("eval.jsonl"))
    assert (line["run"], line["data"], line["split"]) == ("pictures", "digits", "test")
    assert line["values"]["precision"] > 0.8
    Image.new("L", (9, 12)).save(folder / "other.png")
    assert main([*command[:-1], "msssim20_train"]) == 2
    assert "different sizes: give --res" in capsys.readouterr().err
    assert main(command) == 0  # each image is resized on its own
    assert main([*command, "--res", "4"]) == 0
    _, _, line = lines_of(Path("eval.jsonl"))
    assert line["resolution"] == [4, 4] and "crop to 4x4" in line["details"]["resize"]


def test_eval_reads_other_data_as_set(digits, folder):
    command = [
        "eval",
        str(digits),
        "--data",
        str(folder),
        "--set",
        "data.split=train[:50]",
        "--metrics",
        "rec50_test",
        "--out",
        "o.jsonl",
    ]
    assert main(command) == 0
    (line,) = lines_of(Path("o.jsonl"))
    assert (line["data"], line["split"], line["details"]["n_real"]) == ("pictures", "train[50:]", 10)


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """Neither clean-fid's folder nor the cache contains Inception."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GENZOO_INCEPTION", raising=False)


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        ([], "genzoo eval RUN_OR_MODEL"),
        (["RUN", "--metrics", "fid50k_trian"], "Did you mean fid50k_train"),
        (["RUN", "--metrics", "rec50_test,nonsense"], "nonsense"),
        (["RUN", "--metrics", " , "], "--metrics is empty"),
        (["RUN", "--metrics", "fid50_test"], TORCHSCRIPT.name),
        (["RUN", "--metrics", "fid50_test", "--extractor-weights", "nowhere"], f"no {TORCHSCRIPT.name} at nowhere"),
        (["RUN", "--metrics", "fd_timm_test_resnet_50_test"], "no weights of timm:test_resnet"),
        (["RUN", "--metrics", "fd_timm_resnet81_50_test"], "timm has no model"),
        (["RUN", "--metrics", "fd_classifier_digitz_50_test"], "classifier:digitz"),
        (["RUN", "--metrics", "density2d"], "is for points"),
        (["RUN", "--res", "16"], "--res is for a folder"),
        (["RUN", "--data", "digitz"], "Did you mean digits"),
        (["RUN", "--data", "./missing"], "no file or folder"),
        (["RUN", "--set", "data.splt=test"], "Did you mean split"),
        (["FOLDER"], "needs --metrics"),
        (["FOLDER", "--metrics", "msssim10_train"], "give --data"),
        (["FOLDER", "--metrics", "msssim10_train", "--data", "digits", "--set", "data.fti=pad"], "Did you mean fit"),
        (["FOLDER", "--metrics", "rec10_test", "--data", "digits"], "needs a model"),
        (["FOLDER", "--metrics", "kd_classifier_digits_61_test", "--data", "digits"], "name a smaller protocol"),
        (["FOLDER", "--metrics", "msssim10_train", "--data", "digits", "--res", "huge"], "write 256"),
        (["missing"], "does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_input_is_one_line_and_nothing_is_written(digits, folder, no_weights, args, fix, capfd):
    places = {"RUN": str(digits), "FOLDER": str(folder)}
    assert main(["eval", *(places.get(arg, arg) for arg in args), *(["--out", "out.jsonl"] if args else [])]) == 2
    err = capfd.readouterr().err.strip().splitlines()
    assert fix in err[-1]
    assert "Traceback" not in " ".join(err)
    assert not Path("out.jsonl").exists() and not (digits / "eval.jsonl").exists()


def test_what_was_measured_before_a_mistake_is_kept(digits, capfd):
    assert main(["eval", str(digits), "--metrics", "rec50_test,density2d", "--out", "out.jsonl"]) == 2
    assert [line["protocol"] for line in lines_of(Path("out.jsonl"))] == ["rec50_test"]
    captured = capfd.readouterr()
    assert "out.jsonl: 1 line added" in captured.out and "is for points" in captured.err
