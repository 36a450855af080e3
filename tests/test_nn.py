"""Networks: every resolution from one class, residual forms against the published formulas, what they refuse."""

import pytest
import torch
from distributions import installed
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import genzoo
from genzoo import resolve
from genzoo.archspec import fit_channels
from genzoo.errors import UsageError
from genzoo.nn import (
    ENCODERS,
    ConvDecoder,
    ConvEncoder,
    ResidualBlock,
    build_decoder,
    build_encoder,
    latent_shape,
)
from genzoo.nn.batchnorm import BatchNorm2d
from genzoo.nn.checkpointing import cut_where_small
from genzoo.objective import frozen
from genzoo.spec import ArchConfig

WIDE = (64, 128, 256, 512, 512)


@pytest.mark.parametrize("side", [28, 32, 64, 128, 256, 512, 1024])
def test_one_class_covers_every_resolution(side):
    channels = fit_channels((side, side), WIDE)
    with torch.device("meta"):
        arch = ArchConfig(channels=channels, z_dim=6)
        encoder, decoder = build_encoder((3, side, side), arch), build_decoder((3, side, side), arch)
    mu, logvar = encoder(torch.empty(2, 3, side, side, device="meta"))
    assert mu.shape == logvar.shape == (2, 6)
    assert decoder(mu).shape == (2, 3, side, side)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 48, 64), (5, 16, 8)])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_any_channels_and_rectangles(shape, norm):
    encoder, decoder = ConvEncoder(shape, 3, (4, 8), norm), ConvDecoder(shape, 3, (4, 8), norm)
    mu, _ = encoder(torch.rand(2, *shape))
    assert decoder(mu).shape == (2, *shape)
    kinds = {type(module) for module in encoder.modules()}
    assert (BatchNorm2d in kinds, nn.GroupNorm in kinds) == (norm == "batch", norm == "group")


@pytest.mark.parametrize("place", ["after", "before"])
def test_the_residual_forms_are_the_published_ones(place):
    block = ResidualBlock(3, 5, "batch", place).double()
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    conv1, bn1, _, conv2 = block.branch
    fresh = nn.BatchNorm2d(5).double()  # the same function as block.norm, which is at its initial state too
    inner = nn.functional.leaky_relu(nn.BatchNorm2d(5).double()(conv1(x)), 0.2)
    branch, shortcut = conv2(inner), block.shortcut(x)
    expected = fresh(branch + shortcut) if place == "after" else fresh(branch) + shortcut
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(expected, 0.2), rtol=0, atol=1e-12)
    assert bn1.num_batches_tracked == 1


def test_equal_widths_keep_an_identity_shortcut():
    assert isinstance(ResidualBlock(4, 4).shortcut, nn.Identity)


def test_the_published_stack_at_32():
    """Channels 64,128,256: stem to 16x16, two residual halvings, a last block at 4x4, a linear layer to 2 z."""
    encoder = ConvEncoder((3, 32, 32), 128, (64, 128, 256))
    assert [type(m).__name__ for m in encoder.main] == ["Sequential", "Sequential", "Sequential", "ResidualBlock"]
    assert encoder.main(torch.rand(1, 3, 32, 32)).shape == (1, 256, 4, 4)
    assert encoder.head.out_features == 256
    decoder = ConvDecoder((3, 32, 32), 128, (64, 128, 256))
    assert sum(getattr(m, "upsamples", False) for m in decoder.modules()) == 3
    assert decoder.main[-1].kernel_size == (5, 5)


def test_the_decoder_has_no_output_activation():
    x = ConvDecoder((3, 8, 8), 2, (4,))(50 * torch.randn(64, 2))
    assert x.min() < 0 and x.max() > 1


@pytest.mark.parametrize(("shape", "fix"), [((3, 50, 64), "--res 48x64"), ((1, 30, 30), "--res 32x32")])
def test_an_indivisible_size_is_refused_with_sizes_that_work(shape, fix):
    with pytest.raises(UsageError, match=fix):
        ConvEncoder(shape, 4, (4, 8, 8))


def test_images_and_vectors_are_not_confused():
    with pytest.raises(UsageError, match="arch.encoder=mlp"):
        build_encoder((2,), ArchConfig())


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_timm_trunks_encode_or_say_what_works(name):
    arch = ArchConfig(encoder=f"timm:{name}", z_dim=5)
    if name.startswith("vit"):
        with pytest.raises(UsageError, match="try timm:resnet18"):
            build_encoder((3, 32, 32), arch)
    else:
        mu, logvar = build_encoder((1, 32, 32), arch).eval()(torch.rand(2, 1, 32, 32))
        assert mu.shape == logvar.shape == (2, 5)


