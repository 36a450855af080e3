"""Models load exactly or not at all: damaged, foreign and hostile folders, keywords of diffusers, what is named."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from distributions import installed
from helpers import same
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RevisionNotFoundError
from safetensors.torch import load_file, save_file
from torch.nn import functional

import genzoo
from genzoo import hub
from genzoo.cli import main
from genzoo.errors import UsageError
from genzoo.evaluation.inception import PYTORCH, TORCHSCRIPT
from genzoo.files import digest
from genzoo.models.autoencoder import Autoencoder, PointCode, Posterior
from genzoo.models.introvae import IntroVAE
from genzoo.models.vae import VAE
from genzoo.nn.trunk import TrunkEncoder
from genzoo.registry import get_spec

ARCH = {"channels": (4, 8), "z_dim": 5, "output": "linear"}
SHAPE = (3, 16, 16)
WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


@pytest.fixture(scope="module")
def model() -> IntroVAE:
    torch.manual_seed(1)
    return IntroVAE("introvae.toyfaces32", SHAPE, ARCH).eval()


@pytest.fixture(scope="module")
def original(model: IntroVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "saved"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def saved(original: Path) -> Path:
    """A copy of the saved model, in the current folder."""
    return Path(shutil.copytree(original, "saved"))


def refused(call: Callable[[], Any], match: str) -> str:
    """Asserts that a call is refused in one line that matches; returns it."""
    with pytest.raises(UsageError, match=match) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 800
    return message


def write_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_arch(folder: Path, **changes: Any) -> None:
    write_config(folder, arch=json.loads((folder / "config.json").read_text())["arch"] | changes)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / WEIGHTS)
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


# ---- the weights in the file are the weights in the model


def without_decoder(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if name.startswith("decoder.")]:
        del weights[name]


def renamed(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        weights[f"module.{name}"] = weights.pop(name)


HEAD = "encoder.head.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: w.pop(HEAD), rf"1 missing \({HEAD}\): copy the whole folder again"),
        (without_decoder, r"missing \(decoder.*\.\.\.\): copy"),
        (renamed, r"missing .*; .* unexpected \(module\.decoder"),
        (lambda w: w.clear(), "missing"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda w: w.update({HEAD: w[HEAD][:, :-1].contiguous()}), rf"1 of another shape or type \({HEAD}\)"),
        (lambda w: w.update({HEAD: w[HEAD].to(torch.int8)}), "of another shape or type"),
        (lambda w: w.update({HEAD: torch.zeros(())}), "of another shape or type"),
    ],
    ids=["one missing", "no decoder", "other names", "empty", "one more", "another size", "quantized", "a scalar"],
)
def test_weights_that_are_not_those_of_the_config_are_refused(saved, change, match):
    change_weights(saved, change)
    refused(lambda: genzoo.load(saved), match)
    refused(lambda: IntroVAE.from_pretrained(saved), match)


def test_a_command_refuses_them_with_status_2(saved, capsys):
    change_weights(saved, without_decoder)
    assert main(["sample", "saved", "--n", "1"]) == 2
    assert "decoder" in capsys.readouterr().err and not Path("saved/samples.png").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_bring_a_warning_that_names_them(saved, value):
    change_weights(saved, lambda w: w[HEAD].view(-1)[3:4].fill_(value))
    with pytest.warns(UserWarning, match=rf"1 tensors of the weights in saved are not finite \({HEAD}\).*best/"):
        genzoo.load(saved)


def test_loading_copies_all_weights_and_changes_no_random_state(saved, model):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    loaded = genzoo.load(saved)
    assert torch.equal(torch.random.get_rng_state(), state) and not loaded.training
    assert all(p.data_ptr() % 64 == 0 for p in loaded.parameters())
    (saved / WEIGHTS).write_bytes(bytes((saved / WEIGHTS).stat().st_size))  # not mapped: the file may go away
    assert same(loaded.state_dict(), model.state_dict())
    x = torch.rand(3, *SHAPE)
    assert torch.equal(loaded(x).sample, model(x).sample)


def test_half_precision_is_read_exactly_and_float64_on_demand(saved, model):
    change_weights(saved, lambda w: w.update({k: t.half() if t.is_floating_point() else t for k, t in w.items()}))
    loaded = genzoo.load(saved).state_dict()
    assert loaded[HEAD].dtype == torch.float32
    assert torch.equal(loaded[HEAD], model.state_dict()[HEAD].half().float())
    third = torch.full_like(loaded[HEAD], 1, dtype=torch.float64) / 3
    change_weights(saved, lambda w: w.update({HEAD: third}))
    assert torch.equal(genzoo.load(saved, torch_dtype=torch.float64).state_dict()[HEAD], third)


def test_a_class_built_by_hand_is_its_own_model(model):
    """The same state dict in the same class gives the same outputs, and what is saved of it names its model."""
    for cls in (get_spec(name).model() for name in genzoo.list_models()):
        named = genzoo.create_model(cls.model_name, shape=SHAPE, **ARCH).eval()
        by_hand = cls(shape=SHAPE, arch=named.config.arch).eval()  # a preset may have other networks than the class
        named.load_state_dict(by_hand.state_dict())
        x, z = torch.rand(2, *SHAPE), torch.randn(2, *by_hand.latent_shape)
        shown = [m(x) if isinstance(m, Autoencoder) else m.decode(z) for m in (by_hand, named)]
        assert functional.mse_loss(shown[0].sample, shown[1].sample) == 0
        by_hand.save_pretrained("mine")
        assert type(genzoo.load("mine")) is cls
        assert json.loads(Path("mine/config.json").read_text())["preset"] == cls.model_name


def test_a_derived_class_does_not_take_the_name_of_its_base(saved):
    class Mine(VAE):
        pass

    Mine(shape=SHAPE, arch=ARCH).save_pretrained("mine")
    assert json.loads(Path("mine/config.json").read_text())["preset"] == ""
    assert type(Mine.from_pretrained("mine")) is Mine
    refused(lambda: genzoo.load("mine"), r"names no preset: call Mine\.from_pretrained")
    refused(lambda: VAE.from_pretrained("mine"), r"saved by Mine, and not by VAE: call Mine\.from_pretrained")


@pytest.mark.parametrize("cls", [VAE, Autoencoder])
def test_another_class_is_refused_with_the_right_ones_name(saved, cls):
    refused(lambda: cls.from_pretrained(saved), rf"by IntroVAE, and not by {cls.__name__}: call IntroVAE.from_pret")


@pytest.mark.parametrize("encoder", ["conv", "shuffle", "mlp"])
def test_pretrained_weights_are_refused_where_there_are_none(encoder):
    match = "arch.pretrained=true is for timm's trunks.*set arch.encoder=timm:resnet18, or leave it out"
    refused(lambda: genzoo.create_model("introvae", shape=SHAPE, pretrained=True, encoder=encoder), match)


# ---- a broken or hostile folder is one line


def deep(depth: int) -> bytes:
    return b'{"arch":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "damaged, it is not JSON .*copy the whole folder again"),
        (b'{"preset": "introvae.toyf', "not JSON"),
        (bytes(range(256)), "not JSON"),
        (b'[{"preset": "introvae"}]', "holds a list"),
        (b"null", "holds a NoneType"),
        (deep(100_000), "not JSON"),
        (deep(300), "names no preset"),
        (b'{"preset": "introvae", "shape": ' + b"9" * 5000 + b"}", "not JSON"),
        (b" " * 10_000_001, "far too large"),
        (b"{}", "names no preset"),
        (b'{"preset": 7}', "names no preset"),
        (b'{"preset": "introvae"}', "has no shape"),
        (b'{"preset": "introvae", "shape": [3, 16, 16]}', "has no arch"),
    ],
    ids=lambda value: str(value[:20]) if isinstance(value, bytes) else "",
)
def test_a_config_that_is_none_is_refused_in_one_line(saved, content, match):
    (saved / "config.json").write_bytes(content)
    refused(lambda: genzoo.load(saved), match)
    refused(lambda: IntroVAE.from_pretrained(saved), "not JSON|holds a|too large|has no|class")


@pytest.mark.parametrize(
    "changes",
    [
        *({"shape": value} for value in ("3,16,16", None, [3, -16, 16], [3, 16.5, 16], [3, 0, 16], 16, [])),
        *({"shape": value} for value in ([10**30], [3, 17, 16], [3, 32, 32], [1, 2, 3, 4])),
        *({"arch": value} for value in (None, [1], {"z_dims": 5})),
        *({"data": value} for value in ([1], "x", {"fit": "nope"}, {"size": [[[]]]})),
        *({"classes": value} for value in (3, [1])),
        {"_class_name": ["IntroVAE"]},
        {"latents": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_value_in_a_config_is_refused_in_one_line(saved, changes):
    write_config(saved, **changes)
    assert refused(lambda: genzoo.load(saved), "saved").endswith(("again.", "of."))


@pytest.mark.parametrize(
    "changes",
    [
        {"z_dim": "many"},
        {"z_dim": 10**12},
        {"z_dim": 10**40},
        {"channels": [4, 10**9]},
        {"channels": [10**6, 10**6]},
        {"channels": [1] * 100_000},
        {"hidden": [1] * 20_000, "encoder": "mlp", "decoder": "mlp"},
        {"encoder": "timm:../../etc"},
        {"encoder": None},
        {"norm": {}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_absurd_networks_are_refused_before_memory_is_taken(saved, changes):
    write_arch(saved, **changes)
    refused(lambda: genzoo.load(saved), "saved.*(again|distribution that offers it)")


def test_a_plugins_network_that_is_not_here_is_named(saved):
    write_arch(saved, encoder="perceiver:large")
    refused(lambda: genzoo.load(saved), "encoder 'perceiver', which is not here: it may be a plugin's, install")


def test_a_network_that_cannot_be_built_without_memory_is_built_twice(saved, model, monkeypatch):
    check_parts = IntroVAE.check_parts
    monkeypatch.setattr(IntroVAE, "check_parts", lambda self: (next(self.parameters()).sum().item(), check_parts(self)))
    assert same(genzoo.load(saved).state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"", "damaged"), (b"PK\x03\x04" + bytes(200), "damaged"), ((10**15).to_bytes(8, "little") + b"{}", "damaged")],
    ids=["empty", "zip", "long header"],
)
def test_damaged_weights_are_refused_in_one_line(saved, content, match):
    (saved / WEIGHTS).write_bytes(content)
    refused(lambda: genzoo.load(saved), f"{match}.*copy the whole folder again")


def test_cut_weights_are_refused_in_one_line(saved):
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:-100])
    refused(lambda: genzoo.load(saved), "damaged")


def test_weights_in_parts_are_read_and_their_index_may_lead_nowhere_else(saved, model):
    model.save_pretrained("parts", max_shard_size="4KB")
    parts = Path("parts")
    assert len(list(parts.glob("*.safetensors"))) > 1
    assert same(genzoo.load(parts).state_dict(), model.state_dict())
    index = json.loads((parts / INDEX).read_text())
    for name in ("../saved/" + WEIGHTS, str(saved.absolute() / WEIGHTS), "weights.bin", f"a\n{WEIGHTS}", 3, None):
        (parts / INDEX).write_text(json.dumps(index | {"weight_map": dict.fromkeys(index["weight_map"], name)}))
        refused(lambda: genzoo.load(parts), "not a .safetensors file beside it: copy the whole folder again")
    for content in ("[]", '{"weight_map": []}', '{"weight_map": {}}', "{"):
        (parts / INDEX).write_text(content)
        refused(lambda: genzoo.load(parts), "copy the whole folder again")
    (parts / INDEX).write_text(json.dumps(index))
    next(parts.glob("*00001*.safetensors")).unlink()
    refused(lambda: genzoo.load(parts), "00001")


def test_a_folder_that_was_saved_to_before_holds_the_last_model(saved, model):
    other = IntroVAE(shape=SHAPE, arch=ARCH)
    for options in ({"max_shard_size": "4KB"}, {}):
        other.save_pretrained("twice")
        other.save_pretrained("twice", max_shard_size="4KB")
        model.save_pretrained("twice", **options)
        assert same(genzoo.load("twice").state_dict(), model.state_dict())
        assert Path("twice", WEIGHTS).exists() != Path("twice", INDEX).exists()


def test_settings_that_reach_for_more_than_the_folder_are_without_effect(saved, model, monkeypatch):
    """Quantizers of diffusers, a pretrained trunk from timm's hub, a path of another machine."""
    write_config(saved, quantization_config={"quant_method": "bitsandbytes"}, _name_or_path="/home/alice", auto_map={})
    refused(lambda: genzoo.load(saved), "auto_map, which IntroVAE does not take: update genzoo")
    config = json.loads((saved / "config.json").read_text())
    del config["auto_map"]
    (saved / "config.json").write_text(json.dumps(config))
    assert same(genzoo.load(saved).state_dict(), model.state_dict())
    trunk = IntroVAE(shape=(3, 32, 32), arch=ARCH | {"encoder": "timm:test_resnet"})
    trunk.save_pretrained("trunk")
    write_arch(Path("trunk"), pretrained=True)
    monkeypatch.setattr(hub, "is_reachable", lambda: pytest.fail("the hub was asked"))
    assert same(genzoo.load("trunk").state_dict(), trunk.state_dict())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"revison": "x"}, "no keyword 'revison'. Did you mean revision"),
        ({"use_safetensors": False}, "use_safetensors=False asks for pickle files, which are never read"),
        ({"quantization_config": {"quant_method": "gguf"}}, "has no quantization_config.*leave it out"),
        ({"output_loading_info": True}, "has no output_loading_info"),
        ({"torch_dtype": "float16"}, "not a type of weights: give torch.float16"),
        ({"torch_dtype": torch.int8}, "not a type of weights"),
        ({"device_map": "auto"}, "not one device"),
        ({"device_map": {"encoder": "cpu", "decoder": "cpu"}}, "not one device"),
        ({"device_map": "xpu:7"}, "is not here .*leave it out"),
        ({"subfolder": "elsewhere"}, "has no sub-folder elsewhere"),
        ({"subfolder": 3}, "subfolder=3 is not the name of a folder"),
        ({"variant": "../x"}, "variant='../x' is not a part of a file's name"),
    ],
    ids=str,
)
def test_keywords_that_mean_nothing_here_are_refused(saved, options, match):
    for load in (genzoo.load, IntroVAE.from_pretrained):
        refused(lambda load=load: load(saved, **options), match)


