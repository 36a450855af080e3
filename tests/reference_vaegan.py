"""A straight-line transcription of VAE/GAN's iteration, and of known mistakes in it. Nothing is shared with genzoo.

Source: Larsen et al., ICML 2016, Algorithm 1, and the authors' code (model/aegan.py). A critic is a sequence of layers
`main` and a linear `head`, or of layers alone (a perceptron); Dis_l is what its stage number l returns.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def walk(critic: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits [N], and the outputs of all stages."""
    net, stages = critic.network, []
    if not hasattr(net, "head"):
        h = x.reshape(len(x), -1)
        for layer in net.main:
            h = layer(h)
            if isinstance(layer, nn.ReLU):
                stages.append(h)
        return h[:, 0], stages
    h = x
    for layer in net.main:
        h = layer(h)
        stages.append(h)
    return net.head(h.reshape(len(h), -1))[:, 0], stages


def half_square(a: Tensor, b: Tensor) -> Tensor:
    return 0.5 * ((a - b) ** 2).reshape(len(a), -1).sum(1).mean()


def iteration(
    model: nn.Module,
    adams: dict[str, torch.optim.Adam],
    x: Tensor,
    eps: Tensor,
    z_p: Tensor,
    *,
    official: bool,
    gamma: float,
    depth: int,
    gate: bool,
    equilibrium: float = 0.68,
    margin: float = 0.35,
    mistake: str = "",
) -> dict[str, float]:
    """One iteration; all gradients belong to the weights before it.

    Mistakes and who makes them: `helps` (pythae: the critic's gradient is added to the decoder's), `cancels` (edchengg:
    the adversarial term cancels), `pixels`, `mean` (rishabhd786: feature error as a mean), `saturates` (Victarry: the
    other way round, -log D), `critic learns features`, `encoder fooled` (the GAN's term reaches the encoder), `moved`
    (the critic moves first), `ungated`, `no reconstructions`.
    """
    enc, dec, critic = model.encoder, model.decoder, model.critic
    mu, logvar = enc(x)
    x_r = dec(mu + torch.exp(logvar / 2) * eps)
    x_p = dec(z_p)
    n = len(x)
    if official:
        stages = walk(critic, torch.cat([x_r, x]))[1]
        f_r, f = stages[depth - 1][:n], stages[depth - 1][n:]
        d = torch.sigmoid(walk(critic, torch.cat([x, x_p]))[0])
        real = -torch.log(d[:n] + 1e-3).mean()
        fakes = [-torch.log(1 - d[n:] + 1e-3).mean()]
    else:
        logits, stages = walk(critic, torch.cat([x, x_r, x_p]))
        f, f_r = stages[depth - 1][:n], stages[depth - 1][n : 2 * n]
        d = torch.sigmoid(logits)
        real = -torch.log(d[:n]).mean()
        fakes = [-torch.log(1 - d[n : 2 * n]).mean(), -torch.log(1 - d[2 * n :]).mean()]
        if mistake == "no reconstructions":
            fakes = fakes[1:]
    fake = sum(fakes)
    kl = 0.5 * (mu**2 + torch.exp(logvar) - logvar - 1).sum(1).mean()
    rec = half_square(x_r, x) if mistake == "pixels" else half_square(f_r, f)
    rec = rec / f[0].numel() if mistake == "mean" else rec

    adversarial = (1 - gamma if official else 1) * -fake
    loss_c = (0.5 if official else 1) * (real + fake)
    loss_e, loss_d = kl + rec, gamma * rec + adversarial
    if mistake == "helps":
        loss_d = (1 - gamma) * (rec + loss_c)
    if mistake == "cancels":
        loss_d = gamma * rec
    if mistake == "saturates":
        loss_d = gamma * rec - torch.log(d[n:]).mean()
    if mistake == "encoder fooled":
        loss_e = loss_e + adversarial
    if mistake == "critic learns features":
        loss_c = loss_c + rec

    costs = [real.item(), *(cost.item() for cost in fakes)]
    moves_c = not gate or min(costs) >= equilibrium - margin
    moves_d = not gate or max(costs) <= equilibrium + margin
    if not (moves_c or moves_d) or mistake == "ungated":
        moves_c = moves_d = True

    losses = {"encoder": loss_e, "decoder": loss_d, "critic": loss_c}
    moves = {"encoder": True, "decoder": moves_d, "critic": moves_c}
    gradients = {
        name: torch.autograd.grad(loss, list(getattr(model, name).parameters()), retain_graph=True, allow_unused=True)
        for name, loss in losses.items()
    }
    if mistake == "moved":
        step(model, adams, "critic", gradients["critic"])
        d_p = walk(critic, x_p)[0]
        gradients["decoder"] = torch.autograd.grad(
            gamma * half_square(walk(critic, x_r)[1][depth - 1], walk(critic, x)[1][depth - 1])
            - functional.softplus(d_p).mean()
            - (0 if official else functional.softplus(walk(critic, x_r)[0]).mean()),
            list(dec.parameters()),
        )
        moves["critic"] = False
    for name, moving in moves.items():
        if moving:
            step(model, adams, name, gradients[name])
    return {
        "loss/encoder": loss_e.item(),
        "loss/decoder": loss_d.item(),
        "loss/critic": loss_c.item(),
        "kl/real": kl.item(),
        "error/features": rec.item(),
        "error/sse": 2 * half_square(x_r, x).item(),
        "critic/real": d[:n].mean().item(),
        "critic/sample": d[-n:].mean().item(),
    }


def step(model: nn.Module, adams: dict[str, torch.optim.Adam], name: str, gradients: tuple[Tensor, ...]) -> None:
    for p, gradient in zip(getattr(model, name).parameters(), gradients, strict=True):
        p.grad = gradient
    adams[name].step()
    adams[name].zero_grad()
