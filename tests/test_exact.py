"""How exactly genzoo follows published code: presets, networks, layouts, curves by name, and a published score."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, as_options, tiny_run
from PIL import Image
from steps import FORMS, at, data, draw, micro_batches, networks, objective_of
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import interpolate

import genzoo
from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.data import open_dataset
from genzoo.duration import in_images
from genzoo.errors import UsageError
from genzoo.evaluation.drawing import truncated
from genzoo.evaluation.evaluate import Job, result_line
from genzoo.evaluation.extractors import Extractor, resized
from genzoo.evaluation.lines import ScoreLine
from genzoo.evaluation.protocols import get_protocol
from genzoo.evaluation.subject import open_subject
from genzoo.metrics.prdc import prdc
from genzoo.nn import ResidualBlock, build_decoder, build_encoder
from genzoo.nn.batchnorm import MANY, BatchNorm2d
from genzoo.noise import generator
from genzoo.objective import phases
from genzoo.registry import get_spec
from genzoo.runs.checkpoint import Checkpoints
from genzoo.runs.folder import read_config
from genzoo.spec import ArchConfig, DataConfig

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MODELS = genzoo.list_models()
PRESETS = [
    (f"{model}.{name}", preset)
    for model in MODELS
    for name, preset in get_spec(model).presets.items()
    if preset.data.get("size")  # 2-D settings have no average anyway
]


# ---- presets


@pytest.mark.parametrize(("name", "preset"), PRESETS, ids=[name for name, _ in PRESETS])
def test_presets_that_cite_a_source_keep_no_average_that_it_does_not_have(name, preset):
    assert resolve(name).train.ema == 0 or preset.source.startswith("ours: the quick start")


@pytest.mark.parametrize("name", ["introvae", "softintrovae"])
def test_readmes_record_that_published_code_averages_no_weights(name):
    text = (ROOT / "genzoo" / "models" / name / "README.md").read_text(encoding="utf-8")
    assert "train.ema=0" in text and "--set train.ema=0.999" in text


@pytest.mark.parametrize(("name", "preset"), PRESETS, ids=[name for name, _ in PRESETS])
def test_a_published_fid_names_its_protocol(name, preset):
    if "FID" in preset.expected:
        assert re.search(r"TTUR|pytorch-fid", preset.expected) and "clean-fid" in preset.expected


@pytest.mark.parametrize(
    ("name", "warmup", "batch", "published_steps"),
    [
        ("introvae.celebahq256-official", "0", 16, 908_313),
        ("introvae.celebahq256-official-m1000", "10ep", 16, 908_313),
        ("introvae.celebahq1024-official", "4ep", 12, 1_210_917),
    ],
)
def test_the_settings_of_introvaes_scripts(name, warmup, batch, published_steps):
    """501 epochs of 29,000 images; each of the scripts' epochs ends with a smaller batch."""
    run = resolve(name)
    assert (run.objective.warmup, run.train.batch, run.train.duration) == (warmup, batch, "501ep")
    assert 501 * -(-29_000 // batch) == published_steps
    steps = -(-in_images(run.train.duration, batch=batch, epoch=29_000) // batch)
    assert published_steps - 501 < steps < published_steps
    assert "not found" not in get_spec("introvae").presets[name.partition(".")[2]].deviations


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("mnist", ["200 epochs"]),
        ("monsters128", ["5 pixels", "hue", "400 epochs", "beta_kl 1, beta_neg 256 and beta_rec 1"]),
        ("celebahq256", ["every image"]),
    ],
)
def test_what_softintrovaes_code_does_otherwise_is_declared(name, facts):
    preset = get_spec("softintrovae").presets[name]
    assert all(fact in preset.deviations for fact in facts)
    assert resolve(f"softintrovae.{name}").data.mirror == (name in ("monsters128", "celebahq256"))


