"""Names, plugins, presets and the resolution of a run."""

import subprocess
import sys
from dataclasses import replace
from importlib import metadata

import pytest
from distributions import installed
from helpers import ROOT, environment

import genzoo
from genzoo import plugins, registry, resolve
from genzoo.archspec import fit_channels
from genzoo.changes import differences
from genzoo.cli import main
from genzoo.configure import from_json, to_json
from genzoo.errors import UsageError
from genzoo.registry import get_spec
from genzoo.spec import ArchConfig, config

PRESETS = [name for name in genzoo.list_models(presets=True) if "." in name]


def test_the_built_in_models_are_listed():
    assert {"introvae", "vae"} <= set(genzoo.list_models())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_resolves_saves_and_names_its_source(name):
    run = resolve(name)
    preset = get_spec(name.split(".")[0]).presets[name.split(".")[1]]
    assert run.model == name
    assert preset.source
    assert from_json(to_json(run)) == run
    assert differences(run, from_json(to_json(run))) == []


FACTS = [  # FACTS: the published tables, row by row
    ("introvae.celeba128", {"margin": 110, "alpha": 0.25, "beta": 0.5}, 256, 64),
    ("introvae.celebahq256", {"margin": 120, "alpha": 0.25, "beta": 0.05}, 512, 32),
    ("introvae.celebahq1024", {"margin": 90, "alpha": 0.25, "beta": 0.0025}, 512, 8),
    (
        "introvae.celebahq1024-official",
        {"margin": 500, "alpha": 0.5, "alpha_decoder": 0.5, "beta": 0.01, "warmup": "4ep"},
        512,
        12,
    ),
    ("softintrovae.cifar10", {"beta_kl": 1, "beta_rec": 1, "beta_neg": 256}, 128, 32),
    ("softintrovae.svhn", {"beta_kl": 1, "beta_rec": 1, "beta_neg": 256}, 128, 32),
    ("softintrovae.mnist", {"beta_kl": 1, "beta_rec": 1, "beta_neg": 256}, 32, 128),
    ("softintrovae.fashion-mnist", {"beta_kl": 1, "beta_rec": 1, "beta_neg": 256}, 32, 128),
    ("softintrovae.monsters128", {"beta_kl": 0.2, "beta_rec": 0.2, "beta_neg": 256}, 128, 16),
    ("softintrovae.celebahq256", {"beta_kl": 0.5, "beta_rec": 1, "beta_neg": 1024}, 256, 8),
    ("softintrovae.8gaussians", {"beta_kl": 0.3, "beta_rec": 0.2, "beta_neg": 0.9}, 2, 512),
    ("softintrovae.2spirals", {"beta_kl": 0.5, "beta_rec": 0.2, "beta_neg": 1.0}, 2, 512),
    ("softintrovae.checkerboard", {"beta_kl": 0.1, "beta_rec": 0.2, "beta_neg": 0.2}, 2, 512),
    ("softintrovae.rings", {"beta_kl": 0.2, "beta_rec": 0.2, "beta_neg": 1.0}, 2, 512),
]


@pytest.mark.parametrize(("name", "objective", "z_dim", "batch"), FACTS)
def test_presets_have_the_published_values(name, objective, z_dim, batch):
    run = resolve(name)
    assert {key: getattr(run.objective, key) for key in objective} == objective
    assert (run.arch.z_dim, run.train.batch, run.train.lr, run.train.betas) == (z_dim, batch, 2e-4, (0.9, 0.999))


def test_resolution_picks_the_recipe_and_leaves_the_data_embedded():
    run = resolve("introvae", res=(256, 256))
    assert run.model == "introvae.celebahq256"
    assert (run.data.name, run.data.size) == ("toyfaces", (256, 256))
    assert resolve("introvae.celebahq256").data.name == "celeba-hq"


def test_other_data_is_not_cropped_like_the_presets_own():
    assert resolve("introvae.celeba128").data.precrop == 148
    assert resolve("introvae", res=(128, 128)).data.precrop is None
    assert resolve("introvae.celeba128", data="some/folder").data.precrop is None


@pytest.mark.parametrize(("section", "fix"), [("trian", "Did you mean train"), ("setting", "Choose from|Did you mean")])
def test_a_misspelled_section_is_refused(section, fix):
    with pytest.raises(UsageError, match=fix):
        resolve("vae", **{section: {"lr": 1e-4}})


