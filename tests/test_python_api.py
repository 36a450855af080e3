"""What people pass in Python: names, paths and numbers of other types; data of their own; callbacks."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ROOT, TINY, read_log, same, tiny_run, weights
from packaging.requirements import Requirement
from PIL import Image

import genzoo
from genzoo import Callback, Trainer, resolve
from genzoo.cli import main
from genzoo.data import open_dataset
from genzoo.data.own import own_dataset
from genzoo.errors import UsageError
from genzoo.runs.folder import read_config
from genzoo.spec import DataConfig
from genzoo.training.inputs import prepared

PIXELS = torch.randint(0, 256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Pairs(torch.utils.data.Dataset):
    """Images with class numbers, as torchvision's datasets give them."""

    classes = ("cat", "dog")

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], index % 2


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from PIXELS


def own(name="vae", out="run", data=PIXELS, **options):
    """A trainer of a tiny run on data from memory."""
    settings = [text for text in TINY if not text.startswith(("data.", "train.snapshot_every"))]
    config = resolve(name, res=16, settings=[*settings, "train.snapshot_every=48", "train.log_every=4"])
    return Trainer(config, out=out, progress=False, data=data, **options)


@pytest.mark.parametrize("res", [64, "64", (64, 64), [64, 64], "64x64", np.int64(64)])
def test_a_resolution_of_any_type(res):
    assert resolve("vae", res=res).data.size == (64, 64)


@pytest.mark.parametrize("size", [64, np.int64(64), "64", (64, 64), [64, 64], "64x64"])
def test_a_size_of_any_type(size):
    assert resolve("vae", data={"size": size}).data.size == (64, 64)
    assert DataConfig(size=64).size == (64, 64)
    assert resolve("vae", settings=["data.size=64"]).data.size == (64, 64)


@pytest.mark.parametrize("res", [0, -1, True, 1.5, (1, 2, 3), (), "x", {"a": 1}])
def test_what_is_no_resolution_is_refused(res):
    with pytest.raises(UsageError):
        resolve("vae", res=res)


def test_paths_and_numbers_of_other_types(tmp_path):
    assert resolve("vae", data=tmp_path).data.name == str(tmp_path)
    assert (
        resolve("vae", data={"name": tmp_path, "limit": np.int64(5)}).data
        == resolve("vae", data={"name": str(tmp_path), "limit": 5}).data
    )
    assert resolve("vae", train={"duration": 50_000}).train.duration == "50000"
    assert resolve("vae", train={"duration": 1e6, "lr": np.float32(0.5)}).train.lr == 0.5
    assert resolve("vae", settings="train.lr=1").train.lr == 1.0
    with pytest.raises(UsageError, match="train.duration"):
        resolve("vae", train={"duration": True})


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"trian": {"lr": 1}}, "Unknown section 'trian'.*Did you mean train"),
        ({"train": {"lrr": 1}}, "Unknown option train.lrr.*Did you mean"),
        ({"train": 5}, "train=5: give its values by field"),
        ({"data": 5}, "data=5: give its values by field"),
        ({"data": ""}, "data.name: should not be empty"),
        ({"settings": ["lr=1"]}, "train.lr=1"),
        ({"settings": 5}, r"settings=5: give texts, as in settings=\['train.lr"),
        ({"settings": [5]}, r"settings=\[5\]: give texts"),
        ({"settings": None}, "settings=None: give texts"),
        ({"lr": 1}, "Unknown section 'lr'.*Did you mean train={'lr': 1}"),
        ({"seed": 3}, "Did you mean train={'seed': 3}"),
        ({"data": PIXELS}, r"data=tensor\(.*Trainer\(..., data=\)"),
    ],
)
def test_misspelt_and_wrong_arguments_are_refused(options, line):
    with pytest.raises(UsageError, match=line) as caught:
        resolve("vae", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [None, 5, Path("vae")])
def test_a_model_is_named_by_text(name):
    with pytest.raises(UsageError, match="name of a model"):
        resolve(name)
    with pytest.raises(UsageError, match="or a model's name"):
        Trainer(name)


def test_a_trainer_takes_a_name():
    assert prepared("introvae", None, None) == (resolve("introvae"), None)
    trainer = Trainer("vae", out="rings", progress=False, data="rings")
    assert trainer.config == resolve("vae", data="rings") and trainer.dataset.name == "rings"
    with pytest.raises(UsageError, match="names its data"):
        Trainer(resolve("vae"), out="other", data="digits")


