"""The metric `classes` and the confidence that it counts: temperatures, shares and gaps, computed by hand; and the
metric `labels`.
"""

import json
import math
import shutil

import pytest
import torch
from helpers import tiny_run
from torch import Tensor

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import open_dataset
from genzoo.errors import UsageError
from genzoo.evaluation.calibration import calibration_error, fit_temperature
from genzoo.evaluation.classifier import ABOUT, Classifier, Head, ResidualClassifier, load_classifier
from genzoo.evaluation.extractors import get_extractor
from genzoo.evaluation.features import dataset_features
from genzoo.evaluation.protocols import get_protocol
from genzoo.files import write_text
from genzoo.metrics.classes import classes_metric, named
from genzoo.metrics.frechet import frechet_distance, statistics
from genzoo.metrics.inputs import ClassPair, LabeledPair
from genzoo.metrics.labels import labels_metric
from genzoo.models.vae import VAE
from genzoo.noise import generator
from genzoo.spec import DataConfig

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*Fréchet distance of"),  # few images of each class
]

DIGITS = DataConfig(name="digits", size=(8, 8), channels=1)
PROTOCOL = "classes_classifier_digits_60_test"


# ---- temperatures


def test_a_temperature_undoes_a_factor_of_the_logits():
    """Targets are drawn from softmax(z), so that 3 z needs a temperature of 3."""
    rng = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(20_000, 5, generator=rng)
    targets = z.softmax(1).multinomial(1, generator=rng)[:, 0]
    assert fit_temperature(z, targets) == pytest.approx(1, abs=0.05)
    assert fit_temperature(3 * z, targets) == pytest.approx(3 * fit_temperature(z, targets), rel=1e-4)


def test_a_temperature_minimizes_the_likelihood_of_smoothed_targets():
    rng = torch.Generator().manual_seed(1)
    z, targets = torch.randn(50, 4, generator=rng), torch.randint(4, (50,), generator=rng)
    z[torch.arange(50), targets] += 1

    def loss(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(z.double() / temperature, targets, label_smoothing=1 / 52).item()

    found = fit_temperature(z, targets)
    assert loss(found) < min(loss(0.99 * found), loss(1.01 * found))


def test_a_temperature_is_above_zero_where_all_are_right():
    """Two classes with a margin of 4: the mean of the smoothed targets, 1 - (1/12) / 2, is sigmoid(4 / T)."""
    z = torch.tensor([[4.0, 0.0], [0.0, 4.0]]).repeat(5, 1)
    targets = torch.tensor([0, 1]).repeat(5)
    assert fit_temperature(z, targets) == pytest.approx(4 / math.log((23 / 24) / (1 / 24)), rel=1e-6)


def test_calibration_error_by_hand():
    """Bins of .9 (two items, one right), .6 (one, right) and .7 (one, wrong): (2 * .4 + .4 + .7) / 4."""
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.3, 0.7]])
    assert calibration_error(p, torch.tensor([0, 0, 0, 0])) == pytest.approx((0.8 + 0.4 + 0.7) / 4)
    assert calibration_error(torch.eye(3), torch.arange(3)) == 0


def test_temperatures_are_fitted_to_one_half_of_the_held_out_items(digits_classifier):
    kept = load_classifier(digits_classifier)
    test = open_dataset(DIGITS, "test", progress=False)
    outputs = kept.net(test.batch(range(test.size)).float() / 255)
    targets = torch.from_numpy(test.labels()["label"])
    temperature = fit_temperature(outputs[::2], targets[::2])
    assert kept.about["temperatures"]["class"] == pytest.approx(temperature, rel=1e-3)
    error = calibration_error((outputs[1::2] / temperature).softmax(1), targets[1::2])
    assert kept.about["calibration_error"]["class"] == pytest.approx(error, abs=1e-3)
    smoothed = calibration_error(outputs[1::2].softmax(1), targets[1::2])
    assert error < smoothed  # label smoothing makes the raw outputs too modest
    assert kept.heads == (Head("class", 10, names=tuple("0123456789")),)