def test_sections_are_given_by_field():
    run = resolve("vae", arch={"z_dim": 3}, objective={"beta": 2.0}, data={"name": "digits"}, train={"batch": 7})
    assert (run.arch.z_dim, run.objective.beta, run.data.name, run.train.batch) == (3, 2.0, "digits", 7)
    assert run.data.channels == 1
    with pytest.raises(UsageError, match="Did you mean batch"):
        resolve("vae", train={"bacth": 7})


def test_gray_belongs_to_the_data_not_to_the_resolution():
    assert resolve("introvae", res=(28, 28)).data.channels == 3
    assert resolve("introvae", res=(28, 28), data="digits").data.channels == 1
    assert resolve("introvae.celebahq256", data="digits").data.channels == 1


def test_a_gray_preset_of_softintrovae_is_gray():
    assert resolve("softintrovae.mnist").data.channels == 1
    assert resolve("softintrovae", res=(28, 28)).data.channels == 3


def test_data_picks_the_recipe_made_for_it():
    assert resolve("introvae", data="rings").model == "introvae.rings"


@pytest.mark.parametrize(
    ("name", "res", "note"),
    [
        ("introvae.celebahq1024", None, "recipe introvae.celebahq1024 on the embedded toyfaces: give --data"),
        ("introvae", (1024, 1024), "recipe introvae.celebahq1024 on the embedded toyfaces: give --data"),
        ("introvae", (256, 256), "give --data, or type introvae.celebahq256 for its own data, celeba-hq"),
        ("introvae.celebahq256", None, None),
        ("introvae", None, None),
    ],
)
def test_a_recipe_without_its_own_data_notes_it(name, res, note):
    notes = resolve(name, res=res).notes
    assert (note is None and not notes) or any(text.endswith(note) for text in notes)


def test_a_longer_run_is_the_same_unless_something_is_a_share_of_it():
    a, b = (resolve("introvae", settings=[f"train.duration={n}k"]) for n in (32, 64))
    assert differences(a, b) == []
    for share in ("objective.warmup=20%", "train.lr_drops=50%", "train.lr_drops=10k,80%"):
        a, b = (resolve("introvae", settings=[f"train.duration={n}k", share]) for n in (32, 64))
        assert [line.partition(" (")[0] for line in differences(a, b)] == ["train.duration: 32k -> 64k"]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "exponential"])
def test_a_schedule_that_ends_with_the_run_makes_a_longer_run_another(schedule):
    a, b = (resolve("vae", settings=[f"train.lr_schedule={schedule}", f"train.duration={n}k"]) for n in (32, 64))
    reason = f" (train.lr_schedule={schedule} ends with the run, which takes a new run to be longer)"
    assert differences(a, b) == [f"train.duration: 32k -> 64k{reason}"]


def test_a_resolution_without_a_recipe_notes_it():
    run = resolve("introvae", res=(64, 64))
    assert any("no recipe" in note for note in run.notes)
    assert run.data.size == (64, 64)


@pytest.mark.parametrize(
    ("size", "channels", "expected"),
    [
        ((128, 128), (64, 128, 256, 512, 512), (64, 128, 256, 512, 512)),
        ((256, 256), (64, 128, 256, 512, 512), (32, 64, 128, 256, 512, 512)),
        ((28, 28), (64, 128, 256), (64, 128)),
        ((48, 64), (64, 128, 256, 512), (64, 128, 256)),
    ],
)
def test_channels_follow_the_resolution(size, channels, expected):
    assert fit_channels(size, channels) == expected


def test_points_get_perceptrons_whatever_the_model():
    run = resolve("introvae", data="8gaussians")
    assert (run.arch.encoder, run.arch.decoder, run.arch.z_dim) == ("mlp", "mlp", 2)


@pytest.mark.parametrize("backbone", ["mlp", "elsewhere"])
def test_networks_that_a_model_has_by_default_are_kept_for_points(backbone):
    @config
    class Own(ArchConfig):
        encoder: str = backbone
        decoder: str = backbone
        z_dim: int = 7

    assert Own.fitted({}, (2,), None) == ({}, "")
    changes, note = Own.fitted({"decoder": "conv"}, (2,), None)
    assert changes == {"decoder": "mlp", "z_dim": 2} and "perceptrons" in note