def test_images_of_all_types_are_the_same_set():
    """uint8, floats, numpy, a map-style dataset and Pillow images hold the same pixels."""
    as_list = [Image.fromarray(x.movedim(0, -1).numpy()) for x in PIXELS]
    expected = own_dataset(PIXELS).batch(range(40))
    assert torch.equal(expected, PIXELS)
    alone = torch.utils.data.TensorDataset(PIXELS)
    for data in (
        PIXELS / 255,
        PIXELS.numpy(),
        alone,
        (PIXELS / 255).double(),
        Pairs(PIXELS),
        Pairs(PIXELS / 255),
        as_list,
    ):
        assert torch.equal(own_dataset(data).batch(range(40)), expected)
    gray = PIXELS[:, :1]
    assert torch.equal(own_dataset([Image.fromarray(x[0].numpy()) for x in gray]).batch(range(40)), gray)


def test_lists_of_two_numbers_are_points():
    points = own_dataset([[1.0, 2.0], [3.0, 4.0]])
    assert points.shape == (2,) and points.batch([1]).tolist() == [[3.0, 4.0]]


def test_labels_come_with_pairs():
    found = own_dataset(Pairs(PIXELS))
    assert found.classes("label") == ("cat", "dog")
    assert found.labels()["label"].tolist() == [0, 1] * 20
    assert own_dataset(PIXELS).labels() == {}


