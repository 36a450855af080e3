"""AGE (Ulyanov, Vedaldi & Lempitsky, AAAI 2018, arXiv 1704.02304), and the authors' code where it differs."""

from collections.abc import Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.losses import sse
from genzoo.models.age.presets import AGEConfig
from genzoo.models.autoencoder import Autoencoder
from genzoo.noise import Noise
from genzoo.objective import Mean, Objective, Progress, Step, Update, detached, frozen, of_mean
from genzoo.priors import Prior, on_sphere


class OnSphere(nn.Module):
    """An encoder whose codes are divided by their lengths: [N, *shape] -> [N, *latent], of length 1.

    Args:
        network: an encoder of points, [N, *shape] -> [N, *latent].
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return on_sphere(self.network(x))


class AGE(Autoencoder):
    """Encoder and decoder trained against each other: codes are points of the unit sphere, as the prior's are.

    The decoder is trained on that sphere only. `decode` divides each latent by its length first, so that
    interpolations, and draws of a fitted prior, lie on it, too.
    """

    model_name = "age"
    code = "point"

    def networks(self) -> dict[str, nn.Module]:
        nets = super().networks()
        return nets | {"encoder": OnSphere(nets["encoder"])}

    @property
    def prior(self) -> Prior:
        return Prior("sphere")

    def decoder_input(self, z: Tensor, labels: Tensor | None) -> Tensor:
        return on_sphere(z)


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    z_p: Tensor  # [N, *latent], samples of the prior for the encoder's update
    z_ps: tuple[Tensor, ...]  # and for each of the decoder's


def moments(z: Tensor) -> Generator[Mean, Any, Tensor]:
    """A micro-batch's part of the mean and variances of the global batch: [N, *latent] -> [2, Z]; use with `of_mean`.

    The mean is asked for first: a difference of mean squares and squared means would lose digits.
    """
    z = z.flatten(1)
    m = yield Mean(z.mean(dim=0))
    return torch.stack([z.mean(dim=0), (z - m).square().mean(dim=0)])  # d variance / d m = 0


def batch_kl(moments: Tensor) -> Tensor:
    """KL(N(m, diag v) || N(0, I)) in nats of a batch's mean and variances (Eq. 7): [2, Z] -> scalar."""
    m, v = moments
    return 0.5 * (v + m.square() - v.log() - 1).sum()


def official_kl(moments: Tensor) -> Tensor:
    """The same in the authors' code, with v where the deviation belongs, and a mean over dimensions."""
    m, v = moments
    return (0.5 * (v.square() + m.square()) - v.log() - 0.5).mean()


class AGEObjective(Objective):
    """One update of the encoder and several of the decoder, each with new latents.

    The encoder lowers the KL of real items' codes and raises that of generated ones'; the decoder lowers the latter.
    """

    config: AGEConfig

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "objective.weight_x", "adversary": "train.lr_of.encoder"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        if noise.batch == 1:
            raise UsageError("AGE judges a batch by the variance of its codes, and train.batch is 1: set 16 or more.")
        streams = (f"prior/{i}" for i in range(1 + self.config.decoder_steps))
        z_p, *z_ps = (self.spaces.prior.draw(noise, stream, self.spaces.latent) for stream in streams)
        return Batch(items.x, z_p, tuple(z_ps))

    def step(self, nets: AGE, batch: Batch, at: Progress) -> Step:
        c, x, enc, dec = self.config, batch.x, nets.encoder, nets.decoder
        kl = batch_kl if c.form == "paper" else official_kl
        z = enc(x)
        with frozen(dec):
            x_r = dec(z)
        with torch.no_grad():
            x_p = dec(batch.z_p)
        real, fake = (yield from moments(z)), (yield from moments(enc(x_p)))
        kl_x, kl_p = (yield from of_mean(kl, real)), (yield from of_mean(kl, fake))
        loss_e = kl_x - kl_p + c.weight_x * self._error_x(x, x_r)
        nats = batch_kl((yield Mean(real))), batch_kl((yield Mean(fake)))
        logs = {"loss/encoder": loss_e, "kl/real": nats[0], "kl/sample": nats[1], "error/sse": sse(x, x_r).mean()}
        yield Update(("encoder",), loss_e, detached(logs))

        for z_p in batch.z_ps:
            x_p = dec(z_p)
            with frozen(enc):  # updated above
                z_r = enc(x_p)
            fake = yield from moments(z_r)
            kl_p = yield from of_mean(kl, fake)
            loss_g = kl_p + c.weight_z * self._error_z(z_p, z_r)
            logs = {"loss/decoder": loss_g, "error/latent": sse(z_p, z_r).mean()}
            yield Update(("decoder",), loss_g, detached(logs))

    def _error_x(self, x: Tensor, x_r: Tensor) -> Tensor:
        """The L1 error of reconstructions: per item (paper), or per value (official)."""
        error = (x_r - x).abs()
        return error.flatten(1).sum(dim=1).mean() if self.config.form == "paper" else error.mean()

    def _error_z(self, z_p: Tensor, z_r: Tensor) -> Tensor:
        """The error of re-encoded latents: the squared distance (paper), or 2 - cos / Z (official)."""
        return sse(z_p, z_r).mean() if self.config.form == "paper" else 2 - (z_p * z_r).mean()