@pytest.fixture
def pictures(tmp_path) -> Path:
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        level = np.random.default_rng(i).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(level).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    ("preset", "option", "own"),
    [
        ("introvae.celeba128", "--set data.precrop=148", "celeba"),
        ("softintrovae.mnist", "--set data.channels=1", "mnist"),
        ("softintrovae.fashion-mnist", "--set data.channels=1", "fashion_mnist"),
    ],
)
@pytest.mark.parametrize("place", ["FOLDER", "owner/name", "images.npy"])
def test_a_copy_of_a_presets_data_is_read_alike_only_if_told(preset, option, own, place, pictures):
    name = place.replace("FOLDER", str(pictures))
    run = resolve(preset, data=name)
    assert run.data.precrop is None and run.data.channels == 3
    assert f"if {name} holds {own}, read it as the preset does: {option}" in run.notes
    setting = option.removeprefix("--set ")
    typed = resolve(preset, data=name, settings=[setting])
    assert not any("as the preset does" in note for note in typed.notes)
    field = setting.partition("=")[0].removeprefix("data.")
    assert getattr(typed.data, field) == getattr(resolve(preset).data, field)


@pytest.mark.parametrize(("preset", "data"), [("introvae.celeba128", "digits"), ("introvae.celebahq256", "a/folder")])
def test_nothing_is_noted_where_nothing_is_left_out(preset, data):
    assert not any("as the preset does" in note for note in resolve(preset, data=data).notes)


def test_the_dry_run_prints_how_to_read_a_copy_of_introvaes_data(pictures, capsys):
    small = as_options("arch.channels=4,8", "data.size=16x16")
    assert main(["train", "introvae.celeba128", "--data", str(pictures), "--dry-run", *small]) == 0
    assert "--set data.precrop=148" in " ".join(capsys.readouterr().out.split())


# ---- networks


COUNTS = [  # encoder and decoder: as the scripts build them, and without their 1x1 shortcuts
    ("introvae.celeba128", 33_107_459, 32_583_171),
    ("introvae.celebahq256", 39_426_563, 38_902_275),
    ("introvae.celebahq1024", 49_397_763, 48_349_187),
]


def parameters(name: str, *settings: str) -> int:
    run = resolve(name, settings=settings)
    shape = (3, *(run.data.size or ()))
    with torch.device("meta"):
        nets = build_encoder(shape, run.arch), build_decoder(shape, run.arch)
    return sum(p.numel() for net in nets for p in net.parameters())


@pytest.mark.parametrize(("name", "projected", "plain"), COUNTS)
def test_shortcuts_are_those_of_introvaes_scripts(name, projected, plain):
    assert parameters(name) == plain
    assert parameters(name, "arch.shortcut=projection") == projected


def test_introvaes_presets_of_the_scripts_build_their_networks():
    of_scripts = {"celebahq256-official": 39_426_563, "celebahq256-official-m1000": 39_426_563}
    of_scripts["celebahq1024-official"] = 49_397_763
    assert {name: parameters(f"introvae.{name}") for name in of_scripts} == of_scripts


@pytest.mark.parametrize("backbone", ["conv", "shuffle"])
def test_projections_stand_between_two_entries_of_channels(backbone):
    arch = ArchConfig(encoder=backbone, decoder=backbone, channels=(4, 4, 4), z_dim=2, shortcut="projection")
    encoder, decoder = build_encoder((3, 16, 16), arch), build_decoder((3, 16, 16), arch)
    found = [
        [isinstance(block.shortcut, nn.Conv2d) for block in net.modules() if isinstance(block, ResidualBlock)]
        for net in (encoder, decoder)
    ]
    expected = {"conv": [[True, True, False], [False, True, True, False]], "shuffle": [[False, True], [False, True]]}
    assert found == expected[backbone]
    mu, _ = encoder(torch.rand(2, 3, 16, 16))
    assert decoder(mu).shape == (2, 3, 16, 16)


def test_the_shortcut_is_saved_with_the_model(tmp_path):
    model = genzoo.create_model("vae", shape=(1, 8, 8), channels=(4, 4), z_dim=2, shortcut="projection")
    model.save_pretrained(tmp_path / "model")
    again = genzoo.load(str(tmp_path / "model"))
    assert again.state_dict().keys() == model.state_dict().keys()
    assert "decoder.main.up2.0.shortcut.weight" in again.state_dict()


