"""The README's code and the notebook run as written."""

import json
import re
from pathlib import Path

import pytest
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
