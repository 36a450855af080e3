"""Runs, and their data, that are typed or found in another place than where they began."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import read_log, tiny_run
from sample_data import folder_of

from genzoo import Trainer
from genzoo.cli import main
from genzoo.runs.folder import read_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, own_cache) -> Path:
    """A folder with images in `imgs` and a run on `imgs`, which is a relative path."""
    root = tmp_path_factory.mktemp("project")
    folder_of(root / "imgs", 12, height=16, width=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        Trainer(
            tiny_run("vae", "data.name=imgs", "train.duration=16", "train.prior=normal"), out="run", progress=False
        ).fit()
    return root


@pytest.fixture
def project(finished, tmp_path, monkeypatch) -> Path:
    """A copy of the folder beside the working directory. The run was made in another place."""
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "project"


def test_a_run_is_resumed_and_repeated_from_another_folder(project):
    assert main(["train", "--resume", "../project/run", "--images", "24"]) == 0
    assert read_log(project / "run")[-1]["nimg"] == 24
    assert main(["train", "--config", "../project/run", "--out", "again", "--seed", "1"]) == 0
    record = json.loads(Path("again/run.json").read_text())["data"]
    assert record["identity"] == json.loads((project / "run/run.json").read_text())["data"]["identity"]


def test_a_run_without_its_run_json_finds_its_data_from_another_folder(project):
    content = json.loads((project / "run/run.json").read_text())["data"]
    (project / "run/run.json").unlink()
    assert main(["train", "--resume", "../project/run"]) == 0
    again = json.loads((project / "run/run.json").read_text())["data"]
    assert (again["identity"], again["place"]) == (content["identity"], content["place"])


def test_data_that_has_moved_is_asked_for(finished, project, monkeypatch, capsys):
    content = json.loads((project / "run/run.json").read_text())
    content["data"]["place"] = str(project / "imgs")
    del content["_checksum"]
    (project / "run/run.json").write_text(json.dumps(content))
    (project / "imgs").rename("moved")
    assert main(["train", "--resume", "../project/run"]) == 2
    where = f"imgs ({project / 'imgs'})"
    assert capsys.readouterr().err == f"genzoo: the run was trained on {where}, which is not there: give --data.\n"
    for data in (["--data", "moved"], ["--set", "data.name=./moved/"]):
        assert main(["train", "--resume", "../project/run", *data]) == 0
    assert read_config(project / "run").data.name == "./moved/"


def test_an_archive_in_place_of_a_folder_is_other_content(project, capsys):
    shutil.make_archive("imgs", "zip", project / "imgs")
    assert main(["train", "--resume", "../project/run", "--data", "imgs.zip"]) == 2
    error = capsys.readouterr().err
    assert "data: imgs.zip (" in error and error.endswith("/imgs): other content\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["project/run/run.json"], "project/run is a run: resume it with `genzoo train --resume project/run`."),
        (["--resume", "project/run/run.json"], "run.json belongs to a run: genzoo train --resume project/run."),
        (["--resume", "project/run/model"], "model belongs to a run: genzoo train --resume project/run."),
        (["--resume", "project/run/checkpoints"], "belongs to a run: genzoo train --resume project/run."),
        (["--resume", "project/run/checkpoints/000000002"], "belongs to a run: genzoo train --resume project/run."),
        (["--resume", "project/imgs"], "project/imgs contains no run.json: give the folder of a run"),
    ],
)
def test_a_part_of_a_run_names_the_run(project, args, said, monkeypatch, capsys):
    monkeypatch.chdir(project.parent)
    assert main(["train", *args]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "part"),
    [
        ("sample", "checkpoints"),
        ("sample", "checkpoints/000000002"),
        ("sample", "checkpoints/000000002/model.safetensors"),
        ("sample", "run.json"),
        ("eval", "checkpoints/000000002"),
    ],
)
def test_a_checkpoint_belongs_to_its_run(project, verb, part, monkeypatch, capsys):
    monkeypatch.chdir(project.parent)
    assert main([verb, f"project/run/{part}"]) == 2
    said = f"genzoo: project/run/{part} belongs to the run run: give the run's folder, project/run.\n"
    assert capsys.readouterr().err == said


def test_the_folder_of_a_run_is_quoted(project, capsys):
    (project / "run").rename("a run")
    assert main(["train", "vae", "--data", str(project / "imgs"), "--out", "a run", "--images", "8"]) == 2
    assert "as genzoo train --resume 'a run' does" in capsys.readouterr().err


def test_an_edited_run_is_refused_before_it_is_written_again(finished, project, capsys):
    path = project / "run/run.json"
    original = path.read_bytes()
    edited = original.replace(b'"fit": "crop"', b'"fit": "stretch"')
    path.write_bytes(edited)
    assert edited != original
    assert main(["train", "--resume", "../project/run"]) == 2
    error = capsys.readouterr().err
    assert "run.json was edited or damaged" in error and "data.fit: crop -> stretch" in error
    assert path.read_bytes() == edited  # still without its own checksum, so that every command warns
    path.write_bytes(original)
    assert main(["train", "--resume", "../project/run"]) == 0
    assert read_config(project / "run").data.fit == "crop"


def test_what_is_encoded_is_named(finished, project, capsys):
    assert main(["encode", "../project/run", "--data", "../project/imgs", "--set", "data.holdout=0"]) == 0
    out, err = capsys.readouterr()
    assert "; split train, another with --set data.split=" in out
    assert "data.holdout=0.0, and ../project/run was trained with the default, a tenth" in err + out
