"""Diversity of images: multi-scale structural similarity (Wang, Simoncelli & Bovik 2003) of random pairs."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from genzoo.errors import UsageError
from genzoo.metrics.checks import check_image_pair, check_images
from genzoo.metrics.inputs import BATCH, Images
from genzoo.metrics.registry import Result, Value, metric
from genzoo.metrics.ssim import SIGMA, WINDOW, similarity, window_size
from genzoo.noise import generator

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, Section 3.2; they sum to 1.0001, as published
CHUNK_VALUES = 2**20  # pixel values of one side of the pairs that are compared at a time: bounds memory


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM of each pair, in [0, 1]; 1 for equal images: two [N, C, H, W] in [0, 1], C of 1 or 3 -> [N] float64.

    With sides of 176 or more: 5 scales, each half of the previous one (2x2 means), an 11x11 Gaussian window of sigma
    1.5 at the positions where it fits, K1 = 0.01, K2 = 0.03, the published weights. Smaller images as in the TensorFlow
    code that PGGAN's evaluation uses: at each scale the window shrinks to min(11, H, W) and its sigma to
    1.5 * size / 11. This happens below 176 pixels, at the coarsest scale first: at 128 its window is 8x8. If a side is
    below 16, as many scales as leave a pixel, with the first weights scaled to a sum of 1. Halving drops the last row
    or column of an odd side.

    As there, channels are averaged before the weights are applied, and a negative mean counts as 0. `describe` says
    which of these cases applies to a given size.

    Raises:
        UsageError: not two equally shaped batches of images.
    """
    check_image_pair(a, b)
    return _ms_ssim(a, b)


def diversity(images: Tensor, pairs: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of MS-SSIM over random pairs of different images; a lower mean is more diverse.

    Published tables use 10,000 generated pairs at 128x128. The value is meaningful only beside that of real images.

    Args:
        images: [N, C, H, W] in [0, 1], C of 1 or 3, N >= 2.
        pairs: number of pairs; an image may be in several.
        seed: of the pairs, together with N.

    Raises:
        UsageError: fewer than 2 images or 1 pair, or not images.
    """
    check_images(images)
    n = len(images)
    if n < 2 or pairs < 1:
        raise UsageError(f"Diversity needs at least 2 images and 1 pair, got {n} and {pairs}: pass more.")
    first, second = random_pairs(n, pairs, seed)
    chunk = max(1, CHUNK_VALUES // images[0].numel())
    chosen = zip(first.to(images.device).split(chunk), second.to(images.device).split(chunk), strict=True)
    values = torch.cat([_ms_ssim(images[i], images[j]) for i, j in chosen])
    return values.mean().item(), values.std(correction=0).item()


def random_pairs(n: int, pairs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draws pairs of two different numbers below n, two int64 [pairs]."""
    draws = generator(seed, "pairs")
    first = torch.randint(n, (pairs,), generator=draws)
    step = torch.randint(1, n, (pairs,), generator=draws)  # around the circle of n, never back to the same
    return first, (first + step) % n


def describe(size: tuple[int, ...]) -> str:
    """Describes `ms_ssim` at (height, width): `ms-ssim 5 scales, windows 11-11-11-11-8, sigma 1.5*w/11, valid`."""
    height, width = size
    weights = _weights(height, width)
    windows = "-".join(str(window_size(height >> s, width >> s)) for s in range(len(weights)))
    renormalized = ", weights renormalized" if len(weights) < len(WEIGHTS) else ""
    return f"ms-ssim {len(weights)} scales, windows {windows}, sigma {SIGMA}*w/{WINDOW}, valid{renormalized}"


def _ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    *finer, coarsest = _weights(*a.shape[2:])
    value = torch.ones(len(a), dtype=torch.float64, device=a.device)
    for weight in finer:
        _, contrast = similarity(a, b)
        value = value * contrast.relu() ** weight
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    ssim, _ = similarity(a, b)
    return value * ssim.relu() ** coarsest


def _weights(height: int, width: int) -> tuple[float, ...]:
    """One weight per scale that leaves at least a pixel."""
    scales = min(height, width).bit_length()
    if scales >= len(WEIGHTS):
        return WEIGHTS
    kept = WEIGHTS[:scales]
    return tuple(weight / sum(kept) for weight in kept)


@metric(
    "msssim",
    inputs=Images,
    values={"ms_ssim": Value("MS-SSIM"), "ms_ssim_real": Value("MS-SSIM of real images")},
    definition="Mean MS-SSIM over {n} random pairs of samples, and over as many pairs of the {split} split; lower is "
    "more diverse.",
    examples=("msssim10k_train",),
)
def diversity_metric(images: Images) -> Result:
    if min(images.n, images.size) < 2:
        raise UsageError(
            "Diversity and its standard error need at least 2 pairs and at least 2 real images: "
            "name a larger protocol, such as msssim1k_train, or other data."
        )
    generated = images.generate(2 * images.n)  # samples are independent, so that any two are a random pair
    fake = torch.cat([ms_ssim(a[: len(b)], b) for a, b in (batch.chunk(2) for batch in generated)])
    indices = (numbers.split(BATCH) for numbers in random_pairs(images.size, images.n, images.seed))
    real = torch.cat([ms_ssim(images.take(i), images.take(j)) for i, j in zip(*indices, strict=True)])
    details = {
        "n_real": 2 * images.n,
        "n_fake": 2 * images.n,
        "ms_ssim": describe(images.shape[1:]),
        "standard_error": fake.std().item() / len(fake) ** 0.5,
    }
    return Result({"ms_ssim": fake.mean().item(), "ms_ssim_real": real.mean().item()}, details=details)
