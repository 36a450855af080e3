"""Features: extractors by name, the trained classifier, the cache, and the mistakes that must not go unnoticed."""

import json
import os
import re
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import CLASSIFIER_IMAGES, REAL_DATA, environment
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from genzoo.data.batches import to_float
from genzoo.data.embedded import toyfactors as toyfaces
from genzoo.data.opening import open_dataset
from genzoo.dataspec import ONLY
from genzoo.errors import UsageError
from genzoo.evaluation import extractors
from genzoo.evaluation.classifier import ABOUT, WEIGHTS, included_classifier, load_classifier
from genzoo.evaluation.classifier_training import halved, train_classifier
from genzoo.evaluation.extractors import Extractor, get_extractor, resized
from genzoo.evaluation.features import VALUES, dataset_features, extract
from genzoo.evaluation.inception import PYTORCH, TORCHSCRIPT
from genzoo.files import digest
from genzoo.metrics.frechet import frechet_distance, statistics
from genzoo.spec import DataConfig

pytestmark = pytest.mark.usefixtures("one_thread")

DIGITS = DataConfig(name="digits", size=(8, 8), channels=1)


@pytest.fixture
def digits(digits_classifier) -> Extractor:
    return get_extractor("classifier:digits")


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tiny(**changes) -> Extractor:
    """Four features of a BatchNorm network."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    settings = {"name": "tiny", "digest": "0" * 64, "size": None, "channels": 3, "resize": "none", "dim": 4, "net": net}
    return Extractor(**settings | changes)


# ---- the classifier


def test_the_classifier_learns_digits_and_records_how_well(digits_classifier):
    kept = load_classifier(digits_classifier)
    assert kept.shape == (1, 8, 8)
    assert kept.about["test"]["class"]["accuracy"] > 0.95  # measured: 0.99
    assert kept.about["images_seen"] == CLASSIFIER_IMAGES
    assert {"data", "train_split", "test_split", "seed", "seconds", "versions", "digest"} <= set(kept.about)
    assert kept.net.features(torch.rand(3, 1, 8, 8)).shape == (3, 128)


def test_the_classifier_is_trained_once(digits_classifier, monkeypatch):
    monkeypatch.setattr("genzoo.evaluation.classifier_training._train", None)
    assert train_classifier(DIGITS) == digits_classifier
    assert (
        get_extractor("classifier:digits", data=DataConfig(name="toyfaces")).digest
        == load_classifier(digits_classifier).digest
    )


def test_the_same_seed_trains_the_same_classifier(empty_cache):
    digests = []
    for place in ("a", "b"):
        os.environ["GENZOO_CACHE"] = str(empty_cache / place)
        digests.append(load_classifier(train_classifier(DIGITS, images=640, progress=False)).digest)
    assert digests[0] == digests[1]
    assert load_classifier(train_classifier(DIGITS, seed=1, images=640, progress=False)).digest != digests[0]


def test_factors_are_heads_of_their_own(empty_cache, monkeypatch):
    monkeypatch.setitem(toyfaces.SPLITS, "train", range(256))
    monkeypatch.setitem(toyfaces.SPLITS, "test", range(1000, 1100))
    about = load_classifier(
        train_classifier(DataConfig(name="toyfaces", size=(16, 16)), images=640, progress=False)
    ).about
    assert about["test"].keys() == toyfaces.FACTORS.keys()
    assert "accuracy" in about["test"]["glasses"] and "r2" in about["test"]["yaw"]


@pytest.mark.parametrize("size", [64, 32])
def test_the_classifier_of_toyfaces_comes_with_genzoo(empty_cache, size):
    """It is neither trained nor cached, and names what 200 faces show that it was not trained on."""
    held_out = open_dataset(DataConfig(name="toyfaces", size=(size, size)), "test[:200]", progress=False)
    extractor = get_extractor("classifier:toyfaces")
    kept = extractor.classifier
    assert kept is not None and not (empty_cache / "classifiers").exists()
    found = kept.probabilities(extractor(to_float(held_out.batch(range(200)), torch.device("cpu"))))
    for name, least in {"hair_style": 0.95, "glasses": 0.93, "background": 0.99}.items():
        assert (found[name].argmax(1).numpy() == held_out.labels()[name]).mean() > least


@pytest.mark.parametrize(("name", "least"), [("mnist", 0.98), ("cifar10", 0.7)])
def test_classifiers_of_real_images_come_with_genzoo(empty_cache, name, least):
    if not (folder := REAL_DATA / name).is_dir():
        pytest.skip(f"no {name} beside the checkout")
    extractor = get_extractor(f"classifier:{name}")
    kept = extractor.classifier
    assert kept is not None
    data = DataConfig(name=str(folder), size=kept.shape[1:], channels=kept.shape[0])
    held_out = open_dataset(data, "test[:500]", progress=False)
    found = kept.probabilities(extractor(to_float(held_out.batch(range(500)), torch.device("cpu"))))
    assert (found["class"].argmax(1).numpy() == held_out.labels()[ONLY]).mean() > least


def test_included_classifiers_are_intact_and_only_they_are_found():
    for name in ("toyfaces", "mnist", "cifar10"):
        folder = included_classifier(name)
        assert folder is not None and load_classifier(folder).about["data"] == name
    assert included_classifier("toy") is None and included_classifier("digits") is None


def test_halving_keeps_means_of_blocks_only():
    x, other = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    blocks = avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(halved(blocks), halved(x))
    assert halved(x).shape == x.shape and (halved(x) - halved(other)).abs().max() > 0.1
    torch.testing.assert_close(halved(torch.full((1, 1, 7, 9), 0.3)), torch.full((1, 1, 7, 9), 0.3))


def test_a_classifier_of_64_pixels_sees_half_the_resolution_too(empty_cache, monkeypatch):
    monkeypatch.setitem(toyfaces.SPLITS, "train", range(256))
    monkeypatch.setitem(toyfaces.SPLITS, "test", range(1000, 1100))
    seen = []

    def watched(images):
        seen.append(len(images))
        return halved(images)

    monkeypatch.setattr("genzoo.evaluation.classifier_training.halved", watched)
    about = {}
    for size in (32, 64):
        data = DataConfig(name="toyfaces", size=(size, size))
        about[size] = load_classifier(train_classifier(data, images=256, progress=False)).about
        assert len(seen) == (0 if size == 32 else 3)  # two batches of training, one of the test
    assert about[32]["test_halved"] is None
    assert about[64]["test_halved"].keys() == about[64]["test"].keys()


def test_a_classifier_needs_labeled_images_and_some_to_test_on(empty_cache, tmp_path):
    np.save(tmp_path / "gray.npy", np.zeros((40, 8, 8, 1), np.uint8))
    with pytest.raises(UsageError, match="no labels"):
        train_classifier(DataConfig(name=str(tmp_path / "gray.npy"), channels=1), progress=False)
    with pytest.raises(UsageError, match="no images"):
        train_classifier(DataConfig(name="8gaussians"), progress=False)
    for number in range(8):
        folder = tmp_path / "flat" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(folder / f"{number}.png")
    flat = DataConfig(name=str(tmp_path / "flat"))
    with pytest.raises(UsageError, match=r"data.split=train\[:n\]"):
        get_extractor("classifier:flat", data=flat)
    with pytest.raises(UsageError, match="give data="):
        get_extractor("classifier:flat")
    folder = train_classifier(replace(flat, split="train[:6]"), images=256, progress=False)
    assert (
        re.fullmatch("flat-[0-9a-f]{8}-3x8x8", folder.name)
        and load_classifier(folder).about["test_split"]["images"] == 2
    )
    assert get_extractor("classifier:flat").size == (8, 8)


def test_a_damaged_classifier_is_refused(empty_cache):
    folder = train_classifier(DIGITS, images=128, progress=False)
    state = load_file(folder / WEIGHTS)
    save_file({name: value + 1 for name, value in state.items()}, folder / WEIGHTS)
    with pytest.raises(UsageError, match="damaged .* delete the folder"):
        load_classifier(folder)


def test_an_interrupted_training_leaves_nothing(empty_cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("genzoo.evaluation.classifier_training._loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_classifier(DIGITS, progress=False)
    assert not [path for path in (empty_cache / "classifiers").iterdir() if path.is_dir()]


# ---- extractors


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("incepton", "inception"),
        ("clasifier:digits", "classifier"),
        ("inception:v3", "inception"),
        ("timm", "timm:<name>"),
    ],
)
def test_an_unknown_name_brings_suggestions(name, suggestion):
    with pytest.raises(UsageError, match=suggestion):
        get_extractor(name)


@pytest.mark.parametrize(("name", "file"), [("inception", TORCHSCRIPT), ("inception-pytorch", PYTORCH)])
def test_missing_inception_weights_are_refused_with_where_to_put_them(name, file, empty_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GENZOO_INCEPTION", raising=False)
    with pytest.raises(UsageError, match=f"put .*{file.name} at {empty_cache}") as raised:
        get_extractor(name)
    assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match="There is no"):
        get_extractor(name, weights=tmp_path / "nowhere")


class Script(nn.Module):
    """A TorchScript file with the part of Inception's interface that clean-fid calls, and frozen normalization."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, 16), Frozen(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2048)
        )

    def forward(self, x):
        return self.layers(x)


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x):
        return nn.functional.batch_norm(x, self.mean, self.var, eps=1e-3)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_inception_is_found_checked_and_run(monkeypatch, tmp_path):
    torch.jit.script(Script()).save(str(tmp_path / TORCHSCRIPT.name))
    with pytest.raises(UsageError, match="not clean-fid's Inception"):
        get_extractor("inception", weights=tmp_path)
    monkeypatch.setattr(extractors, "TORCHSCRIPT", replace(TORCHSCRIPT, sha256=digest(tmp_path / TORCHSCRIPT.name)))
    monkeypatch.setenv("GENZOO_INCEPTION", str(tmp_path))
    inception = get_extractor("inception")
    gray = torch.rand(4, 1, 32, 32)
    features = inception(gray)
    assert features.shape == (4, 2048)
    assert torch.equal(features, inception(gray.expand(-1, 3, -1, -1)))
    with pytest.raises(UsageError, match="same in train mode"):
        inception(gray, mode="train")


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_inception_in_train_mode_is_pytorch_fids(monkeypatch, tmp_path):
    """The real network with random weights, against the one that clean-fid builds of them; no resize is antialiased."""
    from cleanfid import inception_pytorch
    from torchvision.models import inception_v3

    net = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    torch.save(net.state_dict(), tmp_path / PYTORCH.name)
    with pytest.raises(UsageError, match="not pytorch-fid's Inception"):
        get_extractor("inception-pytorch", weights=tmp_path)
    monkeypatch.setattr(extractors, "PYTORCH", replace(PYTORCH, sha256=digest(tmp_path / PYTORCH.name)))
    inception = get_extractor("inception-pytorch", weights=tmp_path)
    monkeypatch.setattr(inception_pytorch, "load_state_dict_from_url", lambda url, progress: net.state_dict())
    theirs = inception_pytorch.InceptionV3(resize_input=False).to(memory_format=torch.channels_last)
    images = torch.rand(4, 3, 400, 310)
    shrunk = interpolate(images, (299, 299), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = theirs.eval()(shrunk.contiguous(memory_format=torch.channels_last))
        theirs.to(memory_format=torch.contiguous_format)
        expected_in_training = theirs.train()(shrunk)
    features, trained = inception(images), inception(images, mode="train")
    assert torch.equal(features, expected[0].flatten(1)) and torch.equal(trained, expected_in_training[0].flatten(1))
    assert features.shape == trained.shape == (4, 2048)
    assert (features - trained).abs().max() > 0.1
    assert torch.equal(features, inception(images))


@pytest.mark.parametrize("shape", [(32, 32), (64, 48), (400, 310), (1024, 640)])
def test_the_resize_is_clean_fids(shape):
    """At most 0.01 of 255 apart, upwards and downwards; measured: 0.0004 from 32x32 to 0.0041 from 400x310."""
    from cleanfid.resize import make_resizer

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    theirs = make_resizer("PIL", False, "bicubic", (299, 299))(image)
    ours = resized(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255, (299, 299), "bicubic antialias") * 255
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() < 0.01


def test_a_timm_trunk_takes_a_checkpoint_and_no_random_weights(tmp_path):
    import timm

    trunk = timm.create_model("test_resnet")
    save_file(trunk.state_dict(), tmp_path / "model.safetensors")
    extractor = get_extractor("timm:test_resnet", weights=tmp_path)
    assert (extractor.size, extractor.channels, extractor.resize) == ((160, 160), 3, "bicubic antialias")
    images = torch.rand(2, 3, 160, 160)
    expected = trunk.eval().forward_head(trunk.forward_features((images - 0.5) / 0.5), pre_logits=True)
    assert torch.allclose(extractor(images), expected, atol=1e-5)
    assert extractor(torch.rand(2, 1, 20, 24)).shape == (2, extractor.dim)
    with pytest.raises(UsageError, match="--extractor-weights"):
        get_extractor("timm:test_resnet")
    with pytest.raises(UsageError, match="does not hold the weights"):
        get_extractor("timm:test_vit", weights=tmp_path)
    with pytest.raises(UsageError, match="not a .safetensors"):
        get_extractor("timm:test_resnet", weights=tmp_path / "model.bin")
    with pytest.raises(UsageError, match="test_resnet"):
        get_extractor("timm:test_resnett")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 3, 8, 8), "RGB"),
        (torch.rand(2, 2, 8, 8), "gray or RGB"),
        (torch.rand(2, 8), "1 or 3"),
        (torch.rand(2, 1, 8, 8) * 255, "clamp"),
        (torch.full((2, 1, 8, 8), torch.nan), "clamp"),
    ],
)
def test_images_that_do_not_fit_are_refused(digits, images, message):
    with pytest.raises(UsageError, match=message):
        digits(images)


