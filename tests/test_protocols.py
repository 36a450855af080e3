"""A protocol's name defines what is measured; an unknown name brings suggestions."""

import pytest

from genzoo.errors import UsageError
from genzoo.evaluation.protocols import Protocol, examples, get_protocol
from genzoo.metrics.registry import list_metrics

METRICS = {metric.word: metric for metric in list_metrics()}
EXAMPLES = [name for name in examples() if not get_protocol(name).note]  # without those that models add


def expected(name: str, word: str, extractor: str | None = "inception", **fields: object) -> Protocol:
    return Protocol(name, METRICS[word], extractor, **fields)


EXPECTED = [
    expected("fid50k_train", "fd", n=50_000, split="train"),
    expected("fid10k_test", "fd", n=10_000, split="test"),
    expected("kid50k_train", "kd", n=50_000, split="train"),
    expected("prdc10k_test", "prdc", n=10_000, split="test"),
    expected("fd_classifier_cifar10_10k_test", "fd", extractor="classifier:cifar10", n=10_000, split="test"),
    expected("kd_classifier_cifar10_10k_test", "kd", extractor="classifier:cifar10", n=10_000, split="test"),
    expected("prdc_classifier_cifar10_10k_test", "prdc", extractor="classifier:cifar10", n=10_000, split="test"),
    expected(
        "classes_classifier_toyfaces_10k_test", "classes", extractor="classifier:toyfaces", n=10_000, split="test"
    ),
    expected(
        "fd_classifier_cifar10_10k_test_gmm",
        "fd",
        extractor="classifier:cifar10",
        n=10_000,
        split="test",
        fitted_prior="gmm",
    ),
    expected("labels_classifier_mnist_10k_test", "labels", extractor="classifier:mnist", n=10_000, split="test"),
    expected("copies1k_train", "copies", extractor=None, n=1000, split="train"),
    expected("fd_timm_resnet18_10k_test", "fd", extractor="timm:resnet18", n=10_000, split="test"),
    expected("msssim10k_train", "msssim", extractor=None, n=10_000, split="train"),
    expected("rec10k_test", "rec", extractor=None, n=10_000, split="test"),
    expected("lpips10k_test", "lpips", extractor=None, n=10_000, split="test"),
    expected("elbo10k_test", "elbo", extractor=None, n=10_000, split="test"),
    expected("density2d", "density2d", extractor=None),
    expected("speed", "speed", extractor=None),
]


@pytest.mark.parametrize("protocol", EXPECTED, ids=lambda protocol: protocol.name)
def test_a_name_is_parsed(protocol):
    assert get_protocol(protocol.name) == protocol


def test_every_example_is_tested_and_every_metric_has_one():
    assert {protocol.name for protocol in EXPECTED} == set(EXAMPLES)
    assert {protocol.metric.word for protocol in EXPECTED} == METRICS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_protocol_explains_itself(name):
    protocol = get_protocol(name)
    assert protocol.definition.endswith(".")
    assert "{" not in protocol.definition and "None" not in protocol.definition
    assert not protocol.n or f"{protocol.n:,}" in protocol.definition
    assert protocol.extractor is None or protocol.extractor in protocol.definition
    assert all(value.better in ("lower", "higher", "none") and value.title for value in protocol.values.values())


@pytest.mark.parametrize(
    ("name", "value", "title", "better"),
    [
        ("fid50k_train", "frechet", "FID", "lower"),
        ("fid50k_train_gmm", "frechet", "FID (gmm)", "lower"),
        ("fd_classifier_cifar10_10k_test_raw_gmm", "frechet", "FD cifar10 features (gmm)", "lower"),
        ("kid50k_train", "kernel", "KID", "lower"),
        ("fd_classifier_cifar10_10k_test", "frechet", "FD cifar10 features", "lower"),
        ("fd_timm_resnet18_10k_test", "frechet", "FD resnet18 features", "lower"),
        ("prdc10k_test", "recall", "recall", "higher"),
        ("prdc_classifier_digits_300_test", "recall", "recall digits features", "higher"),
        ("classes_classifier_digits_1k_test", "sure", "sure (digits classes)", "higher"),
        ("rec10k_test", "sse", "SSE", "lower"),
        ("elbo10k_test", "kl_real", "KL real, nats", "none"),
        ("density2d", "jsd", "JSD, nats", "lower"),
    ],
)
def test_a_column_takes_title_and_direction_from_the_metric(name, value, title, better):
    protocol = get_protocol(name)
    assert (protocol.title(value), protocol.values[value].better) == (title, better)


