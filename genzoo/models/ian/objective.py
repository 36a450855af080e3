"""IAN (Brock, Lim, Ritchie & Weston, ICLR 2017, arXiv 1609.07093), with the losses of the authors' code."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.ian.presets import IANArch, IANConfig
from genzoo.nn import build_decoder, build_encoder
from genzoo.nn.conv import StackEncoder
from genzoo.nn.mlp import MLPEncoder
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Step, Update, detached, frozen

REAL, RECONSTRUCTION, SAMPLE = range(3)  # classes of the discriminator


class Trunk(nn.Module):
    """[N, *shape] -> the outputs of all stages, the last one being what the heads take.

    Args:
        shape: of one item.
        arch: `arch.encoder` and its widths are the trunk's.

    Raises:
        UsageError: a network that has no stages.
    """

    def __init__(self, shape: tuple[int, ...], arch: IANArch):
        super().__init__()
        encoder = build_encoder(shape, replace(arch, latent="flat"), outputs=1)
        if isinstance(encoder, StackEncoder):
            self.main, last, self.channels = encoder.main, encoder.head, arch.channels[-1]
        elif isinstance(encoder, MLPEncoder) and arch.hidden:
            self.main, last = nn.Sequential(nn.Flatten(), *encoder.main[:-1]), encoder.main[-1]
            self.channels = arch.hidden[-1]
        else:
            raise UsageError(
                f"A trunk needs stages, and {type(encoder).__name__} has none: set arch.encoder=conv, shuffle, dcgan "
                "or mlp."
            )
        assert isinstance(last, nn.Linear)
        self.features = last.in_features  # of the last stage, flat

    def forward(self, x: Tensor) -> list[Tensor]:
        stages = list[Tensor]()
        for layer in self.main:
            x = layer(x)
            if not isinstance(layer, nn.Linear | nn.Flatten):
                stages.append(x)
        return stages


class Head(nn.Module):
    """The encoder's own layers: a trunk's last stage -> mu, logvar: [N, *latent] each.

    Args:
        features: of the last stage, flat.
        width: of the hidden layer.
        latent: shape of one latent.
    """

    def __init__(self, features: int, width: int, latent: tuple[int, ...]):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(features, width), nn.ELU(), nn.Linear(width, 2 * math.prod(latent))
        )
        self.latent = latent

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_sigma = self.layers(h).unflatten(1, (2, *self.latent)).unbind(1)
        return mu, 2 * log_sigma


class Discriminator(nn.Module):
    """A trunk's last stage, averaged over the grid -> logits of three classes, [N, 3]."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, 3, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(h.flatten(2).mean(dim=2) if h.ndim > 2 else h)


class IAN(Autoencoder):
    """An autoencoder whose encoder is a head on the discriminator's trunk."""

    model_name = "ian"
    arch_class = IANArch

    arch: IANArch
    trunk: Trunk
    head: Head
    critic: Discriminator

    def networks(self) -> dict[str, nn.Module]:
        trunk = Trunk(self.shape, self.arch)
        return {
            "trunk": trunk,
            "head": Head(trunk.features, self.arch.head, self.latent_shape),
            "decoder": build_decoder(self.shape, self.arch),
            "critic": Discriminator(trunk.channels),
        }

    def encoder(self, x: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Encodes [N, *shape] to mu, logvar: [N, *latent] each."""
        return self.head(self.trunk(x)[-1])


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of the posterior sample
    z_p: Tensor  # [N, *latent], samples of the prior


def _as(label: int, logits: Tensor) -> Tensor:
    """Cross-entropy of [N, 3] logits with one class for all."""
    return functional.cross_entropy(logits, torch.full_like(logits[:, 0], label, dtype=torch.int64))


class IANObjective(Objective):
    """Steps of two kinds in turn: decoder and head against the discriminator; trunk and discriminator, and the head.

    The head moves in both. Nothing but the discriminator's loss trains the trunk.
    """

    config: IANConfig
    period = 2

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "objective.weight_x", "adversary": "train.lr_of.critic"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        latent = self.spaces.latent
        return Batch(items.x, noise.normal("eps", *latent), self.spaces.prior.draw(noise, "prior", latent))

    def step(self, nets: IAN, batch: Batch, at: Progress) -> Step:
        c, x, trunk, dec = self.config, batch.x, nets.trunk, nets.decoder
        discriminates = at.every(2)
        with torch.set_grad_enabled(discriminates):
            stages = trunk(x)
        mu, logvar = nets.head(stages[-1].detach())  # the head's loss does not reach the trunk
        x_r = dec(reparameterize(mu, logvar, batch.eps))
        with torch.set_grad_enabled(not discriminates):
            x_p = dec(batch.z_p)
        with frozen(trunk), frozen(nets.critic):
            stages_r = trunk(x_r)
            fooling = _as(REAL, nets.critic(stages_r[-1]))
        features = _feature_error(stages, stages_r)
        loss_r = fooling + c.weight_x * (x_r - x).abs().mean() + c.weight_features * features
        kl = kl_to_prior(mu, logvar).mean()
        loss_h = loss_r + c.beta * kl / self.spaces.z_dim
        logs = {"loss/encoder": loss_h, "kl/real": kl, "error/sse": sse(x, x_r).mean(), "error/features": features}
        yield Update(("head",), loss_h, detached(logs), keep_graph=not discriminates)

        if not discriminates:
            with frozen(trunk), frozen(nets.critic):
                loss_g = loss_r + _as(REAL, nets.critic(trunk(x_p)[-1]))
            yield Update(("decoder",), loss_g, detached({"loss/decoder": loss_g}))
            return
        logits = [nets.critic(h) for h in (stages[-1], trunk(x_r.detach())[-1], trunk(x_p)[-1])]
        costs = [_as(label, each) for label, each in zip((REAL, RECONSTRUCTION, SAMPLE), logits, strict=True)]
        loss_d = torch.stack(costs).sum()
        yield Update(("trunk", "critic"), loss_d, detached({"loss/critic": loss_d}))


def _feature_error(stages: list[Tensor], stages_r: list[Tensor]) -> Tensor:
    """Mean over stages of the mean squared error of their outputs; those of data are targets."""
    errors = [functional.mse_loss(b, a.detach()) for a, b in zip(stages, stages_r, strict=True)]
    return torch.stack(errors).mean()