def test_other_sizes_are_resized(digits):
    flat = torch.full((2, 1, 16, 12), 0.25)
    assert torch.allclose(digits(flat), digits(flat[..., :8, :8]), atol=1e-5)


def test_keys_distinguish_name_weights_and_resize(digits):
    keys = {
        digits.key,
        tiny().key,
        tiny(digest="1" * 64).key,
        tiny(resize="bilinear antialias").key,
        tiny().identity("train"),
    }
    assert len(keys) == 5


def test_train_mode_shows_the_bug_and_leaves_no_trace():
    extractor, images = tiny(), torch.rand(16, 3, 8, 8)
    before = {name: value.clone() for name, value in extractor.net.state_dict().items()}
    right, wrong = extractor(images), extractor(images, mode="train")
    assert (right - wrong).abs().max() > 0.1
    assert not torch.allclose(extractor(images[:8], mode="train"), wrong[:8])  # it depends on the batch
    assert all(torch.equal(value, before[name]) for name, value in extractor.net.state_dict().items())
    assert not extractor.net.training and torch.equal(extractor(images), right)
    with pytest.raises(UsageError, match="no BatchNorm"):
        tiny(net=nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))(images, mode="train")


# ---- features


def test_features_come_in_order_and_marked(digits):
    images = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8)
    features = extract(digits, images.split(4), precision="fp32", progress=False)
    assert features.values.shape == (10, 128) and features.values.dtype == torch.float32
    assert torch.allclose(features.values, digits(images / 255), atol=1e-5)
    assert features.extractor == digits.key
    coarse = extract(digits, images.split(4), precision="bf16", progress=False)
    assert 0 < (coarse.values - features.values).abs().max() < 0.1 * features.values.abs().max()
    assert coarse.extractor == f"{digits.key}/bf16"
    with pytest.raises(UsageError, match="no images"):
        extract(digits, [])


