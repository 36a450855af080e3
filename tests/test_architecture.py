"""The rules of the code base, read from its source: which module may import which, and where a model may be named."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGE = ROOT / "genzoo"
FILES = sorted(PACKAGE.rglob("*.py"))
MODELS = sorted(path.parent.name for path in (PACKAGE / "models").glob("*/__init__.py"))

LAYERS = (  # a module imports only from its own layer and from layers above it in this table
    (
        *("errors", "files", "duration", "noise", "items", "losses", "markdown", "priors", "fitted"),
        *("launcher", "progress", "termination"),
    ),
    ("dataspec", "archspec", "spec", "settings", "hub", "plugins", "provenance"),
    ("objective", "controller", "signs"),
    ("nn",),
    ("models",),
    ("registry",),
    ("data",),
    ("lengths", "configure", "changes", "recipes"),
    ("factory",),
    ("runs",),
    ("pictures", "metrics"),
    ("evaluation",),
    ("training",),
    ("suggestions", "budgets", "bench"),
    ("cli",),
    ("__main__",),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

LONG_FILES = {  # files of more than MAX_LINES, each with its reason
    "objective.py": "the contract of a step and its one driver, read together",
}
MAX_LINES, MAX_COLUMNS = 300, 120


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    """`training` of genzoo/training/log.py, `spec` of genzoo/spec.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def cases(files: Iterable[Path]) -> list:
    """One case per file."""
    return [pytest.param(path, id=name_of(path)) for path in files]


def in_rooms(*rooms: str) -> list[Path]:
    return [path for path in FILES if room_of(path) in rooms]


@cache
def source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file's syntax tree."""
    return tuple(ast.walk(ast.parse(source(path))))


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules and names that a file imports, anywhere but under `if TYPE_CHECKING`."""
    found = set()
    for node in at_run_time(ast.parse(source(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree but those under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from at_run_time(other)
        else:
            yield from at_run_time(child)


def reaches(path: Path, *prefixes: str) -> set[str]:
    return {name for name in imports(path) if any(name == p or name.startswith(f"{p}.") for p in prefixes)}


def code_of(path: Path) -> str:
    """A file's code without comments and docstrings, which may cite papers."""
    tree = ast.parse(source(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def test_every_module_has_a_layer():
    assert {room_of(path) for path in FILES} - {"__init__"} <= LAYER.keys()


@pytest.mark.parametrize("path", cases(p for p in FILES if room_of(p) != "__init__"))
def test_imports_point_up_the_table(path):
    room = room_of(path)
    imported = {name.split(".")[1] for name in reaches(path, "genzoo") if name.count(".")} & LAYER.keys()
    assert not {other for other in imported if LAYER[other] > LAYER[room]}


@pytest.mark.parametrize("path", cases(in_rooms("models", "nn", "losses", "objective", "noise")))
def test_models_and_their_parts_do_not_import_the_trainer(path):
    assert not reaches(path, "accelerate")
    assert room_of(path) == "models" or not reaches(path, "diffusers")


@pytest.mark.parametrize("path", cases(in_rooms("training")))
def test_the_trainer_names_no_model_no_loss_and_no_role(path):
    assert not reaches(path, "genzoo.losses", "genzoo.nn", *(f"genzoo.models.{name}" for name in MODELS))
    losses = re.findall(r"^def (\w+)", source(PACKAGE / "losses.py"), re.MULTILINE)
    text = source(path)
    assert not [name for name in losses if re.search(rf"\b{name}\b", text)]
    words = ("introvae", "margin", "beta_neg", "hinge", "expelbo", "encoder", "decoder")
    assert not [word for word in words if word in text.lower().replace("autoencoder", "")]
    assert not [name for name in MODELS if re.search(rf"\b{name}\b", text.lower())]  # names may be parts of words


@pytest.mark.parametrize("path", cases(in_rooms("evaluation", "metrics", "runs", "bench")))
def test_the_harness_names_no_model(path):
    code = code_of(path).replace("sintrovae2021", "").lower()  # the protocol of a published figure
    assert not [word for word in ("introvae", "margin", "beta_neg") if word in code]


@pytest.mark.parametrize("path", cases(FILES))
def test_no_branch_on_a_model_name(path):
    for node in nodes(path):
        if isinstance(node, ast.Compare | ast.MatchValue):
            constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            assert not constants & set(MODELS), f"{path}:{node.lineno}"


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_same_files(name):
    """Four, and more where it has controllers, rules for the monitor, or variants of its objective."""
    files = {child.name for child in (PACKAGE / "models" / name).iterdir() if child.name != "__pycache__"}
    further = {"controllers.py", "signs.py", "variants.py"}
    assert files - further == {"__init__.py", "objective.py", "presets.py", "README.md"}


def test_heavy_libraries_are_imported_where_they_are_used(genzoo_command):
    """The interpreter that commands are forked from has imported the trainer and every model."""
    loaded = genzoo_command(["-c", "import sys; print(*sys.modules)"]).stdout.split()
    assert {"torch", "genzoo.training.trainer", "genzoo.models.introvae.objective"} <= set(loaded)
    assert not {"datasets", "timm", "cleanfid", "matplotlib", "sklearn", "torch.utils.tensorboard"} & set(loaded)


@pytest.mark.parametrize("path", cases(FILES))
def test_nothing_is_pickled(path):
    """pytorch-fid's weights exist as .pth only: torch reads plain tensors from it without running code."""
    assert not reaches(path, "pickle", "cPickle", "dill", "joblib", "marshal", "shelve")
    for node in nodes(path):
        if isinstance(node, ast.Call):
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert options.get("allow_pickle", "False") == "False"
            assert ast.unparse(node.func) != "torch.load" or options.get("weights_only") == "True"


def test_files_are_short():
    lengths = {name_of(path): len(source(path).splitlines()) for path in FILES}
    assert not {name: n for name, n in lengths.items() if n > MAX_LINES and name not in LONG_FILES}


def test_lines_are_short():
    lines = [(path, line) for path in FILES for line in enumerate(source(path).splitlines(), 1)]
    assert not [f"{name_of(path)}:{number}" for path, (number, line) in lines if len(line) > MAX_COLUMNS]
