"""How the samples of a protocol are drawn: how many at a time, and as floats or as bytes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from genzoo.evaluation.features import is_mine
from genzoo.evaluation.protocols import Protocol
from genzoo.evaluation.subject import Subject
from genzoo.metrics.inputs import BATCH


def batch_size(protocol: Protocol, subject: Subject) -> int:
    """Returns the number of images that are generated, and extracted, at once; it counts where BatchNorm uses a batch's
    own statistics.
    """
    if protocol.run_batch is None:
        return BATCH
    return subject.run.train.batch if subject.run else protocol.run_batch


def drawn(protocol: Protocol, subject: Subject, seed: int) -> Iterator[Tensor | list[Tensor]]:
    """Yields this process's samples for an extractor, float32 in [0, 1] or uint8; the others' are on `meta`. Images of
    different sizes come as lists.
    """
    for images in subject.samples(protocol.n, seed, is_mine, batch=batch_size(protocol, subject)):
        if not protocol.truncated:
            yield images
        else:
            yield truncated(images) if isinstance(images, Tensor) else [truncated(image) for image in images]


def truncated(images: Tensor) -> Tensor:
    """Turns floats in [0, 1] into uint8 by dropping what is behind the point; pixels that were bytes stay the same."""
    return (images * 255).to(torch.uint8)


def described(protocol: Protocol, subject: Subject) -> dict[str, int | str]:
    """Returns what a result line records of the samples; nothing where they are not images."""
    if protocol.metric.inputs.kind != "images":
        return {}
    pixels = "float32"
    if subject.model is None:
        pixels = "uint8"
    elif protocol.truncated:
        pixels = "uint8, truncated"
    return {"batch": batch_size(protocol, subject), "pixels": pixels}
