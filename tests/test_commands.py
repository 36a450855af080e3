"""What people type: options of other programs, counts, bounds, several subjects, lists and the help of one preset."""

import errno
import json
import os
import re
import sys
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from helpers import TINY, as_options, tiny_run
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError

from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.duration import divided, in_count, in_images
from genzoo.errors import RunStopped, UsageError, cause, did_you_mean
from genzoo.evaluation.protocols import get_protocol
from genzoo.files import JsonLines
from genzoo.registry import get_spec, list_models
from genzoo.settings import parse_size
from genzoo.training.callbacks import FIRST_S, Forecast


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("1e6", 10**6),
        ("1E6", 10**6),
        ("1e3", 1000),
        ("50K", 50_000),
        ("50k", 50_000),
        ("50_000", 50_000),
        ("1.5M", 1_500_000),
        ("2.5e3k", 2_500_000),
        ("1ep", 96),
        ("1e1ep", 960),
        ("2kit", 16_000),
        ("1e3it", 8000),
        ("12.5%", 1000),
    ],
)
def test_lengths_are_read_as_people_write_them(text, images):
    assert in_images(text, batch=8, epoch=96, total=8000) == images


@pytest.mark.parametrize(
    ("text", "count"), [("64", 64), ("1e3", 1000), ("50K", 50_000), ("50_000", 50_000), ("1.5M", 1_500_000)]
)
def test_counts_are_read_as_people_write_them(text, count):
    assert in_count(text) == count
    assert resolve("vae", settings=[f"data.limit={text}"]).data.limit == count


