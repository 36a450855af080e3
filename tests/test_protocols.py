"""A protocol's name says what is measured; a name that says nothing brings suggestions."""

import pytest

from genzoo.errors import UsageError
from genzoo.metrics.protocols import EXAMPLES, HIGHER, LOWER, NEITHER, VALUES, Protocol, get_protocol


def expected(name: str, **says: object) -> Protocol:
    return Protocol(name, **({"extractor": "inception"} | says))


SAID = [
    expected("fid50k_train", metric="frechet", n=50_000, split="train"),
    expected("fid10k_test", metric="frechet", n=10_000, split="test"),
    expected("kid50k_train", metric="kernel", n=50_000, split="train"),
    expected("prdc10k_test", metric="prdc", n=10_000, split="test"),
    expected(
        "fid50k_train_sintrovae2021",
        metric="frechet",
        extractor="inception-pytorch",
        n=50_000,
        split="train",
        batchnorm="batch",
        features="train",
    ),
    expected("fd_classifier_cifar10_10k_test", metric="frechet", extractor="classifier:cifar10", n=10_000, split="test"),
    expected("kd_classifier_cifar10_10k_test", metric="kernel", extractor="classifier:cifar10", n=10_000, split="test"),
    expected("prdc_classifier_cifar10_10k_test", metric="prdc", extractor="classifier:cifar10", n=10_000, split="test"),
    expected("fd_timm_resnet18_10k_test", metric="frechet", extractor="timm:resnet18", n=10_000, split="test"),
    expected("msssim10k_train", metric="diversity", extractor=None, n=10_000, split="train"),
    expected("rec10k_test", metric="reconstruction", extractor=None, n=10_000, split="test"),
    expected("lpips10k_test", metric="lpips", extractor=None, n=10_000, split="test"),
    expected("elbo10k_test", metric="latent", extractor=None, n=10_000, split="test"),
    expected("density2d", metric="density2d", extractor=None),
    expected("speed", metric="speed", extractor=None),
]


@pytest.mark.parametrize("said", SAID, ids=lambda said: said.name)
def test_every_example_is_what_it_says(said):
    assert get_protocol(said.name) == said


def test_every_example_is_tested_and_every_metric_has_one():
    assert [said.name for said in SAID] == list(EXAMPLES)
    assert {said.metric for said in SAID} == VALUES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_protocol_explains_itself(name):
    protocol = get_protocol(name)
    assert protocol.definition.endswith(".")
    assert "{" not in protocol.definition and "None" not in protocol.definition
    assert not protocol.n or f"{protocol.n:,}" in protocol.definition
    assert protocol.extractor is None or protocol.extractor in protocol.definition
    assert set(protocol.values.values()) <= {LOWER, HIGHER, NEITHER}


@pytest.mark.parametrize(("text", "n"), [("500", 500), ("10k", 10_000), ("1", 1), ("10000", 10_000)])
def test_counts(text, n):
    assert get_protocol(f"fid{text}_test").n == get_protocol(f"fd_timm_resnet18_{text}_test").n == get_protocol(f"rec{text}_test").n == n


@pytest.mark.parametrize(
    ("ending", "weights", "batchnorm", "said"),
    [
        ("", "ema", "ema", ""),
        ("_raw", "raw", "ema", ""),
        ("_bnbatch", "ema", "batch", "each batch's own"),
        ("_bnrecalibrated", "ema", "recalibrate", "recalibrated"),
        ("_raw_bnbatch", "raw", "batch", "each batch's own"),
    ],
)
@pytest.mark.parametrize("name", ["fid10k_test", "rec10k_test", "prdc_classifier_digits_300_test"])
def test_endings(name, ending, weights, batchnorm, said):
    protocol = get_protocol(name + ending)
    assert (protocol.weights, protocol.batchnorm, protocol.features) == (weights, batchnorm, "eval")
    assert said in protocol.definition
    assert (protocol.metric, protocol.n, protocol.split) == (get_protocol(name).metric, get_protocol(name).n, "test")


def test_the_published_mistake_is_named_and_told():
    bug = get_protocol("fid50k_train_sintrovae2021_raw")
    assert (bug.features, bug.batchnorm, bug.weights) == ("train", "batch", "raw")
    assert "train mode" in bug.definition and "comparable with its figures only" in bug.definition


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
def test_names_of_extractors_may_hold_underscores_numbers_and_dots(name, extractor):
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
        ("kid50k_train_sintrovae2021", "fid50k_train_sintrovae2021"),
        ("fid50k_train_sintrovae2021_bnrecalibrated", "fid50k_train_sintrovae2021"),
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
    [("fd_inception_10k_test", "fid10k_test"), ("kd_inception_50k_train", "kid50k_train"), ("prdc_inception_10k_test", "prdc10k_test")],
)
def test_inception_has_names_of_its_own(name, called):
    with pytest.raises(UsageError, match=f"on Inception's features it is called {called}"):
        get_protocol(name)


@pytest.mark.parametrize("extractor", ["classifier_cifar10", "timm_resnet18"])
def test_no_other_features_are_called_fid(extractor):
    with pytest.raises(UsageError):
        get_protocol(f"fid_{extractor}_10k_test")
