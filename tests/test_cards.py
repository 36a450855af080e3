"""Shared folders: cards with license and tags, nothing private, nothing that text of others could inject."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import tiny_run
from huggingface_hub import ModelCard
from PIL import Image

import genzoo
from genzoo import Trainer
from genzoo.bench.markdown import table
from genzoo.bench.tables import Entry, Table
from genzoo.errors import UsageError
from genzoo.markdown import code, escaped
from genzoo.models.introvae import IntroVAE
from genzoo.runs.card import run_card, shared_name

SECRET = "alice-private"
NAME = "a|b<script>*x*`y`\\[z](http:)\n# faces"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of images with a hostile name, under a private path."""
    data = tmp_path_factory.mktemp(SECRET) / NAME
    data.mkdir()
    for i in range(16):
        Image.effect_noise((16, 16), 10 + i).convert("RGB").save(data / f"{i}.png")
    settings = [f"data.name={data}", "train.duration=16", "train.snapshot_every=100%", "train.prior=normal"]
    out = tmp_path_factory.mktemp("runs") / "run"
    return Trainer(tiny_run("introvae", *settings), out=out, progress=False).fit()


def uploaded_by(monkeypatch: pytest.MonkeyPatch, out: Path) -> list[str]:
    """Replaces the hub's interface by one that copies what is uploaded to a folder; returns the repositories."""
    repositories = []

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            repositories.append(repo_id)
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, out)
            return "done"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    return repositories


def shared_folders(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every kind of folder that is saved or uploaded: of the run, saved again, and pushed."""
    model = genzoo.load(run)
    model.save_pretrained("saved")
    for folder, out in ((None, "pushed"), (run, "pushed-run"), (run / "best", "pushed-best")):
        uploaded_by(monkeypatch, Path(out))
        model.push_to_hub("me/faces", folder)
    return [run / "model", run / "best", *map(Path, ("saved", "pushed", "pushed-run", "pushed-best"))]


def test_every_shared_folder_is_complete_and_tells_nothing_private(run, monkeypatch):
    for folder in shared_folders(run, monkeypatch):
        about = ModelCard.load(folder / "README.md").data
        assert (about.library_name, about.license) == ("genzoo", "unknown"), folder
        assert set(about.tags) >= {"genzoo", "introvae", "autoencoder", "image-generation"}
        assert type(genzoo.load(folder)) is IntroVAE
        assert "_name_or_path" not in json.loads((folder / "config.json").read_text())
        for path in folder.iterdir():
            content = path.read_bytes()
            assert SECRET.encode() not in content and str(run.parent).encode() not in content, path
        assert not {path.name for path in folder.iterdir()} & {"run.json", "log.jsonl", "checkpoints"}


def test_the_name_of_the_data_cannot_inject_markup(run):
    text = (run / "best" / "README.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| data |")]
    shown = r"a\|b&lt;script&gt;\*x\*\`y\`\\\[z](http:) # faces, split train, 16x16"
    assert row == f"| data | {shown} |"
    assert "<script>" not in text and "\n# faces" not in text


def test_the_name_of_a_column_cannot_inject_markup(run):
    model = genzoo.load(run)
    config = tiny_run("introvae", "data.column=a|b<script>\n# c", "data.background=black")
    text = run_card(config, model, nimg=1, score=1.0, n=1, heldout=None, averaged=False, pictured=False)
    assert "| read with | data.column=a\\|b&lt;script&gt; # c, data.background=black" in text


def test_a_card_names_the_settings_that_are_not_those_of_the_preset(run):
    (row,) = [line for line in (run / "best" / "README.md").read_text().splitlines() if "| other settings |" in line]
    assert "arch.channels=8, " in row and "train.batch=8, " in row and "data." not in row


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ("toyfaces", "toyfaces"),
        ("owner/name", "owner/name"),
        ("owner/name:config", "owner/name:config"),
        ("/home/alice/Private Project/faces", "faces"),
        ("/home/alice/Private Project/faces/", "faces"),
        ("~/faces.npz", "faces.npz"),
        ("alice/deep/faces", "faces"),
        ("here/faces", "faces"),
        (".", "work"),
        ("..", "private"),
    ],
)
def test_of_a_path_the_last_name_is_shared(data, shown, tmp_path, monkeypatch):
    work = tmp_path / "private" / "work"
    (work / "here" / "faces").mkdir(parents=True)
    monkeypatch.chdir(work)
    assert shared_name(data) == shown


def test_tables_of_results_escape_as_cards_do():
    assert escaped("\\[x](http://evil)") == "\\\\\\[x](http://evil)"
    assert escaped("a\r\n\tb") == "a   b"
    assert code("a`b`\n c") == "a'b' c"
    content = Table(("label",), ((Entry("\\[x](http://evil) | y"),),))
    assert "| \\\\\\[x](http://evil) \\| y |" in table(content)


def test_a_preset_from_somebodys_config_cannot_inject_into_a_card():
    model = IntroVAE("introvae.x\n---\n# <b>y</b>", (3, 16, 16), {"channels": (4, 8), "z_dim": 3})
    model.save_pretrained("saved")
    card = ModelCard.load("saved/README.md")
    assert card.data.tags[1] == "introvae" and card.data.license == "unknown"
    assert "<b>" not in card.text and card.text.count("\n# ") + card.text.startswith("# ") == 1


@pytest.mark.parametrize(
    ("repo_id", "folder", "match"),
    [
        ("faces", None, "write owner/name"),
        ("me/my faces", None, "write owner/name"),
        ("me/faces", "nowhere", "is not a folder"),
        ("me/faces", "empty", "contains no model"),
    ],
)
def test_only_models_are_uploaded_and_only_to_repositories(repo_id, folder, match, monkeypatch):
    Path("empty").mkdir()
    model = IntroVAE(shape=(3, 16, 16), arch={"channels": (4, 8), "z_dim": 3})
    repositories = uploaded_by(monkeypatch, Path("pushed"))
    with pytest.raises(UsageError, match=match) as caught:
        model.push_to_hub(repo_id, folder)
    assert not repositories and "\n" not in str(caught.value)
