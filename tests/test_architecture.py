"""The rules of the house, read from the source: which room may import which, and where names may be compared."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "genzoo"
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reaches(path: Path, *prefixes: str) -> set[str]:
    return {name for name in imports(path) if any(name == p or name.startswith(f"{p}.") for p in prefixes)}


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(PACKAGE / "models")], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_model_imports_the_trainer_or_accelerate(path):
    assert not reaches(path, "accelerate", "genzoo.training", "genzoo.cli", "genzoo.data")


@pytest.mark.parametrize("path", sorted((PACKAGE / "training").glob("*.py")), ids=lambda p: p.name)
def test_the_trainer_names_no_model_no_loss_and_no_role(path):
    models = [child.name for child in (PACKAGE / "models").iterdir() if (child / "__init__.py").exists()]
    assert not reaches(path, "genzoo.losses", "genzoo.nn", *(f"genzoo.models.{name}" for name in models))
    words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not words & {"encoder", "decoder", *models}


@pytest.mark.parametrize("room", ["losses.py", "objective.py", "noise.py", "nn"])
def test_arrows_point_down(room):
    files = sorted((PACKAGE / room).glob("*.py")) if (PACKAGE / room).is_dir() else [PACKAGE / room]
    for path in files:
        assert not reaches(path, "genzoo.models", "genzoo.training", "genzoo.cli", "genzoo.registry", "accelerate", "diffusers")


def test_no_branch_on_a_model_name():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                constants = {part.value for part in [node.left, *node.comparators] if isinstance(part, ast.Constant)}
                assert not constants & {"vae", "introvae", "softintrovae"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", sorted(p for p in (PACKAGE / "models").iterdir() if (p / "__init__.py").exists()), ids=lambda p: p.name)
def test_every_model_has_the_same_four_files(path):
    assert {child.name for child in path.iterdir() if not child.name.startswith("__pyc")} == {
        "__init__.py",
        "objective.py",
        "presets.py",
        "README.md",
    }


def test_heavy_libraries_are_imported_where_they_are_used():
    code = "import sys, genzoo.training.trainer, genzoo.models.introvae.objective; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"datasets", "timm", "cleanfid", "matplotlib", "sklearn", "torch.utils.tensorboard"} & set(loaded)


def test_nothing_is_loaded_with_pickle():
    """One file of others, pytorch-fid's, exists as .pth only: torch's reader of plain tensors takes it, which runs no code."""
    for path in FILES:
        assert not reaches(path, "pickle")
        assert path.read_text().count("torch.load(") == path.read_text().count("torch.load(path, weights_only=True)")
