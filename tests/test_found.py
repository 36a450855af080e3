"""What of a folder is read, what is left out, and how pixels are understood: said with numbers, never silent."""

import json
import os
import shutil
import struct
import sys
import types
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, as_options
from PIL import Image
from sample_data import folder_of, noise, png, refusal, saved

from genzoo.cli import main
from genzoo.configure import resolve
from genzoo.data import facts, heldout_split, look_for, open_dataset
from genzoo.data.found import Found, announcement, summary
from genzoo.data.headers import share_cut_off
from genzoo.data.places import split_in
from genzoo.data.tree import files_under
from genzoo.data.values import darkness
from genzoo.runs.folder import RunFolder
from genzoo.spec import DataConfig
from genzoo.training.rules import data_findings


@pytest.fixture(autouse=True)
def cache_root(tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))


def tree(root: Path, **counts: int) -> Path:
    """Folders of images by name, with `__` for a slash; `loose` lie in the root."""
    for name, count in counts.items():
        folder_of(root if name == "loose" else root / name.replace("__", "/"), count)
    return root


def packed(root: Path, form: str) -> Path:
    """The folder itself, or an archive of it."""
    return root if form == "folder" else Path(shutil.make_archive(str(root), form, root))


def config(root: Path, **settings) -> DataConfig:
    return DataConfig(name=str(root), **settings)


def found(root: Path, **settings) -> Found:
    return facts(open_dataset(config(root, **settings), progress=False))


