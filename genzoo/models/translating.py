"""Autoencoders of two codes, class and content, which translate images by exchanging one of them."""

import torch
from torch import Tensor

from genzoo.losses import kl_to_prior
from genzoo.models.autoencoder import Autoencoder


def mixed(classes: Tensor, contents: Tensor, z_class: int) -> Tensor:
    """Joins the class of one latent to the content of another: two [..., Z] that broadcast -> [..., Z]."""
    classes, contents = torch.broadcast_tensors(classes, contents)
    return torch.cat([classes[..., :z_class], contents[..., z_class:]], dim=-1)


class Translating(Autoencoder):
    """An autoencoder whose latent is z = [class, content]. A subclass builds the networks and defines `z_class`."""

    @property
    def z_class(self) -> int:
        """How many of the latent's numbers are the class."""
        raise NotImplementedError

    @torch.no_grad()
    def kl_of_parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """KL of the class and of the content to the prior, in nats: [N, *shape] in [0, 1] -> two [N]. Their sum is the
        `kl` of `score`; a part at 0 holds nothing of the image.
        """
        mu, logvar = self.encoder(x)
        classes, contents = slice(self.z_class), slice(self.z_class, None)
        return kl_to_prior(mu[:, classes], logvar[:, classes]), kl_to_prior(mu[:, contents], logvar[:, contents])

    @torch.no_grad()
    def translate(self, content: Tensor, to: Tensor) -> Tensor:
        """Decodes the content of one image with the class of another, through the posteriors' modes.

        Args:
            content: images whose content is kept, [N, *shape] in [0, 1].
            to: images whose class is taken, [N, *shape] in [0, 1].

        Returns:
            [N, *shape], clamped to [0, 1]; where both are the same images, their reconstructions.
        """
        contents, classes = (self.encode(x).latent_dist.mode() for x in (content, to))
        return self.shown(self.decode(mixed(classes, contents, self.z_class)).sample)
