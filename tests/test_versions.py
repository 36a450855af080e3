"""Files that a newer genzoo wrote: a request to upgrade where this one does not know what they hold."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import tiny_run

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.errors import UsageError
from genzoo.models.vae import VAE
from genzoo.runs.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("one_thread")

NEWER = "99.1.0"
UPGRADE = f"was written by genzoo {NEWER}, this is {genzoo.__version__}: upgrade, pip install -U genzoo."
FUTURE = [  # what a config.json may hold that this version does not know
    {"from_the_future": 1},
    {"arch": {"from_the_future": 1}},
    {"arch": {"encoder": "from_the_future"}},
    {"data": {"from_the_future": 1}},
    {"preset": "from_the_future.small"},
]


@pytest.fixture
def saved() -> Path:
    VAE("vae.toyfaces32", (3, 16, 16), {"channels": (4, 8), "z_dim": 3}).save_pretrained("saved")
    return Path("saved")


def change(folder: Path, version: str, **changes) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        config[key] = (config[key] or {}) | value if isinstance(value, dict) else value
    path.write_text(json.dumps(config | {"_genzoo_version": version}))


def test_a_model_records_the_version_that_saved_it(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["_genzoo_version"] == genzoo.__version__
    change(saved, NEWER)
    genzoo.load(saved).save_pretrained("again")  # a newer version that changed nothing for this model
    assert json.loads(Path("again/config.json").read_text()) == config | {"data": None}


@pytest.mark.parametrize("changes", FUTURE, ids=str)
def test_a_model_of_a_newer_version_says_upgrade(saved, changes, capsys):
    change(saved, NEWER, **changes)
    assert main(["sample", "saved"]) == 2
    assert capsys.readouterr().err == f"genzoo: saved/config.json {UPGRADE}\n"


@pytest.mark.parametrize("changes", FUTURE, ids=str)
def test_a_model_of_this_version_does_not(saved, changes, capsys):
    change(saved, genzoo.__version__, **changes)
    assert main(["sample", "saved"]) == 2
    error = capsys.readouterr().err
    assert "from_the_future" in error and "pip install" not in error and error.count("\n") == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory, own_cache) -> Path:
    config = tiny_run("vae", "train.duration=16", "train.prior=normal")
    return Trainer(config, out=tmp_path_factory.mktemp("runs") / "run", progress=False).fit()


@pytest.fixture
def run(finished) -> Path:
    return Path(shutil.copytree(finished, "run"))


@pytest.mark.parametrize("file", ["run", "run/run.json"])
def test_settings_of_a_newer_version_say_upgrade(run, file, capsys):
    content = json.loads((run / "run.json").read_text())
    content["config"]["train"]["from_the_future"] = 1
    for version, said in ((genzoo.__version__, "Unknown option train.from_the_future"), (NEWER, UPGRADE)):
        (run / "run.json").write_text(json.dumps(content | {"versions": [{"genzoo": version}]}))
        assert main(["train", "--config", file, "--out", "new"]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_a_checkpoint_of_a_newer_version_says_upgrade(run):
    checkpoints = Checkpoints(run / "checkpoints", keep=2)
    step, state, _ = checkpoints.load_latest()
    state["run"]["config"]["train"]["from_the_future"] = 1
    state["run"]["versions"] = [{"genzoo": NEWER}]
    checkpoints.save(step, state)
    with pytest.raises(UsageError, match="run/checkpoints was written by genzoo 99.1.0.*upgrade"):
        Trainer(tiny_run("vae", "train.duration=16", "train.prior=normal"), out="run", progress=False).fit()
    (run / "run.json").unlink()
    with pytest.raises(UsageError, match="run/checkpoints was written by genzoo 99.1.0.*upgrade"):
        Trainer(tiny_run("vae", "train.duration=16", "train.prior=normal"), out="run", progress=False)


@pytest.mark.parametrize("args", [("train", "--resume"), ("train", "--config"), ("eval",), ("doctor",)], ids=" ".join)
def test_a_run_of_a_plugin_that_is_not_here_names_the_way(run, args, capsys):
    content = json.loads((run / "run.json").read_text())
    content["config"]["model"] = "wae.small"
    (run / "run.json").write_text(json.dumps(content))
    assert main([*args, "run"]) == 2
    said = "is of the model 'wae', which is not here and may be a plugin's: install the distribution that offers it"
    assert capsys.readouterr().err == f"genzoo: run/run.json {said}.\n"


@pytest.mark.parametrize("part", ["model", "optimizer-encoder", "data", "run"])
def test_a_part_with_another_content_is_refused_in_one_line(run, part):
    checkpoints = Checkpoints(run / "checkpoints", keep=2)
    step, state, _ = checkpoints.load_latest()
    checkpoints.save(step, state | {part: {"other": 1}})
    with pytest.raises(UsageError, match="choose a different --out") as caught:
        Trainer(tiny_run("vae", "train.duration=16", "train.prior=normal"), out="run", progress=False).fit()
    assert "\n" not in str(caught.value)
