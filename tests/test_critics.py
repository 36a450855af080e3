"""Networks that judge, DCGAN's stacks, bounded decoders, and the losses of critics."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from genzoo.archspec import CriticArch
from genzoo.errors import UsageError
from genzoo.losses import bce_fake, bce_real, gradient_penalty, pull_away
from genzoo.nn import build_decoder, build_encoder
from genzoo.nn.critics import Critic, EnergyAutoencoder, JointCritic, latent_critic
from genzoo.registry import get_spec
from genzoo.spec import ArchConfig

IMAGE, ARCH = (3, 16, 16), CriticArch(z_dim=4, channels=(4, 8), hidden=(8, 8))


@pytest.mark.parametrize("kind", ["conv", "shuffle", "dcgan", "dcgan:5", "mlp"])
def test_critics_of_every_kind_judge_items_and_pairs(kind: str):
    arch = replace(ARCH, encoder=kind, decoder=kind, norm="batch")
    x, z = torch.rand(5, *IMAGE), torch.randn(5, 4)
    critic = Critic(IMAGE, arch)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in critic.modules())
    logits, features = critic.with_features(x)
    assert torch.equal(critic(x), logits)
    assert logits.shape == (5,)
    assert features
    assert all(len(stage) == 5 for stage in features)
    assert JointCritic(IMAGE, 4, arch)(x, z).shape == (5,)
    code, again = EnergyAutoencoder(IMAGE, arch)(x)
    assert (code.shape, again.shape) == ((5, 4), x.shape)
    assert latent_critic(4, arch)(z).shape == (5,)


def test_a_critic_without_stages_says_what_has_some():
    critic = Critic(IMAGE, replace(ARCH, encoder="mlp"))
    critic.network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(IMAGE), 1))
    with pytest.raises(UsageError, match="Sequential has no stages: set arch.encoder=conv, shuffle or dcgan"):
        critic.with_features(torch.rand(2, *IMAGE))


@pytest.mark.parametrize(("kind", "kernel"), [("dcgan", 4), ("dcgan:5", 5)])
def test_dcgan_is_the_papers(kind: str, kernel: int):
    """AGE's 64-pixel stacks, layer by layer: no norm on the first convolution, weights of 0.02."""
    arch = ArchConfig(encoder=kind, decoder=kind, z_dim=64, channels=(64, 128, 256, 512))
    encoder, decoder = build_encoder((3, 64, 64), arch, 1), build_decoder((3, 64, 64), arch)
    convs = [(3, 64), (64, 128), (128, 256), (256, 512)]
    expected = sum(a * b * kernel**2 for a, b in convs) + 64 + 2 * (128 + 256 + 512) + 512 * 16 * 64 + 64
    assert sum(p.numel() for p in encoder.parameters()) == expected
    expected = 64 * 512 * 16 + 2 * (512 + 256 + 128 + 64) + sum(a * b * kernel**2 for a, b in convs) + 3
    assert sum(p.numel() for p in decoder.parameters()) == expected
    assert decoder(torch.randn(2, 64)).shape == (2, 3, 64, 64)
    assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, 64)
    weights = torch.cat([module.weight.flatten() for module in encoder.modules() if isinstance(module, nn.Conv2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)


def test_dcgan_on_a_grid_and_with_another_kernel():
    arch = ArchConfig(encoder="dcgan", decoder="dcgan", latent="grid", z_dim=4, channels=(4, 8))
    mu, logvar = build_encoder(IMAGE, arch)(torch.rand(2, *IMAGE))
    assert mu.shape == logvar.shape == (2, 4, 4, 4)
    assert build_decoder(IMAGE, arch)(mu).shape == (2, *IMAGE)
    with pytest.raises(UsageError, match="There is no network 'dcgan:3': dcgan has kernels of 4, and dcgan:5 of 5"):
        build_encoder(IMAGE, replace(arch, encoder="dcgan:3"))


@pytest.mark.parametrize("model", ["vae", "softintrovae-translation"])
def test_the_output_activation_bounds_what_is_decoded(model: str):
    z = 100 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    found = {}
    for output in ("linear", "sigmoid", "tanh"):
        torch.manual_seed(0)
        arch = {"z_dim": 4, "channels": (4, 8), "output": output}
        found[output] = get_spec(model).model()(shape=IMAGE, arch=arch).eval().decode(z).sample
    assert torch.equal(found["sigmoid"], torch.sigmoid(found["linear"]))
    assert torch.equal(found["tanh"], (torch.tanh(found["linear"]) + 1) / 2)
    assert not 0 <= found["linear"].min() <= found["linear"].max() <= 1


def test_bce_is_the_log_of_the_sigmoid():
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64)
    assert torch.allclose(bce_real(logits), -torch.log(torch.sigmoid(logits)))
    assert torch.allclose(bce_fake(logits), -torch.log(1 - torch.sigmoid(logits)))
    assert bce_fake(torch.tensor([1000.0])).item() == 1000


def test_gradient_penalty_of_a_linear_critic_and_of_each_item_alone():
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)  # slope 5
    x, x_g, alpha = (torch.rand(6, k, dtype=torch.float64) for k in (2, 2, 1))
    penalty = gradient_penalty(lambda x: x @ weight, x, x_g, alpha)
    assert torch.allclose(penalty, torch.full((6,), 16.0, dtype=torch.float64))
    assert torch.allclose(gradient_penalty(lambda x: x @ weight, x, x_g, alpha, target=10), penalty * 0 + 0.25)
    (slope,) = torch.autograd.grad(penalty.mean(), weight)  # 2 (|w| - 1) w / |w|
    assert torch.allclose(slope, 8 * weight / 5)

    def curved(x):  # slope 2 |x|
        return x.square().sum(1)

    between = x + alpha * (x_g - x)
    assert torch.allclose(gradient_penalty(curved, x, x_g, alpha), (2 * between.norm(dim=1) - 1).square())


def test_pull_away_is_the_mean_over_pairs():
    s = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    pairs = [(s[i] @ s[j]).square() for i in range(5) for j in range(5) if i != j]
    assert pull_away(s.T @ s / 5, 5).item() == pytest.approx(torch.stack(pairs).mean().item())
    axis = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # two signs do not count as different
    assert pull_away(axis.T @ axis / 2, 2) == 1
