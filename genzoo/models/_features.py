"""The feature loss of the reversed autoencoder RA (Bercea et al., "Generalizing Unsupervised Anomaly Detection: Towards
Unbiased Pathology Screening", MIDL 2023): an encoder's features of an image and of its reconstruction are alike.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from genzoo.errors import UsageError
from genzoo.nn.conv import StackEncoder
from genzoo.nn.labeled import LabeledEncoder


def refuse_encoder(encoder: nn.Module) -> None:
    """Refuses an encoder that does not return its stages.

    Raises:
        UsageError: it is one.
    """
    network = encoder.network if isinstance(encoder, LabeledEncoder) else encoder
    if not isinstance(network, StackEncoder):
        raise UsageError(
            f"objective.feature_loss compares stages of a convolutional encoder, and this is {type(network).__name__}: "
            "set arch.encoder=conv or shuffle, or leave it out."
        )


def feature_distance(features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Sum over stages of 1/2 MSE + 1 - cos, where the cosine is that of an item's whole map, averaged over items.

    Args:
        features: of each stage, [N, c, h, w].
        others: the same of other items.

    Returns:
        A scalar.
    """
    each = [
        0.5 * functional.mse_loss(a, b) + 1 - functional.cosine_similarity(a.flatten(1), b.flatten(1)).mean()
        for a, b in zip(features, others, strict=True)
    ]
    return torch.stack(each).sum()