def test_probabilities_are_outputs_over_temperatures():
    """A network of two kinds of label and a continuous factor."""
    heads = (Head("shape", 2, names=("round", "square")), Head("size", 0), Head("color", 3, names=("r", "g", "b")))
    torch.manual_seed(0)
    net = ResidualClassifier((1, 8, 8), 6).eval()
    about = {"data": "shapes", "temperatures": {"shape": 0.5, "color": 2.0}}
    x = torch.rand(7, 1, 8, 8)
    with torch.no_grad():
        found = Classifier(net, None, (1, 8, 8), heads, "", about).probabilities(net.features(x))
        outputs = net(x)
    assert found.keys() == {"shape", "color"}
    torch.testing.assert_close(found["shape"], (outputs[:, :2] / 0.5).softmax(1))
    torch.testing.assert_close(found["color"], (outputs[:, 3:] / 2).softmax(1))


# ---- the metric


def pair(**kinds: tuple[list[list[float]], list[list[float]]]) -> ClassPair:
    """Probabilities of samples and of real images by kind of label; classes are called a, b, ..."""
    fake = {kind: torch.tensor(values[0]) for kind, values in kinds.items()}
    real = {kind: torch.tensor(values[1]) for kind, values in kinds.items()}
    names = {kind: tuple("abc"[: values.shape[1]]) for kind, values in fake.items()}
    return ClassPair(seed=0, extractor="classifier:tiny", names=names, real=real, fake=fake)


def test_one_kind_of_label_by_hand():
    fake = [[0.95, 0.03, 0.02], [0.92, 0.04, 0.04], [0.5, 0.3, 0.2], [0.03, 0.02, 0.95]]
    real = [[0.99, 0.01, 0.0], [0.01, 0.99, 0.0], [0.0, 0.01, 0.99], [0.0, 0.9, 0.1]]
    found = classes_metric(pair(digit=(fake, real)))
    assert found.values == pytest.approx(
        {
            "sure": 3 / 4,
            "sure_real": 3 / 4,  # .9 itself is not above .9
            "share_gap": 1 / 2,
            "share_min": 0,
            "share_max": 3 / 4,
            "entropy": -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4)),
        }
    )
    assert found.details["classes"]["digit"]["shares"] == {"a": 0.75, "b": 0.0, "c": 0.25}
    assert found.details["classes"]["digit"]["shares_real"] == {"a": 0.25, "b": 0.5, "c": 0.25}