def deep(path: Path, values: np.ndarray) -> Path:
    """Saves gray values of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(path)
    return path


# --- splits and classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "train", "held_out"),
    [
        ({"train2017": 3, "val2017": 2}, 3, "val"),
        ({"images__train": 3, "images__val": 2}, 3, "val"),
        ({"images__train": 3, "images__val": 2, "masks__train": 3, "masks__val": 2}, 6, "val"),
        ({"train-images": 3, "test-images": 2}, 3, "test"),
        ({"cat__train": 3, "cat__test": 1, "dog__train": 2, "dog__test": 1}, 5, "test"),
        ({"Train": 3, "train": 2, "test": 1}, 5, "test"),
        ({"Train": 3, "train": 2}, 5, None),
        ({"images": 3, "masks": 3}, 6, None),
        ({"car": 4, "bus": 4, "train": 4, "bicycle": 4}, 16, None),
        ({"pattern": 2, "test": 2}, 4, None),
        ({"freight-train": 2, "passenger-train": 3}, 5, None),
        ({"loose": 3, "test": 2}, 3, "test"),
        ({"loose": 3, "val__a": 2, "val__b": 1}, 3, "val"),
        ({"loose": 3, "train": 2}, 5, None),
        ({"loose": 1, "train": 3, "test": 2}, 4, "test"),
        ({"val": 2}, 2, None),
        ({"a__b": 2}, 2, None),
        ({"training": 3, "testing": 2}, 3, "test"),
        ({"training_set": 3, "validation_set": 2}, 3, "validation"),
        ({"training": 3, "train": 2, "test": 1}, 5, "test"),
        ({"training": 3, "train": 2}, 5, None),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_folders_are_splits_only_if_all_that_hold_images_have_their_names(tmp_path, folders, train, held_out, form):
    root = config(packed(tree(tmp_path / "imgs", **folders), form))
    assert open_dataset(root).size == train and heldout_split(root) == held_out
    if held_out is not None:
        everything = sum(folders.values())
        assert open_dataset(root, held_out).size == everything - train


def test_a_class_called_train_is_a_class(tmp_path):
    data = open_dataset(config(tree(tmp_path / "imgs", car=1, bus=1, train=1, bicycle=1)))
    assert data.classes("label") == ("bicycle", "bus", "car", "train")
    assert "4 classes by folder" in summary("imgs", facts(data))


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_classes_are_read_around_the_split(tmp_path, form):
    root = tree(tmp_path / "imgs", cat__train=2, cat__test=1, dog__train=1, dog__test=1)
    data = open_dataset(config(packed(root, form)))
    assert data.classes("label") == ("cat", "dog") and data.labels()["label"].tolist() == [0, 0, 1]
    assert facts(data).role == "split train of train, test by folder name, 2 classes by folder"
    nested = open_dataset(config(tree(tmp_path / "yolo", images__train__a=1, images__train__b=2, images__val__a=1)))
    assert nested.classes("label") == ("a", "b") and nested.labels()["label"].tolist() == [0, 1, 1]


def test_the_summary_says_which_folders_were_read(tmp_path):
    masks = summary("imgs", found(tree(tmp_path / "imgs", images=3, masks=2)))
    assert masks == "imgs: 5 images (3 in images/, 2 in masks/), 2 classes by folder"
    loose = summary("x", found(tree(tmp_path / "x", loose=3, train=2)))
    assert loose == "x: 5 images (3 loose, 2 in train/)"
    coco = found(tree(tmp_path / "coco", train2017=2, val2017=1))
    assert coco.role == "split train of train, val by folder name" and not coco.parts
    part = found(tmp_path / "imgs", split="train[2:4]")
    assert (part.items, dict(part.parts)) == (2, {"images/": 1, "masks/": 1}) and "numbers 3 to 4 of 5" in part.role
    many = tree(tmp_path / "many", **{f"c{i}": 1 for i in range(9)})
    assert "1 in c5/, and 3 more" in summary("many", found(many))


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_a_reading_that_may_surprise_is_a_note(tmp_path, form):
    val = packed(tree(tmp_path / "a", val=2), form)
    assert found(val).notes == ("nothing but val/ holds images: they are read as train",)
    for folder in ("", "bottle__"):
        parts = {f"{folder}{name}": 1 for name in ("train", "test", "masks")}
        note = found(packed(tree(tmp_path / f"b{folder}", **parts), form)).notes[0]
        assert note.startswith("test/, train/ are read as classes, because masks/ beside them are no splits")
    assert not found(packed(tree(tmp_path / "c", car=2, train=1), form)).notes


def test_words_of_names():
    names = {"train2017": "train", "IMAGES_Train": "train", "x-validation": "validation", "trainer": None, "rain": None}
    assert {name: split_in(name) for name in names} == names


# --- what is left out -----------------------------------------------------------------------------------------------


def test_every_suffix_that_pillow_reads_is_read_and_the_others_are_counted(tmp_path):
    suffixes = ("jpg", "JPG", "jfif", "jpe", "dib", "pnm", "qoi", "tga", "pcx", "apng")
    tmp_path.joinpath("imgs").mkdir()
    for number, suffix in enumerate(suffixes):
        Image.fromarray(noise(number)).save(tmp_path / "imgs" / f"{number}.{suffix}")
    for name in ("a.heic", "b.HEIC", "c.jxl", "d.exr", "e.h5", "notes.txt", "README", ".DS_Store"):
        (tmp_path / "imgs" / name).write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"imgs: 10 images; left out: .*2 \.heic \(pip install pillow-heif\)") as seen:
        data = open_dataset(config(tmp_path / "imgs"))
    left = {".heic": 2, ".jxl": 1, ".exr": 1, ".h5": 1, ".txt": 1, "without suffix": 1, "hidden": 1}
    assert data.size == len(suffixes) and facts(data).left_out == left
    assert len([warning for warning in seen if "left out" in str(warning.message)]) == 1
    assert "\n" not in str(seen[0].message)


def test_companions_of_images_are_no_reason_for_a_warning(tmp_path):
    (tree(tmp_path / "imgs", loose=2) / "labels.csv").write_text("a,b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert summary("imgs", found(tmp_path / "imgs")) == "imgs: 2 images; left out: 1 .csv"


def test_heic_is_read_where_its_plugin_is(tmp_path, monkeypatch):
    """The plugin is not installed here: another stands in for it, which decodes PNG files of that suffix."""
    (tree(tmp_path / "imgs", loose=1) / "1.heic").write_bytes(png(noise(1)))
    monkeypatch.setattr(Image, "EXTENSION", dict(Image.EXTENSION))
    plugin = types.ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: Image.EXTENSION.update({".heic": "PNG"})
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    assert open_dataset(config(tmp_path / "imgs")).size == 2


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.heic").write_bytes(b"x")
    line = refusal(tmp_path / "phone")
    assert "it holds 1 .heic (pip install pillow-heif)" in line


def test_thumbnails_and_rubbish_are_left_out(tmp_path):
    root = tree(tmp_path / "imgs", loose=8)
    for name in ("@eaDir/0.jpg", "lost+found", "__MACOSX", "#recycle", ".thumbnails"):
        folder_of(root / name, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = found(root)
    assert seen.items == 8 and seen.left_out == {"thumbnails folder": 4, "hidden": 1}


def test_each_real_folder_is_read_once(tmp_path):
    root = tree(tmp_path / "imgs", a=3, b__c=2)
    for link, target in (("self", "."), ("up", "b"), ("a/again", "../b/c"), ("0", "b/c"), ("loop", "loop")):
        (root / link).symlink_to(target)
    (tmp_path / "elsewhere").mkdir()
    folder_of(tmp_path / "elsewhere", 1)
    (root / "more").symlink_to(tmp_path / "elsewhere")
    seen = found(root)
    assert seen.items == 6 and seen.parts == {"a/": 3, "b/": 2, "more/": 1}
    assert seen.left_out == {"link to a folder read already": 4, "without suffix": 1}
    assert len(list(files_under(root, {".png"}))) == 6


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder of images in which another one cannot be read."""
    root = tree(tmp_path / "imgs", loose=2, secret=3)
    if os.geteuid():
        (root / "secret").chmod(0)
        yield root
        (root / "secret").chmod(0o700)
        return
    scan = os.scandir  # permissions do not stop the superuser

    def refused(path):
        if str(path).rstrip("/").endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    yield root