def saved_bytes(net: nn.Module, x: torch.Tensor) -> int:
    """What autograd keeps of net(x), weights and x itself left out."""
    known = {p.untyped_storage().data_ptr() for p in (*net.parameters(), x)}
    held = {}

    def remember(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        out = net(x)
    assert (out[0] if isinstance(out, tuple) else out).requires_grad
    return sum(tensor.untyped_storage().nbytes() for pointer, tensor in held.items() if pointer not in known)


@pytest.mark.parametrize("norm_place", ["after", "before"])
def test_checkpointing_keeps_the_small_tensors_alone(norm_place):
    """What stays of a stack: one tensor at each size, the smallest of its part; and a tenth of what is kept without."""
    shape, channels, n = (3, 64, 64), (8, 8, 8), 4
    encoder, decoder = (make(shape, 2, channels, "batch", norm_place) for make in (ConvEncoder, ConvDecoder))
    x, z = torch.rand(n, *shape), torch.rand(n, 2)
    pixels = (
        4 * n * 8 * (32**2 + 16**2 + 8**2)
    )  # bytes: after each pooling, or before each upsampling (there 8, 16 and 32 pixels wide too)
    for net, batch in ((encoder, x), (decoder, z)):
        plain = saved_bytes(net, batch)
        net.gradient_checkpointing = True
        kept = saved_bytes(net, batch)
        assert pixels <= kept < 1.2 * pixels  # the heads' own tensors besides
        assert kept < plain / 10


def test_parts_are_the_stack():
    """Every layer once, in order; a cut before each upsampling block of the decoder and after each pooling of the
    encoder.
    """
    encoder, decoder = ConvEncoder((3, 16, 16), 2, (4, 8)), ConvDecoder((3, 16, 16), 2, (4, 8))
    names = [
        [[type(layer).__name__ for layer in part] for part in cut_where_small(net.main)] for net in (encoder, decoder)
    ]
    block = "ResidualBlock"
    assert names[0] == [["Conv2d", "BatchNorm2d", "LeakyReLU", "AvgPool2d"], [block, "AvgPool2d"], [block]]
    assert names[1] == [[block], [block], [block, "Conv2d"]]


@pytest.mark.parametrize("role", ["encoder", "decoder", "frozen encoder", "frozen decoder"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_checkpointing_under_autocast_is_bit_for_bit(role, norm):
    """In bf16 too: outputs, gradients of input and weights, and running statistics, over two walks of one graph."""
    x = torch.rand(4, 3, 16, 16) if "encoder" in role else torch.rand(4, 3)
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = (ConvEncoder if "encoder" in role else ConvDecoder)((3, 16, 16), 3, (4, 8), norm)
        net.gradient_checkpointing = checkpointing
        batch = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16), frozen(net) if "frozen" in role else torch.enable_grad():
            out = net(batch)
            out = torch.cat(out, 1) if isinstance(out, tuple) else out
        assert out.dtype == torch.bfloat16
        out.float().square().sum().backward(retain_graph=True)
        out.float().sum().backward()
        assert all((p.grad is None) == ("frozen" in role) for p in net.parameters())
        results.append([out, batch.grad, *net.buffers(), *(p.grad for p in net.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_without_gradients_nothing_is_kept_or_cut():
    """Evaluation of a network that trains with checkpointing is what it was."""
    net = ConvEncoder((3, 16, 16), 3, (4, 8)).eval()
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = net(x)
        net.gradient_checkpointing = True
        net._gradient_checkpointing_func = None  # not called
        assert all(torch.equal(a, b) for a, b in zip(net(x), expected, strict=True))


@pytest.mark.parametrize("pixels", [(1, 1), (8, 6)], ids=["plain", "transposed"])
def test_a_block_that_upsamples_is_upsampling_and_the_block(pixels, monkeypatch):
    """The fused convolution is the same map, gradients included, and is used where there are enough pixels."""
    x, block = (
        torch.rand(3, 5, *pixels, dtype=torch.float64, requires_grad=True),
        ResidualBlock(5, 7, upsamples=True).double(),
    )
    plain = ResidualBlock(5, 7).double()
    plain.load_state_dict(block.state_dict())
    transposed, real = [], functional.conv_transpose2d
    monkeypatch.setattr(
        functional, "conv_transpose2d", lambda *args, **kwargs: transposed.append(1) or real(*args, **kwargs)
    )
    found = block(x)
    expected = plain(functional.interpolate(x, scale_factor=2.0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weight = torch.rand_like(found)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), [x, *block.parameters()]),
        torch.autograd.grad((expected * weight).sum(), [x, *plain.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert len(transposed) == (pixels == (8, 6))


@pytest.mark.parametrize("kind", ["conv", "shuffle"])
@pytest.mark.parametrize(("shape", "grid"), [((3, 16, 16), (4, 4)), ((1, 24, 16), (6, 4)), ((4, 28, 28), (7, 7))])
def test_latents_may_lie_on_the_smallest_grid(kind, shape, grid):
    arch = ArchConfig(encoder=kind, decoder=kind, channels=(4, 8), z_dim=5, latent="grid")
    assert latent_shape(shape, arch) == (5, *grid)
    mu, logvar = build_encoder(shape, arch)(torch.rand(2, *shape))
    assert mu.shape == logvar.shape == (2, 5, *grid)
    assert build_decoder(shape, arch)(mu).shape == (2, *shape)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 16, 24), (3, 32, 32), (4, 64, 64)], ids=str)
def test_fast_networks_have_the_interface_of_the_published_ones(shape, norm):
    """The same latents from the same settings, gradients to every weight, for any size that can be halved as often."""
    fast = ArchConfig(encoder="shuffle", decoder="shuffle", channels=(8, 8), z_dim=5, norm=norm)
    encoder, decoder = build_encoder(shape, fast), build_decoder(shape, fast)
    x = torch.rand(3, *shape)
    mu, logvar = encoder(x)
    again = decoder(mu)
    assert mu.shape == logvar.shape == (3, *latent_shape(shape, fast))
    assert again.shape == x.shape
    (again.square().sum() + logvar.sum()).backward()
    assert all(p.grad is not None and p.grad.any() for net in (encoder, decoder) for p in net.parameters())
    with pytest.raises(UsageError, match="not divisible by 4"):
        build_encoder((3, 30, 32), fast)


def test_fast_networks_take_less_than_two_thirds_of_the_arithmetic():
    flops = {}
    for kind in ("conv", "shuffle"):
        arch = ArchConfig(encoder=kind, decoder=kind, channels=(16, 32, 64), z_dim=8)
        encoder, decoder = build_encoder((3, 32, 32), arch), build_decoder((3, 32, 32), arch)
        with FlopCounterMode(display=False) as counter:
            decoder(encoder(torch.rand(1, 3, 32, 32))[0])
        flops[kind] = counter.get_total_flops()
    assert 3 * flops["shuffle"] < 2 * flops["conv"]


def test_a_fast_decoder_draws_the_four_subpixels_of_a_position_together():
    """The tail sees neighbors across the borders of 2x2 blocks: a change at one position reaches pixels around it."""
    decoder = build_decoder((1, 8, 8), ArchConfig(decoder="shuffle", channels=(4,), z_dim=3, norm="none"))
    h = torch.rand(1, 4, 4, 4)
    changed = h.clone()
    changed[..., 1, 1] += 1.0
    unfold, image = decoder.main.unfold, decoder.main.image
    difference = (image(unfold(changed)) - image(unfold(h))).abs()[0, 0] > 1e-6
    rows, columns = torch.where(difference)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 6, 0, 6)


@pytest.mark.parametrize("encoder", ["conv", "shuffle", "mlp", "timm:test_resnet"])
def test_an_encoder_of_one_output_returns_a_point_code(encoder):
    arch = ArchConfig(encoder=encoder, channels=(4, 8), hidden=(8,), z_dim=5)
    code = build_encoder((3, 32, 32), arch, outputs=1)(torch.rand(2, 3, 32, 32))
    assert code.shape == (2, 5)


@pytest.mark.parametrize("encoder", ["mlp", "timm:test_resnet"])
def test_networks_without_a_grid_refuse_it(encoder):
    with pytest.raises(UsageError, match="arch.latent=flat"):
        build_encoder((3, 32, 32), ArchConfig(encoder=encoder, latent="grid"))
    with pytest.raises(UsageError, match="arch.latent=flat"):
        build_decoder((3, 32, 32), ArchConfig(decoder="mlp", latent="grid"))


@pytest.mark.parametrize(
    ("build", "section"), [(build_encoder, {"encoder": "covn"}), (build_decoder, {"decoder": "covn"})]
)
def test_unknown_networks_bring_suggestions(build, section):
    with pytest.raises(UsageError, match="Unknown .* 'covn' in arch.*Did you mean conv"):
        build((3, 16, 16), ArchConfig(**section))


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="encoder named 'conv' already"):
        ENCODERS.register("conv")(lambda shape, arch, outputs: nn.Identity())


BACKBONE = """
import math
from torch import nn
from genzoo.nn import DECODERS, ENCODERS, latent_shape

class Linear(nn.Module):
    def __init__(self, out, *sizes):
        super().__init__()
        self.map, self.out = nn.Linear(*sizes), out

    def forward(self, x):
        out = self.map(x.flatten(1))
        return out.chunk(2, dim=1) if self.out == 2 else out.unflatten(1, self.out) if self.out != 1 else out

@ENCODERS.register("affine")
def encoder(shape, arch, outputs):
    return Linear(outputs, math.prod(shape), outputs * arch.z_dim)

@DECODERS.register("affine")
def decoder(shape, arch):
    return Linear(shape, arch.z_dim, math.prod(shape))
"""


def test_a_distribution_brings_a_backbone(monkeypatch, tmp_path):
    points = {"affine": "elsewhere_nets", "missing": "no_such_module"}
    settings = ["arch.encoder=affine", "arch.decoder=affine", "arch.z_dim=3", "data.size=16x16", "train.duration=8"]
    with installed(monkeypatch, tmp_path / "site", "genzoo.backbones", points, elsewhere_nets=BACKBONE):
        assert {"affine", "conv", "mlp", "timm"} <= set(ENCODERS.names())
        model = genzoo.create_model("vae", shape=(3, 8, 8), encoder="affine", decoder="affine", z_dim=3)
        assert model.encode(torch.rand(2, 3, 8, 8)).latent_dist.mean.shape == (2, 3)
        assert model.sample(4).shape == (4, 3, 8, 8)
        genzoo.Trainer(resolve("vae", settings=[*settings, "train.batch=4", "data.limit=16"]), out="run").fit()
        assert genzoo.load("run").sample(1).shape == (1, 3, 16, 16)
        with pytest.raises(UsageError, match="'missing' of distribution elsewhere 1.0 cannot be loaded"):
            build_encoder((3, 8, 8), ArchConfig(encoder="missing"))
        with pytest.raises(UsageError, match="Did you mean affine"):
            build_encoder((3, 8, 8), ArchConfig(encoder="afine"))


DECODER_ALONE = """
from torch import nn
from genzoo.nn import DECODERS

@DECODERS.register("halved")
def decoder(shape, arch):
    return nn.Linear(arch.z_dim, shape[0])
"""


def test_a_backbone_without_the_other_network_and_one_of_a_built_in_name_are_refused(monkeypatch, tmp_path):
    points = {"halved": "elsewhere_halved", "conv": "elsewhere_halved"}
    with installed(monkeypatch, tmp_path / "site", "genzoo.backbones", points, elsewhere_halved=DECODER_ALONE):
        with pytest.raises(UsageError, match="distribution elsewhere 1.0 registers no encoder of that name") as caught:
            build_encoder((2,), ArchConfig(encoder="halved"))
        assert "mean halved" not in str(caught.value) and "\n" not in str(caught.value)
        assert isinstance(build_decoder((2,), ArchConfig(decoder="halved")), nn.Linear)
        with pytest.raises(UsageError, match="offered by genzoo and distribution elsewhere 1.0: uninstall one"):
            build_encoder((3, 16, 16), ArchConfig())


@pytest.mark.parametrize("latent", ["flat", "grid"])
def test_a_decoder_is_exported_with_a_dynamic_batch(latent):
    """32 pixels, three halvings: layers of both forms, one chosen by the rule and one not."""
    arch = ArchConfig(channels=(4, 8, 256), z_dim=3, latent=latent)
    decoder, shape = build_decoder((3, 32, 32), arch).eval(), latent_shape((3, 32, 32), arch)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(decoder, (torch.rand(2, *shape),), dynamic_shapes=({0: batch},))
    exported = program.module()
    for n in (1, 2, 5, 9, 33):
        z = torch.rand(n, *shape)
        torch.testing.assert_close(exported(z), decoder(z))