def test_the_name_is_a_hash_of_the_content():
    changed = PIXELS.clone()
    changed[3, 0, 0, 0] ^= 1
    names = [own_dataset(x).name for x in (PIXELS, PIXELS.clone(), changed, PIXELS[:39], PIXELS.flip(0))]
    assert names[0] == names[1] and len(set(names)) == 4
    assert names[0].startswith("python:Tensor-")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (PIXELS.float(), r"values from 0 to 255: scale them to \[0, 1\], x / 255"),
        (PIXELS / 127.5 - 1, r"values from -1 to 1: scale them to \[0, 1\], \(x \+ 1\) / 2"),
        (PIXELS.long(), "int64"),
        (PIXELS > 127, "bool"),
        ((PIXELS > 127).byte(), "multiply them by 255"),
        (PIXELS.movedim(1, -1), "movedim"),
        (PIXELS[:, :2], "2 channels"),
        (PIXELS[:, 0], r"x\[:, None\]"),
        (PIXELS.flatten(1), "reshape images"),
        (PIXELS[:0], "nothing to train on"),
        (torch.full((4, 3, 8, 8), torch.nan), "NaN"),
        (torch.full((4, 3), torch.inf), "infinite"),
        (torch.zeros(()), "shape"),
        (Stream(), "map-style"),
        ({"x": PIXELS}, "map-style"),
        (torch.utils.data.DataLoader(Pairs(PIXELS)), "map-style"),
        (5, "map-style"),
        ([], "no items"),
        ([PIXELS[0], PIXELS[1, :, :8]], "item 1 is uint8"),
        ([{"image": PIXELS[0], "label": 1}], r"item\['image'\]"),
        (["images/1.png", "images/10.png"], "items of type str: pass the images, or name their folder"),
        ([Path("images/1.png")], "items of type PosixPath"),
        (pd.DataFrame({"a": [1.0, 2.0]}), r"data\.to_numpy\(\)"),
    ],
)
def test_data_of_another_form_is_refused_in_one_line(data, line):
    with pytest.raises(UsageError, match=line) as caught:
        own_dataset(data)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a tensor, and what its callback received."""
    seen = {"log": [], "snapshots": []}

    class Remember(Callback):
        def on_log(self, line):
            seen["log"].append(line)

        def on_snapshot(self, folder, position):
            seen["snapshots"].append((position["step"], genzoo.load(folder / "model").shape))

    folder = tmp_path_factory.mktemp("own") / "run"
    return own(out=folder, callbacks=[Remember()]).fit(), seen


def test_a_tensor_trains_and_is_recorded(trained, capsys):
    folder, _ = trained
    config = read_config(folder)
    assert config.data.name == own_dataset(PIXELS).name
    assert (config.data.size, config.data.channels) == ((16, 16), 3)
    assert any("40 items of shape 3x16x16, passed from Python" in note for note in config.notes)
    assert read_log(folder)[-1]["step"] == 12
    assert main(["reconstruct", str(folder)]) == 2
    assert "was passed from Python" in capsys.readouterr().err


def test_a_tensor_trains_to_the_weights_of_the_same_images_in_a_file(trained):
    np.save("images.npy", PIXELS.movedim(1, -1).numpy())
    settings = [text for text in TINY if not text.startswith(("data.", "train.snapshot_every"))]
    settings += ["train.snapshot_every=48", "train.log_every=4", "data.holdout=0"]
    Trainer(resolve("vae", data="images.npy", res=16, settings=settings), out="file", progress=False).fit()
    assert same(weights(Path("file")), weights(trained[0]))


def test_callbacks_see_every_line_and_snapshot(trained):
    folder, seen = trained
    logged = [line["step"] for line in read_log(folder) if any(name.startswith("loss/") for name in line)]
    assert [line["step"] for line in seen["log"]] == logged and 12 in logged
    assert {step for step, _ in seen["snapshots"]} >= {6, 12}
    assert all(shape == (3, 16, 16) for _, shape in seen["snapshots"])


def test_resuming_with_other_content_is_refused(trained):
    folder, _ = trained
    assert own(out=folder).fit() == folder
    with pytest.raises(UsageError, match=r"data\.name: python:Tensor-"):
        own(out=folder, data=PIXELS.flip(0))


def test_data_that_do_not_fit_the_configuration_are_refused():
    with pytest.raises(UsageError, match="The data are 3x16x16 and the configuration is of 3x32x32"):
        Trainer(resolve("vae", res=32), out="run", data=PIXELS)
    with pytest.raises(UsageError, match="choose one"):
        Trainer(resolve("vae", res=16), data=PIXELS, dataset=open_dataset(tiny_run("vae").data))


def test_a_name_is_resolved_for_the_data():
    trainer = Trainer("introvae", out="run", data=PIXELS[:, :1], progress=False)
    assert (trainer.config.data.size, trainer.config.data.channels) == ((16, 16), 1)
    assert trainer.model.shape == (1, 16, 16)
    vectors = Trainer("vae", out="vectors", data=torch.randn(64, 5), progress=False)
    assert vectors.model.shape == (5,) and vectors.config.arch.perceptrons


def test_a_limit_holds_for_data_from_memory():
    config = resolve("vae", res=16, settings=["data.limit=8"])
    assert Trainer(config, out="run", data=PIXELS, progress=False).dataset.size == 8


def test_one_callback_needs_no_list():
    one = Callback()
    assert own(callbacks=one).reporter._callbacks == [one]


@pytest.mark.parametrize("x", [PIXELS[:2], PIXELS[:2].numpy()])
def test_what_a_model_does_not_take_is_told(x):
    model = genzoo.create_model("vae", shape=(3, 16, 16), channels=(4, 8), z_dim=4)
    for verb in (model.encode, model.reconstruct):
        with pytest.raises(UsageError, match=r"images in \[0, 1\], and got .*uint8|got ndarray: pass x / 255"):
            verb(x)


def test_an_empty_path_is_no_model():
    with pytest.raises(UsageError, match="path of a model is empty"):
        genzoo.load("")


def test_what_is_no_callback_is_refused():
    for wrong in (print, Callback, "x"):
        with pytest.raises(UsageError, match=r"genzoo\.Callback"):
            own(callbacks=[wrong])


def test_no_public_name_is_that_of_a_module():
    """Some versions of lazy-loader give the module where both have one name."""
    modules = {path.stem for path in (ROOT / "genzoo").iterdir()}
    assert not modules & set(genzoo.__all__)
    assert all(callable(getattr(genzoo, name)) for name in genzoo.__all__)


def test_lower_bounds_are_those_of_versions_without_known_holes():
    """CVE-2025-68146 and CVE-2026-22701; CVE-2026-59199 and CVE-2026-59205; GHSA-4prv-5hj7-c2xr; CVE-2024-34062."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floors = {Requirement(text).name: Requirement(text).specifier for text in project["dependencies"]}
    for name, last_bad in {"filelock": "3.20.2", "pillow": "12.2.0", "diffusers": "0.42.0", "tqdm": "4.66.2"}.items():
        assert last_bad not in floors[name]
    assert all(str(floor).startswith(">=") for floor in floors.values())
