"""Spectral normalization of an encoder (Miyato et al., ICLR 2018, arXiv 1802.05957), in PyTorch's form."""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from genzoo.errors import UsageError

CONVOLUTIONAL = ("conv", "shuffle")  # encoders


def spectrally_normalized(encoder: nn.Module, name: str) -> nn.Module:
    """Divides the weight of each convolution and linear layer by its largest singular value, in place.

    One power iteration per pass in training follows that value; in eval mode nothing moves.

    Raises:
        UsageError: the encoder, which is `arch.encoder=name`, is not one of genzoo's convolutional stacks.
    """
    if name not in CONVOLUTIONAL:
        raise UsageError(
            f"arch.spectral_norm=true is for genzoo's convolutional encoders, and arch.encoder={name} is another: set "
            "arch.encoder=conv or shuffle, or leave it out."
        )
    for layer in list(encoder.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)
    return encoder