@pytest.mark.parametrize(
    "options",
    [
        {"use_safetensors": None, "low_cpu_mem_usage": True, "disable_mmap": True, "max_memory": None, "variant": None},
        {"device_map": "cpu"},
        {"device_map": {"": torch.device("cpu")}, "torch_dtype": None},
        {"revision": "main", "token": "hf_x", "cache_dir": "cache", "local_files_only": True},
    ],
    ids=str,
)
def test_keywords_of_diffusers_that_change_nothing_are_taken(saved, model, options):
    assert same(genzoo.load(saved, **options).state_dict(), model.state_dict())


def test_a_type_of_weights_is_taken_as_in_diffusers(saved):
    for name in ("torch_dtype", "dtype"):
        loaded = genzoo.load(saved, **{name: torch.float16})
        assert loaded.dtype == torch.float16 and loaded.encoder.head.weight.dtype == torch.float16


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"safe_serialization": False}, "=False asks for pickle files, which are never read or written"),
        ({"push_to_hub": True}, "call model.push_to_hub"),
        ({"variant": "a/b"}, "variant='a/b' is not a part of a file's name"),
        ({"use_flashpack": True}, "has no use_flashpack"),
        ({"max_shard": "1GB"}, "no keyword 'max_shard'. Did you mean max_shard_size"),
    ],
    ids=str,
)  # fmt: skip
def test_nothing_is_saved_that_could_not_be_read_back(model, options, match):
    refused(lambda: model.save_pretrained("new", **options), match)
    assert not Path("new").exists()