@pytest.mark.parametrize(
    ("setting", "section", "field", "value"),
    [
        ("train.lr=1e-4", "train", "lr", 1e-4),
        ("arch.channels=8,16", "arch", "channels", (8, 16)),
        ("arch.channels=[8,16]", "arch", "channels", (8, 16)),
        ("data.size=48x64", "data", "size", (48, 64)),
        ("train.clip=none", "train", "clip", None),
        ("data.mirror=true", "data", "mirror", True),
        ("data.channels=1", "data", "channels", 1),
        ("train.lr_of.decoder=1e-3", "train", "lr_of", {"decoder": 1e-3}),
        ("train.trackers=tensorboard", "train", "trackers", ("tensorboard",)),
        ("data.name=123", "data", "name", "123"),
    ],
)
def test_settings_are_typed_by_their_field(setting, section, field, value):
    assert getattr(getattr(resolve("introvae", settings=[setting]), section), field) == value


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        ("train.lr=fast", "float, default 0.0002"),
        ("train.lr=-1", "greater than 0"),
        ("train.lrr=1", "Did you mean lr"),
        ("trian.lr=1", "Did you mean train"),
        ("train.lr", "section.field=value"),
        ("objective.beta_neg=3", "Unknown option objective.beta_neg"),
        ("objective.form=papre", "'paper' or 'official'"),
        ("train.duration=5q", "2000it"),
    ],
)
def test_bad_settings_are_refused_with_the_fix(setting, fix):
    with pytest.raises(UsageError, match=fix) as caught:
        resolve("introvae", settings=[setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fix"), [("introvea", "Did you mean introvae"), ("introvae.celebahq25", "celebahq256")]
)
def test_unknown_names_bring_suggestions(name, fix):
    with pytest.raises(UsageError, match=fix):
        resolve(name)


def test_a_duplicate_name_raises():
    with pytest.raises(ValueError, match="registered already"):
        genzoo.register_model(get_spec("vae"))


def test_a_registered_model_can_be_created(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    genzoo.register_model(replace(get_spec("vae"), name="myvae"))
    assert "myvae" in genzoo.list_models()
    assert genzoo.create_model("myvae", shape=(1, 8, 8), channels=(4,), z_dim=2).config.preset == "myvae.toyfaces32"


def test_a_plugin_names_the_class_of_its_networks_twice_alike(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    genzoo.register_model(replace(get_spec("vae"), name="myvae", arch=get_spec("introvae").arch))
    with pytest.raises(UsageError, match="arch=IntroVAEArch, and VAE has arch_class = ArchConfig: both") as caught:
        genzoo.create_model("myvae", shape=(1, 8, 8), channels=(4,), z_dim=2)
    assert "\n" not in str(caught.value)


def test_two_distributions_of_one_name_affect_only_who_uses_it(monkeypatch, tmp_path):
    with installed(monkeypatch, tmp_path / "site", registry.GROUP, {"vae": "nowhere:SPEC"}):
        assert "vae" in genzoo.list_models()
        with pytest.raises(UsageError, match=r"genzoo and distribution elsewhere 1.0: uninstall one"):
            get_spec("vae")
    assert get_spec("vae").name == "vae"


def test_entry_points_are_read_once(monkeypatch):
    plugins.refresh()
    scans, scan = [], metadata.entry_points
    monkeypatch.setattr(plugins, "entry_points", lambda **which: (scans.append(which), scan(**which))[1])
    for _ in range(3):
        genzoo.list_models(presets=True)
    assert scans == [{"group": registry.GROUP}]


def test_a_broken_plugin_is_named_and_hides_no_other(monkeypatch, tmp_path, capsys):
    with installed(monkeypatch, tmp_path / "site", registry.GROUP, {"broken": "no_such_module:SPEC"}):
        assert "broken" in genzoo.list_models()
        with pytest.raises(UsageError, match="'broken' of distribution elsewhere 1.0 cannot be loaded.*no_such_module"):
            get_spec("broken")
        for what in ("models", "presets"):
            assert main(["list", what]) == 0
            out, err = capsys.readouterr()
            assert "introvae" in out and "no_such_module" in err and len(err.splitlines()) == 1


def test_a_third_party_distribution_trains_through_the_cli(tmp_path, genzoo_command):
    """Installs tests/plugin, a real distribution, into a folder of its own and trains its model in another process."""
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
        str(ROOT / "tests" / "plugin"),
    ]
    subprocess.run(install, check=True)
    env = environment(site)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return genzoo_command(args, env=env)

    assert "wae" in run("list", "models").stdout
    help_text = run("train", "wae", "--help").stdout
    assert "mmd_weight" in help_text
    trained = run("train", "wae", "--out", "run", "--set", "train.duration=32", "--set", "data.limit=64")
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "model" / "config.json").exists()
    sampled = run("sample", "run", "--n", "4", "--out", "s.png")
    assert sampled.returncode == 0, sampled.stderr
