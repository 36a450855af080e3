"""The rules of the code base, read from its source: which module may import which, and where a model may be named."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
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


def broken(files: Iterable[Path], rule: Callable[[Path], Iterable[object]]) -> dict[str, list[object]]:
    """What breaks a rule, by file: one test per rule, as a test per file and rule would take most of its time to set
    up.
    """
    return {name_of(path): found for path in files if (found := list(rule(path)))}


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


def test_imports_point_up_the_table():
    def below(path: Path) -> set[str]:
        imported = {name.split(".")[1] for name in reaches(path, "genzoo") if name.count(".")} & LAYER.keys()
        return {other for other in imported if LAYER[other] > LAYER[room_of(path)]}

    assert not broken((path for path in FILES if room_of(path) != "__init__"), below)


def test_models_and_their_parts_do_not_import_the_trainer():
    parts = in_rooms("models", "nn", "losses", "objective", "noise")
    assert not broken(parts, lambda path: reaches(path, "accelerate"))
    assert not broken((path for path in parts if room_of(path) != "models"), lambda path: reaches(path, "diffusers"))


def test_the_trainer_names_no_model_no_loss_and_no_role():
    files = in_rooms("training")
    models = [f"genzoo.models.{name}" for name in MODELS]
    assert not broken(files, lambda path: reaches(path, "genzoo.losses", "genzoo.nn", *models))
    losses = re.findall(r"^def (\w+)", source(PACKAGE / "losses.py"), re.MULTILINE)
    assert losses and not broken(files, lambda path: re.findall(rf"\b(?:{'|'.join(losses)})\b", source(path)))
    words = ("margin", "beta_neg", "hinge", "expelbo", "encoder", "decoder")
    assert not broken(
        files, lambda path: [word for word in words if word in source(path).lower().replace("autoencoder", "")]
    )
    names = "|".join(MODELS)  # some are parts of other words
    assert not broken(files, lambda path: re.findall(rf"\b(?:{names})\b", source(path).lower()))


def test_the_harness_names_no_model():
    def named(path: Path) -> list[str]:
        code = code_of(path).replace("sintrovae2021", "").lower()  # the protocol of a published figure
        return [word for word in ("introvae", "margin", "beta_neg") if word in code]

    assert not broken(in_rooms("evaluation", "metrics", "runs", "bench"), named)


def test_no_branch_on_a_model_name():
    def branches(path: Path) -> Iterator[int]:
        for node in nodes(path):
            if isinstance(node, ast.Compare | ast.MatchValue):
                constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                if constants & set(MODELS):
                    yield node.lineno

    assert not broken(FILES, branches)


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


def test_nothing_is_pickled():
    """pytorch-fid's weights exist as .pth only: torch reads plain tensors from it without running code."""

    def pickling(path: Path) -> Iterator[int]:
        for node in nodes(path):
            if isinstance(node, ast.Call):
                options = {word.arg: ast.unparse(word.value) for word in node.keywords}
                loads = ast.unparse(node.func) == "torch.load" and options.get("weights_only") != "True"
                if loads or options.get("allow_pickle", "False") != "False":
                    yield node.lineno

    assert not broken(FILES, lambda path: reaches(path, "pickle", "cPickle", "dill", "joblib", "marshal", "shelve"))
    assert not broken(FILES, pickling)


def test_files_are_short():
    lengths = {name_of(path): len(source(path).splitlines()) for path in FILES}
    assert not {name: n for name, n in lengths.items() if n > MAX_LINES and name not in LONG_FILES}


def test_lines_are_short():
    lines = [(path, line) for path in FILES for line in enumerate(source(path).splitlines(), 1)]
    assert not [f"{name_of(path)}:{number}" for path, (number, line) in lines if len(line) > MAX_COLUMNS]
