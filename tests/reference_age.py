"""A straight-line transcription of AGE's iteration, which shares no code with genzoo, and its known mistakes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MISTAKES = (
    "KL with the deviation",  # where the published code has the variance
    "KL summed over dimensions",
    "KL per half of the batch",  # as on two GPUs
    "weights exchanged",
    "squared error in place of L1",
    "cosine summed over dimensions",
    "codes not on the sphere",
    "same latents in both steps of the decoder",
    "decoder moved in the encoder's phase",
    "row norms divide columns",  # the authors' code in today's PyTorch, where batch and dimensions are equal
)


def divergence(z: Tensor, official: bool, mistake: str | None) -> Tensor:
    """KL of a Gaussian fitted to codes [N, Z], from N(0, I)."""
    if mistake == "KL per half of the batch":
        return (divergence(z[: len(z) // 2], official, None) + divergence(z[len(z) // 2 :], official, None)) / 2
    mean = z.mean(0)
    variance = ((z - mean) ** 2).mean(0)
    if not official or mistake == "KL with the deviation":
        each = (variance + mean**2) / 2 - torch.log(torch.sqrt(variance)) - 0.5
    else:
        each = (variance**2 + mean**2) / 2 - torch.log(variance) - 0.5
    return each.mean() if official and mistake != "KL summed over dimensions" else each.sum()


def age(
    net: nn.Module,
    dec: nn.Module,
    optimizers: tuple[torch.optim.Adam, torch.optim.Adam],
    x: Tensor,
    z_e: Tensor,
    z_gs: Sequence[Tensor],
    *,
    form: str,
    mu: float,
    lam: float,
    mistake: str | None = None,
) -> dict[str, float]:
    """One iteration; the encoder is `net`, [N, ...] -> [N, Z], and a division by the norm."""
    assert mistake is None or mistake in MISTAKES, mistake
    official, (opt_e, opt_g) = form == "official", optimizers
    mu_e, lam_e, mu_g, lam_g = (0, mu, lam, 0) if mistake == "weights exchanged" else (mu, 0, 0, lam)

    def enc(image: Tensor) -> Tensor:
        code = net(image)
        norm = torch.sqrt((code**2).sum(1, keepdim=True))
        if mistake == "row norms divide columns":
            norm = norm.reshape(1, -1)[:, : code.shape[1]]
        return code if mistake == "codes not on the sphere" else code / norm

    def match_x(image: Tensor, again: Tensor) -> Tensor:
        if mistake == "squared error in place of L1":
            return ((again - image) ** 2).mean()
        error = torch.abs(again - image)
        return error.mean() if official else error.sum() / len(image)

    def match_z(z: Tensor, again: Tensor) -> Tensor:
        if not official:
            return ((z - again) ** 2).sum() / len(z)
        cosines = (z / z.norm(dim=1, keepdim=True)) * (again / again.norm(dim=1, keepdim=True))
        return 2 - (cosines.sum(1).mean() if mistake == "cosine summed over dimensions" else cosines.mean())

    opt_e.zero_grad()
    opt_g.zero_grad()
    ex = enc(x)
    gex = dec(ex)
    fake = dec(z_e).detach()
    egz = enc(fake)
    kl_real, kl_fake = divergence(ex, official, mistake), divergence(egz, official, mistake)
    loss_e = kl_real - kl_fake + mu_e * match_x(x, gex) + lam_e * match_z(z_e, egz)
    loss_e.backward()
    opt_e.step()
    if mistake == "decoder moved in the encoder's phase":
        opt_g.step()
    curves = {
        "loss/encoder": loss_e.item(),
        "kl/real": divergence(ex, False, None).item(),
        "kl/sample": divergence(egz, False, None).item(),
        "error/sse": ((gex - x) ** 2).sum().item() / len(x),
    }

    for z_g in z_gs:
        if mistake == "same latents in both steps of the decoder":
            z_g = z_gs[0]
        opt_g.zero_grad()
        opt_e.zero_grad()
        egz = enc(dec(z_g))
        loss_g = divergence(egz, official, mistake) + lam_g * match_z(z_g, egz)
        if mu_g:
            loss_g = loss_g + mu_g * match_x(x, dec(enc(x)))
        loss_g.backward()
        opt_g.step()
        curves |= {"loss/decoder": loss_g.item(), "error/latent": ((z_g - egz) ** 2).sum().item() / len(x)}
    return curves