def test_a_variant_is_saved_and_read_under_its_name(model):
    model.save_pretrained("new", variant="fp16", safe_serialization=True)
    assert Path("new/diffusion_pytorch_model.fp16.safetensors").exists()
    assert same(genzoo.load("new", variant="fp16").state_dict(), model.state_dict())
    refused(lambda: genzoo.load("new"), f"has no {WEIGHTS}, but diffusion_pytorch_model.fp16.safetensors")


def test_a_model_is_not_saved_over_a_file(model):
    Path("file").write_text("mine")
    refused(lambda: model.save_pretrained("file"), "is a file: give a folder")
    assert Path("file").read_text() == "mine"


# ---- what is there is found, and what is not is named


def test_a_subfolder_is_found_as_in_diffusers(saved, model, monkeypatch):
    Path("pipe").mkdir()
    Path("pipe/model_index.json").write_text("{}")
    saved.rename("pipe/vae")
    assert same(genzoo.load("pipe", subfolder="vae").state_dict(), model.state_dict())
    assert type(IntroVAE.from_pretrained("pipe", subfolder="vae", device_map="cpu")) is IntroVAE
    refused(lambda: genzoo.load("pipe"), "is a diffusers pipeline: give one of its sub-folders, vae")
    asked = []

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename, options["revision"]))
        return f"pipe/{filename}"

    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr(hub, "download", download)
    monkeypatch.setattr(hub, "download_optional", lambda repo_id, filename, **_: asked.append(filename))
    assert same(genzoo.load("me/pipe", subfolder="vae", revision="v1").state_dict(), model.state_dict())
    assert asked == [
        ("me/pipe", "vae/config.json", "v1"),
        ("me/pipe", "vae/config.json", "v1"),
        ("me/pipe", f"vae/{WEIGHTS}", "v1"),
        "vae/prior.safetensors",
    ]


