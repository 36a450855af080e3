"""Runs on labels of every kind of data, and what training says of labels and components that do not suit the data."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import as_options
from PIL import Image
from sample_data import folder_of, noise, png

import genzoo
from genzoo import Trainer
from genzoo.budgets import ask
from genzoo.cli import main
from genzoo.configure import planned_classes
from genzoo.runs.folder import run_events

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = ("data.size=8x8", "arch.channels=8", "arch.z_dim=4", "train.batch=4", "train.duration=2it", "data.holdout=0")


def folders(root: Path, **classes: int) -> Path:
    """A folder of images per class, of so many each."""
    for name, n in classes.items():
        folder_of(root / name, n)
    return root


def table(path: Path, labels: list) -> Path:
    images = [{"bytes": png(noise(seed)), "path": None} for seed in range(len(labels))]
    pq.write_table(pa.table({"image": images, "label": labels}), path)
    return path


def trained(data: object, *settings: str, model: str = "vae") -> Path:
    config = genzoo.resolve(model, data=str(data), settings=(*TINY, "arch.prior=classes", *settings))
    return Trainer(config, out="run", progress=False).fit()


@pytest.mark.parametrize("kind", ["folders", "names in parquet", "numbers in parquet", "toyfaces"])
def test_labels_of_every_kind_are_trained_on_and_sampled(tmp_path, kind, capsys):
    data, label, settings = {
        "folders": (lambda: folders(tmp_path / "pets", cat=4, dog=4), "dog", ()),
        "names in parquet": (lambda: table(tmp_path / "x.parquet", ["cat", "dog"] * 4), "dog", ()),
        "numbers in parquet": (lambda: table(tmp_path / "x.parquet", [0, 1] * 4), "1", ()),
        "toyfaces": (lambda: "toyfaces", "curly", ("data.labels=hair_style", "data.limit=64", "data.size=16x16")),
    }[kind]
    run = trained(data(), *settings)
    assert main(["sample", str(run), "--label", label, "--n", "2", "--out", "samples.png"]) == 0
    assert f"2 images, of {label}, prior classes" in capsys.readouterr().out
    assert main(["sample", str(run), "--label", "catt"]) == 2
    error = capsys.readouterr().err
    assert "--label catt: there is no such class." in error and len(error.strip().splitlines()) == 1


def findings(run: Path) -> list[dict]:
    return [event for event in run_events(run).read() if event["kind"] == "data"]


def test_a_class_of_one_image_is_trained_and_reported(tmp_path, capsys):
    run = trained(folders(tmp_path / "pets", cat=4, dog=4, axolotl=1))
    (found,) = [event for event in findings(run) if event["problem"] == "rare classes"]
    assert found["text"] == "1 of 3 classes of label have one item or none: axolotl (1)"
    assert "monitor: step 0: rare classes: 1 of 3 classes" in capsys.readouterr().out
    assert main(["sample", str(run), "--label", "axolotl", "--n", "2", "--out", "samples.png"]) == 0


def test_more_components_than_a_batch_are_reported_and_than_the_data_refused(tmp_path, capsys):
    data = folders(tmp_path / "pets", cat=4, dog=4)
    run = trained(data, "arch.prior=mog:6")
    assert [event["fix"] for event in findings(run) if event["problem"] == "many components"] == [
        "set arch.prior=mog:4 or less, or raise train.batch"
    ]
    capsys.readouterr()
    assert main(["train", "vae", "--data", str(data), *as_options(*TINY, "arch.prior=mog:1000")]) == 2
    error = capsys.readouterr().err
    assert "arch.prior=mog:1000 has more components than" in error and "e.g. arch.prior=mog:1." in error
    assert len(error.strip().splitlines()) == 1


def test_images_without_a_label_are_refused(tmp_path, capsys):
    loose = folders(tmp_path / "loose", cat=2, dog=2)
    Image.fromarray(noise(9)).save(loose / "stray.png")
    missing = table(tmp_path / "missing.parquet", ["cat", None, "dog", "cat"])
    plain = folder_of(tmp_path / "plain")
    for data, said in (
        (loose, "put all images into one folder per class"),
        (missing, "1 items of missing have a label that is not one of its 2 classes: leave them out"),
        (plain, "put all images into one folder per class"),
    ):
        assert main(["train", "vae", "--data", str(data), *as_options(*TINY, "arch.prior=classes")]) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_presets_of_classes_are_those_of_the_data_with_another_prior(name, capsys):
    own, of_classes = genzoo.resolve(f"softintrovae.{name}"), genzoo.resolve(f"softintrovae.{name}-classes")
    assert of_classes.objective == own.objective and of_classes.train == own.train
    assert (of_classes.arch.prior, of_classes.data.labels) == ("classes", "label")
    assert genzoo.resolve("softintrovae", data=name).model == own.model  # taken by name only
    assert main(["list", "presets", f"softintrovae.{name}-classes"]) == 0
    said = capsys.readouterr().out
    assert f"source: ours: softintrovae.{name} with one learned Gaussian per class" in said
    assert "arch: z_dim=" in said and "prior=classes" in said
    assert len(planned_classes(of_classes)) == 10


@pytest.mark.parametrize("data", ["mnist", "cifar10"])
@pytest.mark.parametrize("model", ["introvae", "vae"])
def test_presets_of_classes_differ_between_models_in_the_losses(model, data):
    run, published = (genzoo.resolve(f"{name}.{data}-classes") for name in (model, "softintrovae"))
    assert run.data == published.data and len(planned_classes(run)) == 10
    assert dataclasses.asdict(run.arch) | {"norm_place": ""} == dataclasses.asdict(published.arch) | {"norm_place": ""}
    assert (run.train.batch, run.train.duration, run.train.lr) == (published.train.batch, "250ep", published.train.lr)


@pytest.mark.parametrize("model", ["introvae", "vae"])
def test_presets_of_classes_are_taken_by_name_only(model):
    bare = genzoo.resolve(model, data="mnist")
    assert bare.model == f"{model}.toyfaces32" and bare.data.labels is None
    assert any("the default, as none but mnist-classes is made for these data" in note for note in bare.notes)
    assert genzoo.resolve(model, res=28).model == genzoo.resolve(model, res=32).model == f"{model}.toyfaces32"
    assert ask(model, "3min", data="mnist").own_data


@pytest.mark.parametrize("name", ["introvae.mnist-classes", "vae.cifar10-classes"])
def test_presets_of_classes_train(name, capsys):
    short = [*TINY, "objective.warmup=1it"] if name.startswith("introvae") else TINY
    run = Trainer(genzoo.resolve(name, data="digits", settings=short), out="run", progress=False).fit()
    assert main(["sample", str(run), "--label", "7", "--n", "2"]) == 0
    assert "2 images, of 7, prior" in capsys.readouterr().out
