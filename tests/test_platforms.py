"""No platform, locale, missing home, closed stream or odd file name breaks a run."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, TINY, as_options, environment, read_log, tiny_run
from sample_data import folder_of

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import cache, open_dataset
from genzoo.evaluation.classifier import load_classifier
from genzoo.evaluation.extractors import get_extractor
from genzoo.evaluation.features import dataset_features
from genzoo.files import write_text
from genzoo.metrics.inputs import RunLog
from genzoo.metrics.speed import speed_metric
from genzoo.spec import DataConfig
from genzoo.training.plan import machine_memory, plan

FILES = sorted((ROOT / "genzoo").rglob("*.py"))
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # a locale of ASCII only


def opens_text(call: ast.Call) -> bool:
    """Whether a call opens a text file: `open(...)`, `path.open(...)`, `read_text`, `write_text` of a path."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text") and isinstance(call.func, ast.Attribute):
        return True
    if name != "open" or (isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("os", "Image")):
        return False
    position = 0 if isinstance(call.func, ast.Attribute) else 1
    modes = [word.value for word in call.keywords if word.arg == "mode"] or call.args[position : position + 1]
    if isinstance(call.func, ast.Attribute) and call.args and not isinstance(call.args[0], ast.Constant):
        return False  # of another class, such as a dataset's
    return not any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)