def test_all_files_of_the_hub_are_of_one_commit(saved, model, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = Path("cache/snapshots", commit)
    snapshot.parent.mkdir(parents=True)
    saved.rename(snapshot)
    revisions = []

    def download(repo_id, filename, revision=None, **_):
        revisions.append(revision)
        return str(snapshot.absolute() / filename)

    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr(hub, "download", download)
    monkeypatch.setattr(hub, "download_optional", lambda repo_id, filename, **_: None)
    assert same(genzoo.load("me/model").state_dict(), model.state_dict())
    assert revisions == [None, None, commit]


SAVED = ("manifest.json", "run.json", "run.safetensors")  # some of a checkpoint's files


def write(path: str, content: bytes = b"") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)


@pytest.mark.parametrize(
    ("files", "path", "match"),
    [
        (["x.pth"], "x.pth", "x.pth is a pickle file, which is never read.*give a run folder"),
        (["x.CKPT"], "x.CKPT", "is a pickle file"),
        (["x.safetensors"], "x.safetensors", "weights without their config.json"),
        (["m/config.json", f"m/{WEIGHTS}"], f"m/{WEIGHTS}", "is one file of a model: give its folder, m"),
        (["m/config.json"], "m/config.json", "give its folder, m"),
        (["notes.txt"], "notes.txt", "is a file: give a run folder"),
        (["r/run.json"], "r", "contains no model yet.*first snapshot"),
        (["r/run.json", "r/best/config.json"], "r", "give r/best"),
        (["r/run.json", *(f"r/checkpoints/8/{name}" for name in SAVED)], "r/checkpoints/8", "run r: give.* r[.]"),
        (["r/run.json", "r/checkpoints/000000008/manifest.json"], "r/checkpoints", "belongs to the run r"),
        (["r/run.json", "r/previews/1.png"], "r/previews", "belongs to the run r"),
        (["r/run.json", "r/model/README.md"], "r/model", "contains no model"),
        ([f"c/{name}" for name in SAVED], "c", "is a checkpoint, which resumes a run"),
        (["runs/a/run.json", "runs/b/run.json"], "runs", "give one of its sub-folders, a, b"),
        (["p/pytorch_model.bin"], "p", "contains no model but pytorch_model.bin, a pickle file"),
        (["s/model.safetensors"], "s", "copy its config.json there"),
        (["e/a.png"], "e", "contains no model"),
        ([], "owner/na me", "does not exist: give .* a hub id"),
        ([], "owner/--", "does not exist"),
        ([], "a" * 300, "does not exist"),
        ([], "nul\0", "does not exist"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_model_is_told_by_what_lies_there(files, path, match, capsys):
    for file in files:
        write(file)
    refused(lambda: genzoo.load(path), match)
    assert main(["sample", path]) == 2 and len(capsys.readouterr().err.splitlines()) == 1
    if path not in ("notes.txt", "e", "runs", "r/checkpoints", "r/previews", "r/model"):  # or it may hold images
        assert main(["eval", path]) == 2
        assert re.search(match, capsys.readouterr().err)


@pytest.mark.parametrize("path", [None, 7, b"saved"])
def test_what_is_no_path_is_refused(path):
    refused(lambda: genzoo.load(path), "is not a path")


def test_a_plugins_model_without_the_plugin_is_told(saved):
    write_config(saved, preset="wae.tiny")
    refused(lambda: genzoo.load(saved), "the model 'wae', which is not here and may be a plugin's: install")
    write_config(saved, preset="wae.tiny", _distribution="evil; rm -rf")
    refused(lambda: genzoo.load(saved), "install the distribution that offers it")


def test_a_plugins_model_names_its_distribution(monkeypatch, tmp_path):
    points = {"elsewhere": "vae_elsewhere:SPEC"}
    source = "from genzoo.models.vae import VAE\n\n\nclass Elsewhere(VAE):\n    pass\n"
    with installed(monkeypatch, tmp_path / "site", "genzoo.models", points, vae_elsewhere=source):
        from vae_elsewhere import Elsewhere  # pyright: ignore[reportMissingImports]

        Elsewhere("elsewhere.tiny", SHAPE, ARCH).save_pretrained("saved")
        assert type(Elsewhere.from_pretrained("saved")) is Elsewhere
    refused(lambda: genzoo.load("saved"), "may be a plugin's: it was saved with the distribution elsewhere")


def failing(error: Exception) -> Callable[..., str]:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (RevisionNotFoundError.__new__(RevisionNotFoundError), "has no revision v9: check the name of the branch"),
        (LocalEntryNotFoundError("x"), "is not in the hub's cache, and the hub does not answer: check"),
        (HfHubHTTPError.__new__(HfHubHTTPError), "The hub refuses .*check the id, or log in"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_hub_refuses_is_one_line(monkeypatch, error, match):
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", failing(error))
    refused(lambda: genzoo.load("owner/name", revision="v9"), match)


def test_pretrained_trunks_ask_the_network_once(monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "is_reachable", lambda: bool(asked.append("hub")))
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    arch = {"encoder": "timm:test_resnet", "pretrained": True} | ARCH
    match = "pretrained weights of timm:test_resnet are not in the hub's cache.* or set arch.pretrained=false"
    refused(lambda: genzoo.create_model("introvae", shape=(3, 32, 32), **arch), match)
    assert asked == ["hub"]


def test_a_plan_needs_no_pretrained_weights_and_the_cache_no_network(monkeypatch):
    monkeypatch.setattr(hub, "is_reachable", lambda: pytest.fail("the hub was asked"))
    with torch.device("meta"):
        TrunkEncoder((3, 32, 32), 5, "test_resnet", pretrained=True)
    weights = timm.create_model("test_resnet", num_classes=1000).state_dict()
    save_file(weights, "model.safetensors")
    monkeypatch.setattr("genzoo.nn.trunk.try_to_load_from_cache", lambda repo_id, name: str(Path(name).absolute()))
    trunk = TrunkEncoder((3, 32, 32), 5, "test_resnet", pretrained=True).trunk.state_dict()
    assert trunk and same(trunk, {name: weights[name] for name in trunk})


def test_an_unknown_tag_of_timm_is_one_line():
    refused(lambda: TrunkEncoder((3, 32, 32), 5, "test_resnet.nothing"), "Did you mean test_resnet.r160_in1k")


# ---- Inception's files


@pytest.fixture
def weights_file(monkeypatch, tmp_path):
    """A file of another content that counts as Inception's, genzoo's own folder, and the system's temporary one."""
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GENZOO_INCEPTION", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    own, shared = tmp_path / "cache" / "weights" / PYTORCH.name, tmp_path / "temporary" / PYTORCH.name
    for path in (own, shared):
        path.parent.mkdir(parents=True)
    own.write_bytes(b"right")
    return replace(PYTORCH, sha256=digest(own)), own, shared


def test_genzoos_own_file_comes_before_one_in_the_temporary_folder(weights_file):
    file, own, shared = weights_file
    shared.write_bytes(b"wrong")
    assert file.read(None).read() == b"right"
    own.rename(shared)
    assert file.read(None).read() == b"right"
    shared.write_bytes(b"wrong")  # passed over; it is never what is loaded
    refused(lambda: file.read(None), f"put .* at {own}")
    refused(lambda: file.read(shared), f"{shared} is not pytorch-fid's Inception")


def test_what_was_checked_is_what_is_loaded(weights_file):
    file, own, _ = weights_file
    opened = file.read(None)
    own.write_bytes(b"exchanged")
    assert opened.read() == b"right"
    assert [len(known.sha256) for known in (PYTORCH, TORCHSCRIPT)] == [64, 64]


# ---- diffusers' interface


def test_conventions_of_diffusers_autoencoders(model):
    x = torch.rand(3, *SHAPE)
    (posterior,) = model.encode(x, return_dict=False)
    assert torch.equal(posterior.mean, model.encode(x).latent_dist.mean)
    (decoded,) = model.decode(posterior.mean, return_dict=False)
    assert torch.equal(decoded, model.decode(posterior.mean).sample)
    assert torch.equal(model(x, return_dict=False)[0], decoded)
    assert torch.equal(model.decode(posterior.mean, return_dict=False, generator=torch.Generator())[0], decoded)
    seeded = (torch.Generator().manual_seed(3) for _ in range(2))
    sampled = model.decode(posterior.sample(next(seeded))).sample
    assert torch.equal(model(x, sample_posterior=True, generator=next(seeded)).sample, sampled)
    assert torch.equal(model.decode(posterior.mean[..., None, None]).sample, decoded)
    theirs = DiagonalGaussianDistribution(torch.cat([posterior.mean, posterior.logvar], dim=1)[..., None, None])
    sample = torch.randn(3, 5)
    torch.testing.assert_close(posterior.nll(sample), theirs.nll(sample[..., None, None]))
    torch.testing.assert_close(posterior.var, theirs.var[..., 0, 0])
    other = Posterior(sample, 0.1 * posterior.logvar)
    moments = torch.cat([other.mean, other.logvar], dim=1)[..., None, None]
    torch.testing.assert_close(posterior.kl(other), theirs.kl(DiagonalGaussianDistribution(moments)))
    torch.testing.assert_close(posterior.kl(), theirs.kl())
    assert isinstance(posterior, Posterior) and not hasattr(PointCode(sample), "nll")


@pytest.mark.parametrize("labels", [False, [1, 2]])
def test_what_is_no_tensor_of_labels_is_refused(model, labels):
    """As in `decode(z, False)`, where diffusers has return_dict second."""
    for call in (model.decode, model.encode):
        x = torch.zeros(2, *(model.latent_shape if call == model.decode else model.shape))
        refused(lambda call=call, x=x: call(x, labels), "give int64 class numbers, and return_dict by its name")


@pytest.mark.parametrize("shape", [(2, 4), (2, 5, 1), (2, 5, 2, 2), (2, 1, 5, 1)], ids=str)
def test_latents_of_another_shape_are_refused(model, shape):
    refused(lambda: model.decode(torch.zeros(shape)), r"decodes latents of shape \(5,\) and got")


@pytest.mark.filterwarnings("ignore")
def test_networks_are_traced(model):
    z = torch.randn(2, 5)
    traced = torch.jit.trace(model.decoder, (z,), check_trace=False)
    z = torch.randn(7, 5)
    torch.testing.assert_close(traced(z), model.decoder(z))