@pytest.mark.parametrize("text", ["1.5", "-1", "1e", "k", "", "1,000", "0x10", "١", "inf", "nan", "9" * 5000, "1e400"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(UsageError):
        in_count(text)


def test_a_seed_keeps_all_its_digits():
    """2**63 - 1 has more of them than a float."""
    assert in_count(str(2**63 - 1)) == 2**63 - 1
    assert resolve("vae", settings=[f"train.seed={2**63 - 1}"]).train.seed == 2**63 - 1


def test_the_length_of_a_run_is_recorded_in_images_or_as_typed():
    for typed, recorded in {"1e6": "1000000", "50K": "50K", "2.5k": "2.5k", "300": "300"}.items():
        assert resolve("vae", settings=[f"train.duration={typed}"]).train.duration == recorded
    assert divided("2M", 1.6) == "1250000"
    assert divided("3200kit", 1.6) == "2e+06it" and in_images("2e+06it", batch=1, epoch=None) == 2 * 10**6


def test_absurd_lengths_are_refused():
    with pytest.raises(UsageError, match="at most 1e"):
        in_images("1e12ep", batch=8, epoch=60_000)
    with pytest.raises(UsageError, match=r"train.lr_drops=50%,150%: '150%' is more than the whole run"):
        resolve("vae", settings=["train.lr_drops=50%,150%"])


@pytest.mark.parametrize("option", ["data.split", "data.column", "arch.encoder", "train.optimizer", "train.lr"])
def test_an_empty_setting_is_refused_where_no_list_is_meant(option):
    with pytest.raises(UsageError, match=f"{option}=: should not be empty"):
        resolve("vae", settings=[f"{option}="])
    assert resolve("vae", settings=["train.trackers="]).train.trackers == ()


@pytest.mark.parametrize(("text", "size"), [("64", (64, 64)), ("48x64", (48, 64)), ("48X64", (48, 64))])
def test_resolutions(text, size):
    assert parse_size(text) == size


def test_counts_of_options(tmp_path, capsys):
    assert main(["train", "vae", *as_options(*TINY), "--out", "run"]) == 0
    assert main(["sample", "run", "--n", "1e1", "--out", "s"]) == 0
    assert len(list(Path("s").glob("*.png"))) == 10
    assert main(["eval", "run", "./run", "--metrics", "rec8_train"]) == 0
    text = capsys.readouterr().out
    assert text.count("rec8_train") == 2 and text.count("eval.jsonl: 1 line added") == 2
    assert re.search(r"^ *of +protocol", text, re.MULTILINE)
    assert len(JsonLines(Path("run/eval.jsonl")).read()) == 2


def test_several_subjects_keep_what_was_scored_before_an_error(capsys):
    Trainer(tiny_run("vae"), out="run", progress=False).fit()
    Path("pictures").mkdir()
    assert main(["eval", "run", "pictures", "--metrics", "rec8_train"]) == 2
    printed = capsys.readouterr()
    assert "rec8_train" in printed.out and "no images under" in printed.err
    assert main(["eval", "run", "missing", "--metrics", "rec8_train"]) == 2  # seen before anything is scored
    printed = capsys.readouterr()
    assert printed.out == "" and "missing does not exist" in printed.err


def test_beginnings_are_suggested():
    assert did_you_mean("fid", ["rec10k_test", "fid50k_train", "fid10k_test"]) == (
        " Did you mean fid50k_train or fid10k_test?"
    )
    assert did_you_mean("", ["a" * 9, "b"]) == f" Choose from: {'a' * 9}, b."
    assert did_you_mean("FID", ["fid10k_test", "b"]) == " Did you mean fid10k_test?"
    assert did_you_mean("male", ["Male", "Smiling"]) == " Did you mean Male?"


@pytest.mark.parametrize(
    ("name", "protocol"), [("psnr", "rec10k_test"), ("SSE", "rec10k_test"), ("kl_real", "elbo10k_test")]
)
def test_a_value_names_the_protocol_that_yields_it(name, protocol):
    with pytest.raises(UsageError, match=f"'{name}' is a value of {protocol}: name that"):
        get_protocol(name)


def test_presets_are_listed_a_line_each(capsys):
    assert main(["list", "presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    presets = [f"{model}.{preset}" for model in list_models() for preset in get_spec(model).presets]
    assert [line.split()[0] for line in lines[1 : len(presets) + 1]] == presets and max(map(len, lines)) <= 120
    assert sum(line.startswith("introvae.celebahq256 ") for line in lines) == 1
    assert main(["list", "presets", "introvae.celebahq256"]) == 0
    text = capsys.readouterr().out
    assert "beta=0.05" in text and "deviations: length, data order" in text and "celebahq512" not in text
    assert main(["list", "data", "cifar10"]) == 0
    assert "60,000" in capsys.readouterr().out


def test_the_help_of_a_preset_shows_its_values(capsys):
    assert main(["train", "introvae.celebahq256", "--help"]) == 0
    text = capsys.readouterr().out
    assert "* margin            float | auto [120.0, default 110.0]" in text
    assert "* beta              float | auto [0.05, default 0.5]" in text
    assert "* channels          list of int [32,64,128,256,512,512, default 64,128,256]" in text
    assert "  alpha             float [0.25]" in text
    assert main(["train", "vae", "--help", "--set", "train.lr=0.5", "--images", "7k"]) == 0
    text = capsys.readouterr().out
    assert "[0.5, default 0.0002]" in text and "[7k, default 1M]" in text


def test_the_choice_of_a_preset_is_told():
    (note,) = resolve("introvae", data="some/folder").notes[:1]
    assert note.startswith("preset introvae.toyfaces32: the default") and "genzoo suggest introvae" in note
    assert any(note.startswith("preset softintrovae.cifar10") for note in resolve("softintrovae", data="cifar10").notes)
    notes = resolve("introvae", data="some/folder", res=256).notes
    assert any("preset introvae.celebahq256: the first of 256x256" in note for note in notes)
    assert not resolve("introvae.celebahq256").notes


def test_how_long_a_run_takes_is_told_after_its_first_steps():
    """10 steps a second for a while, then one: reported at once, and corrected twice, by spans of 80 and 160 s."""
    lines, clock = [], [0.0]
    forecast = Forecast(10_000, lines.append, lambda: clock[0], lambda: 0.0)
    for step in range(10, 1010, 10):
        clock[0] += 1.0
        forecast.on_log({"step": step})
        assert len(lines) == (step >= 60)  # after 5 seconds
    assert re.fullmatch(r"step 60 of 10,000: about 17min to go, until \w+ \d\d:\d\d", lines[0])
    for step in range(1010, 1400):
        clock[0] += 1.0
        forecast.on_log({"step": step})
    assert ["about 40min" in lines[1], "about 2h27min" in lines[2], len(lines)] == [True, True, 3]


def test_a_short_run_is_not_forecast():
    lines, clock = [], [0.0]
    forecast = Forecast(300, lines.append, lambda: clock[0])
    for step in range(10, 300, 10):
        clock[0] += FIRST_S / 3
        forecast.on_log({"step": step})
    assert not lines


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.ENOSPC, "the disk is full", "make room"),
        (errno.EROFS, "read-only", "write to another"),
        (errno.EACCES, "permission denied", "permissions"),
        (errno.ENOENT, "there is no such file", "check the path"),
        (errno.EMFILE, "too many files are open", "ulimit -n"),
        (errno.ENAMETOOLONG, "too long", "shorter"),
        (errno.ECONNREFUSED, "the network does not answer", "connection"),
        (errno.ENETUNREACH, "the network does not answer", "connection"),
    ],
)
def test_errors_of_the_system_are_told_by_their_cause(number, what, fix, monkeypatch, capsys):
    def fail(*_):
        raise OSError(number, os.strerror(number), "a/file")

    monkeypatch.setattr("genzoo.cli.list.run", fail)
    assert main(["list"]) == 2
    line = capsys.readouterr().err
    assert what in line and fix in line and "a/file" in line and len(line.splitlines()) == 1
    assert ("disk" in line) == (number == errno.ENOSPC)


def test_an_error_of_the_system_that_a_library_raises_is_one_line(monkeypatch, capsys):
    def fail(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("genzoo.cli.list.run", fail)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == "genzoo: the disk is full: make room, or write to another disk.\n"


def test_an_error_without_a_known_cause_gets_no_advice():
    assert cause(OSError("cannot identify image file")) == ("cannot identify image file", "")
    assert cause(Exception("I/O error: No space left on device (os error 28)"))[0] == "the disk is full"
    assert cause(OSError(errno.ENOSPC, "x", "a", None, "b"))[0] == "b: the disk is full"


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (LocalEntryNotFoundError("cannot find the file in the cache"), "the network does not answer"),
        (OfflineModeIsEnabled("offline"), "the network does not answer"),
        (HFValidationError("Repo id must not have spaces"), "Repo id must not have spaces."),
        (URLError("Name or service not known"), "the network does not answer"),
        (HTTPError("https://a.b", 404, "Not Found", Message(), None), "HTTP Error 404: Not Found."),
        (TimeoutError("timed out"), "the network does not answer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_servers_are_one_line(error, what, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr("genzoo.cli.list.run", fail)
    assert main(["list"]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"genzoo: {what}") and len(line.splitlines()) == 1


def test_a_run_that_cannot_write_says_why(monkeypatch):
    trainer = Trainer(tiny_run("vae"), out="run", progress=False)
    for number, line in {errno.EROFS: "read-only.*Write to another one, then resume", errno.EIO: "Try again"}.items():
        with pytest.raises(RunStopped, match=line), trainer.reporter.writing():
            raise OSError(number, os.strerror(number), "run/log.jsonl")
    unknown = pytest.raises(RunStopped, match=r"\(strange\); no checkpoint was written yet. To resume")
    with unknown, trainer.reporter.writing():
        raise OSError("strange")


def test_a_missing_file_is_told_with_its_path(capsys):
    assert main(["bench", "--check", "--out", "nowhere"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "nowhere" in line and "disk" not in line


def test_the_read_only_file_system(monkeypatch, capsys):
    """A file that may not be read names the permission, where the user is not allowed everything."""
    Path("run").mkdir()
    Path("run/log.jsonl").write_text(json.dumps({"step": 1}) + "\n", encoding="utf-8")
    Path("run/log.jsonl").chmod(0)
    if os.access("run/log.jsonl", os.R_OK):
        pytest.skip("this user may read everything")
    assert main(["doctor", "run"]) == 2
    assert "permission denied" in capsys.readouterr().err


def test_settings_for_the_whole_table_of_rates():
    run = resolve("introvae", settings=["train.lr_of.decoder=1e-4", "train.lr_of.encoder=2e-4"])
    assert run.train.lr_of == {"decoder": 1e-4, "encoder": 2e-4}
    with pytest.raises(UsageError, match=r"train\.lr_of\.decoder=-1: input should be greater than 0"):
        resolve("introvae", settings=["train.lr_of.decoder=-1"])
    with pytest.raises(UsageError, match="finite"):
        resolve("introvae", train={"lr_of": {"decoder": float("nan")}})


def test_messages_stay_short():
    with pytest.raises(UsageError) as caught:
        resolve("vae", settings=[f"train.duration={'9' * 5000}"])
    assert len(str(caught.value)) < 300
    with pytest.raises(UsageError) as caught:
        resolve("vae", train={"lr": "9" * 5000 + "x"})
    assert len(str(caught.value)) < 300


def test_options_of_other_programs_name_the_models_own_settings(capsys):
    assert main(["train", "softintrovae", "--beta-neg", "3"]) == 2
    assert "--set objective.beta_neg=3" in capsys.readouterr().err
    assert main(["train", "vae", "--beta-neg", "3"]) == 2
    assert "objective.beta_neg" not in capsys.readouterr().err
    assert "torch" in sys.modules  # of the tests; tests/test_attacks.py looks at a process without it