def test_text_files_name_their_encoding_and_bars_are_made_in_one_place():
    unnamed, with_bars = [], set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and opens_text(node) and "encoding" not in {w.arg for w in node.keywords}:
                unnamed.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tqdm":
                with_bars.add(path.name)
    assert not unnamed and with_bars == {"progress.py"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder whose name holds a byte of Latin-1, with the modules of Windows and without its streams."""
    root = tmp_path_factory.mktemp("platforms")
    data = folder_of(root / os.fsdecode(b"caf\xe9"), 12)
    out = root / os.fsdecode(b"r\xfcn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "resource", None)
        patch.setattr(sys, "stdout", None)
        patch.setattr(sys, "stderr", None)
        options = as_options(*TINY, "train.log_every=2")
        train = ["train", "vae", "--data", str(data), "--out", str(out), *options]
        assert main(train) == 0
        assert main(train) == 0  # resumes
    return out


def test_a_folder_with_a_byte_of_latin_1_in_its_name_trains_resumes_and_is_shared(run):
    assert read_log(run)[-1]["nimg"] == 96
    assert genzoo.load(run / "model").shape == (3, 16, 16)
    assert (run / "model" / "README.md").read_text(encoding="utf-8")
    assert os.fsencode(json.loads((run / "run.json").read_bytes())["config"]["data"]["name"]).endswith(b"caf\xe9")


@pytest.mark.filterwarnings("error")
def test_a_cache_with_a_byte_of_latin_1_in_its_name_keeps_features_and_classifiers(tmp_path, monkeypatch):
    kept = tmp_path / os.fsdecode(b"caf\xe9")
    monkeypatch.setenv("GENZOO_CACHE", str(kept))
    config = DataConfig(name=str(folder_of(tmp_path / "x", 5)), size=(16, 16))
    extractor = get_extractor("classifier:toyfaces")
    first, again = (dataset_features(extractor, config, "train", progress=False).values for _ in range(2))
    assert torch.equal(first, again) and len(list((kept / "features").glob("*/*.safetensors"))) == 1
    moved = shutil.copytree(extractor.classifier.folder, kept / "classifiers" / "mine-3x32x32")
    assert load_classifier(moved).digest == extractor.digest


def test_trackers_take_such_a_name_as_a_setting_and_refuse_it_as_a_folder(run, capsys):
    data = run.parent / os.fsdecode(b"caf\xe9")
    train = ["train", "vae", "--data", str(data), *as_options(*TINY, "train.duration=8", "train.trackers=tensorboard")]
    assert main([*train, "--out", "run"]) == 0
    assert main([*train, "--out", os.fsdecode(b"r\xfcn")]) == 2
    assert "train.trackers=tensorboard cannot write to r\\udcfcn" in capsys.readouterr().err


def test_without_a_module_that_counts_memory_there_is_no_figure(run):
    lines = [line for line in read_log(run) if "loss/elbo" in line]
    assert lines and not [line for line in lines if "peak_gib" in line]
    timed = [line | {"seconds": 0.5 * i} for i, line in enumerate(lines[:5])]
    assert speed_metric(RunLog(seed=0, run="run", lines=timed)).values == {"images_per_second": 16 / 0.5}


def test_without_calls_of_posix_runs_are_planned_and_images_decoded(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine_memory("cpu") is None
    assert "memory, estimated" in plan(tiny_run("vae"))
    monkeypatch.setattr(sys, "platform", "win32")
    assert open_dataset(DataConfig(name=str(folder_of(tmp_path / "x", 5)))).size == 5


def test_text_that_is_no_unicode_is_written_with_question_marks():
    write_text(Path("card.md"), os.fsdecode(b"caf\xe9 \xc3\xbc"))
    assert Path("card.md").read_bytes() == "caf? ü".encode()


@pytest.mark.process
def test_an_ascii_locale_reads_and_prints_other_characters(tmp_path):
    """A real interpreter in a real locale: reports with an umlaut in the path, in a label and in the findings."""
    results = tmp_path / "grün" / "results"
    results.mkdir(parents=True)
    line = {"kind": "failure", "suite": "s", "cell": "ä", "label": "ä", "data": "ö", "reason": "→ ü"}
    (results / "s.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    (results / "s.md").write_text("größer", encoding="utf-8")
    command = [sys.executable, "-m", "genzoo", "bench", "--report", "--out", "grün"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(**ASCII), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"RESULTS.md" in done.stdout
    report = (tmp_path / "grün" / "RESULTS.md").read_text(encoding="utf-8")
    assert "größer" in report and "→ ü" in report


@pytest.mark.parametrize("text", ["→ ü", os.fsdecode(b"caf\xe9")])
def test_output_streams_never_raise(text, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    monkeypatch.setattr("genzoo.cli.list.run", lambda *_: print(text))
    assert main(["list"]) == 0
    assert written.getvalue().decode("ascii").startswith(("\\u2192", "caf\\udce9"))


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of POSIX")
def test_closed_streams_are_opened_so_that_no_file_gets_their_numbers(tmp_path):
    code = "from genzoo.cli.guard import prepare_streams as p; p(); print('x'); exit(100 + open('f', 'w').fileno())"
    shell = f'exec "{sys.executable}" -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environment()).returncode == 103


def test_python_trains_without_streams(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert Trainer(tiny_run("vae", "train.duration=8"), out="run").fit() == Path("run")


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system does not know, and no home folder, as in a container with `--user 54321`."""
    for name in ("HOME", "XDG_CACHE_HOME", "GENZOO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)


@pytest.mark.skipif(sys.platform == "win32", reason="homes are found otherwise")
def test_without_a_home_the_cache_is_memory(homeless, tmp_path):
    with pytest.raises(cache.NoCacheError, match="set GENZOO_CACHE to a folder"):
        cache.root()
    with pytest.warns(UserWarning, match=r"no home folder.*stay in memory"):
        data = open_dataset(DataConfig(name=str(folder_of(tmp_path / "x", 5)), size=(16, 16)))
    assert data.cached and data.batch(np.arange(5)).shape == (5, 3, 16, 16)


@pytest.mark.skipif(sys.platform == "win32", reason="homes are found otherwise")
def test_without_a_home_features_are_extracted_and_a_tilde_is_refused(homeless, tmp_path, capsys):
    config = DataConfig(name=str(folder_of(tmp_path / "x", 5)), size=(16, 16))
    with pytest.warns(UserWarning, match="features are not kept"):
        found = dataset_features(get_extractor("classifier:toyfaces"), config, "train", progress=False)
    assert found.values.shape == (5, 128)
    assert main(["sample", "~/run"]) == 2
    assert "write the path in full" in capsys.readouterr().err