def test_a_folder_that_cannot_be_read_is_refused_or_skipped(locked):
    line = refusal(locked)
    assert "imgs/secret cannot be read (Permission denied)" in line and "data.skip_corrupt=true" in line
    with pytest.warns(UserWarning, match="imgs: 2 images; left out: 1 folder that cannot be read"):
        assert open_dataset(config(locked, skip_corrupt=True)).size == 2
    for path in locked.glob("*.png"):
        path.unlink()
    saved(locked / "0.npy", noise(0))
    assert "imgs/secret cannot be read (Permission denied)" in refusal(locked)
    assert open_dataset(config(locked, skip_corrupt=True)).size == 1


def test_a_dangling_link_is_a_corrupt_item(tmp_path):
    root = tree(tmp_path / "imgs", loose=2)
    (root / "x.png").symlink_to("nowhere")
    line = refusal(root)
    assert f"cannot read {root}/x.png (a link to nowhere)" in line
    with pytest.warns(UserWarning, match=r"x\.png \(a link to nowhere\)"):
        data = open_dataset(config(root, skip_corrupt=True))
    assert data.size == 2 and facts(data).items == 2 and facts(data).left_out == {"broken link": 1}


def test_unreadable_items_are_named_where_they_lie_and_counted_nowhere(tmp_path):
    """A copy of the folder shares its cache, not its paths."""
    root = tree(tmp_path / "imgs", loose=2, sub=1)
    (root / "bad.png").write_text("x")
    (root / "sub" / "self.png").symlink_to("self.png")
    shutil.copytree(root, tmp_path / "copy", symlinks=True)
    for folder in (root, tmp_path / "copy"):
        for cache in (True, False):
            with pytest.warns(UserWarning, match=f"{folder.name}: 2 unreadable left out"):
                data = open_dataset(config(folder, skip_corrupt=True, cache=cache))
            assert [text.split(" (")[0] for text in data.skipped] == [f"{folder}/bad.png", f"{folder}/sub/self.png"]
            assert "(a link to nowhere)" in data.skipped[1]
            assert summary("imgs", facts(data)) == (
                "imgs: 3 images (2 loose, 1 in sub/); left out: 1 broken link, 1 unreadable image"
            )


def test_a_built_in_name_is_not_the_folder_beside(tmp_path):
    tree(Path("rings"), loose=2)
    with pytest.warns(UserWarning, match=r"rings is the built-in dataset.*\./rings"):
        assert open_dataset(DataConfig(name="rings")).size is None
    assert open_dataset(DataConfig(name="./rings")).size == 2


def test_announcements_do_not_repeat_a_warning():
    quiet = Found(items=3, parts={"a/": 1, "b/": 2}, notes=("cropped",))
    assert announcement("x", quiet) == ["x: 3 images (1 in a/, 2 in b/)", "note: cropped"]
    assert announcement("x", Found(items=3, left_out={".heic": 1}, notes=("cropped",))) == ["note: cropped"]
    assert announcement("x", Found(items=3)) == []


