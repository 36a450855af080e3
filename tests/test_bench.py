"""Suites are read or refused, cells run in processes of their own, and finished cells are never run again."""

import errno
import json
import os
import re
import runpy
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distributions import installed
from helpers import ROOT, environment
from PIL import Image

from genzoo import registry
from genzoo.bench import runner
from genzoo.bench.cell import fingerprint, run_cell, standing_config
from genzoo.bench.lines import Failure, FinishedCell
from genzoo.bench.report import check_report
from genzoo.bench.results import read_results
from genzoo.bench.runner import PRELOADED, Results, folder_of, missing, obstacle, outcome, share_done, train_classifiers
from genzoo.bench.suites import get_suite, list_suites
from genzoo.cli import main
from genzoo.data import find_entry
from genzoo.errors import UsageError
from genzoo.evaluation.protocols import get_protocol

PICTURES = """
title = "Pictures"
about = "One row that works, and one that does not."
settings = ["train.snapshot_every=100%", "train.log_every=2"]
metrics = ["rec50_test", "msssim10_train"]

[[rows]]
label = "vae"
model = "vae"

[[rows]]
label = "too fast!"
model = "vae"
settings = ["train.lr=1e30"]

[[data]]
name = "digits"
preset = "toyfaces32"
source = "digits"
settings = ["data.size=8,8", "arch.channels=4", "arch.z_dim=4", "train.batch=16", "train.duration=10it"]

[[data]]
name = "gone"
preset = "toyfaces32"
source = "./nowhere"
rows = ["vae"]
cost = "an hour"

[[columns]]
protocol = "rec50_test"
value = "sse"
"""