@pytest.mark.parametrize(("text", "n"), [("500", 500), ("10k", 10_000), ("1", 1), ("10000", 10_000)])
def test_counts(text, n):
    assert (
        get_protocol(f"fid{text}_test").n
        == get_protocol(f"fd_timm_resnet18_{text}_test").n
        == get_protocol(f"rec{text}_test").n
        == n
    )


@pytest.mark.parametrize(
    ("ending", "weights", "batchnorm", "note"),
    [
        ("", "ema", "ema", ""),
        ("_raw", "raw", "ema", ""),
        ("_bnbatch", "ema", "batch", "each batch's own"),
        ("_bnrecalibrated", "ema", "recalibrate", "recalibrated"),
        ("_raw_bnbatch", "raw", "batch", "each batch's own"),
    ],
)
@pytest.mark.parametrize("name", ["fid10k_test", "rec10k_test", "prdc_classifier_digits_300_test"])
def test_endings(name, ending, weights, batchnorm, note):
    protocol = get_protocol(name + ending)
    assert (protocol.weights, protocol.batchnorm, protocol.extractor_mode) == (weights, batchnorm, "eval")
    assert note in protocol.definition
    assert (protocol.metric, protocol.n, protocol.split) == (get_protocol(name).metric, get_protocol(name).n, "test")


@pytest.mark.parametrize(
    ("name", "extractor"),
    [
        ("fd_timm_vit_base_patch16_224.augreg_in21k_10k_test", "timm:vit_base_patch16_224.augreg_in21k"),
        ("kd_timm_resnet18.a1_in1k_500_train", "timm:resnet18.a1_in1k"),
        ("fd_timm_mobilenetv3_small_100_2k_test", "timm:mobilenetv3_small_100"),
        ("fd_classifier_noto-emoji-128_2k_train", "classifier:noto-emoji-128"),
        ("prdc_classifier_my_faces_500_test", "classifier:my_faces"),
    ],
)
def test_names_of_extractors_may_contain_underscores_numbers_and_dots(name, extractor):
    assert get_protocol(name).extractor == extractor


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fid50k_trian", "fid50k_train"),
        ("fid50k", "fid50k_train"),
        ("density2", "density2d"),
        ("FID10k_test", "fid10k_test"),
        ("fd_clasifier_cifar10_10k_test", "fd_classifier_cifar10_10k_test"),
        ("fd_classifier_10k_test", "fd_classifier_cifar10_10k_test"),
        ("msssim_10k_train", "msssim10k_train"),
        ("fid0_train", "fid50k_train"),
        ("fid010k_test", "fid10k_test"),
        ("fid10k_test_bnbatch_raw", "fid10k_test"),
        ("fid50k_train_nobody2021", "fid50k_train"),
        ("", "genzoo eval --list"),
    ],
)
def test_a_wrong_name_brings_suggestions(name, hint):
    with pytest.raises(UsageError, match="No protocol is called") as raised:
        get_protocol(name)
    assert hint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("fd_inception_10k_test", "fid10k_test"),
        ("kd_inception_50k_train", "kid50k_train"),
        ("prdc_inception_10k_test", "prdc10k_test"),
    ],
)
def test_inception_has_names_of_its_own(name, called):
    with pytest.raises(UsageError, match=f"on Inception's features it is called {called}"):
        get_protocol(name)


@pytest.mark.parametrize("extractor", ["classifier_cifar10", "timm_resnet18"])
def test_no_other_features_are_called_fid(extractor):
    with pytest.raises(UsageError):
        get_protocol(f"fid_{extractor}_10k_test")