def test_several_kinds_of_labels_by_hand():
    glasses = ([[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    hair = ([[0.8, 0.2, 0.0], [0.0, 0.05, 0.95]], [[0.99, 0.01, 0.0], [0.0, 0.0, 1.0]])
    found = classes_metric(pair(glasses=glasses, hair=hair))
    assert found.values == pytest.approx({"sure": (1 + 1 / 2) / 2, "sure_real": 1, "share_gap": 1 / 2})
    assert found.details["classes"]["hair"]["sure"] == 1 / 2
    assert [kind["gap"] for kind in found.details["classes"].values()] == [1 / 2, 0]


def test_nothing_to_name_is_refused():
    with pytest.raises(UsageError, match="only continuous factors"):
        classes_metric(pair())
    with pytest.raises(UsageError, match="no images"):
        named(torch.zeros(0, 3))


# ---- as a protocol


@pytest.fixture(scope="module")
def run(digits_classifier, tmp_path_factory):
    settings = ("data.name=digits", "data.size=8,8", "data.limit=none", "arch.channels=4", "train.duration=10it")
    return Trainer(tiny_run("vae", *settings), out=tmp_path_factory.mktemp("runs") / "digits", progress=False).fit()


def test_a_run_is_scored_and_its_classes_are_printed(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["eval", str(run), "--metrics", PROTOCOL]) == 0
    line = json.loads((run / "eval.jsonl").read_text().splitlines()[-1])
    extractor = get_extractor("classifier:digits")
    real = dataset_features(extractor, DIGITS, "test", 60, progress=False).values
    expected = named(extractor.classifier.probabilities(real)["class"])
    assert line["values"]["sure_real"] == expected.sure > 0.5
    found = line["details"]["classes"]["class"]
    assert list(found["shares_real"].values()) == expected.shares.tolist()
    assert sum(found["shares"].values()) == pytest.approx(1)
    shares = " ".join(f"{name}={share:.2f}/{found['shares_real'][name]:.2f}" for name, share in found["shares"].items())
    row = f"class  {found['sure']:.2f}  ({found['sure_real']:.2f})  {found['gap']:.2f}  {shares}"
    assert row in capsys.readouterr().out


def test_an_uncalibrated_classifier_scores_features_only(run, digits_classifier, tmp_path, monkeypatch, capsys):
    """As an older genzoo left it."""
    old = shutil.copytree(digits_classifier, tmp_path / "cache" / "classifiers" / digits_classifier.name)
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    about = json.loads((old / ABOUT).read_text())
    del about["temperatures"], about["_checksum"]
    about["heads"] = [{key: value for key, value in head.items() if key != "names"} for head in about["heads"]]
    write_text(old / ABOUT, json.dumps(about))
    assert main(["eval", str(run), "--metrics", "kd_classifier_digits_60_test"]) == 0
    assert main(["eval", str(run), "--metrics", PROTOCOL]) == 2
    assert f"delete {old}" in capsys.readouterr().err


def test_only_classifiers_name_classes():
    for name in ("classes_timm_resnet18_10k_test", "classes_inception_10k_test"):
        with pytest.raises(
            UsageError, match="only a classifier names classes: .* classes_classifier_toyfaces_10k_test"
        ):
            get_protocol(name)


# ---- samples of given classes: the metric `labels`

LABELS = "labels_classifier_digits_60_test"
LABELED = ("data.name=digits", "data.size=8,8", "data.limit=none", "arch.channels=4", "train.duration=5it")


def one_hot(numbers: list[int]) -> Tensor:
    return torch.eye(3)[torch.tensor(numbers)]


def labeled_pair(named: list[int], labels: list[int], named_real: list[int], labels_real: list[int]) -> LabeledPair:
    """Images of classes a, b, c with what a classifier names them, and random features."""
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(len(n), 2, generator=rng) for n in (labels_real, labels))
    return LabeledPair(
        seed=0,
        extractor="classifier:tiny",
        names={"class": ("a", "b", "c")},
        real={"class": one_hot(named_real)},
        fake={"class": one_hot(named)},
        real_features=real,
        fake_features=fake,
        real_labels=torch.tensor(labels_real),
        fake_labels=torch.tensor(labels),
    )


def test_shares_and_distances_by_hand():
    """Samples of a and b only: c is not scored."""
    found = labeled_pair([0, 1, 2, 1], [0, 1, 0, 1], [0, 0, 1, 0, 2, 2], [0, 0, 1, 1, 2, 2])
    result = labels_metric(found)
    a = frechet_distance(statistics(found.real_features[:2]), statistics(found.fake_features[[0, 2]]))
    b = frechet_distance(statistics(found.real_features[2:4]), statistics(found.fake_features[[1, 3]]))
    assert result.values == pytest.approx({"accuracy": 3 / 4, "accuracy_real": 5 / 6, "frechet": (a + b) / 2})
    assert result.details["labels"]["class"] == {
        "a": {"accuracy": 0.5, "accuracy_real": 1, "frechet": pytest.approx(a), "n": 2, "n_real": 2},
        "b": {"accuracy": 1, "accuracy_real": 0.5, "frechet": pytest.approx(b), "n": 2, "n_real": 2},
    }


@pytest.mark.parametrize(
    ("samples", "real", "said"),
    [
        ([0, 0, 1], [0, 0, 1, 1], "There are 1 samples of class b, .* a larger number"),
        ([0, 0, 1, 1], [0, 0, 1], "There are 1 real images of class b, .* such as _train"),
    ],
)
def test_a_class_of_one_image_has_no_distance(samples, real, said):
    with pytest.raises(UsageError, match=said):
        labels_metric(labeled_pair(samples, samples, real, real))


@pytest.fixture(scope="module")
def labeled_run(digits_classifier, tmp_path_factory):
    config = tiny_run("vae", *LABELED, "arch.prior=classes")
    return Trainer(config, out=tmp_path_factory.mktemp("runs") / "digits", progress=False).fit()


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory, own_cache):
    model = VAE(preset="vae.toyfaces32", shape=(1, 8, 8), arch={"channels": (8,), "z_dim": 4})
    model.save_pretrained(folder := tmp_path_factory.mktemp("models") / "unlabeled")
    return folder


def test_a_run_is_scored_on_samples_of_its_classes_in_turn(labeled_run, capsys):
    run = labeled_run
    both = f"{LABELS},{LABELS}_gmm,fd_classifier_digits_60_test"  # whose samples are others
    assert main(["eval", str(run), "--metrics", both]) == 0
    line, fitted, other = (json.loads(text) for text in (run / "eval.jsonl").read_text().splitlines()[-3:])
    assert fitted["details"]["prior"].startswith("gmm") and fitted["values"] != line["values"]
    model, extractor = genzoo.load(run), get_extractor("classifier:digits")
    assert extractor.classifier is not None
    asked = torch.arange(60) % 10
    samples = model.sample(60, generator(0, "eval samples", 0), asked, prior="classes")
    features = extractor(samples)
    right = extractor.classifier.probabilities(features)["class"].argmax(1) == asked
    assert line["values"]["accuracy"] == pytest.approx(right.double().mean().item())
    by_class = line["details"]["labels"]["class"]
    assert list(by_class) == list("0123456789") and {found["n"] for found in by_class.values()} == {6}
    real = dataset_features(extractor, DIGITS, "test", 60, progress=False).values
    assert line["values"]["accuracy_real"] > 0.8
    assert sum(found["n_real"] for found in by_class.values()) == 60
    mean = sum(found["frechet"] for found in by_class.values()) / 10
    assert line["values"]["frechet"] == pytest.approx(mean)
    whole = frechet_distance(statistics(real), statistics(features))
    assert other["values"]["frechet"] != pytest.approx(whole)
    said = capsys.readouterr().out
    assert f"{LABELS}: samples of each class" in said and f"7      {by_class['7']['accuracy']:.3f}" in said


def test_networks_that_take_labels_are_scored(digits_classifier):
    run = Trainer(tiny_run("vae", *LABELED, "arch.conditional=concat"), out="run", progress=False).fit()
    assert main(["eval", str(run), "--metrics", LABELS]) == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["UNLABELED", "--data", "digits", "--metrics", LABELS], "takes no labels; arch.prior=classes trains one"),
        (["RUN", "--metrics", LABELS, "--set", "data.labels=none"], "e.g. --set data.labels=label"),
        (["RUN", "--metrics", LABELS, "--set", "data.labels=style"], "has no labels called 'style'"),
        (
            ["RUN", "--metrics", "labels_classifier_cifar10_60_test"],
            "names airplane, automobile, bird, cat, deer, ..., not the label that digits is trained on, 0, 1, 2, 3, 4",
        ),
        (["RUN", "--metrics", "labels_timm_resnet18_60_test"], "only a classifier names classes"),
        (["RUN", "--metrics", "labels_classifier_digits_15_train"], "and its distance needs 2 or more"),
    ],
)
def test_what_cannot_be_scored_is_one_line(labeled_run, unlabeled, args, said, capsys):
    places = {"RUN": str(labeled_run), "UNLABELED": str(unlabeled)}
    assert main(["eval", *(places.get(text, text) for text in args)]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_pictures_have_no_given_classes(tmp_path, capsys):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "pictures" / "a.png")
    assert main(["eval", "pictures", "--data", "digits", "--metrics", LABELS]) == 2
    assert "needs a model, and pictures is a folder of images" in capsys.readouterr().err
