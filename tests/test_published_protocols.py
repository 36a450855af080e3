"""How Soft-IntroVAE's paper scores: an ending of protocols' names that its model adds."""

import pytest

from genzoo.errors import UsageError
from genzoo.evaluation.protocols import examples, get_protocol

softintrovae = pytest.importorskip("genzoo.models.softintrovae")


def test_a_model_adds_how_its_paper_scores():
    ours, published = get_protocol("fid50k_train_raw"), get_protocol("fid50k_train_sintrovae2021_raw")
    assert (published.metric, published.n, published.split, published.weights) == (ours.metric, 50_000, "train", "raw")
    assert (published.extractor, published.extractor_mode, published.batchnorm) == (
        "inception-pytorch",
        "train",
        "batch",
    )
    definition = ours.definition.replace("inception", "inception-pytorch")
    assert published.definition == f"{definition} {softintrovae.SPEC.protocols['sintrovae2021'].note}"
    assert published.title("frechet") == "FID" and published.values["frechet"].better == "lower"
    assert "fid50k_train_sintrovae2021" in examples()


@pytest.mark.parametrize("name", ["kid50k_train_sintrovae2021", "fid50k_train_sintrovae2021_bnrecalibrated"])
def test_the_ending_goes_with_fid_only(name):
    with pytest.raises(UsageError, match="No protocol is called .* Did you mean .*fid50k_train_sintrovae2021"):
        get_protocol(name)
