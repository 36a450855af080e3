"""WAE-MMD with a deterministic encoder: one update of both networks."""

from typing import NamedTuple

import torch
from torch import Tensor

from genzoo.items import Items
from genzoo.losses import sse
from genzoo.models.autoencoder import Autoencoder
from genzoo.noise import Noise
from genzoo.objective import Objective, Progress, Step, Update, detached


class WAE(Autoencoder):
    """Encoder and decoder whose codes match the prior as a whole, not image by image."""

    model_name = "wae"
    code = "point"


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    z_p: Tensor  # [N, Z], samples of the prior


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Squared maximum mean discrepancy with the inverse multiquadratics kernel (Section 4 of the paper): two [N, Z] ->
    scalar.
    """
    scale = 2 * a.shape[1]
    kernel = [scale / (scale + torch.cdist(u, v).square()) for u, v in ((a, a), (b, b), (a, b))]
    n = len(a)
    off = 1 - torch.eye(n, device=a.device)
    return (kernel[0] * off).sum() / (n * (n - 1)) + (kernel[1] * off).sum() / (n * (n - 1)) - 2 * kernel[2].mean()


class WAEObjective(Objective):
    """Reconstruction error plus the weighted MMD between codes and prior (Eq. 4 of the paper)."""

    def draw(self, items: Items, noise: Noise) -> Batch:
        return Batch(items.x, self.spaces.prior.draw(noise, "prior", self.spaces.latent))

    def step(self, nets: WAE, batch: Batch, at: Progress) -> Step:
        z = nets.encoder(batch.x)
        error, distance = sse(batch.x, nets.decoder(z)).mean(), mmd(z, batch.z_p)
        loss = error + self.config.mmd_weight * distance
        logs = {"loss/wae": loss, "error/sse": error, "mmd/prior": distance}
        yield Update(("encoder", "decoder"), loss, detached(logs))