def normalized(layer: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Output, gradients, running averages and the count after a batch in channels_last whose loss depends on it."""
    slopes = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    batch = x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 1.5, x.shape[1]))
        layer.bias.fill_(0.5)
    out = layer(batch)
    (out * slopes.to(dtype)).square().sum().backward()
    assert out.is_contiguous(memory_format=torch.channels_last)
    return [out.detach(), batch.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()]


def worst(found: list[Tensor], exact: list[Tensor]) -> float:
    """The largest error, relative to the largest value of a tensor."""
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact, strict=True))


BATCHES = [(1, 4, 512, 512), (2, 2, 600, 300), (8, 4, 64, 64), (1, 3, 255, 257), (2, 1, 128, 128)]


@pytest.mark.parametrize("shape", BATCHES)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batchnorm_of_large_images_is_exact_to_float32(shape, momentum):
    """In channels_last on a CPU, against float64: output, gradients, running averages, plain or cumulative."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1
    exact = normalized(nn.BatchNorm2d(shape[1], momentum=momentum).double(), x, torch.float64)
    assert worst(normalized(BatchNorm2d(shape[1], momentum=momentum), x), exact) < 1e-6
    assert worst(normalized(nn.BatchNorm2d(shape[1], momentum=momentum), x), exact) > 5e-6


def test_batchnorm_in_bfloat16_has_exact_statistics_of_large_images():
    x = (torch.randn(1, 2, 1024, 1056, generator=torch.Generator().manual_seed(0)) + 1).bfloat16()
    exact = normalized(nn.BatchNorm2d(2).double(), x, torch.float64)
    found = normalized(BatchNorm2d(2), x, torch.bfloat16)
    assert found[0].dtype == found[1].dtype == torch.bfloat16
    assert worst(found[4:], exact[4:]) < 1e-6
    assert worst(found[:2], exact[:2]) < 0.02


def test_second_derivatives_of_batchnorm_are_exact_too():
    """As a penalty on gradients takes them."""
    x, found = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)), []
    for layer, dtype in ((BatchNorm2d(3), torch.float32), (nn.BatchNorm2d(3).double(), torch.float64)):
        batch = x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.no_grad():
            layer.bias.fill_(0.5)
        (slope,) = torch.autograd.grad(layer(batch).tanh().sum(), batch, create_graph=True)
        slope.square().sum().backward()
        found.append([slope.detach(), batch.grad, layer.weight.grad, layer.bias.grad])
    assert worst(*found) < 2e-6


def test_a_compiler_is_given_torchs_batchnorm():
    """Whose sums it makes itself; a traced step (train.compile) and torch.export know no other."""
    x = torch.randn(1, 2, 256, 256).contiguous(memory_format=torch.channels_last)
    with tracing(TracingContext(FakeTensorMode())):
        traced = make_fx(BatchNorm2d(2))(x)
    exported = torch.export.export(BatchNorm2d(2), (x,)).module()
    for graph in (traced, exported):
        called = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
        assert any("batch_norm" in name for name in called)
        assert not any("update_stats" in name for name in called)