@pytest.mark.parametrize("amx", [True, False])
def test_bf16_is_taken_only_where_it_is_fast_and_agrees(digits, empty_cache, monkeypatch, amx):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert digits.best_precision("eval") == ("bf16" if amx else "fp32")
    assert digits.best_precision("train") == tiny().best_precision("eval") == "fp32"
    usual = dataset_features(digits, DIGITS, "test", progress=False)
    both = {p: dataset_features(digits, DIGITS, "test", precision=p, progress=False) for p in ("bf16", "fp32")}
    assert usual.extractor == both["bf16" if amx else "fp32"].extractor
    assert not torch.equal(both["bf16"].values, both["fp32"].values)  # kept apart
    train, test = (
        {p: dataset_features(digits, DIGITS, split, precision=p, progress=False) for p in both}
        for split in ("train", "test")
    )
    train, test = ({p: statistics(f.values, f.extractor) for p, f in found.items()} for found in (train, test))
    exact, coarse = (frechet_distance(train[p], test[p]) for p in ("fp32", "bf16"))
    assert coarse == pytest.approx(exact, rel=0.02)  # measured: 0.001
    with pytest.raises(UsageError, match="cannot be compared"):
        frechet_distance(train["fp32"], test["bf16"])


def test_dataset_features_are_kept(digits, empty_cache, monkeypatch):
    first = dataset_features(digits, DIGITS, "test", progress=False)
    assert first.values.shape == (297, 128)
    subset = dataset_features(digits, DIGITS, "test", 100, progress=False)
    other = dataset_features(digits, DIGITS, "test", 100, seed=1, progress=False)
    assert subset.values.shape == (100, 128) and not torch.equal(subset.values, other.values)
    assert all((row == first.values).all(1).any() for row in subset.values[:5])
    assert first.extractor == digits.identity("eval", digits.best_precision("eval"))
    monkeypatch.setattr("genzoo.evaluation.features.extract", None)  # from here on, only what is kept
    assert torch.equal(dataset_features(digits, DIGITS, "test", progress=False).values, first.values)
    assert torch.equal(dataset_features(digits, DIGITS, "test", 100, batch=7, progress=False).values, subset.values)


