"""Labels and classes of every kind of dataset, and what every set promises."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sample_data import CLASSES, cells, folder_of, parquet_of, saved

from genzoo.data import (
    EndlessSet,
    FiniteSet,
    list_datasets,
    open_dataset,
    some,
)
from genzoo.data.batches import Batches
from genzoo.data.embedded import toyfaces
from genzoo.errors import UsageError
from genzoo.spec import DataConfig


@pytest.fixture(autouse=True)
def cache_root(tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


# --- labels ---------------------------------------------------------------------------------------------------------


def no_classes(data, name: str) -> str:
    """The one line with which labels are refused."""
    with pytest.raises(UsageError) as caught:
        some(data, 1, torch.Generator(), labels=name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_name_classes_in_natural_order(tmp_path):
    for name in ("class 10", "class 9", "class 1"):
        folder_of(tmp_path / name, 2)
    data = open_dataset(DataConfig(name=str(tmp_path), limit=4))
    assert data.classes("label") == ("class 1", "class 9", "class 10")
    assert data.labels()["label"].tolist() == [0, 0, 1, 1]
    line = no_classes(data, "lable")
    assert "no labels called 'lable'" in line and "Did you mean label?" in line


def test_parquet_names_classes_in_its_metadata(tmp_path):
    data = open_dataset(DataConfig(name=str(parquet_of(tmp_path / "x.parquet", cells(0, 1)))))
    assert data.classes("label") == ("a", "b") and data.labels()["label"].dtype == np.int64
    marked = {"info": {"features": CLASSES["info"]["features"] | {"n": {"_type": "ClassLabel", "names": ["x"]}}}}
    table = pa.table({"picture": cells(0, 1), "kind": [1, 0], "n": pa.array([0, None])})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(marked)}), tmp_path / "two.parquet")
    two = open_dataset(DataConfig(name=str(tmp_path / "two.parquet")))
    assert two.classes("kind") == ("a", "b") and two.classes("n") == ("x",)
    assert "several kinds of labels: give data.labels one of kind, n" in no_classes(two, "label")
    assert "1 items of two have a n that is not one of its 1 classes" in no_classes(two, "n")


def test_a_column_without_names_has_numbers_for_names(tmp_path):
    pq.write_table(pa.table({"v": [[0.5], [0.25]], "label": [3, 1]}), tmp_path / "x.parquet")
    assert open_dataset(DataConfig(name=str(tmp_path / "x.parquet"))).classes("label") == ("0", "1", "2", "3")


@pytest.mark.parametrize("as_pandas_writes_it", [False, True])
def test_a_column_of_text_names_classes(tmp_path, as_pandas_writes_it):
    column = pa.array(["cat", "dog", "cat", None])
    column = column.dictionary_encode() if as_pandas_writes_it else column
    pq.write_table(pa.table({"v": [[0.5]] * 4, "label": column}), tmp_path / "x.parquet")
    data = open_dataset(DataConfig(name=str(tmp_path / "x.parquet")))
    assert data.classes("label") == ("cat", "dog") and data.labels()["label"].tolist() == [0, 1, 0, -1]
    assert "1 items of x have a label that is not one of its 2 classes: leave them out" in no_classes(data, "label")


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [(("b", "", "a"), ("a", "b"), [1, -1, 0]), (("10", "", "2"), tuple(map(str, range(11))), [10, -1, 2])],
)
def test_a_row_without_a_label_has_no_class(tmp_path, labels, classes, numbers):
    folder_of(tmp_path, 3)
    rows = [f"{i}.png,{label}" for i, label in enumerate(labels)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    data = open_dataset(DataConfig(name=str(tmp_path / "list.csv")))
    assert data.classes("label") == classes and data.labels()["label"].tolist() == numbers
    assert "1 items of list have a label that is not one of its" in no_classes(data, "label")


def test_class_numbers_beyond_the_names_are_refused(tmp_path):
    data = open_dataset(DataConfig(name=str(parquet_of(tmp_path / "x.parquet", cells(0, 1, 2)))))
    assert "1 items of x have a label that is not one of its 2 classes" in no_classes(data, "label")


def test_digits_are_labeled_by_what_they_show():
    data = open_dataset(DataConfig(name="digits", channels=1))
    assert data.classes("label") == tuple("0123456789")
    zero, one = (data.batch(np.flatnonzero(data.labels()["label"] == digit)).float().mean(0)[0] for digit in (0, 1))
    assert zero[3:5, 3:5].mean() < 50 < 150 < one[3:5, 3:5].mean()  # a hole in the middle, and a stroke


def test_toyfaces_have_classes_and_factors():
    data = open_dataset(DataConfig(name="toyfaces", size=(16, 16), limit=50))
    assert data.classes("glasses") == ("none", "round", "square") and list(data.labels()) == list(toyfaces.FACTORS)
    assert data.labels()["glasses"].dtype == np.int64 and data.labels()["smile"].dtype == np.float64
    assert "smile of toyfaces/train is a continuous factor, not classes" in no_classes(data, "smile")
    assert "several kinds of labels" in no_classes(data, "label") and "shirt_colour" in no_classes(data, "label")
    assert "Did you mean" in no_classes(data, "hair") and "hair_style" in no_classes(data, "hair")
    assert "Choose from: hair_style" in no_classes(data, "xyzzy")


@pytest.mark.parametrize("name", ["folder", "rings", "vectors"])
def test_data_without_labels_names_datasets_that_have_them(tmp_path, name):
    folder_of(tmp_path / "folder")
    saved(tmp_path / "vectors.npy", np.zeros((3, 2)))
    data = open_dataset(DataConfig(name={"folder": str(tmp_path / "folder"), "vectors": "vectors.npy"}.get(name, name)))
    line = no_classes(data, "label")
    assert "has no labels" in line and all(other in line for other in ("digits", "toyfaces", "cifar10"))
    with pytest.raises(UsageError, match="has no labels"):
        Batches(data, seed=0, batch=1, start=0, stop=1, mirror=False, labels="label")


@pytest.mark.parametrize("entry", [entry for entry in list_datasets() if entry.kind != "hub"], ids=lambda e: e.name)
def test_the_catalog_has_the_number_of_classes(entry):
    data = open_dataset(DataConfig(name=entry.name, size=(16, 16), limit=4 if entry.images else None))
    assert {name: len(data.classes(name)) for name in entry.labels} == entry.labels
    assert set(entry.labels) == {name for name, values in data.labels().items() if values.dtype == np.int64}


# --- what all kinds of sets promise ---------------------------------------------------------------------------------

SETS = (
    "folder",
    "uncached",
    "parquet",
    "numbers",
    "images.npy",
    "vectors.npy",
    "digits",
    "toyfaces",
    "sample",
    "rings",
)


@pytest.fixture
def make(tmp_path):
    """A small set of each kind."""

    def make(kind: str):
        if kind in ("folder", "uncached"):
            folder_of(tmp_path / kind / "a", 3)
            folder_of(tmp_path / kind / "b", 2)
            return open_dataset(DataConfig(name=str(tmp_path / kind), cache=kind == "folder"))
        if kind == "parquet":
            return open_dataset(DataConfig(name=str(parquet_of(tmp_path / "x.parquet", cells(0, 1)))))
        if kind == "numbers":
            pq.write_table(pa.table({"v": [[0.5, 1.0], [0.25, 2.0]], "label": [1, 0]}), tmp_path / "n.parquet")
            return open_dataset(DataConfig(name=str(tmp_path / "n.parquet")))
        if kind.endswith(".npy"):
            shape = (4, 3, 5, 5) if kind == "images.npy" else (4, 5)
            return open_dataset(DataConfig(name=str(saved(tmp_path / kind, np.random.default_rng(0).random(shape)))))
        name, limit = ("rings", 6) if kind == "sample" else (kind, None if kind == "rings" else 6)
        return open_dataset(DataConfig(name=name, limit=limit, size=(16, 24)))

    return make


@pytest.mark.parametrize("kind", SETS)
def test_every_set_keeps_what_its_protocol_promises(make, kind):
    data = make(kind)
    assert data.is_image == (len(data.shape) == 3) and data.fingerprint and data.name and data.cached in (True, False)
    items = some(data, 3, torch.Generator().manual_seed(5))
    again = some(data, 3, torch.Generator().manual_seed(5))
    assert items.x.shape[1:] == data.shape and torch.equal(items.x, again.x) and items.labels is None
    assert items.x.dtype == (torch.uint8 if data.is_image else torch.float32)
    if isinstance(data, EndlessSet):
        assert not isinstance(data, FiniteSet) and data.size is None and len(items) == 3 and data.labels() == {}
        return
    assert isinstance(data, FiniteSet) and len(data) == data.size >= 2 and data.skipped == ()
    assert torch.equal(data.batch([1, 0]), torch.stack([data[1], data[0]]))
    assert len(some(data, 1000, torch.Generator())) == data.size
    batch = data.batch([0])
    batch[:] = 0  # memory of its own
    assert torch.equal(data.batch([0])[0], data[0]) and data[0].any()
    for name, values in data.labels().items():
        assert len(values) == data.size and values.dtype in (np.int64, np.float64)
        if values.dtype == np.int64:
            labeled = some(data, 3, torch.Generator().manual_seed(5), labels=name)
            assert torch.equal(labeled.x, items.x) and labeled.labels.dtype == torch.int64
            assert values.max() < len(data.classes(name)) and all(isinstance(c, str) for c in data.classes(name))
