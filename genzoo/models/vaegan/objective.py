"""VAE/GAN (Larsen et al., ICML 2016, arXiv 1512.09300): a VAE, a GAN that shares its decoder, and the GAN's critic,
whose features take the place of pixels in the reconstruction error.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.losses import bce_fake, bce_real, kl_to_prior, reparameterize, sse
from genzoo.models._elbo import kl_logs
from genzoo.models._judged import judgments
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.vaegan.presets import VAEGANArch, VAEGANConfig
from genzoo.models.vaegan.signs import RULES
from genzoo.nn.critics import Critic
from genzoo.noise import Noise
from genzoo.objective import Mean, Objective, Progress, Step, Update, detached
from genzoo.signs import Rule

EPSILON = 1e-3  # in the logarithms of the authors' code


class VAEGAN(Autoencoder):
    """Encoder and decoder of a VAE, and a critic of images whose features measure the reconstruction error."""

    model_name = "vaegan"
    arch_class = VAEGANArch
    arch: VAEGANArch

    critic: Critic

    def critics(self) -> dict[str, nn.Module]:
        return {"critic": Critic(self.shape, self.arch)}


class Batch(NamedTuple):
    x: Tensor  # [N, C, H, W] in [0, 1], or [N, D]
    eps: Tensor  # [N, *latent], noise of the posterior sample
    z_p: Tensor  # [N, *latent], samples of the prior


class Judged(NamedTuple):
    """What the critic makes of one batch."""

    real: Tensor  # scalar: cost of data, -log D(x)
    fakes: list[Tensor]  # scalars: cost of generated items, -log(1 - D), of each kind
    error: Tensor  # scalar: L_rec = 1/2 |Dis_l(x_r) - Dis_l(x)|^2
    logits: dict[str, Tensor]  # [N] by kind of items


class VAEGANObjective(Objective):
    """Algorithm 1: the encoder minimizes L_prior + L_rec, the decoder gamma L_rec - L_GAN, the critic L_GAN, where
    L_GAN is the critic's cost. All gradients belong to the weights before the step.
    """

    config: VAEGANConfig

    @property
    def signs(self) -> tuple[Rule, ...]:
        return RULES

    @property
    def options(self) -> dict[str, str]:
        return {"reconstruction": "objective.gamma, or another objective.depth"}

    def draw(self, items: Items, noise: Noise) -> Batch:
        z_p = self.spaces.prior.draw(noise, "prior", self.spaces.latent)
        return Batch(items.x, noise.normal("eps", *self.spaces.latent), z_p)

    def step(self, nets: VAEGAN, batch: Batch, at: Progress) -> Step:
        official, gamma = self.config.form == "official", self.config.gamma
        mu, logvar = nets.encoder(batch.x)
        x_r, x_p = nets.decoder(reparameterize(mu, logvar, batch.eps)), nets.decoder(batch.z_p)
        judge = self._judge_as_published if official else self._judge
        real, fakes, error, logits = judge(nets.critic, batch.x, x_r, x_p)
        decoder_moves, critic_moves = yield from self._gates(torch.stack([real, *fakes]))

        kl, fake = kl_to_prior(mu, logvar), torch.stack(fakes).sum()
        loss_e = kl.mean() + error
        loss_d = gamma * error - (1 - gamma if official else 1) * fake  # minimax: the decoder raises the critic's cost
        loss_c = (0.5 if official else 1) * (real + fake)
        errors = {"error/features": error, "error/sse": sse(batch.x, x_r.detach()).mean()}
        logs = detached({"loss/encoder": loss_e, **kl_logs("real", kl), **errors, **judgments(**logits)})
        yield Update(("encoder",), loss_e, logs, keep_graph=True)
        yield Update(("decoder",), loss_d, detached({"loss/decoder": loss_d}), keep_graph=True, when=decoder_moves)
        yield Update(("critic",), loss_c, detached({"loss/critic": loss_c}), when=critic_moves)

    def _judge(self, critic: Critic, x: Tensor, x_r: Tensor, x_p: Tensor) -> Judged:
        """The paper's L_GAN counts reconstructions and samples as generated."""
        logits, stages = critic.with_features(torch.cat([x, x_r, x_p]))
        (d, d_r, d_p), (f, f_r, _) = logits.chunk(3), self._features(stages).chunk(3)
        fakes = [bce_fake(d_r).mean(), bce_fake(d_p).mean()]
        kinds = {"real": d, "reconstruction": d_r, "sample": d_p}
        return Judged(bce_real(d).mean(), fakes, 0.5 * sse(f, f_r).mean(), kinds)

    def _judge_as_published(self, critic: Critic, x: Tensor, x_r: Tensor, x_p: Tensor) -> Judged:
        """The authors' scripts leave reconstructions out, bound the costs by EPSILON, and have a pass of their own for
        the features.
        """
        f_r, f = self._features(critic.with_features(torch.cat([x_r, x]))[1]).chunk(2)
        d, d_p = critic(torch.cat([x, x_p])).chunk(2)
        real = -torch.log(torch.sigmoid(d) + EPSILON).mean()
        fake = -torch.log(torch.sigmoid(-d_p) + EPSILON).mean()  # 1 - sigmoid(d), without its cancellation
        return Judged(real, [fake], 0.5 * sse(f, f_r).mean(), {"real": d, "sample": d_p})

    def _features(self, stages: list[Tensor]) -> Tensor:
        """Chooses Dis_l.

        Raises:
            UsageError: the critic has not so many stages.
        """
        depth = self.config.depth or len(stages)
        if not 0 < depth <= len(stages):
            raise UsageError(
                f"objective.depth={depth}: the critic's last stage is {len(stages)}, as each entry of arch.channels or "
                "arch.hidden is one: set a smaller depth, or more entries."
            )
        return stages[depth - 1]

    def _gates(self, costs: Tensor) -> Step:
        """Whether decoder and critic move, two 0-d bools of the costs' global means; None each without a gate.

        Args:
            costs: of data and of each kind of generated items, [1 + kinds].

        The critic rests while a cost is far below that of a critic that cannot tell, the decoder while one is far above
        it; where neither would move, both do.
        """
        c = self.config
        if not (c.form == "official" if c.gate is None else c.gate):
            return None, None
        costs = yield Mean(costs)
        decoder = (costs <= c.equilibrium + c.margin).all()
        critic = (costs >= c.equilibrium - c.margin).all()
        neither = ~(decoder | critic)
        return decoder | neither, critic | neither