@pytest.mark.parametrize("damage", ["cut", "changed", "about"])
def test_damaged_features_are_extracted_again(digits, empty_cache, damage):
    first = dataset_features(digits, DIGITS, "test", 50, progress=False)
    (folder,) = [path for path in (empty_cache / "features").iterdir() if path.is_dir()]
    if damage == "about":
        (folder / ABOUT).write_text("{")
    else:
        content = (folder / VALUES).read_bytes()
        (folder / VALUES).write_bytes(content[:-100] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(UserWarning, match="damaged"):
        again = dataset_features(digits, DIGITS, "test", 50, progress=False)
    assert torch.equal(again.values, first.values)
    assert json.loads((folder / ABOUT).read_text())["n"] == 50


def test_more_images_than_there_are(digits):
    with pytest.raises(UsageError, match="has 297 images, not 298"):
        dataset_features(digits, DIGITS, "test", 298, progress=False)
    with pytest.raises(UsageError, match="no images"):
        dataset_features(digits, DataConfig(name="8gaussians"), "train", progress=False)


def test_two_processes_extract_what_one_does(digits, digits_classifier, tmp_path, genzoo_on_two):
    """Both get all rows in order, and both read what the first one kept."""
    code = (
        "import os, torch, torch.distributed as dist\n"
        "from genzoo.evaluation.extractors import get_extractor\n"
        "from genzoo.evaluation.features import dataset_features\n"
        "from genzoo.spec import DataConfig\n"
        "dist.init_process_group('gloo')\n"
        "extractor = get_extractor('classifier:digits', weights=os.environ['CLASSIFIER'])\n"
        "data = DataConfig(name='digits', size=(8, 8), channels=1)\n"
        "options = {'batch': 20, 'progress': False}\n"
        "first, again = (dataset_features(extractor, data, 'test', 90, **options).values for _ in range(2))\n"
        "assert torch.equal(first, again)\n"
        "torch.manual_seed(0)\n"
        "assert first.shape == (90, 128) and (first != 0).any(1).all()\n"
        "sums = [None, None]\n"
        "dist.all_gather_object(sums, first.double().sum().item())\n"
        "print(*sums)\n"
        "dist.destroy_process_group()\n"
    )
    cache = str(tmp_path / "cache")
    env = environment(OMP_NUM_THREADS="1", GENZOO_CACHE=cache, CLASSIFIER=str(digits_classifier))
    done = genzoo_on_two(["-c", code], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    one = dataset_features(digits, DIGITS, "test", 90, batch=20, progress=False).values.double().sum().item()
    assert [float(total) for total in done.stdout.split()] == pytest.approx([one, one], rel=1e-6)


def test_a_classifier_can_be_trained_from_within_an_evaluation(empty_cache):
    """As `genzoo eval` and `genzoo bench` do when there is none yet."""
    with torch.no_grad():
        folder = train_classifier(DataConfig(name="digits", size=(8, 8), channels=1), images=256, progress=False)
    assert load_classifier(folder).about["test"]