POINTS = """
title = "Points"
seeds = [0]
settings = ["arch.hidden=8,8", "train.batch=16", "train.log_every=10"]
metrics = ["density2d"]

[[rows]]
label = "short"
model = "vae"
settings = ["train.duration=10it", "train.snapshot_every=100%"]

[[rows]]
label = "long"
model = "vae"
settings = ["train.duration=1000it", "train.snapshot_every=50%"]

[[data]]
name = "8gaussians"
preset = "8gaussians"
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For the cells' processes, which draw no figures: other tests may run beside them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(OMP_NUM_THREADS="1").items():
            patch.setenv(name, value)
        patch.setattr("genzoo.bench.runner.PRELOADED", (*PRELOADED, "shortened"))
        yield


def suite_file(text: str, name: str = "mine") -> str:
    Path(f"{name}.toml").write_text(text)
    return f"{name}.toml"


def lines_of(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def kinds(path: Path) -> list[tuple[str, str]]:
    return [(line["kind"], line.get("cell", "")) for line in lines_of(path)]


# ---- suites


@pytest.mark.parametrize("name", list_suites())
def test_a_built_in_suite_is_complete(name):
    short, spec = get_suite(name)
    cells = spec.cells(short)
    assert short == name and spec.title and spec.about
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names)
    for cell in cells:
        assert cell.name == Path(cell.name).name and not set(cell.name) - set(ALLOWED) and not cell.name.startswith(".")
        config = cell.config()
        assert config.model == cell.model and config.train.seed == cell.seed
        entry = find_entry(config.data.name)
        kind = "points" if entry is not None and entry.kind == "points" else "images"
        assert cell.metrics and all(get_protocol(name).metric.inputs.kind in (None, kind) for name in cell.metrics)
    measured = {(metric, value) for cell in cells for metric in cell.metrics for value in get_protocol(metric).values}
    assert {(column.protocol, column.value) for column in spec.columns} <= measured
    assert spec.columns
    for published in spec.published:
        assert published.data in {data.name for data in spec.data} and published.text and published.source
        assert published.value in {column.value for column in spec.columns}


ALLOWED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def test_the_built_in_suites():
    assert set(list_suites()) >= {"quick", "2d", "losses", "ablation", "table1", "table2"}
    points = get_suite("2d")[1]
    assert {row.label for row in points.rows} == {"vae", "introvae", "softintrovae"}
    assert {data.name for data in points.data} == {"8gaussians", "2spirals", "checkerboard", "rings"} and len(
        points.seeds
    ) >= 3


def test_a_suite_may_be_like_another():
    """The galleries differ in their budget alone; a base that does not exist is refused with suggestions."""
    short, long = get_suite("gallery-3min")[1], get_suite("gallery-3h")[1]
    assert (short.rows, short.data, short.columns) == (long.rows, long.data, long.columns)
    assert {cell.budget for cell in short.cells("gallery-3min")} == {"3min"}
    assert {cell.budget for cell in long.cells("gallery-3h")} == {"3h"}
    Path("mine.toml").write_text('like = "galery-3min"\ntitle = "mine"\n')
    with pytest.raises(UsageError, match="no suite is called 'galery-3min'. Did you mean gallery-3min"):
        get_suite("mine.toml")


def test_cells_come_seed_by_seed_with_later_settings_last():
    suite = get_suite("quick")[1]
    cells, per_seed = suite.cells("quick", seeds=(4, 7), budget="500"), len(suite.cells("quick", seeds=(4,)))
    assert [cell.seed for cell in cells] == [4] * per_seed + [7] * per_seed
    introvae = next(cell for cell in cells if cell.name == "introvae-digits-s4")
    config = introvae.config()
    assert (config.model, config.data.name, config.train.seed, config.train.duration) == (
        "introvae.toyfaces32",
        "digits",
        4,
        "500",
    )
    assert config.objective.margin == 20  # this row's on this data
    assert introvae.metrics == ("rec100_test", "elbo100_test", "msssim100_train")


BUDGETS = POINTS.replace('label = "long"', 'label = "long"\nbudget = "20s"').replace(
    'preset = "8gaussians"', 'preset = "8gaussians"\nbudget = "3min"'
)


def test_a_budget_stands_at_a_row_or_at_its_data_or_in_the_command():
    _, suite = get_suite(suite_file(BUDGETS))
    assert [cell.budget for cell in suite.cells("mine")] == ["3min", "20s"]
    assert [cell.budget for cell in suite.cells("mine", budget="1h")] == ["1h", "1h"]
    cells = suite.cells("mine", budget="500it")
    assert {cell.budget for cell in cells} == {None}
    assert {cell.config().train.duration for cell in cells} == {"500it"}
    with pytest.raises(UsageError, match="is not a time"):
        get_suite(suite_file(BUDGETS.replace('"20s"', '"soon"'), "wrong"))


RECIPE = """
title = "mine"
recipe = "3min"
[[rows]]
label = "vae"
model = "vae"
[[rows]]
label = "Adam"
model = "vae"
per_image = 1.5
settings = ["train.optimizer=adam"]
[[data]]
name = "toyfaces"
preset = "toyfaces32"
images = 3_000
settings = ["data.size=32,32"]
"""


def test_rows_whose_images_take_longer_see_fewer_with_the_same_recipe():
    _, suite = get_suite(suite_file(RECIPE))
    plain, adam = (cell.config() for cell in suite.cells("mine"))
    assert [run.train.duration for run in (plain, adam)] == ["3000", "2000"]
    assert (plain.arch.encoder, plain.train.optimizer, plain.train.lr) == ("shuffle", "muon", 1e-2)
    assert (adam.arch.encoder, adam.train.optimizer) == ("shuffle", "adam")
    assert adam.train.lr != plain.train.lr  # muon's rate is not Adam's
    given = [cell.config() for cell in suite.cells("mine", budget="5k")]
    assert [(run.train.duration, run.arch.encoder) for run in given] == [("5k", "shuffle"), ("3333", "shuffle")]
    assert [cell.config().train.duration for cell in suite.cells("mine", budget="30it")] == ["30it", "20it"]
    timed = suite.cells("mine", budget="1h")[0]
    assert (timed.budget, standing_config(timed).train.budget) == ("1h", "1h")
    assert fingerprint(suite.cells("mine")[0]) != fingerprint(suite.cells("mine", budget="5k")[0])
    with pytest.raises(UsageError, match=r"--budget soon: write a time \(3min\), images"):
        suite.cells("mine", budget="soon")
    for old, new, said in (
        ("1.5", "0", "greater than 0"),
        ("1.5", "inf", "finite"),
        ("images =", 'budget = "3min"\nimages =', "toyfaces has images, and vae a budget"),
        (
            '["train.opt',
            '["train.duration=3k", "train.opt',
            "toyfaces has images, and Adam a budget or a train.duration",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            get_suite(suite_file(RECIPE.replace(old, new), "wrong"))


def test_a_budget_is_part_of_what_decides_a_cell_and_what_is_measured_is_not():
    _, suite = get_suite(suite_file(BUDGETS))
    short, long = (fingerprint(suite.cells("mine", budget=budget)[0]) for budget in ("1min", "2min"))
    assert short != long
    assert short == fingerprint(suite.cells("mine", budget="1min")[0])
    run = standing_config(suite.cells("mine")[0])
    assert (run.train.budget, run.train.precision, run.train.batch) == ("3min", "auto", 16)


@pytest.mark.parametrize("warmup", ["0", "500it", "40%"])
def test_a_row_keeps_its_own_warm_up_of_images(warmup):
    _, spec = get_suite("recipe")
    cell = next(iter(spec.cells("recipe")))
    cell = replace(cell, settings=(*cell.settings, f"objective.warmup={warmup}", "train.duration=5k"))
    assert standing_config(cell).objective.warmup == warmup


def test_a_cell_with_a_budget_is_planned_where_it_runs(tmp_path, monkeypatch):
    """Its suite counts 2,500 steps, and the plan others; the line says what was planned and how it was trained."""
    from genzoo import budgets

    plan, seen = budgets.planned, []

    def on_a_clock(wanted, out, began, progress):
        now = iter(range(10**6))
        seen.append(plan(wanted, out, 0.0, progress, clock=lambda: 0.05 * next(now)))
        return seen[-1]

    monkeypatch.setattr(budgets, "planned", on_a_clock)
    _, suite = get_suite(suite_file(BUDGETS))
    *_, line = run_cell(suite.cells("mine")[1], tmp_path / "run", tmp_path, threads=1)
    assert isinstance(line, FinishedCell)
    c = seen[0].config.train
    assert (line.budget, line.precision, line.threads) == ("20s", c.precision, 1)
    assert line.images_seen == int(c.duration) < 2500 * 16
    assert c.lr_drops == ("100.00%", "100.00%")  # at 10,000 and 15,000 steps: after the end of 2,500


def test_data_may_lie_elsewhere_and_stays_what_it_is(tmp_path):
    _, spec = get_suite("table2")
    named = {cell.data: cell for cell in spec.cells("table2")}
    placed = {
        cell.data: cell
        for cell in spec.cells("table2", paths={"celebahq-1024": str(tmp_path), "celeba-128": "./faces"})
    }
    assert placed["lsun-256"] == named["lsun-256"]
    for data, place in (
        ("celebahq-1024", str(tmp_path)),
        ("celeba-128", "./faces"),
    ):  # the second crops its own images: precrop 148
        assert placed[data].config().data == replace(named[data].config().data, name=place)
        assert fingerprint(placed[data]) == fingerprint(named[data])
    assert named["celeba-128"].config().data.precrop == 148
    with pytest.raises(UsageError, match="no dataset 'celeba'. Did you mean"):
        spec.cells("table2", paths={"celeba": "x"})


@pytest.mark.parametrize(
    ("label", "data"), [("../../x", "a b"), ("é: *?", "128, batch 64"), ("a\\b\n", "c/d"), (".", "~")]
)
def test_any_label_gives_a_name_for_a_folder(label, data):
    name = replace(get_suite("quick")[1].cells("quick")[0], label=label, data=data, seed=3).name
    assert not set(name) - set(ALLOWED) and name.endswith("-s3") and name not in (".", "..")


def test_a_fingerprint_is_of_everything_that_decides():
    cell = get_suite("quick")[1].cells("quick")[0]
    others = [
        replace(cell, settings=(*cell.settings, "train.lr=0.5")),
        replace(cell, metrics=("rec50_test",)),
        replace(cell, seed=5),
        replace(cell, model="introvae.toyfaces32"),
    ]
    assert len({fingerprint(one) for one in (cell, *others)}) == 5
    assert fingerprint(replace(cell, label="other", cost="much")) == fingerprint(cell)
    assert fingerprint(replace(cell, settings=(*cell.settings, "train.compile=auto"))) == fingerprint(cell)


@pytest.mark.parametrize(
    ("old", "new", "fix"),
    [
        ('title = "Pictures"', "title = ", "is not TOML"),
        ('title = "Pictures"', "", "title"),
        ('title = "Pictures"', 'title = "Pictures"\nseed = [0]', "seed"),
        ('label = "vae"', 'labell = "vae"', "labell"),
        ('metrics = ["rec50_test"', 'metrics = ["rec50_tset"', "No protocol is called 'rec50_tset'. Did you mean"),
        ('title = "Pictures"', 'title = "Pictures"\nseeds = []', "seeds"),
        ('label = "too fast!"', 'label = "vae"', "same name"),
        ('name = "gone"', 'name = "digits"', "same name"),
        ('rows = ["vae"]', 'rows = ["vea"]', "names a row 'vea'. Did you mean"),
        ('rows = ["vae"]', 'of.vea = ["train.lr=1e-3"]', "names a row 'vea'. Did you mean"),
        ('value = "sse"', 'value = "ssse"', "has no value 'ssse'. Did you mean sse"),
        ('value = "sse"', 'value = "sse"\nbetter = "lower"', "better"),
        ('model = "vae"', 'model = "vaee"', "Did you mean vae"),
        ('preset = "toyfaces32"', 'preset = "toyfaces23"', "Did you mean toyfaces32"),
        ('"train.lr=1e30"', '"train.rl=1e30"', "Did you mean"),
        ('"train.lr=1e30"', '"train.lr=fast"', "float"),
    ],
)
def test_a_suite_that_makes_no_sense_is_refused_in_one_line(old, new, fix, capsys):
    assert old in PICTURES
    file = suite_file(PICTURES.replace(old, new, 1))
    assert main(["bench", file, "--out", "out"]) == 2
    err = capsys.readouterr().err
    assert fix in err and len(err.splitlines()) == 1, err
    assert not Path("out").exists()


def test_a_suite_that_is_not_text_is_refused(capsys):
    Path("mine.toml").write_bytes(b'title = "\xff\xfe"')
    assert main(["bench", "mine.toml"]) == 2
    assert "mine.toml is not TOML" in capsys.readouterr().err


# ---- the command


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (["quik"], "Did you mean quick"),
        (["missing.toml"], "No suite is called 'missing.toml'"),
        (["quick", "--jobs", "0"], "at least 1"),
        (["quick", "--cells", "*celeba*"], "no cell of quick matches"),
        (["quick", "--seeds", "0;1"], "--seeds 0,1,2"),
        (["quick", "--seeds", ""], "--seeds is empty"),
        (["quick", "--seeds", "-1"], "train.seed"),
        (["quick", "--budget", "many"], "--budget many: write a time"),
        (["quick", "--data", "digits"], "write NAME=DATA"),
        (["quick", "--data", "digit=x"], "Did you mean digits"),
        (["--report"], "No results in out/results"),
        (["--check"], "No results in out/results"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_with_the_fix(args, fix, capsys):
    assert main(["bench", *args, "--out", "out"]) == 2
    err = capsys.readouterr().err
    assert fix in err and len(err.splitlines()) == 1, err
    assert not Path("out").exists()


def test_a_suite_of_which_nothing_can_run_reports_why_and_what_it_costs(capsys):
    file = suite_file(PICTURES)
    assert main(["bench", file, "--out", "out", "--data", "digits=./nowhere-either"]) == 2
    err = capsys.readouterr().err
    assert "No cell of mine can run here" in err and "nowhere-either" in err
    assert err.count("gone: there is no file or folder") == 1 and "(one cell: an hour)" in err
    assert not Path("out").exists()


def test_a_warm_up_that_never_ends_and_protocols_of_other_data_are_obstacles():
    _, spec = get_suite("quick")
    reasons = {cell.label: obstacle(cell, None) for cell in spec.cells("quick", budget="4k") if cell.data == "digits"}
    assert reasons["vae"] is None
    assert "a warm-up of 4800 takes all of train.duration=4k" in reasons["introvae"]
    cell = get_suite("2d")[1].cells("2d")[0]
    assert obstacle(cell, None) is None
    assert "rec50_test is for images, and 8gaussians contains points" in obstacle(
        replace(cell, metrics=("rec50_test",)), None
    )
    assert "no held-out split for rec50_test" in obstacle(replace(cell, metrics=("rec50_test",)), None)


LATE = """
from dataclasses import replace

