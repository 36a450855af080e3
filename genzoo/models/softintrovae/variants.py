"""Variants of the objective that keep a state of their own."""

from torch import Tensor

from genzoo.losses import sse
from genzoo.models._lagging import Lagging
from genzoo.models.softintrovae.objective import Batch, SoftIntroVAE, SoftIntroVAEObjective
from genzoo.nn.labeled import with_labels
from genzoo.objective import Progress, Step


class BootstrapObjective(SoftIntroVAEObjective, Lagging):
    """The authors' bootstrap variant (their repository, soft_intro_vae_bootstrap): a target decoder, which lags up to
    an epoch, decodes generated images again, and in the decoder's phase gradients pass through it and reach the image
    as target of its own reconstruction.

    Until the first epoch ends, the target is the decoder's initial weights (authors' code: another random network).
    """

    def step(self, nets: SoftIntroVAE, batch: Batch, at: Progress) -> Step:
        self.renew(nets.decoder, at)
        return super().step(nets, batch, at)

    def _again(self, nets: SoftIntroVAE, z: Tensor, labels: Tensor | None) -> Tensor:
        assert self.target is not None
        return with_labels(self.target, labels)(z)

    def _error(self, nets: SoftIntroVAE, image: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        return sse(image, self._again(nets, z, labels)).mean()