# --- runs inside the data -------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """The working directory, with ten images of 24x32."""
    monkeypatch.chdir(folder_of(tmp_path / "photos", 10, height=24, width=32))
    return tmp_path / "photos"


def items_of(run: Path) -> int:
    return json.loads((run / "run.json").read_text(encoding="utf-8"))["data"]["items"]


def test_a_run_inside_the_data_never_becomes_data(photos, capsys):
    """However many there are, where they lie, and whether they go on."""
    train = ["train", "vae", "--data", ".", *as_options(*TINY)]
    assert main(train) == 0
    shown = capsys.readouterr().out
    assert "on photos: 10 items" in shown and "note: nothing of photos is held out (10 items)" in shown
    assert "cropping cuts off 25% of each image on average; data.fit=pad keeps all of it" in shown
    (run,) = Path("runs").iterdir()
    assert run.name == "vae.toyfaces32-photos-16-s0"
    assert main([*train, "--seed", "1", "--out", "."]) == 0
    assert main(train) == 0 and main([*train, "--set", "train.duration=128"]) == 0
    assert items_of(run) == items_of(Path()) == 10
    assert {"runs of genzoo" in capsys.readouterr().out, *map(bool, run.glob("previews/*.png"))} == {False, True}
    left = found(photos).left_out
    assert left["run of genzoo"] == 1 and left["output of genzoo"] >= 5
    assert main(["eval", str(run), "--metrics", "rec100_train"]) == 0
    line = json.loads((run / "eval.jsonl").read_text(encoding="utf-8"))
    assert line["found"]["items"] == 10 and line["details"]["n_real"] == 10 and line["data"] == "photos"


def test_pictures_that_verbs_add_to_a_run_are_left_out(tmp_path):
    root = tree(tmp_path / "imgs", loose=2)
    (root / "run.json").write_text("{}")
    for name in ("copies.png", "interpolation.png", "ood.png", "samples.png", "translation.png"):
        (root / name).write_bytes(png(noise(1)))
    assert found(root).items == 2 and found(root).left_out["output of genzoo"] == 5


def test_runs_and_models_are_left_out_wherever_they_lie(tmp_path):
    root = tree(tmp_path / "imgs", a=2, b=1, a__old__previews=3, models__x=2)
    (root / "a/old/run.json").write_text("{}")
    (root / "models/x/diffusion_pytorch_model.safetensors").write_bytes(b"")
    (root / "link").symlink_to("a/old")
    seen = found(root)
    assert seen.items == 3 and seen.left_out == {
        "run of genzoo": 1,
        "saved model": 1,
        "link to a folder read already": 1,
    }
    assert "no images under" in refusal(root / "models")


def test_a_cache_inside_the_data_never_becomes_data(tmp_path, monkeypatch):
    root = tree(tmp_path / "imgs", loose=2)
    monkeypatch.setenv("GENZOO_CACHE", str(root))
    assert found(root).items == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(root).left_out == {".lock": 1, "output of genzoo": 1} and not list(files_under(root, {".npy"}))


@pytest.mark.parametrize(
    ("name", "expected"), [(".", "inner"), ("../inner", "inner"), ("..", "outer"), ("digits", "digits")]
)
def test_runs_are_named_by_the_resolved_path(tmp_path, monkeypatch, name, expected):
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "outer" / "inner")
    assert f"-{expected}-" in RunFolder.default(resolve("vae", data=name)).name


# --- values ---------------------------------------------------------------------------------------------------------


def dark_values(top: int) -> np.ndarray:
    """8x8 values from 0 to top."""
    return np.linspace(0, top, 64).round().reshape(8, 8).astype(np.uint16)


@pytest.mark.parametrize(
    ("kind", "top"), [("png", 4095), ("tif", 4095), ("png", 1023), ("png", 16383), ("npy", 4095), ("rgb.npy", 4095)]
)
def test_deep_values_are_scaled_exactly_by_their_range(tmp_path, kind, top):
    values = dark_values(top)
    if kind.endswith("npy"):
        images = np.stack([values] * 3) if kind == "rgb.npy" else values[None]
        place = saved(tmp_path / "x.npy", images[None])
    else:
        place = deep(tmp_path / "scans" / f"0.{kind}", values).parent
    data = open_dataset(config(place, channels=1 if kind != "rgb.npy" else 3, range=top))
    assert np.array_equal(data[0][0].numpy(), np.rint(values * (255 / top)))
    dark = open_dataset(config(place, channels=1 if kind != "rgb.npy" else 3))
    assert np.array_equal(dark[0][0].numpy(), np.rint(values / 257))


