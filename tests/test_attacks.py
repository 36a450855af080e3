"""Bad command lines and damaged files: refused in one line, warned of, or without effect; never a traceback."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from attacks import commands, corruption, hostile, material
from attacks.outcome import BAD, judged, run
from helpers import environment

SEEDS = range(10)
SLOW = ("bench", "classifier", "feature cache", "saved datasets", "statistics")  # for the script
FOLDERS = [target for target in (*material.RUN, *material.MODELS, *material.CACHES) if target.group not in SLOW]
DATA = [target for target in material.DATA if target.group not in SLOW]
RUN, LOG, EVENTS, CONFIG = "run/run.json", "run/log.jsonl", "run/events.jsonl", "run/model/config.json"
IMAGES, ABOUT, MANIFEST = "cache/pixels/*/images.npy", "cache/pixels/*/about.json", "run/checkpoints/*/manifest.json"
SAMPLE, DOCTOR, ONE = "sample run --n 1", "doctor run", "reconstruct run --n 1"
TEXT_FOR_SECONDS = b'{"step": 1, "nimg": 8, "seconds": "1"}\n'


def replaced(old, new):
    """A change of one text."""
    return lambda content: content.replace(old.encode(), new.encode(), 1)


def last_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


KNOWN = {  # (file, its new content or None for none, command, what is said)
    "a list": (RUN, lambda _: b"[]", DOCTOR, "it is not a JSON object"),
    "null": (RUN, lambda _: b"null", material.LONGER, "it is not a JSON object"),
    "another setting": (RUN, replaced('"fit": "crop"', '"fit": "pad"'), ONE, "run.json is damaged, or was edited"),
    "no configuration": (RUN, None, ONE, "run.json is missing: the settings are"),
    "another type of record": (RUN, replaced('"items": 24', '"items": {}'), ONE, "a damaged record of the data"),
    "another digit": (LOG, replaced('"nimg": 24', '"nimg": 25'), DOCTOR, "line 3 is damaged"),
    "no step": (LOG, lambda text: b'{"nimg": 8}\n' + text, material.LONGER, "line 1 is damaged"),
    "text for a number": (LOG, lambda text: TEXT_FOR_SECONDS + text, material.LONGER, "line 1 is damaged"),
    "another log": (LOG, lambda _: b'{"step": 3, "nimg": 24}\n', DOCTOR, "log.jsonl: lines are missing"),
    "a line twice": (LOG, lambda text: text.splitlines(True)[-1] + text, DOCTOR, "out of order"),
    "no events": (EVENTS, lambda _: b"", DOCTOR, "events.jsonl: lines are missing, it has 0 bytes"),
    "a list for a manifest": (
        MANIFEST,
        lambda _: b"[]",
        material.LONGER,
        "None of the 2 checkpoints in run/checkpoints is intact",
    ),
    "a number for a config": (CONFIG, lambda _: b"5", SAMPLE, "it holds a int and no"),
    "another reading": (
        CONFIG,
        replaced('"fit": "crop"', '"fit": "pad"'),
        SAMPLE,
        "config.json in run/model is",
    ),
    "a bit of the weights": (material.MODEL, last_bit, SAMPLE, "model.safetensors in run/model is damaged"),
    "no prior": ("run/model/prior.safetensors", None, SAMPLE, "prior.safetensors is missing"),
    "a zip for pixels": (IMAGES, lambda _: b"PK\x03\x04", material.TRAINED, "is damaged (ValueError: "),
    "another origin": (ABOUT, replaced("images", "imagos"), material.TRAINED, "not what was written"),
}


@pytest.fixture(scope="module")
def grounds(tmp_path_factory):
    """A tiny run with data of each kind."""
    before, folder = os.environ["GENZOO_CACHE"], Path.cwd()
    yield corruption.Ground(tmp_path_factory.mktemp("ground"), [*FOLDERS, *DATA])
    os.chdir(folder)
    os.environ["GENZOO_CACHE"] = before


@pytest.fixture
def ground(grounds, monkeypatch):
    """The same, restored before each attack."""
    monkeypatch.setenv("GENZOO_CACHE", os.environ["GENZOO_CACHE"])  # put back afterwards
    return grounds


def bad(outcomes):
    return [str(outcome) for outcome in outcomes if outcome.kind in BAD]


def test_bad_command_lines_are_refused_in_one_line():
    table = commands.commands(torch=False)
    assert len(table) > 150
    assert not bad(commands.attack(table))


def test_bad_names_of_models_data_and_protocols_are_refused_in_one_line():
    commands.prepare()
    assert not bad(commands.attack(commands.WITH_TORCH))
    assert not bad(commands.attack_at_random(range(8)))


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


def test_damaged_data_is_told(ground):
    assert not bad(ground.attack(seed, DATA) for seed in SEEDS)


def test_damaged_run_folders_are_told(ground):
    assert not bad(ground.attack(seed, FOLDERS) for seed in SEEDS)


@pytest.mark.parametrize("name", KNOWN)
def test_damage_is_told_in_words(ground, name):
    """Each of these passed in silence or as a traceback."""
    pattern, change, command, words = KNOWN[name]
    ground.restore()
    for path in list(Path().glob(pattern)):
        content = path.read_bytes()
        path.unlink()
        if change is not None:
            assert change(content) != content
            path.write_bytes(change(content))
    status, out, errors = run(shlex.split(command))
    assert words in out + errors and status in (0, 2)


def test_hostile_model_folders_are_refused_in_one_line(ground):
    ground.restore()
    assert not bad(hostile.attacks(Path("run/model")))


def test_the_judge_can_condemn():
    """An attack whose outcome could not be bad would prove nothing."""
    assert judged("a", 0, "", "").kind == "silent"
    assert judged("a", 0, "", "genzoo: warning: x\n").kind == "warned"
    assert judged("a", 0, "", "genzoo: warning: x\n", usual=["genzoo: warning: x"]).kind == "silent"
    assert judged("a", 2, "", "genzoo: x\ny\n").kind == "long"
    assert judged("a", 2, "", "genzoo: x\n").kind == "refused"
    assert judged("a", 2, "", "").kind == "silent"
    assert judged("a", None, "", "Traceback (most recent call last)").kind == "traceback"
