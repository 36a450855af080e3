"""The score of snapshots: against an independent implementation, on blurred and shuffled images, in runs and curves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import read_log, same, tiny_run, weights
from PIL import Image
from scipy import linalg, ndimage
from torch.nn.functional import avg_pool2d, interpolate

from genzoo import Trainer, load, resolve
from genzoo.cli import main
from genzoo.data import open_dataset
from genzoo.data.batches import to_float
from genzoo.errors import UsageError
from genzoo.evaluation.extractors import get_extractor
from genzoo.metrics.pyramid import PATCHES, Reference, laplacian_pyramid
from genzoo.metrics.sliced import sliced_wasserstein
from genzoo.noise import generator
from genzoo.pictures import save_quality
from genzoo.runs.folder import read_config
from genzoo.runs.scores import DISTANCE, measured, scored
from genzoo.signs import View
from genzoo.spec import DataConfig
from genzoo.training.distances import FeatureDistance
from genzoo.training.evaluators import Weights
from genzoo.training.monitor import Monitor
from genzoo.training.rules import getting_worse, score_noise, still_improving

pytestmark = pytest.mark.usefixtures("one_thread")
OFTEN = ("train.snapshot_every=2it", "train.prior=normal")


def images(*shape, seed=0):
    """Smooth images with some noise, [N, C, H, W] in [0, 1]."""
    n, c, h, w = shape
    rng = torch.Generator().manual_seed(seed)
    coarse = interpolate(torch.rand(n, c, 4, 4, generator=rng), (h, w), mode="bilinear")
    return (coarse + 0.1 * torch.randn(shape, generator=rng)).clamp(0, 1)


@pytest.fixture(scope="module")
def faces():
    """Two sets of 256 cartoon faces, 32x32."""
    data = open_dataset(DataConfig(name="toyfaces", size=(32, 32), limit=512), progress=False)
    x = to_float(data.batch(range(512)), torch.device("cpu"))
    return x[:256].contiguous(), x[256:].contiguous()


def distance(real, fake, patches=PATCHES):
    return Reference(real, patches).distance(fake)


def blurred(x):
    return avg_pool2d(torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)


def straight_pyramid(image):
    """One channel of one image, float64 [H, W], by scipy; levels finest first."""
    line = np.array([1, 4, 6, 4, 1]) / 16
    kernel, levels = np.outer(line, line), []
    while min(image.shape) > 16:
        small = ndimage.convolve(image, kernel, mode="mirror")[::2, ::2]
        zeros = np.zeros_like(image)
        zeros[::2, ::2] = small
        levels.append(image - ndimage.convolve(zeros, 4 * kernel, mode="mirror"))
        image = small
    return [*levels, image]


def frechet(a, b):
    """Between Gaussians fitted to a and b, [N, D], by numpy and scipy, with a matrix root."""
    covariances = [np.atleast_2d(np.cov(x.T)) for x in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(np.trace(c) for c in covariances) - 2 * np.trace(root)


def straight_whitened(a, b, most):
    """The distance by numpy and scipy; a, b: [N, D]."""
    values, axes = np.linalg.eigh(np.cov(a.T))
    order = np.argsort(values)[::-1][:most]
    order = order[values[order] > 1e-3 * values.max()]
    x, y = ((z - a.mean(0)) @ axes[:, order] / np.sqrt(values[order]) for z in (a, b))
    return np.sqrt(frechet(x, y) / len(order))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (4, 40, 24), (2, 8, 8), (3, 70, 66)])
def test_the_distances_are_those_of_a_straight_implementation(shape):
    n, each = 24, 20
    a, b = images(n, *shape).double(), 0.8 * images(n, *shape, seed=1).double()
    reference = Reference(a, n * each)
    found = reference.distances(b)
    pyramids = [[[straight_pyramid(channel) for channel in image] for image in x.numpy()] for x in (a, b)]
    levels = len(pyramids[0][0][0])
    assert len(found) == levels + 1
    for level in range(levels):
        x, y = (np.array([[channel[level] for channel in image] for image in p]) for p in pyramids)
        side, cut = min(7, *x.shape[2:]), []
        for of, whole in enumerate((x, y)):
            rng = generator(of, "patches", level)
            top = torch.randint(x.shape[2] - side + 1, (n, each), generator=rng).numpy()
            left = torch.randint(x.shape[3] - side + 1, (n, each), generator=rng).numpy()
            corners = [(i, top[i, j], left[i, j]) for i in range(n) for j in range(each)]
            cut.append(np.array([whole[i, :, r : r + side, c : c + side].ravel() for i, r, c in corners]))
        assert found[f"{x.shape[2]}x{x.shape[3]}"] == pytest.approx(straight_whitened(*cut, 64), rel=1e-5)
    assert found["whole"] == pytest.approx(straight_whitened(x.reshape(n, -1), y.reshape(n, -1), n // 4), rel=1e-5)
    *parts, whole = found.values()
    assert reference.distance(b) == pytest.approx((np.mean(parts) + whole) / 2)


def test_the_pyramid_adds_up_to_the_image():
    x = images(2, 3, 45, 70)
    levels = laplacian_pyramid(x)
    assert [tuple(level.shape[2:]) for level in levels] == [(45, 70), (23, 35), (12, 18)]
    total = levels[-1].numpy()
    for level in reversed(levels[:-1]):
        zeros = np.zeros(level.shape, np.float32)
        zeros[:, :, ::2, ::2] = total
        line = np.array([1, 4, 6, 4, 1]) / 16
        total = ndimage.convolve(zeros, 4 * np.outer(line, line)[None, None], mode="mirror") + level.numpy()
    np.testing.assert_allclose(total, x.numpy(), atol=1e-5)


def test_points_keep_the_plain_distance():
    a, b = torch.randn(50, 2), torch.randn(50, 2) + 1
    theta = torch.randn(2, 512, generator=generator(0, "directions"))
    theta = (theta / theta.norm(dim=0)).numpy()
    squares = [((np.sort(a.numpy() @ t) - np.sort(b.numpy() @ t)) ** 2).mean() for t in theta.T]
    assert sliced_wasserstein(a, b) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)


def test_blurred_real_images_are_worse_than_real_ones(faces):
    real, others = faces
    sharp, blurry = (Reference(real).distances(x) for x in (others, blurred(others)))
    assert blurry["32x32"] > 3 * sharp["32x32"]
    assert distance(real, others) < 0.7 * distance(real, blurred(others))


def test_sharp_images_with_some_faults_are_better_than_blurred_ones(faces):
    real, others = faces
    half_right = torch.cat([others[:192], others[192:].flip(3).flip(2)])  # a quarter of the faces stand on their heads
    assert distance(real, half_right) < distance(real, blurred(blurred(others)))


def test_images_of_shuffled_parts_are_worse_than_blurred_ones(faces):
    real, others = faces
    quarters = torch.roll(others, (16, 16), (2, 3))
    assert distance(real, quarters) > 1.5 * distance(real, blurred(others))


@pytest.mark.parametrize("shape", [(1, 28, 28), (4, 20, 50), (2, 3, 3), (3, 17, 17), (3, 5, 40)])
def test_any_size_and_number_of_channels(shape):
    a, b = images(32, *shape), images(32, *shape, seed=1)
    assert 0 < distance(a, b) < distance(a, 0.3 * b)
    assert distance(a, a, 2048) < 0.2 * distance(a, 0.3 * b, 2048)
    assert distance(a, b) == distance(a, b)


def test_real_images_of_one_color_give_a_finite_distance():
    a = torch.full((8, 3, 32, 32), 0.5)
    assert np.isfinite(distance(a, images(8, 3, 32, 32)))


def test_one_image_is_compared():
    a, b = images(1, 3, 16, 16), images(1, 3, 16, 16, seed=1)
    assert 0 < distance(a, a + 0.01) < distance(a, b) < np.inf


def test_best_is_the_snapshot_with_the_lowest_score(finished):
    run = finished("introvae", *OFTEN)
    name, snapshots = scored(read_log(run))
    assert name == "score/pyramid_frechet"
    best = min(snapshots, key=lambda one: one.score)
    card = (run / "best" / "README.md").read_text()
    assert f"images seen | {best.nimg:,} " in card
    assert f"Fréchet distance over a Laplacian pyramid | {best.score:.4f} " in card
    assert Image.open(run / "quality.png").width == 900


def test_a_run_that_another_score_began_goes_on_and_chooses_again(finished):
    run = Trainer(tiny_run("introvae", "train.duration=48"), out="run", progress=False).fit()
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    change_state(newest, {"best": 1e-9})  # as an earlier version wrote it: a low value of another score
    log = "".join(json.dumps(line) + "\n" for line in read_log(run)).replace("pyramid_frechet", "sliced_wasserstein")
    (run / "log.jsonl").write_text(log)
    trainer = Trainer(tiny_run(), out="run", progress=False)
    trainer.fit()
    assert same(weights(finished()), weights(run))
    name, snapshots = scored(read_log(run))
    assert name == "score/pyramid_frechet"
    assert trainer.snapshots.best == min(one.score for one in snapshots)
    assert main(["doctor", "run"]) in (0, 1)


def change_state(checkpoint, state):
    """Replaces the state of the snapshots in a checkpoint, and its hash in the manifest."""
    import hashlib

    (path,) = checkpoint.glob("snapshots*.json")
    content = path.read_bytes()
    new = json.dumps(state).encode()
    path.write_bytes(new)
    for manifest in checkpoint.glob("*.json"):
        text = manifest.read_text()
        text = text.replace(hashlib.sha256(content).hexdigest(), hashlib.sha256(new).hexdigest())
        manifest.write_text(text)


def test_the_newest_score_of_a_log_is_read():
    lines = [
        {"nimg": 1, "seconds": 1.0, "score/old": 5.0},
        {"nimg": 2, "seconds": 2.0, "loss/x": 1.0},
        {"nimg": 3, "seconds": 3.0, "score/new": 7.0},
    ]
    assert [(name, [one.nimg for one in values]) for name, values in [scored(lines)]] == [("score/new", [3])]
    assert scored(lines[1:2]) == ("", [])


def curve(*scores):
    return [(1000 * i, score) for i, score in enumerate(scores, 1)]


def test_noise_is_measured_around_the_trend():
    rng = np.random.default_rng(0)
    falling = [10 - 0.2 * i for i in range(40)]
    assert score_noise(curve(*falling)) == pytest.approx(0.01 * falling[-1])
    noisy = curve(*(value + 0.5 * rng.standard_normal() for value in falling))
    assert 0.3 < score_noise(noisy) < 0.8


@pytest.mark.parametrize(
    ("scores", "since"),
    [
        ((9, 7, 5, 4, 5, 6, 7), 4000),
        ((9, 7, 5, 4, 5, 6, 4.05), None),  # back
        ((9, 7, 5, 4, 4.05, 4.02, 4.08), None),  # within the least noise
        ((9, 4, 9, 4, 9, 4.5, 9, 8, 9), None),  # within its own noise
        ((4, 9, 9), None),  # too short
    ],
)
def test_a_score_that_rises_for_several_snapshots_is_getting_worse(scores, since):
    text = getting_worse(View({}, {}, (), curve(*scores)))
    assert (text is None) == (since is None)
    assert since is None or text.startswith(f"since {since:,} images, whose weights best/ holds, ")


@pytest.mark.parametrize(
    ("scores", "improves"),
    [
        ((9, 8, 7, 6, 5, 4.5, 4, 3.5), True),
        ((9, 6, 5, 4.5, 4, 4.01, 3.99, 4), False),
        ((9, 6, 5, 4, 4, 5, 6, 7), False),
        ((9, 3), False),  # too short to say
    ],
)
def test_a_score_that_still_falls_at_the_end_asks_for_more_training(scores, improves):
    text = still_improving(curve(*scores))
    assert (text is not None) == improves
    assert text is None or "--images 16000" in text
    fixed = still_improving(curve(*scores), fixed=True)
    assert fixed is None or "--images 16000 and another --out" in fixed
    budgeted = still_improving(curve(*scores), budget="3min")
    assert (budgeted is not None) == improves
    assert budgeted is None or "a longer --budget than 3min and another --out" in budgeted


def monitored(scores):
    """Events of a hand-made log: a snapshot every 20 steps between lines of a loss."""

    class Nothing:
        guides, signs, options = {}, (), {}

    watching = Monitor(1000, Nothing())
    for step in range(0, 20 * len(scores) + 20, 5):
        yield from watching.observe({"step": step, "nimg": step, "loss/total": 1.0})
        if step and step % 20 == 0:
            yield from watching.observe({"step": step, "nimg": step, "score/x": scores[step // 20 - 1]})


def test_the_monitor_reports_a_score_that_gets_worse_and_its_end():
    scores = [9, 8, 7, 6, 5, 4, 5, 6, 6, 6, 6, 3, 3, 3, 3]
    begins, ends = monitored(scores)
    assert (begins["problem"], begins["kind"], ends["kind"]) == ("getting worse", "begins", "ends")
    assert "since 120 images" in begins["text"]
    assert list(monitored(sorted(scores, reverse=True))) == []


def test_a_finished_run_says_whether_more_training_would_help(a_finished, capsys):
    run = a_finished("introvae", *OFTEN)
    lines = read_log(run)
    falling = [
        {**line, **({name: 10.0 - line["step"] for name in line if name.startswith("score/")})} for line in lines
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in falling))
    assert main(["doctor", "run"]) in (0, 1)
    assert "--images 192" in capsys.readouterr().out
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in falling[:-2]))
    main(["doctor", "run"])
    assert "Train longer" not in capsys.readouterr().out  # it has not finished


@pytest.mark.rendered
def test_the_curve_of_quality_marks_the_best_snapshot(tmp_path):
    lines = [{"nimg": 1000 * i, "seconds": 30.0 * i, "score/x": score} for i, score in enumerate((3, 1, 2))]
    save_quality(lines, tmp_path / "quality.png")
    pixels = np.asarray(Image.open(tmp_path / "quality.png").convert("RGB")).astype(int)
    crimson = abs(pixels - [220, 20, 60]).sum(axis=2) < 60
    assert crimson[:, :450].sum() > 20
    assert crimson[:, 450:].sum() > 20
    save_quality([{"nimg": 1, "loss/x": 1.0}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


# ---- what is measured besides

MEASURED = "train.measure=classifier:digits"


def digits_run(out: str, *settings: str) -> Path:
    fixed = ["arch.channels=4", "arch.z_dim=4", "train.batch=8", "train.duration=96", "train.snapshot_every=50%"]
    config = resolve("vae", data="digits", settings=[*fixed, "data.size=8x8", "data.channels=1", *settings])
    return Trainer(config, out=out, progress=False).fit()


@pytest.mark.usefixtures("digits_classifier")
def test_snapshots_measure_the_distances_that_the_settings_name():
    run = digits_run("run", MEASURED)
    found = measured(read_log(run), DISTANCE)["distance/classifier:digits"]
    assert [one.nimg for one in found] == [48, 96]
    config = read_config(run)
    assert config is not None
    heldout = open_dataset(config.data, "test")
    assert heldout.size is not None and heldout.size < 2048
    extractor, model, rng = get_extractor("classifier:digits"), load(run).eval(), generator(0, "measured samples")
    sizes = [min(32, heldout.size - start) for start in range(0, heldout.size, 32)]
    samples = torch.cat([model.sample(n, rng) for n in sizes])
    real = to_float(heldout.batch(np.arange(heldout.size)), torch.device("cpu"))
    expected = frechet(*(extractor(x).double().numpy() for x in (real, samples)))
    assert found[-1].score == pytest.approx(expected, rel=1e-3)
    assert Image.open(run / "quality.png").height == 640  # two rows


@pytest.mark.usefixtures("digits_classifier")
def test_measuring_changes_no_weight_and_may_begin_when_a_run_is_resumed():
    plain, with_it = digits_run("plain"), digits_run("measured", MEASURED)
    assert same(weights(plain), weights(with_it))
    again = digits_run("plain", MEASURED)
    assert same(weights(plain), weights(again))
    assert Image.open(plain / "quality.png").height == 320


@pytest.mark.usefixtures("digits_classifier")
@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_samples_are_of_all_classes_in_turn_and_may_be_broken(value):
    class Fake:
        starts = list[int]()

        def classes_in_turn(self, n, start=0):
            self.starts.append(start)

        def sample(self, n, generator, labels):
            return torch.full((n, 1, 8, 8), value)

    config = resolve("vae", data="digits", settings=["data.size=8x8", "data.channels=1"])
    fake = Fake()
    found = list(FeatureDistance("classifier:digits", config, "test", torch.device("cpu"), False)(
        Weights(fake, fake), None  # pyright: ignore[reportArgumentType]
    ))  # fmt: skip
    assert found[0][0] == "distance/classifier:digits" and np.isfinite(found[0][1])
    assert fake.starts[:3] == [0, 32, 64] and len(fake.starts) > 5


@pytest.mark.parametrize(
    ("settings", "data", "fix"),
    [
        (["train.measure=inceptoin"], None, "inception"),
        (["train.measure=classifier:digits", "arch.hidden=4"], "rings", "is for images"),
        ([MEASURED], "own", "leave out `dataset`"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings, data, fix):
    if data == "rings":
        config, dataset = resolve("vae", data=data, settings=settings), None
    else:
        config = tiny_run("vae", *settings)
        dataset = open_dataset(config.data) if data else None
    with pytest.raises(UsageError, match=fix):
        Trainer(config, out="run", progress=False, dataset=dataset)
    assert not Path("run").exists()