@pytest.mark.parametrize(
    ("array", "top"),
    [
        (np.eye(8, dtype=np.uint8), 1),
        (np.eye(8, dtype=np.uint8) * 3, 3),
        (np.stack([np.eye(8, dtype=np.uint8) * 15] * 3), 15),
        (np.eye(8) / 16, 1 / 16),
    ],
    ids=["mask", "2 bits", "4 bits of color", "floats"],
)
def test_narrow_arrays_say_their_range_and_are_scaled_by_it(tmp_path, array, top):
    images = array if array.ndim == 3 else array[None]
    place = saved(tmp_path / "x.npy", np.stack([images] * 2))
    dark = open_dataset(config(place))
    (problem, text, fix), *_ = data_findings(dark.batch([0]), facts(dark).top)
    assert problem == "dark data" and "of 255" in text and fix == f"give data.range={top:g}"
    bright = open_dataset(config(place, range=top))
    assert np.array_equal(bright[0][0].numpy(), np.eye(8) * 255)
    assert not data_findings(bright.batch([0]), facts(bright).top)


def test_booleans_are_black_and_white(tmp_path):
    data = open_dataset(config(saved(tmp_path / "x.npy", np.eye(8, dtype=bool)[None]), channels=1))
    assert np.array_equal(data[0][0].numpy(), np.eye(8) * 255)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_narrow_image_files_are_scaled_and_their_transparency_is_not(tmp_path, mode):
    image = Image.fromarray(np.eye(8, dtype=np.uint8))
    if mode == "P":
        image = image.convert("P")
    elif mode != "L":
        image = image.convert(mode)  # opaque: alpha is 255
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "masks" / "0.png")
    assert np.array_equal(open_dataset(config(tmp_path / "masks", range=1))[0][0].numpy(), np.eye(8) * 255)


def test_values_beyond_the_range_are_refused(tmp_path):
    deep(tmp_path / "scans" / "0.png", dark_values(4095))
    assert "values from 0 to 4095, outside [0, 1023]" in refusal(tmp_path / "scans", range=1023)
    assert "beyond the 8 bits" in refusal(tree(tmp_path / "rgb", loose=1), range=4095)


@pytest.mark.parametrize(
    ("high", "top", "expected"),
    [
        (16, 65535, 4095),  # 4080 and 4095 of 65535 become 16
        (4, 65535, 1023),
        (1, 65535, 255),
        (1, 255, 1),
        (16, 255, 31),
        (17, 255, None),
        (0, 255, None),  # all black
        (15, 1, 0.0625),
        (5, 4095, 127),
    ],
)
def test_the_range_is_inferred_from_the_values(high, top, expected):
    dark = darkness(high, top)
    assert dark is None if expected is None else dark is not None and dark[1] == expected


def test_dark_data_is_reported_by_the_run_and_by_suggest(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(8):
        deep(tmp_path / "scans" / f"{i}.png", rng.integers(0, 4081, (16, 16)))
    assert main(["train", "vae", "--data", str(tmp_path / "scans"), "--out", "run", *as_options(*TINY)]) == 0
    events = [json.loads(line) for line in Path("run/events.jsonl").read_text(encoding="utf-8").splitlines()]
    (dark,) = [event for event in events if event["kind"] == "data"]
    assert dark["problem"] == "dark data" and dark["fix"] == "give data.range=4095"
    assert dark["text"] == "no pixel above 16 of 255; are these 12-bit values?"
    assert "dark data: no pixel above 16 of 255; are these 12-bit values? Fix: give" in capsys.readouterr().out
    assert main(["suggest", "vae", "--data", str(tmp_path / "scans")]) == 0
    assert "give data.range=4095" in capsys.readouterr().err
    bright = ["suggest", "vae", "--data", str(tmp_path / "scans"), "--set", "data.range=4095"]
    assert main(bright) == 0 and "dark" not in capsys.readouterr().err


def test_deep_color_is_known_to_be_deep(tmp_path):
    """Pillow reads the upper 8 bits only, so that a range would leave 16 levels: refused, with what to save."""
    rows = b"".join(b"\0" + np.full((8, 3), 4000, ">u2").tobytes() for _ in range(8))
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "0.png").write_bytes(png_file(8, 8, depth=16, kind=2, data=rows))
    assert look_for(config(tmp_path / "scans")).top == 65535
    assert "uint16 array" in refusal(tmp_path / "scans", range=4095)