from genzoo_wgangp import SPEC as WGANGP

SPEC = replace(WGANGP, name="late", warmup=lambda config: "1000")
"""


def test_a_classifier_is_trained_before_the_cells_that_it_scores_on_data_of_the_suite(monkeypatch, tmp_path):
    asked = []

    def get(name, data=None):
        asked.append((name, data and data.name))
        if data is None:
            raise UsageError("cannot be reached")

    monkeypatch.setattr("genzoo.evaluation.extractors.get_extractor", get)
    _, spec = get_suite("gallery-3min")
    (tmp_path / "cifar10").mkdir()
    elsewhere = str(tmp_path / "cifar10")
    suite = spec.cells("gallery-3min", paths={"cifar10": elsewhere, "emoji-64": str(tmp_path)})
    emoji = [cell for cell in suite if cell.data == "emoji-64"]
    assert train_classifiers(emoji, suite) == {} and asked == [("classifier:cifar10", elsewhere)]
    reasons = train_classifiers(emoji, emoji)
    assert list(reasons) == [cell.name for cell in emoji] and "cannot be reached" in reasons[emoji[0].name]
    assert train_classifiers([replace(emoji[0], metrics=("rec300_test",))], suite) == {} and len(asked) == 2


def test_lengths_count_every_real_batch_of_a_step(monkeypatch, tmp_path):
    """Of a model whose step takes two: 100 steps of batch 8 are 1,600 images."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "plugin")
    with installed(monkeypatch, tmp_path / "site", registry.GROUP, {"late": "genzoo_late:SPEC"}, genzoo_late=LATE):
        cell = replace(get_suite("quick")[1].cells("quick")[0], model="late.tiny", source=None, metrics=("speed",))
        one, two = (
            replace(cell, settings=("train.duration=100it", f"objective.critic_steps={steps}")) for steps in (1, 2)
        )
        assert "a warm-up of 1000 takes all of train.duration=100it" in obstacle(one, None)
        assert obstacle(two, None) is None
        folder_of(two, tmp_path).mkdir(parents=True)
        (folder_of(two, tmp_path) / "log.jsonl").write_text('{"step": 25, "nimg": 400}\n')
        assert share_done(two, tmp_path) == 0.25


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU here")
def test_the_papers_tables_list_all_that_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # clean-fid's place for Inception
    monkeypatch.delenv("GENZOO_INCEPTION", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert main(["bench", "table2", "--out", "out"]) == 2
    err = capsys.readouterr().err
    for reason in (
        "needs a GPU",
        "Inception weights are not here",
        "--data celebahq-1024=FOLDER",
        "published: 21 days",
    ):
        assert reason in err
    assert main(["bench", "table1", "--list"]) == 0
    text = capsys.readouterr().out
    assert (
        "introvae-1024-batch-8-s0" in text
        and "published: 21 days" in text
        and "cannot run here: it needs a GPU" in text
    )
    assert all(suite in text for suite in list_suites())


def test_list_shows_the_cells_and_runs_nothing(capsys):
    assert main(["bench", suite_file(PICTURES), "--list", "--seeds", "3,3", "--out", "out"]) == 0
    text = capsys.readouterr().out
    assert text.count("vae-digits-s3") == text.count("too-fast-digits-s3") == 1
    assert "cannot run here: there is no file or folder" in text
    assert not Path("out").exists()


# ---- the results file


def test_a_truncated_line_affects_no_other(tmp_path):
    results = Results(tmp_path, "mine")
    results.append([FinishedCell(cell="a", label="a", data="d", fingerprint="1")])
    with results.path.open("a") as file:
        file.write('{"kind": "cell", "ce')
    results.append([FinishedCell(cell="b", label="b", data="d", fingerprint="2")])
    assert results.fingerprints() == {"a": "1", "b": "2"}
    assert results.path.read_bytes().endswith(b"}\n")
    read = read_results(results.path)
    assert [cell.cell for cell in read.cells] == ["a", "b"] and read.skipped_lines == 1


def test_a_process_that_dies_is_a_failure(tmp_path):
    cell = get_suite("quick")[1].cells("quick")[0]
    (line,) = outcome(cell, tmp_path, -9)
    assert isinstance(line, Failure) and line.cell == cell.name and "status -9" in line.reason
    assert isinstance(outcome(cell, tmp_path, 0)[0], Failure)  # it left nothing


def test_a_cell_that_can_write_nothing_ends_in_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("run_cell", "write_text"):
        monkeypatch.setattr(f"genzoo.bench.runner.{name}", fail)
    monkeypatch.setattr("genzoo.bench.runner._follow_parent", lambda: None)
    cell = get_suite("quick")[1].cells("quick")[0]
    with pytest.raises(SystemExit, match=f"{cell.name}: the disk is full: make room, or write to another disk"):
        runner.work(cell, tmp_path, 1, None)


# ---- cells


@pytest.fixture(scope="module")
def benched(own_cache, tmp_path_factory):
    """(exit status, suite file, bench folder) of the suite above, run once: two processes."""
    folder = tmp_path_factory.mktemp("bench")
    file = folder / "mine.toml"
    file.write_text(PICTURES)
    return main(["bench", str(file), "--out", str(folder / "out"), "--jobs", "2"]), str(file), folder / "out"


def test_a_failed_cell_is_reported_and_the_rest_goes_on(benched):
    status, _, out = benched
    assert status == 1
    found = kinds(out / "results" / "mine.jsonl")
    assert found[:2] == [("suite", ""), ("failure", "vae-gone-s0")]
    assert sorted(found[2:]) == [
        ("cell", "vae-digits-s0"),
        ("failure", "too-fast-digits-s0"),
        ("score", "vae-digits-s0"),
        ("score", "vae-digits-s0"),
    ]
    reasons = {
        line["cell"]: line["reason"] for line in lines_of(out / "results" / "mine.jsonl") if line["kind"] == "failure"
    }
    assert "there is no file or folder" in reasons["vae-gone-s0"]
    assert "phase of step" in reasons["too-fast-digits-s0"] and "\n" not in reasons["too-fast-digits-s0"]
    text = (out / "RESULTS.md").read_text()
    assert "no file or folder" in text and "phase of step" in text


def test_a_finished_cell_leaves_its_numbers_curves_and_pictures(benched):
    _, _, out = benched
    lines = lines_of(out / "results" / "mine.jsonl")
    scores = {line["protocol"]: line for line in lines if line["kind"] == "score"}
    assert scores.keys() == {"rec50_test", "msssim10_train"}
    score = scores["rec50_test"]
    assert (score["suite"], score["cell"], score["label"], score["data"], score["seed"]) == (
        "mine",
        "vae-digits-s0",
        "vae",
        "digits",
        0,
    )
    assert (score["split"], score["images_seen"], score["details"]["n_real"], score["run"]) == (
        "test",
        160,
        50,
        "vae-digits-s0",
    )
    cell = next(line for line in lines if line["kind"] == "cell")
    assert cell["images_seen"] == 160 and cell["parameters"] > 0 and cell["overrides"]["train.duration"] == "10it"
    assert cell["curves"]["nimg"] == [32, 64, 96, 128, 160]
    assert all(len(curve) == 5 for curve in cell["curves"].values()) and "error/sse" in cell["curves"]
    assert cell["pictures"].keys() == {"samples", "samples-fitted", "reconstructions", "interpolation"}
    for picture in cell["pictures"].values():
        with Image.open(out / "results" / picture) as image:
            assert image.width > 8
    assert {"run.json", "log.jsonl", "model"} <= {
        path.name for path in (out / "runs" / "mine" / "vae-digits-s0").iterdir()
    }
    assert f"{score['values']['sse']:.4g}" in (out / "RESULTS.md").read_text()
    assert "data:image/png;base64" in (out / "report.html").read_text()


def test_what_failed_is_still_missing(benched):
    _, file, out = benched
    name, spec = get_suite(file)
    assert {cell.name for cell in missing(spec.cells(name), Results(out, name))} == {
        "vae-gone-s0",
        "too-fast-digits-s0",
    }
    assert obstacle(spec.cells(name)[0], None) is None


def test_other_settings_under_the_same_name_are_refused(benched, capsys):
    _, file, out = benched
    before = (out / "results" / "mine.jsonl").read_bytes()
    assert main(["bench", file, "--out", str(out), "--budget", "320"]) == 2
    err = capsys.readouterr().err
    assert "with other settings (vae-digits-s0, ...): choose a different --out" in err and len(err.splitlines()) == 1
    assert (out / "results" / "mine.jsonl").read_bytes() == before


def test_the_report_is_checked_and_written_again(benched, capsys):
    _, _, out = benched
    written = (out / "RESULTS.md").read_bytes()
    assert main(["bench", "--check", "--out", str(out)]) == 0
    (out / "RESULTS.md").write_bytes(written + b"and more")
    assert main(["bench", "--check", "--out", str(out)]) == 1
    assert "genzoo bench --report --out" in capsys.readouterr().out
    assert main(["bench", "--report", "--out", str(out)]) == 0
    assert (out / "RESULTS.md").read_bytes() == written
    assert main(["bench", "--check", "--out", str(out)]) == 0


def test_kill_minus_nine_repeats_nothing(tmp_path, capsys, genzoo_process):
    """A real bench, killed in its second cell within a line; the same command finishes it, and then runs nothing."""
    file, out = suite_file(POINTS), tmp_path / "out"
    command = ["bench", file, "--out", str(out)]
    killed = genzoo_process(command, env=environment())
    results, log = out / "results" / "mine.jsonl", out / "runs" / "mine" / "long-8gaussians-s0" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the bench ended before it could be killed"
    assert kinds(results)[1:] == [("score", "short-8gaussians-s0"), ("cell", "short-8gaussians-s0")]
    finished = lines_of(results)[2]
    with results.open("a") as file:
        file.write('{"kind": "score", "su')

    assert main(command) == 0
    assert "2 cells, 1 done, 1 to run" in capsys.readouterr().out
    read = read_results(results)
    assert [cell.cell for cell in read.cells] == ["short-8gaussians-s0", "long-8gaussians-s0"] and not read.failures
    assert read.skipped_lines == 1 and results.read_text().count('"kind": "cell"') == 2
    assert json.dumps(finished) in results.read_text().splitlines()
    steps = [line["step"] for line in lines_of(log) if "error/sse" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 1000
    assert (out / "results" / "mine" / "long-8gaussians-s0.points.png").exists()

    reports = [(out / name).read_bytes() for name in ("RESULTS.md", "report.html")]
    runs = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    assert main(command) == 0
    assert "2 cells, 2 done, 0 to run" in capsys.readouterr().out
    assert [(out / name).read_bytes() for name in ("RESULTS.md", "report.html")] == reports
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")} == runs
    assert not folder_of(get_suite("mine.toml")[1].cells("mine")[0], out).joinpath("bench.json").exists()


def test_the_committed_report_matches_its_results():
    if not (ROOT / "benchmarks" / "results").is_dir():
        pytest.skip("no results are committed")
    assert check_report(ROOT / "benchmarks") is None


def test_the_gallery_page_matches_its_results():
    folder = ROOT / "benchmarks" / "gallery"
    if not (folder / "README.md").is_file():
        pytest.skip("no gallery is committed")
    page = runpy.run_path(str(folder / "page.py"))["page"]()
    assert page == (folder / "README.md").read_text(), "run benchmarks/gallery/page.py"
    pictures = re.findall(r"\]\((\.\./results/[^)]+)\)", page)
    assert pictures and all((folder / picture).is_file() for picture in pictures)


def test_quick_runs_completely(capsys):
    """The built-in suite that shows that the harness works, one seed of it, a little beyond its warm-ups: its table has
    a number in every row.
    """
    command = ["bench", "quick", "--seeds", "0", "--jobs", "2", "--out", "bench", "--budget", "160it"]
    assert main(command) == 0, capsys.readouterr()
    found = read_results(Path("bench/results/quick.jsonl"))
    assert len(found.cells) == 6 and not found.failures
    assert found.missing and not any(
        cell.endswith("-s0") for cell in found.missing
    )  # what a whole suite would run besides
    for data, value in (("digits", "sse"), ("8gaussians", "jsd")):
        column = next(column for column in found.columns(data) if column.value == value)
        assert all(found.stat(label, data, column).mean > 0 for label in ("vae", "introvae", "softintrovae"))
