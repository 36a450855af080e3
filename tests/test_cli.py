"""The command line: frozen options, help without torch, errors of one line with status 2, every verb on a real run."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, as_options, environment
from PIL import Image
from safetensors.numpy import load_file

import genzoo
from genzoo import cli
from genzoo.cli import VERBS, build_verb_parser, main

OPTIONS = {  # a new flag is a decision: most settings belong to --set
    "train": [
        "--budget",
        "--config",
        "--data",
        "--dry-run",
        "--epochs",
        "--fast",
        "--help",
        "--images",
        "--out",
        "--res",
        "--resume",
        "--seed",
        "--set",
        "--skip-corrupt",
    ],
    "sample": [
        "--data",
        "--grid",
        "--help",
        "--label",
        "--n",
        "--neighbors",
        "--out",
        "--prior",
        "--seed",
        "--set",
        "--temperature",
    ],
    "reconstruct": ["--data", "--help", "--n", "--out", "--seed", "--set"],
    "interpolate": ["--data", "--help", "--label", "--n", "--out", "--seed", "--set", "--steps"],
    "translate": ["--data", "--help", "--n", "--out", "--seed", "--set"],
    "encode": ["--clusters", "--data", "--help", "--n", "--out", "--seed", "--set"],
    "eval": ["--data", "--extractor-weights", "--help", "--list", "--metrics", "--out", "--res", "--seed", "--set"],
    "copies": ["--data", "--help", "--n", "--out", "--seed", "--set"],
    "ood": ["--data", "--help", "--n", "--out", "--out-data", "--scores", "--seed", "--set", "--variance"],
    "bench": [
        "--budget",
        "--cells",
        "--check",
        "--data",
        "--extractor-weights",
        "--help",
        "--jobs",
        "--list",
        "--out",
        "--report",
        "--seeds",
    ],
    "doctor": ["--help"],
    "suggest": ["--budget", "--data", "--help", "--res", "--set"],
    "data": ["--help", "--out", "--set"],
    "cache": ["--check", "--clear", "--help"],
    "list": ["--help"],
}


def test_the_options_are_frozen():
    assert {verb: sorted(build_verb_parser(verb).options()) for verb in VERBS} == OPTIONS


@pytest.mark.process
@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "introvae", "--help"],
        ["sample", "--help"],
        ["list", "data"],
        ["list", "presets"],
    ],
)
def test_help_and_lists_do_not_import_torch(args):
    """Nor does the overview import pydantic, or any verb."""
    code = (
        "import sys; from genzoo.cli import main\n"
        f"try: main({args!r})\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    heavy = {"torch", "pydantic", "genzoo.cli.train"} if args == ["--help"] else {"torch"}
    assert not heavy & set(done.stderr.split())
    assert len(done.stdout) > 200


def test_model_help_lists_types_defaults_and_meaning(capsys):
    assert main(["train", "softintrovae", "--help"]) == 0
    text = capsys.readouterr().out
    assert "beta_neg          float | auto [32.0, default 256.0]" in text
    assert "norm_place        after | before [before]" in text
    assert main(["train", "introvae", "--help"]) == 0
    text = capsys.readouterr().out
    assert "norm_place        after | before [after]" in text
    assert "margin            float | auto [150.0, default 110.0]" in text


SETTINGS = as_options(*TINY, "objective.warmup=2it")


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (["train"], "Which model?"),
        (["train", "introvea"], "Did you mean introvae"),
        (["train", "introvae.celebahq25"], "Did you mean celebahq256"),
        (["train", "introvae", "--imagess", "5"], "Did you mean --images"),
        (["trian", "introvae"], "unknown verb 'trian'. Did you mean train or translate?"),
        (["evaluate", "RUN", "--metrics", "rec"], "unknown verb 'evaluate'. Did you mean eval, "),
        (["--verison"], "Did you mean --version"),
        (["train", "introvae", "--data", "cifar11"], "Did you mean cifar10"),
        (["train", "introvae", "--data", "./missing"], "no file or folder"),
        (["train", "introvae", "--data", "empty"], "empty"),
        (["train", "introvae", "--data", "corrupt"], "data.skip_corrupt=true"),
        (["train", "introvae", "--data", "nan.npy"], "item 0 of nan holds NaN"),
        (["train", "introvae", "--res", "50x64", "--dry-run"], "--res 48x64"),
        (["train", "introvae", "--res", "big"], "write 256"),
        (["train", "introvae", "--data", "someone/something"], "someone/something"),
        (["train", "introvae", "--images", "many"], "train.duration=many"),
        (["train", "introvae", "--set", "train.lr=fast"], "float, default 0.0002"),
        (["train", "introvae", "--set", "arch.encoder=timm:resnet81"], "Did you mean"),
        (["train", "introvae", "--set", "arch.encoder=cnov"], "Did you mean conv"),
        (["train", "introvae", "--set", "train.trackers=nothing"], "train.trackers"),
        (["train", "introvae", "--out", "afile/run"], "choose another with --out"),
        (
            ["train", "introvae", "--data", "digits", "--set", "data.split=train[:1500]"],
            "write 'train', or a smaller number",
        ),
        (["sample", "missing"], "does not exist"),
        (["sample", "empty"], "contains no model"),
        (["sample", "someone/something"], "the hub does not answer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_with_the_fix_and_status_2(args, fix, capfd):
    Path("empty").mkdir()
    Path("corrupt").mkdir()
    Path("corrupt/broken.png").write_bytes(b"not a picture")
    Image.new("RGB", (16, 16)).save("corrupt/fine.png")
    Path("afile").write_text("")
    np.save("nan.npy", np.full((8, 3, 32, 32), np.nan, np.float32))
    try:
        status = main(args)
    except SystemExit as exit_:  # argparse's own
        status = exit_.code
    err = capfd.readouterr().err
    assert status == 2
    assert fix in err
    last = err.strip().splitlines()[-1]
    assert fix in last, err
    assert "Traceback" not in err


def test_a_refused_resume_lists_the_differences(capsys):
    assert main(["train", "introvae", *SETTINGS, "--out", "run"]) == 0
    assert main(["train", "introvae", *SETTINGS, "--out", "run", "--set", "objective.margin=61", "--seed", "3"]) == 2
    err = capsys.readouterr().err
    assert "objective.margin: 150.0 -> 61.0" in err
    assert "train.seed: 0 -> 3" in err


def test_skip_corrupt_counts_and_goes_on(tmp_path, capfd):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(12):
        Image.effect_noise((20, 20), 50).convert("RGB").save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    assert main(["train", "introvae", *SETTINGS, "--data", str(folder), "--skip-corrupt", "--out", "run"]) == 0
    assert "genzoo: warning: images: 1 unreadable left out" in capfd.readouterr().err


def test_dry_run_shows_the_papers_recipe(capsys):
    assert main(["train", "introvae", "--res", "256", "--dry-run"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "introvae.celebahq256",
        "margin            120.0",
        "beta              0.05",
        "32,64,128,256,512,512",
        "parameters",
        "memory, estimated",
    ):
        assert expected in text
    assert "then: 1. encoder, by loss/encoder" in text
    assert "then: 2. decoder, by loss/decoder" in text
    assert not Path("runs").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One trained run for all verbs."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert cli.main(["train", "introvae", *SETTINGS, "--out", str(folder)]) == 0
    return folder


def test_sample_writes_a_grid_or_a_folder(run, capsys):
    assert main(["sample", str(run), "--n", "9"]) == 0
    assert Image.open(run / "samples.png").size == (3 * 66 - 2, 3 * 66 - 2)
    assert main(["sample", str(run), "--n", "3", "--out", "many"]) == 0
    assert sorted(path.name for path in Path("many").iterdir()) == ["000000.png", "000001.png", "000002.png"]
    assert Image.open("many/000000.png").size == (16, 16)
    assert main(["sample", str(run), "--n", "0"]) == 2
    assert main(["sample", str(run), "--out", "samples.txt"]) == 2
    Path("afile").write_text("")
    assert main(["sample", str(run), "--out", "afile/samples.png"]) == 2
    assert main(["sample", str(run), "--n", "9", "--seed", "1", "--out", "other.png"]) == 0
    assert Path("other.png").read_bytes() != (run / "samples.png").read_bytes()


def test_sample_takes_a_prior_and_a_grid(run, capsys):
    saved = genzoo.load(run).prior_name()
    pictures = {}
    for prior in (None, "gmm", "normal", "gmm:3"):
        options = [] if prior is None else ["--prior", prior]
        assert main(["sample", str(run), *options, "--grid", "2x5", "--out", "a.png"]) == 0
        name = {None: saved, "gmm": saved}.get(prior, prior)
        assert f"a.png: 10 images, prior {name}\n" in capsys.readouterr().out
        assert Image.open("a.png").size == (5 * 66 - 2, 2 * 66 - 2)
        pictures[prior] = Path("a.png").read_bytes()
    assert pictures[None] == pictures["gmm"] and len(set(pictures.values())) == 3
    assert main(["sample", str(run), "--n", "4", "--temperature", "0.5", "--out", "a.png"]) == 0
    assert "at temperature 0.5" in capsys.readouterr().out
    for options, fix in (
        (["--prior", "gmm:65"], "gmm:65 has more components than the 64 encodings of toyfaces"),
        (["--prior", "gauss"], "take normal"),
        (["--temperature", "-1"], "temperature"),
        (["--grid", "4"], "rows x columns"),
        (["--grid", "2x2", "--n", "5"], "leave one out"),
        (["--grid", "2x2", "--neighbors", "1"], "leave out --grid"),
        (["--neighbors", "65"], "take 1 to 64"),
    ):
        assert main(["sample", str(run), *options]) == 2
        error = capsys.readouterr().err
        assert fix in error and len(error.splitlines()) == 1


def test_a_model_without_its_run_is_fitted_to_named_data(run, capsys):
    model = genzoo.load(run)
    model.fitted_prior = None
    model.save_pretrained("saved")
    assert main(["sample", "saved", "--prior", "gmm"]) == 2
    assert "give --data, or image files" in capsys.readouterr().err
    fit = ["--prior", "gmm:2", "--data", "digits", "--set", "data.limit=50"]
    assert main(["sample", "saved", "--n", "4", *fit, "--out", "a.png"]) == 0
    assert "prior gmm:2" in capsys.readouterr().out


def test_samples_are_shown_beside_their_neighbors(run):
    assert main(["sample", str(run), "--n", "2", "--neighbors", "3"]) == 0
    assert Image.open(run / "neighbors.png").size == ((1 + 2 * 4) * 66 - 2, 2 * 66 - 2)


def test_walks_are_animated(run, monkeypatch, capsys):
    walk = ["interpolate", str(run), "--n", "4", "--steps", "5", "--out"]
    assert main([*walk, "walk.gif"]) == 0
    with Image.open("walk.gif") as animation:
        assert (animation.size, animation.n_frames) == ((2 * 66 - 2, 64), 8)  # there and back, the ends once
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert main([*walk, "walk.mp4"]) == 2
    assert 'pip install "genzoo[video]", or write a .gif' in capsys.readouterr().err


def test_reconstruct_takes_files_or_data(run, capsys):
    Image.effect_noise((40, 30), 50).convert("RGBA").save("a.png")
    assert main(["reconstruct", str(run), "a.png", "--out", "files.png"]) == 0
    assert Image.open("files.png").size == (64, 2 * 66 - 2)
    assert main(["reconstruct", str(run), "--n", "10", "--out", "data.png"]) == 0
    assert Image.open("data.png").size == (8 * 66 - 2, 4 * 66 - 2)
    assert main(["reconstruct", str(run), "--data", "digits", "--n", "4", "--out", "digits.png"]) == 0
    assert main(["reconstruct", str(run), "a.png", "--data", "digits"]) == 2


def test_interpolate_walks_between_two_images(run):
    for name in ("a.png", "b.png"):
        Image.effect_noise((16, 16), 50).convert("RGB").save(name)
    assert main(["interpolate", str(run), "a.png", "b.png", "--steps", "5", "--out", "walk.png"]) == 0
    assert Image.open("walk.png").size == (5 * 66 - 2, 64)
    assert main(["interpolate", str(run), "a.png"]) == 2


def test_encode_writes_latents_with_labels(run, capsys):
    assert main(["encode", str(run), "--data", "digits", "--out", "z.npz"]) == 0
    z = np.load("z.npz")
    assert z["mean"].shape == z["logvar"].shape == (len(z["label"]), 4)
    assert set(np.unique(z["label"])) <= set(range(10))
    kl = 0.5 * (z["mean"] ** 2 + np.exp(z["logvar"]) - 1 - z["logvar"]).sum(1)
    np.testing.assert_allclose(z["kl"], kl, rtol=1e-4)
    assert main(["encode", str(run), "--n", "5", "--out", "z.safetensors"]) == 0
    assert load_file("z.safetensors")["mean"].shape == (5, 4)
    assert main(["encode", str(run), "--out", "z.csv"]) == 2
    Image.new("RGB", (16, 16)).save("a.png")
    assert main(["encode", str(run), "a.png", "--out", "z.npz"]) == 0
    assert np.load("z.npz")["path"].tolist() == ["a.png"]
    assert main(["encode", str(run), "a.png", "--out", "z.safetensors"]) == 0
    assert "left out, as .safetensors holds numbers only: path" in capsys.readouterr().out
    assert main(["encode", str(run), "--data", "digits", "--set", "train.lr=1"]) == 2
    assert "Unknown section 'train'" in capsys.readouterr().err


def test_dry_run_checks_the_name_of_the_data(capsys):
    assert main(["train", "introvae", "--data", "toyface", "--dry-run"]) == 2
    assert "Did you mean toyfaces" in capsys.readouterr().err


def test_dry_run_checks_the_names_of_what_is_measured(capsys):
    assert main(["train", "introvae", "--set", "train.measure=clasifier:digits", "--images", "1k", "--dry-run"]) == 2
    assert "Did you mean classifier" in capsys.readouterr().err


@pytest.mark.process
def test_a_reader_that_has_seen_enough_is_not_an_error():
    with subprocess.Popen(
        [sys.executable, "-c", "from genzoo.cli import main; raise SystemExit(main(['train', 'introvae', '--help']))"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as command:
        command.stdout.close()
        assert (command.stderr.read(), command.wait()) == (b"", 141)


def test_an_interrupted_command_has_status_130(monkeypatch):
    def interrupt(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("genzoo.cli.list.run", interrupt)
    assert main(["list"]) == 130