def png_file(width: int, height: int, depth: int = 8, kind: int = 0, data: bytes = b"") -> bytes:
    """A PNG file of any size and depth, whose rows are `data`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


# --- large images, cropping, profiles, frames -----------------------------------------------------------------------


def test_a_very_large_image_names_the_option_that_reads_it(tmp_path, monkeypatch, capsys):
    root = tree(tmp_path / "imgs", loose=1)
    (root / "large.png").write_bytes(png_file(15_000, 13_000))
    line = refusal(root)
    assert "large.png (it has 195000000 pixels; data.max_pixels=195000000 allows it)" in line
    (root / "large.png").unlink()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # 8x8 is beyond the double of it
    assert "data.max_pixels=64 allows it" in refusal(root)
    assert "data.max_pixels=64 allows it" in refusal(root, max_pixels=62)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_dataset(config(root, max_pixels=64)).size == 1
    assert Image.MAX_IMAGE_PIXELS == 30
    pages = [Image.fromarray(noise(i)) for i in range(3)]
    pages[0].save(root / "0.tif", save_all=True, append_images=pages[1:])
    (root / "0.png").unlink()
    assert open_dataset(config(root, max_pixels=64, frames="all")).size == 3
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # Pillow reads it, and warns of an attack
    assert main(["data", str(root)]) == 0 and "bomb" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("height", "width", "settings", "expected"),
    [
        (75, 100, {"size": (32, 32)}, 0.25),
        (100, 75, {"size": (32, 32)}, 0.25),
        (75, 100, {"size": (75, 100)}, 0),
        (75, 100, {"size": (32, 64)}, 1 / 3),
        (75, 100, {"size": (32, 32), "fit": "pad"}, 0),
        (75, 100, {"size": (32, 32), "precrop": 50}, 0),
        (75, 100, {}, 0),
    ],
)
def test_the_share_that_cropping_cuts_off(height, width, settings, expected):
    assert share_cut_off(height, width, DataConfig(**settings)) == pytest.approx(expected)


def test_cropping_is_noted_with_its_mean_share(tmp_path):
    folder_of(tmp_path / "imgs", 2, height=75, width=100)
    Image.fromarray(noise(9, 64, 64)).save(tmp_path / "imgs" / "2.png")
    (note,) = found(tmp_path / "imgs", size=(16, 16)).notes
    assert note == "cropping cuts off 17% of each image on average; data.fit=pad keeps all of it"
    assert not found(tmp_path / "imgs", size=(16, 16), fit="pad").notes
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise(0, 50, 100)).save(tmp_path / "0.jpg", exif=turned)
    (tmp_path / "turned").mkdir()
    (tmp_path / "0.jpg").rename(tmp_path / "turned" / "0.jpg")
    assert not found(tmp_path / "turned", size=(100, 50)).notes
    assert "50%" in found(saved(tmp_path / "x.npy", np.zeros((2, 3, 8, 16), np.uint8)), size=(8, 8)).notes[0]


P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))  # red, green, blue at D50
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
GAMMA = 2.2


def icc(columns: tuple, kind: bytes = b"RGB ") -> bytes:
    """A color profile of three primaries and one gamma, or of gray."""
    fixed = lambda *values: struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))  # noqa: E731
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(GAMMA * 256)) + b"\0\0"
    text = b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(4 + 4 + 2 + 1 + 67)
    tags = {b"desc": text, b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    if kind == b"GRAY":
        tags[b"kTRC"] = curve
    for name, column in zip(b"rgb", columns, strict=True) if kind == b"RGB " else ():
        tags |= {bytes([name]) + b"XYZ": b"XYZ \0\0\0\0" + fixed(*column), bytes([name]) + b"TRC": curve}
    table, body = b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02100000, b"mntr", kind, b"XYZ ") + bytes(12) + b"acsp" + bytes(28)
    head += fixed(0.9642, 1, 0.8249) + bytes(48)
    profile = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(profile)) + profile[4:]


def as_srgb(color: np.ndarray, columns: tuple = P3) -> np.ndarray:
    """The sRGB color [..., 3] of a color in a profile, by its definition."""
    linear = (color / 255) ** GAMMA @ np.array(columns) @ np.linalg.inv(np.array(SRGB))
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "rgba", "palette"])
def test_colors_of_another_profile_become_srgb(tmp_path, kind):
    color = np.array([200, 100, 50])
    image = Image.new("RGB", (8, 8), tuple(color.tolist()))
    image = {"rgba": image.convert("RGBA"), "palette": image.quantize(4)}.get(kind, image)
    (tmp_path / "imgs").mkdir()
    suffix = kind if kind in ("jpg", "webp", "tif") else "png"
    options = {"quality": 100} | ({"lossless": True} if kind == "webp" else {})
    image.save(tmp_path / "imgs" / f"0.{suffix}", icc_profile=icc(P3), **options)
    data = open_dataset(config(tmp_path / "imgs"))
    assert np.abs(data[0][:, 4, 4].numpy() - as_srgb(color)).max() <= (4 if kind == "jpg" else 2)
    assert np.abs(as_srgb(color) - color).max() > 10
    assert facts(data).notes[0] == "1 of 1 images looked at have colors of another ICC profile: converted to sRGB"


def test_transparency_survives_the_conversion(tmp_path):
    (tmp_path / "imgs").mkdir()
    Image.new("RGBA", (8, 8), (200, 100, 50, 0)).save(tmp_path / "imgs" / "0.png", icc_profile=icc(P3))
    assert (open_dataset(config(tmp_path / "imgs", background="#102030"))[0][:, 0, 0].numpy() == (16, 32, 48)).all()


def test_profiles_of_srgb_and_damaged_ones_change_no_pixel(tmp_path):
    from PIL import ImageCms

    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate((own, b"damaged", icc(P3)[:200], icc(P3, b"GRAY"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        Image.fromarray(noise(number)).save(folder / "0.png", icc_profile=profile)
        data = open_dataset(config(folder))
        assert np.array_equal(data[0].numpy(), noise(number).transpose(2, 0, 1)) and not facts(data).notes


def test_gray_of_another_gamma_becomes_that_of_srgb(tmp_path):
    (tmp_path / "imgs").mkdir()
    Image.new("L", (8, 8), 10).save(tmp_path / "imgs" / "0.png", icc_profile=icc(P3, b"GRAY"))
    expected = as_srgb(np.array([10, 10, 10]), SRGB)[0]
    assert abs(open_dataset(config(tmp_path / "imgs", channels=1))[0].numpy()[0, 0, 0] - expected) <= 1.5
    assert abs(expected - 10) > 2


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_frames_and_pages_are_noted_and_read_where_asked_for(tmp_path, suffix):
    levels = [0, 50, 100, 150, 200]
    frames = [
        Image.new("L" if suffix == "gif" else "RGB", (8, 8), (n if suffix == "gif" else (n, n, n))) for n in levels
    ]
    for name in ("a/0", "a/1", "b/2"):
        path = tmp_path / "imgs" / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    Image.new("RGB", (8, 8), (7, 7, 7)).save(tmp_path / "imgs" / "b" / "3.png")
    first = open_dataset(config(tmp_path / "imgs"))
    (note,) = facts(first).notes
    assert first.size == 4 and note.startswith("3 of 4 images looked at have several frames or pages")
    data = open_dataset(config(tmp_path / "imgs", frames="all"))
    shown = data.batch(range(data.size))[:, 0, 0, 0].tolist()
    assert np.abs(np.array(shown) - np.array([*levels, *levels, *levels, 7])).max() <= 1
    assert data.labels()["label"].tolist() == [0] * 10 + [1] * 6
    assert facts(data).parts == {"a/": 10, "b/": 6} and "all frames of 4 files" in facts(data).role
    assert not facts(data).notes and open_dataset(config(tmp_path / "imgs", frames="all", split="train[10:]")).size == 6


def test_facts_are_json(tmp_path):
    seen = found(tree(tmp_path / "imgs", a=1, b=2))
    assert Found(**json.loads(json.dumps(seen.to_json()))).parts == seen.parts
    assert facts(open_dataset(DataConfig(name="rings"))).to_json()["items"] is None
