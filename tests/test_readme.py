"""The README's code and the notebook run as written."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_sdist, build_wheel
from helpers import MISSING, ROOT, tiny_run

from genzoo import Trainer, list_models, registry

shows_all_models = pytest.mark.skipif(bool(MISSING), reason="the README shows all built-in models")

README = (ROOT / "README.md").read_text(encoding="utf-8")


@shows_all_models
def test_the_python_blocks_run_as_written():
    Trainer(tiny_run("introvae"), out="runs/first").fit()  # what the first command writes, at a smaller size
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["samples"].shape == (16, 3, 16, 16)
    assert scope["walk"].shape[:2] == (1, 9)
    assert (Path("runs/digits") / "preview.png").exists()


@shows_all_models
def test_the_links_lead_somewhere():
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("an sdist has neither pictures nor benchmarks")
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_packages_are_small_and_their_readme_leads_nowhere_else(tmp_path, monkeypatch):
    """On a package index, paths of the repository are no pages."""
    monkeypatch.chdir(ROOT)
    sdist, wheel = (tmp_path / build(str(tmp_path)) for build in (build_sdist, build_wheel))
    assert sdist.stat().st_size < 5_000_000 and wheel.stat().st_size < 5_000_000
    with zipfile.ZipFile(wheel) as packed:
        name = next(name for name in packed.namelist() if name.endswith("/METADATA"))
        text = packed.read(name).decode()
    targets = re.findall(r"\]\(([^)]*)", text)
    assert targets and all(target.startswith("https://") for target in targets)
    assert "It provides IntroVAE (NeurIPS 2018)" in text


def test_the_notebook_runs_as_written(monkeypatch):
    """Its model is registered, its step equals a transcription, and it trains, loads and samples."""
    monkeypatch.setattr(registry, "_registered", {})
    notebook = json.loads((ROOT / "docs" / "add_a_model.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    scope: dict = {"__name__": "notebook"}
    for cell in cells:
        exec(compile(cell, "add_a_model.ipynb", "exec"), scope)
    assert scope["samples"].shape == (16, 1, 8, 8)
    assert "my-vaegan" in list_models()
