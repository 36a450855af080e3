"""Straight-line transcriptions of ALI's, BiGAN's and VEEGAN's iterations, and of known mistakes. Nothing is shared with
genzoo.

Sources: Dumoulin et al. 2017, Algorithm 1; Donahue et al. 2017, Section 3.4 and their code; Srivastava et al. 2017,
Algorithm 1. The critic takes an item and a latent.
"""

import torch
from torch import Tensor, nn


def log_sigmoid(value: Tensor) -> Tensor:
    return torch.log(1 / (1 + torch.exp(-value)))


def ali(
    model: nn.Module,
    adams: dict[str, torch.optim.Adam],
    x: Tensor,
    eps: Tensor,
    z_p: Tensor,
    *,
    bigan: bool,
    mistake: str = "",
) -> dict[str, float]:
    """One iteration of ALI, or of BiGAN, whose codes are points and whose terms have weight 1/2.

    Mistakes and who makes them: `p only` (common: the encoder is not trained), `saturating`, `one noise` (ali-pytorch:
    one number for all latents), `variance` (sigma = exp(logvar)), `critic first`, `helps` (wiseodd: the generator steps
    in the critic's phase, too), `normal` (BiGAN with N(0, I)).
    """
    weight = 0.5 if bigan else 1.0
    noise = eps[:, :1] if mistake == "one noise" else eps

    def losses() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if bigan:
            z = torch.tanh(model.encoder.network(x) / 2)
        else:
            mu, logvar = model.encoder(x)
            z = mu + torch.exp(logvar if mistake == "variance" else logvar / 2) * noise
        x_p = model.decoder(z_p)
        both = model.critic(torch.cat([x, x_p]), torch.cat([z, z_p]))
        q, p = both[: len(x)], both[len(x) :]
        loss_c = weight * -(log_sigmoid(q) + log_sigmoid(-p)).mean()
        loss_g = weight * -(log_sigmoid(-q) + log_sigmoid(p)).mean()
        if mistake == "p only":
            loss_g = weight * -log_sigmoid(p).mean()
        if mistake == "saturating":
            loss_g = -loss_c
        return loss_g, loss_c, q, p

    loss_g, loss_c, q, p = losses()
    gradients = {name: gradient(model, name, loss_g) for name in ("encoder", "decoder")}
    gradients["critic"] = gradient(model, "critic", loss_c)
    if mistake == "critic first":
        step(model, adams, "critic", gradients.pop("critic"))
        again = losses()[0]
        gradients = {name: gradient(model, name, again) for name in ("encoder", "decoder")}
    if mistake == "helps":
        for name in ("encoder", "decoder"):
            step(model, adams, name, gradient(model, name, loss_c))
    for name, values in gradients.items():
        step(model, adams, name, values)
    return {
        "loss/generator": loss_g.item(),
        "loss/critic": loss_c.item(),
        "critic/real": torch.sigmoid(q).mean().item(),
        "critic/sample": torch.sigmoid(p).mean().item(),
    }


def veegan(
    model: nn.Module,
    adams: dict[str, torch.optim.Adam],
    x: Tensor,
    eps: Tensor,
    z: Tensor,
    *,
    weight: float,
    mistake: str = "",
) -> dict[str, float]:
    """One iteration of VEEGAN.

    Mistakes and who makes them: `labels` (exchanged), `encoder fooled` (the reconstructor is trained against the critic
    on data), `mean` (xyfJASON: distance as a mean over z), `no noise` (xyfJASON), `softplus` (log-sigmoid for the
    logit), `data` (reconstructions of data, not of latents).
    """
    noise = 0 * eps if mistake == "no noise" else eps
    x_g = model.decoder(z)
    z_x = model.encoder(x) + noise
    f = model.encoder(x_g)
    both = model.critic(torch.cat([x, x_g]), torch.cat([z_x, z]))
    q, p = both[: len(x)], both[len(x) :]
    distance = ((z - f) ** 2).reshape(len(z), -1).sum(1).mean()
    loss_c = -(log_sigmoid(p) + log_sigmoid(-q)).mean()
    loss_gamma, loss_theta = p.mean() + weight * distance, weight * distance
    if mistake == "labels":
        loss_c = -(log_sigmoid(q) + log_sigmoid(-p)).mean()
    if mistake == "encoder fooled":
        loss_theta = loss_theta - q.mean()
    if mistake == "mean":
        loss_gamma, loss_theta = p.mean() + weight * distance / z[0].numel(), weight * distance / z[0].numel()
    if mistake == "softplus":
        loss_gamma = -log_sigmoid(-p).mean() + weight * distance
    if mistake == "data":
        error = ((x - model.decoder(model.encoder(x))) ** 2).reshape(len(x), -1).sum(1).mean()
        loss_gamma, loss_theta = p.mean() + weight * error, weight * error
    losses = {"encoder": loss_theta, "decoder": loss_gamma, "critic": loss_c}
    gradients = {name: gradient(model, name, loss) for name, loss in losses.items()}
    for name, values in gradients.items():
        step(model, adams, name, values)
    return {
        "loss/generator": loss_gamma.item(),
        "loss/critic": loss_c.item(),
        "error/latent": distance.item(),
        "critic/real": 1 - torch.sigmoid(q).mean().item(),
        "critic/sample": 1 - torch.sigmoid(p).mean().item(),
    }


def gradient(model: nn.Module, name: str, loss: Tensor) -> tuple[Tensor, ...]:
    parameters = list(getattr(model, name).parameters())
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


def step(model: nn.Module, adams: dict[str, torch.optim.Adam], name: str, gradients: tuple[Tensor, ...]) -> None:
    for p, value in zip(getattr(model, name).parameters(), gradients, strict=True):
        p.grad = value
    adams[name].step()
    adams[name].zero_grad()
