"""What is held out of a user's own data, and what scores say of images that a model was trained on."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import as_options, tiny_run
from sample_data import cells, folder_of, noise, parquet_of, refusal, saved

from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import describe, heldout_split, open_dataset
from genzoo.data.opening import items_of
from genzoo.errors import UsageError
from genzoo.spec import DataConfig

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = ("train.prior=normal", "data.limit=none", "data.size=8x8", "arch.channels=4", "train.duration=32")


def names_of(config: DataConfig, split: str | None = None) -> set[str]:
    """The names of the images of a split."""
    files = list(describe(config).files)
    return {files[i] for i in items_of(config, split)[1]}


def scored(run: Path | str, *options: str) -> list[dict]:
    Path("lines.jsonl").unlink(missing_ok=True)
    assert main(["eval", str(run), "--out", "lines.jsonl", *options]) == 0
    return [json.loads(line) for line in Path("lines.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def flat(own_cache, tmp_path_factory) -> Path:
    """A folder of 330 images without splits, `imgs`, and a `run` on it."""
    root = tmp_path_factory.mktemp("flat")
    folder_of(root / "imgs", 330)
    Trainer(tiny_run("vae", f"data.name={root / 'imgs'}", *SHORT), out=root / "run", progress=False).fit()
    return root


# ---- what is held out


@pytest.mark.parametrize(("n", "expected"), [(19, 0), (20, 2), (25, 2), (40, 4)])
def test_a_tenth_of_an_own_folder_is_held_out(tmp_path, n, expected):
    folder_of(tmp_path / "x", n)
    config = DataConfig(name="x")
    record, train = describe(config), open_dataset(config)
    assert (record.items, record.held_out, train.size) == (n, expected, n - expected)
    if not expected:
        assert heldout_split(config) is None and "nothing of x is held out (19 items)" in record.note()
        return
    assert heldout_split(config) == "train[heldout]" and f"{expected} of {n} items of x are held out" in record.note()
    test = open_dataset(config, "train[heldout]")
    assert test.size == expected and test.fingerprint != train.fingerprint
    assert not names_of(config) & names_of(config, "train[heldout]")
    assert {bytes(x) for data in (train, test) for x in data.batch(range(data.size)).numpy()} == {
        bytes(np.ascontiguousarray(noise(i).transpose(2, 0, 1))) for i in range(n)
    }


def test_items_are_chosen_by_name_and_size_not_by_order_or_place(tmp_path):
    folder_of(tmp_path / "x", 60)
    before = names_of(DataConfig(name="x"), "train[heldout]")
    shutil.copytree("x", "y/z")
    assert names_of(DataConfig(name="y/z"), "train[heldout]") == before
    numbers = sorted(int(name.partition(".")[0]) for name in before)
    assert numbers != list(range(54, 60)) and numbers != list(range(0, 60, 10))
    folder_of(tmp_path / "x" / "0first", 1)  # which every other one moves one place down for
    assert len(before & names_of(DataConfig(name="x"), "train[heldout]")) >= 5


def test_arrays_and_tables_hold_out_by_the_number_of_an_item(tmp_path):
    saved(tmp_path / "vectors", np.random.default_rng(0).random((12_000, 2)))
    saved(tmp_path / "images", np.stack([noise(i) for i in range(40)]))
    parquet_of(tmp_path / "table.parquet", cells(*range(30)))
    for name, n, apart in (("vectors.npy", 12_000, 1000), ("images.npy", 40, 4), ("table.parquet", 30, 3)):
        config = DataConfig(name=name)
        train, test = open_dataset(config), open_dataset(config, heldout_split(config))
        assert (train.size, test.size) == (n - apart, apart), name
        (content, a), (other, b) = items_of(config), items_of(config, "train[heldout]")
        assert content == other and sorted([*a, *b]) == list(range(n))
    labels = open_dataset(DataConfig(name="table.parquet"), "train[heldout]").labels()["label"]
    assert labels.tolist() == items_of(DataConfig(name="table.parquet"), "train[heldout]")[1].tolist()


def test_the_share_can_be_set(tmp_path, capsys):
    folder_of(tmp_path / "x", 40)
    assert open_dataset(DataConfig(name="x", holdout=0)).size == 40
    assert heldout_split(DataConfig(name="x", holdout=0)) is None
    assert open_dataset(DataConfig(name="x", holdout=0.05), "train[heldout]").size == 2
    assert open_dataset(DataConfig(name="x", holdout=0.05, limit=10)).size == 10
    assert main(["train", "vae", "--data", "x", "--set", "data.holdout=0.5", "--dry-run"]) == 2
    assert "data.holdout" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["test", "val"])
def test_data_with_a_split_for_scores_holds_nothing_else_out(tmp_path, split):
    folder_of(tmp_path / "x" / "train", 30)
    folder_of(tmp_path / "x" / split, 24)
    config = DataConfig(name="x")
    assert (open_dataset(config).size, open_dataset(config, split).size) == (30, 24)
    assert (heldout_split(config), describe(config).held_out) == (split, 0)
    assert f"has a split {split} for that" in refusal("x", holdout=0.1)


def test_embedded_data_and_parts_in_brackets_are_as_they_were(tmp_path):
    assert open_dataset(DataConfig(name="digits", channels=1)).size == 1500
    assert heldout_split(DataConfig(name="digits")) == "test"
    folder_of(tmp_path / "x", 30)
    config = DataConfig(name="x", split="train[:20]")
    assert (open_dataset(config).size, heldout_split(config), describe(config).held_out) == (20, "train[20:]", 0)
    assert open_dataset(DataConfig(name="x", split="train[:]")).size == 30
    assert "leaves none of them" in refusal("digits", "train[heldout]")


def test_a_validation_split_chooses_and_a_test_split_is_scored(tmp_path):
    for split, n in (("train", 6), ("val", 4), ("test", 5)):
        folder_of(tmp_path / "x" / split, n)
    config = tiny_run("vae", "data.name=x", *SHORT)
    record = describe(config.data)
    assert (record.scored, record.chooses) == ("test", "val")
    run = Trainer(config, out="run", progress=False).fit()
    kept = json.loads((run / "run.json").read_text(encoding="utf-8"))["data"]
    assert (kept["scored"], kept["chooses"]) == ("test", "val")
    assert "4 samples and as many held-out items, split val;" in (run / "best" / "README.md").read_text(
        encoding="utf-8"
    )
    (line,) = scored(run, "--metrics", "rec10_test")
    assert (line["split"], line["details"]["n_real"]) == ("test", 5)


# ---- what scores say


def test_the_default_scores_of_a_run_on_a_flat_folder_are_of_held_out_images(flat, capsys):
    lines = scored(flat / "run")
    assert [(line["protocol"], line["split"]) for line in lines] == [
        ("rec1k_test", "train[heldout]"),
        ("elbo1k_test", "train[heldout]"),
        ("msssim1k_train", "train"),
    ]
    assert lines[0]["details"]["n_real"] == 33
    card = (flat / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "33 samples and as many held-out items, split train[heldout];" in card
    assert json.loads((flat / "run" / "run.json").read_text(encoding="utf-8"))["data"]["held_out"] == 33


def test_scores_of_best_say_that_their_split_chose_it(flat):
    (line,) = scored(flat / "run" / "best", "--metrics", "rec10_test")
    assert line["details"]["split_chose_weights"] is True
    (line,) = scored(flat / "run", "--metrics", "rec10_test")
    assert "split_chose_weights" not in line["details"]


@pytest.mark.parametrize("settings", [["data.split=train[:15]"], ["data.split=train[:15]", "data.limit=none"]])
def test_images_of_training_are_not_test_images(flat, settings, capsys):
    assert main(["eval", str(flat / "run"), "--metrics", "rec10_test", *as_options(*settings)]) == 2
    err = capsys.readouterr().err
    seen, scored_images = map(
        int, re.search(r"was trained on (\d+) of the (\d+) images of split train\[15:\]", err).groups()
    )
    assert scored_images == 315 and 280 < seen < 300 and "_train" in err


def test_images_that_were_held_out_by_another_share_are_not_test_images(flat, capsys):
    for holdout in ("0.05", "0.1"):
        args = ["eval", str(flat / "run"), "--metrics", "rec10_test", "--set", f"data.holdout={holdout}"]
        assert main([*args, "--out", "o.jsonl"]) == 0  # the fewer are among the more
    folder_of(Path("other"), 330)
    assert main(["eval", str(flat / "run"), "--data", "other", "--metrics", "rec10_test", "--out", "o.jsonl"]) == 0
    assert main([*args[:2], "--metrics", "rec10_test", "--set", "data.holdout=0"]) == 2
    assert "has no held-out split" in capsys.readouterr().err


def test_a_shared_model_refuses_its_training_images_too(flat, tmp_path, capsys):
    shutil.copytree(flat / "run" / "model", tmp_path / "shared")
    place = ["--data", str(flat / "imgs"), "--metrics", "rec100_test"]
    (line,) = scored("shared", *place)
    assert (line["split"], line["details"]["n_real"]) == ("train[heldout]", 33)
    assert main(["eval", "shared", *place, "--set", "data.split=train[:15]"]) == 2
    assert "was trained on" in capsys.readouterr().err


def test_other_data_is_taken_as_a_whole(flat, tmp_path):
    folder_of(tmp_path / "new", 24, height=9)
    assert main(["encode", str(flat / "run"), "--data", "new", "--out", "z.npz"]) == 0
    assert len(np.load("z.npz")["mean"]) == 24
    assert main(["encode", str(flat / "run"), "--out", "z.npz"]) == 0
    assert len(np.load("z.npz")["mean"]) == 33


def test_without_a_held_out_part_no_text_says_held_out(tmp_path, capsys):
    folder_of(tmp_path / "x", 12)
    settings = as_options(*SHORT, "arch.z_dim=4", "train.batch=8", "train.snapshot_every=100%")
    assert main(["train", "vae", "--data", "x", *settings, "--out", "run"]) == 0
    assert "note: nothing of x is held out (12 items)" in capsys.readouterr().out
    for folder in ("model", "best"):
        card = Path("run", folder, "README.md").read_text(encoding="utf-8")
        assert "held-out" not in card and "12 samples and as many items that were trained on;" in card
    lines = scored("run")
    assert [line["protocol"] for line in lines] == ["rec1k_train", "elbo1k_train", "msssim1k_train"]
    assert "nothing of x is held out: scores are of images that the model was trained on" in capsys.readouterr().out
    with pytest.raises(UsageError, match="leaves none of them"):
        open_dataset(DataConfig(name="x"), "train[heldout]")
