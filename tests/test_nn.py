"""Networks: every resolution from one class, both residual forms against the published formulas, and what they refuse."""

import pytest
import torch
from torch import nn

from genzoo.errors import UsageError
from genzoo.nn import ConvDecoder, ConvEncoder, ResidualBlock, build_decoder, build_encoder
from genzoo.resolve import fit_channels
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
    assert (nn.BatchNorm2d in kinds, nn.GroupNorm in kinds) == (norm == "batch", norm == "group")


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
    assert sum(isinstance(m, nn.Upsample) for m in decoder.modules()) == 3
    assert decoder.main[-1].kernel_size == (5, 5)


def test_the_decoder_has_no_output_activation():
    x = ConvDecoder((3, 8, 8), 2, (4,))(50 * torch.randn(64, 2))
    assert x.min() < 0 and x.max() > 1


@pytest.mark.parametrize(("shape", "cure"), [((3, 50, 64), "--res 48x64"), ((1, 30, 30), "--res 32x32")])
def test_an_indivisible_size_is_refused_with_sizes_that_work(shape, cure):
    with pytest.raises(UsageError, match=cure):
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
