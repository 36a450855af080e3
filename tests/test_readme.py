"""The README's code runs as written."""

import re
from pathlib import Path

from conftest import ROOT, tiny_run

from genzoo import Trainer

README = (ROOT / "README.md").read_text()


def test_the_python_blocks_run_as_written():
    Trainer(tiny_run("introvae"), out="runs/first").fit()  # what the first command leaves, in small
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["samples"].shape == (16, 3, 16, 16)
    assert scope["walk"].shape[:2] == (1, 9)
    assert (Path("runs/digits") / "preview.png").exists()


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