def test_batchnorm_of_small_images_and_in_eval_mode_is_torchs():
    """Bit for bit, in either layout."""
    x = torch.randn(16, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    assert x.numel() // x.shape[1] <= MANY[torch.float32]
    for batch, training in ((x, True), (x.repeat(1, 1, 4, 4), False)):
        for layout in (torch.contiguous_format, torch.channels_last):
            ours, theirs = BatchNorm2d(4).train(training), nn.BatchNorm2d(4).train(training)
            laid = batch.contiguous(memory_format=layout)
            out, expected = ours(laid), theirs(laid)
            assert torch.equal(out, expected) and out.stride() == expected.stride()


@pytest.mark.parametrize("backbone", ["conv", "shuffle"])
def test_all_networks_of_images_have_that_batchnorm(backbone):
    arch = ArchConfig(encoder=backbone, decoder=backbone, channels=(4, 8), z_dim=2)
    for net in (build_encoder((3, 16, 16), arch), build_decoder((3, 16, 16), arch)):
        layers = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        assert layers and all(isinstance(layer, BatchNorm2d) for layer in layers)


# ---- steps and their curves


@pytest.mark.parametrize("again", [False, True], ids=["kept-graph", "recompute"])
@pytest.mark.parametrize(
    ("form", "samples_first"), [(form, form == "introvae-official") for form in FORMS if form.startswith("introvae")]
)
def test_what_is_decoded_first_is_the_forms(form, samples_first, again):
    """Reconstructions in Algorithm 1, samples in the authors' code, in both phases: BatchNorm counts in that order."""
    objective, nets, decoded = objective_of(form, recompute=again), networks(form), []
    nets.decoder.register_forward_pre_hook(lambda net, args: decoded.append(args[0].detach().clone()))
    batch = draw(objective, 0, data(0))
    list(phases(objective, nets, [[batch]], at(0)))
    assert len(decoded) == (4 if again else 2)
    assert [torch.equal(z, batch.z_p) for z in decoded] == [samples_first, not samples_first] * (len(decoded) // 2)


def curves(form: str) -> set[str]:
    """Names of what one adversarial step logs."""
    objective, nets = objective_of(form), networks(form)
    found = phases(objective, nets, micro_batches(objective, 0, data(0)), at(0))
    return {name for phase in found for name in phase.logs}


@pytest.mark.parametrize("model", [model for model in ("introvae", "softintrovae") if model in MODELS])
def test_curves_of_published_code_have_names_here(model):
    """The README's table maps the authors' names to curves that a run logs, without those that it lacked."""
    text = (ROOT / "genzoo" / "models" / model / "README.md").read_text(encoding="utf-8")
    table = text.partition("## The authors' curves")[2].partition("## ")[0]
    named = set(re.findall(r"`((?:kl|error|expelbo|loss)/\w+)`", table))
    added = {
        "introvae": {"kl/sample_updated", "kl/reconstruction_updated"},
        "softintrovae": {"expelbo/reconstruction"},
    }
    assert named >= added[model] | {"error/sse", "kl/real", "kl/sample", "kl/reconstruction"}
    assert named <= curves(f"{model}-official")


def test_an_ablation_of_introvae_logs_what_it_has():
    objective, nets = objective_of("introvae-paper", reconstruction_branch=False), networks("introvae-paper")
    logged = [set(phase.logs) for phase in phases(objective, nets, micro_batches(objective, 0, data(0)), at(0))]
    assert "kl/sample_updated" in logged[1] and "kl/reconstruction_updated" not in logged[1]


def test_seeds_of_torch_have_32_bits():
    """Which the docstring of `genzoo.noise.generator` is about."""
    low, high = (torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5 + 2**40))
    assert torch.equal(low, high)
    assert "the lower 32 bits of a seed" in " ".join((generator.__doc__ or "").split())


# ---- scores


def test_the_resize_of_pytorch_fid_is_not_antialiased():
    images = torch.rand(2, 3, 512, 400, generator=torch.Generator().manual_seed(0))
    ours = resized(images, (299, 299), "bilinear")
    assert torch.equal(ours, interpolate(images, (299, 299), mode="bilinear", align_corners=False))
    assert (ours - resized(images, (299, 299), "bilinear antialias")).abs().max() > 0.2
    small = images[..., :40, :32]  # enlarged: the same filter
    both = [resized(small, (64, 64), how) for how in ("bilinear", "bilinear antialias")]
    torch.testing.assert_close(*both, rtol=0, atol=1e-5)


def test_truncation_keeps_bytes_and_rounds_nothing_up():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(truncated(levels.float() / 255), levels)
    assert truncated(torch.tensor([0.0, 0.9 / 255, 1.6 / 255, 1.0])).tolist() == [0, 0, 1, 255]


N_SCORED = 64


@pytest.fixture(scope="module")
def run(own_cache, tmp_path_factory) -> Path:
    """12 steps of 8 images, whose average differs from the weights."""
    return Trainer(tiny_run("softintrovae"), out=tmp_path_factory.mktemp("runs") / "run", progress=False).fit()


def features_net() -> nn.Sequential:
    """In the place of Inception: five features behind two BatchNorm layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3, 2), nn.BatchNorm2d(5), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip


@pytest.fixture
def inception(monkeypatch) -> None:
    net = features_net().to(memory_format=torch.channels_last).eval().requires_grad_(False)
    extractor = Extractor("inception-pytorch", "0" * 64, (20, 20), 3, "bilinear", 5, net)
    monkeypatch.setattr("genzoo.evaluation.evaluate.get_extractor", lambda name, **_: extractor)


def published_distance(run: Path, batch: int, pixels: str = "cut", raw: bool = True, shuffled: bool = True) -> float:
    """The published code's score, written out: batches through both networks in train mode, bytes cut off, weights that
    are not averaged, shuffled real images.
    """
    config = read_config(run)
    model, net = genzoo.load(str(run)), features_net().train()
    if raw:
        loaded = Checkpoints(run / "checkpoints", keep=1).load_latest()
        assert loaded is not None
        model.load_state_dict(loaded[1]["model"])
    decoder = model.decoder.train()
    order = torch.randperm(N_SCORED, generator=generator(0, "subset")).numpy() if shuffled else range(N_SCORED)
    real_images = open_dataset(config.data, progress=False).batch(order).numpy()
    real, fake = [], []
    with torch.no_grad():
        for i, start in enumerate(range(0, N_SCORED, batch)):
            images = real_images[start : start + batch]
            z = torch.randn(len(images), config.arch.z_dim, generator=generator(0, "eval samples", i))
            decoded = np.clip(decoder(z).numpy() * 255, 0, 255)
            if pixels != "floats":
                decoded = (decoded if pixels == "cut" else decoded.round()).astype(np.uint8)
            for features, x in ((real, images), (fake, decoded)):
                small = torch.from_numpy(np.divide(x, 255, dtype=np.float32))
                large = interpolate(small, (20, 20), mode="bilinear", align_corners=False)
                features.append(net(large).numpy().astype(np.float64))
    (mean_a, cov_a), (mean_b, cov_b) = (
        (x.mean(axis=0), np.cov(x, rowvar=False)) for x in (np.concatenate(real), np.concatenate(fake))
    )
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root)


def line(subject: Path, name: str, data: DataConfig | None = None) -> ScoreLine:
    protocol = get_protocol(name)
    found = open_subject(str(subject), CPU, raw=protocol.weights == "raw", like=data)
    config = data or (found.run.data if found.run else None)
    assert config is not None
    return result_line(Job(found, protocol, config, progress=False))


PUBLISHED = f"fid{N_SCORED}_train_sintrovae2021"


def test_the_published_fid_of_softintrovae_is_computed_as_its_code_does(run, inception):
    """With the batch of the softintrovae run, 8, in both networks; every other way gives another number."""
    scored = line(run, PUBLISHED)
    ours = scored.values["frechet"]
    assert ours == pytest.approx(published_distance(run, 8), rel=1e-5)
    for other in (
        published_distance(run, 64),
        published_distance(run, 8, pixels="rounded"),
        published_distance(run, 8, pixels="floats"),
        published_distance(run, 8, raw=False),
        published_distance(run, 8, shuffled=False),
    ):
        assert ours != pytest.approx(other, rel=1e-4)
    recorded = {name: scored.details[name] for name in ("batch", "pixels", "weights", "batchnorm")}
    assert recorded == {"batch": 8, "pixels": "uint8, truncated", "weights": "raw", "batchnorm": "batch"}
    assert line(run, f"{PUBLISHED}_raw").values == scored.values


def test_a_softintrovae_without_its_run_has_the_published_batch(run, inception, tmp_path):
    model = genzoo.load(str(run))
    model.save_pretrained(tmp_path / "shared")
    scored = line(tmp_path / "shared", PUBLISHED, data=tiny_run("softintrovae").data)
    assert (scored.details["batch"], scored.details["weights"]) == (32, "as saved")
    assert scored.values["frechet"] == pytest.approx(published_distance(run, 32, raw=False), rel=1e-5)
    with pytest.raises(UsageError, match="leave `_raw` out"):
        line(tmp_path / "shared", "msssim8_train_raw", data=tiny_run("softintrovae").data)


def test_a_line_records_floats_or_bytes(run, pictures, inception):
    """Of a softintrovae run and of a folder, whatever the metric."""
    like = DataConfig(name=str(pictures), size=(16, 16))
    assert [line(run, name).details["pixels"] for name in ("msssim8_train", "rec8_train")] == ["float32"] * 2
    for name in ("msssim4_train", "fd_timm_test_resnet_12_train"):
        details = line(pictures, name, data=like).details
        assert (details["pixels"], details["batch"]) == ("uint8", 100)


def test_batches_through_an_extractor_in_train_mode_are_contiguous():
    """In channels_last, sums over large batches would lose digits; afterwards the network is as before."""
    net = features_net().to(memory_format=torch.channels_last).eval().requires_grad_(False)
    extractor = Extractor("tiny", "0" * 64, None, 3, "none", 5, net)
    layouts = []
    net[1].register_forward_pre_hook(lambda layer, args: layouts.append(args[0].is_contiguous()))
    images = torch.rand(4, 3, 16, 16)
    before = extractor(images)
    trained = extractor(images, mode="train")
    assert torch.equal(extractor(images), before) and layouts == [False, True, False]
    torch.testing.assert_close(trained, features_net().train()(images).detach())


# ---- precision, recall, density, coverage


def clouds(n: int, m: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(n, 6, generator=rng) + 3, torch.randn(m, 6, generator=rng) + 3.2


def copies(x: Tensor) -> Tensor:
    return x[torch.arange(8 * len(x)).remainder(len(x))].contiguous()


WITH_COPIES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "real": lambda real, fake: (copies(real), fake),
    "fake": lambda real, fake: (real, copies(fake)),
    "both": lambda real, fake: (copies(real), copies(fake)),
    "each other": lambda real, fake: (real, real[: len(fake)].clone()),
}


@pytest.mark.filterwarnings("ignore:Precision, recall, density and coverage of sets with copies")
@pytest.mark.parametrize("which", ["real", "fake", "both"])
def test_equal_items_have_no_distance(which):
    """Neighborhoods of copies contain nothing, as in their authors' code with exact distances."""
    real, fake = WITH_COPIES[which](*clouds(60, 50))
    found = prdc(real, fake)
    x, y = real.double(), fake.double()
    pairs = {name: torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") for name, a, b in
             (("xx", x, x), ("yy", y, y), ("xy", x, y))}  # fmt: skip
    real_radii, fake_radii = (pairs[name].kthvalue(6, dim=1).values for name in ("xx", "yy"))
    inside = pairs["xy"] < real_radii[:, None]
    assert found == pytest.approx(
        {
            "precision": inside.any(dim=0).double().mean().item(),
            "recall": (pairs["xy"] < fake_radii).any(dim=1).double().mean().item(),
            "density": inside.double().sum(dim=0).mean().item() / 5,
            "coverage": (pairs["xy"].amin(dim=1) < real_radii).double().mean().item(),
        },
        abs=1e-12,
    )
    if which in ("real", "both"):
        assert found["precision"] == found["density"] == found["coverage"] == 0
    if which in ("fake", "both"):
        assert found["recall"] == 0


@pytest.mark.parametrize(("which", "counts"), [("real", ["420 of 480 real"]), ("fake", ["350 of 400 fake"]),
                                               ("both", ["420 of 480 real", "350 of 400 fake"])])  # fmt: skip
def test_copies_are_warned_about(which, counts):
    with pytest.warns(UserWarning, match="sets with copies") as caught:
        prdc(*WITH_COPIES[which](*clouds(60, 50)))
    assert len(caught) == len(counts)
    assert all(count in str(warning.message) for count, warning in zip(counts, caught, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prdc(*clouds(60, 50))
        prdc(*WITH_COPIES["each other"](*clouds(60, 50)))


@pytest.mark.parametrize(("n", "m", "k"), [(6, 50, 5), (50, 6, 5), (2, 2, 1), (20, 20, 19), (20, 20, 0)])
def test_neighborhoods_that_reach_the_whole_set_are_refused(n, m, k):
    real, fake = clouds(n, m)
    with pytest.raises(UsageError, match=rf"k = {k} items need .* pass more images") as caught:
        prdc(real, fake, k=k)
    assert "\n" not in str(caught.value)
    enough = max(k, 1) + 2
    assert prdc(*clouds(enough, enough), k=max(k, 1)).keys() == {"precision", "recall", "density", "coverage"}
