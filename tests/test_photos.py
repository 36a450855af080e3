"""A folder of mixed photos, from the first look at it to a run that goes on after the folder was moved."""

import shlex
import shutil
import warnings
from pathlib import Path

import pytest
from helpers import TINY, as_options
from PIL import Image
from sample_data import folder_of, noise

from genzoo import budgets, cli
from genzoo.cli import main
from genzoo.data import facts, load_image, look_for, open_dataset
from genzoo.dataspec import DataConfig
from genzoo.errors import UsageError

pytestmark = pytest.mark.usefixtures("one_thread")

MOVED = "albums/of 2019"
SHORT = (*TINY[:3], "train.duration=16", "data.size=16x16", "data.skip_corrupt=true", "train.prior=normal")


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> Path:
    """24 images in two classes, and 2 that cannot be read."""
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    root = Path("photos")
    folder_of(root / "car", 12, height=24, width=24)
    folder_of(root / "train", 12, height=24, width=30)
    (root / "car" / "broken.png").write_bytes((root / "car" / "0.png").read_bytes()[:300])
    (root / "train" / "gone.jpg").symlink_to("nowhere.jpg")
    return root


def moved(photos: Path) -> Path:
    Path(MOVED).parent.mkdir()
    return Path(shutil.move(photos, MOVED))


def printed(capsys, *args: str, status: int = 0) -> str:
    assert main(args) == status
    return " ".join("".join(capsys.readouterr()).split())


def test_a_look_says_how_many_are_held_out(capsys):
    text = printed(capsys, "data", "photos")
    assert (
        text.startswith("photos: 26 images (13 in car/, 13 in train/), 2 classes by folder ") and "looked at 26" in text
    )
    assert "splits train 26 held out 2 for scores" in text
    assert "held out" not in printed(capsys, "data", "photos", "--set", "data.holdout=0")


def test_folders_are_counted_without_what_cannot_be_read(photos):
    found = facts(open_dataset(DataConfig(name="photos", size=(16, 16), skip_corrupt=True, holdout=0)))
    assert found.items == 24 and found.parts == {"car/": 12, "train/": 12}
    assert found.left_out == {"broken link": 1, "unreadable image": 1}


def test_one_animation_among_hundreds_of_photos_is_found(tmp_path):
    folder_of(tmp_path / "many", 200, height=2, width=2)
    frames = [Image.fromarray(noise(i, 2, 2)) for i in range(2)]
    frames[0].save(tmp_path / "many" / "1.gif", save_all=True, append_images=frames[1:])
    notes = " ".join(look_for(DataConfig(name=str(tmp_path / "many"))).notes)
    assert "1 of 201 images looked at have several frames" in notes


def test_what_cannot_be_read_is_named_where_it_is_now(photos):
    config = DataConfig(name="photos", size=(16, 16), skip_corrupt=True, holdout=0)
    open_dataset(config)
    moved(photos)
    with pytest.warns(UserWarning, match="2 unreadable left out") as seen:
        skipped = open_dataset(DataConfig(name=MOVED, size=(16, 16), skip_corrupt=True, holdout=0)).skipped
    assert [text.partition(" (")[0] for text in skipped] == [f"{MOVED}/car/broken.png", f"{MOVED}/train/gone.jpg"]
    assert str(skipped[1]) in str(seen[0].message) and "photos/" not in str(seen[0].message)


def test_suggest_names_what_the_run_would_refuse(photos, capsys):
    (photos / "phone.heic").write_bytes(b"x")
    text = printed(capsys, "suggest", "--data", "photos", "--res", "16")
    assert "2 of 24 images looked at cannot be read, such as photos/car/broken.png (" in text
    assert "--set data.skip_corrupt=true" in text and "left out: 1 .heic (pip install pillow-heif)" in text
    assert "of median shape 3x24x27" in text and "as asked; images have several sizes, median 24x27" in text
    assert "cannot be read" not in printed(capsys, "suggest", "--data", "photos", "--set", "data.skip_corrupt=true")
    assert "write `genzoo suggest --data photos`" in printed(capsys, "suggest", "photos", status=2)


def test_a_run_with_a_budget_has_no_note_on_a_preset_that_it_does_not_use():
    notes = budgets.ask("introvae", "3min", data="photos").resolve(["data.size=16x16"]).notes
    assert not [note for note in notes if "preset" in note]


def test_a_photo_of_a_phone_is_refused_with_what_reads_it(photos):
    (photos / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UsageError, match=r"phone.HEIC: it is not an image.*; pip install pillow-heif\."):
        load_image("photos/phone.HEIC", (3, 16, 16), DataConfig())


def test_a_warning_is_printed_once_by_a_command(monkeypatch, capsys):
    def command(argv):
        for text in ("a", "a", "b"):
            warnings.resetwarnings()  # as some libraries do when they are imported
            warnings.warn(f"left out: {text}", stacklevel=1)
        return 0

    monkeypatch.setattr(cli, "_dispatch", command)
    for _ in range(2):
        assert main(["data"]) == 0
        assert capsys.readouterr().err.splitlines() == [f"genzoo: warning: left out: {text}" for text in "ab"]


def test_resuming_says_which_data_is_not_there_and_takes_the_new_place(photos, capsys, monkeypatch):
    place, tiny = photos.resolve(), "my runs/a"
    text = printed(capsys, "train", "introvae", "--data", "photos", "--out", tiny, *as_options(*SHORT))
    assert "Done: preview.png, curves.png, quality.png and model/ are in my runs/a." in text
    assert f"genzoo sample {shlex.quote(tiny)} --n 64" in text
    monkeypatch.chdir(Path("my runs"))
    text = printed(capsys, "train", "--resume", "a", "--images", "32")  # from another folder
    assert "Resuming a at 16 of 32 images." in text
    monkeypatch.chdir(place.parent)
    moved(photos)
    text = printed(capsys, "train", "--resume", tiny, "--images", "48", status=2)
    assert text == f"genzoo: the run was trained on {place}, which is not there: give --data."
    text = printed(capsys, "train", "--resume", tiny, "--data", MOVED, "--images", "48")
    assert "Resuming my runs/a at 32 of 48 images." in text and "Done" in text
