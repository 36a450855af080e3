"""Which of two images a translated one takes a factor from: the one whose content it has, or the one whose class.

Nothing tells an unsupervised model which factors are class and which are content, so that both are counted (ours).
"""

from dataclasses import dataclass

from torch import Tensor

from genzoo.errors import UsageError


@dataclass(frozen=True)
class Transfer:
    """How often translated images show the factor of one image or of the other, over pairs in which it differs."""

    kept: float  # share of pairs with the factor of the image whose content was taken, in [0, 1]
    moved: float  # share of pairs with that of the image whose class was taken, in [0, 1]
    pairs: int  # in which the factor differs


def transferred(seen: Tensor, content: Tensor, classes: Tensor) -> Transfer:
    """Compares what translated images show with the factors of the two images that each is made from.

    Args:
        seen: numbers of the factor's category in the translated images [N], as a classifier names them.
        content: those of the images whose content was taken [N].
        classes: those of the images whose class was taken [N].

    Raises:
        UsageError: the factor is the same in all pairs.
    """
    differ = content != classes
    if not bool(differ.any()):
        raise UsageError("No two images differ in this factor: give pairs that do.")
    kept, moved = ((seen == side)[differ].double().mean().item() for side in (content, classes))
    return Transfer(kept, moved, int(differ.sum()))
