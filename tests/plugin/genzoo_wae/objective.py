"""WAE-MMD with a deterministic encoder: one update of both networks."""

from typing import NamedTuple

import torch
from torch import Tensor

from genzoo.losses import sse
from genzoo.models.autoencoder import Autoencoder
from genzoo.objective import Update


class WAE(Autoencoder):
    """Encoder and decoder whose encodings match the prior as a whole, not image by image."""


class Batch(NamedTuple):
    x: Tensor
    z_p: Tensor


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Squared maximum mean discrepancy with the inverse multiquadratics kernel (Section 4 of the paper): two [N, Z] -> scalar."""
    scale = 2 * a.shape[1]
    kernel = [scale / (scale + torch.cdist(u, v).square()) for u, v in ((a, a), (b, b), (a, b))]
    n = len(a)
    off = 1 - torch.eye(n, device=a.device)
    return (kernel[0] * off).sum() / (n * (n - 1)) + (kernel[1] * off).sum() / (n * (n - 1)) - 2 * kernel[2].mean()


class WAEObjective:
    def __init__(self, config, shape, z_dim):
        self.config, self.z_dim, self.guides = config, z_dim, {}

    def draw(self, real, noise):
        return Batch(real, noise.normal("prior", self.z_dim))

    def step(self, nets, batch, at):
        z, _ = nets.encoder(batch.x)
        error, distance = sse(batch.x, nets.decoder(z)).mean(), mmd(z, batch.z_p)
        loss = error + self.config.mmd_weight * distance
        yield Update(("encoder", "decoder"), loss, {"loss/wae": loss.detach(), "error/sse": error.detach(), "mmd/prior": distance.detach()})
