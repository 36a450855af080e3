"""Bad command lines and damaged files: refused in one line, warned of, or without effect; never a traceback."""

import os
import subprocess
import sys

import pytest
from attacks import commands, corruption
from attacks.outcome import BAD, judged
from helpers import environment

SEEDS = range(15)
DATA = [target for target in corruption.TARGETS if target.users or "safetensors" in target.files]
FOLDERS = [target for target in corruption.TARGETS if target not in DATA]  # run folders, caches, results


@pytest.fixture
def ground(tmp_path, monkeypatch):
    """A tiny run with data of each kind, which is restored before each attack."""
    monkeypatch.setenv("GENZOO_CACHE", os.environ["GENZOO_CACHE"])  # put back afterwards
    return corruption.Ground(tmp_path)


def bad(outcomes):
    return [str(outcome) for outcome in outcomes if outcome.kind in BAD]


def test_bad_command_lines_are_refused_in_one_line():
    table = commands.commands(torch=False)
    assert len(table) > 150
    assert not bad(commands.attack(table))


def test_bad_names_of_models_data_and_protocols_are_refused_in_one_line():
    commands.prepare()
    assert not bad(commands.attack(commands.WITH_TORCH))


@pytest.mark.process
def test_what_needs_no_torch_is_refused_before_torch_is_imported():
    code = (
        "import sys, tempfile, os; os.chdir(tempfile.mkdtemp())\n"
        "from attacks import commands\n"
        "kinds = [found.kind for found in commands.attack(commands.commands(torch=False))]\n"
        "print(len(kinds), set(kinds), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[1].strip() == "{'refused'} False"


def test_damaged_data_and_weights_are_told(ground):
    assert not bad(ground.attack(seed, DATA) for seed in SEEDS)


@pytest.mark.xfail(reason="some files of run folders, caches and results are read with too much trust", strict=False)
def test_damaged_run_folders_are_told(ground):
    assert not bad(ground.attack(seed, FOLDERS) for seed in SEEDS)


def test_the_judge_can_condemn():
    """An attack whose outcome could not be bad would prove nothing."""
    assert judged("a", 0, "", "").kind == "silent"
    assert judged("a", 0, "", "genzoo: warning: x\n").kind == "warned"
    assert judged("a", 2, "", "genzoo: x\ny\n").kind == "long"
    assert judged("a", 2, "", "genzoo: x\n").kind == "refused"
    assert judged("a", 2, "", "").kind == "silent"
    assert judged("a", None, "", "Traceback (most recent call last)").kind == "traceback"
