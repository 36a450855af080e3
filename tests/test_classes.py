"""The metric `classes` and the confidence that it counts: temperatures, shares and gaps, computed by hand."""

import json
import math
import shutil

import pytest
import torch
from helpers import tiny_run

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
from genzoo.metrics.inputs import ClassPair
from genzoo.spec import DataConfig

pytestmark = pytest.mark.usefixtures("one_thread")

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
