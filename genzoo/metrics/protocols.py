"""Protocols by name: everything that decides a number stands in its name or follows from it.

    fid50k_train                          Fréchet distance of Inception features, 50,000 samples, against the training split
    fd_classifier_cifar10_10k_test        the same on other features, called by them; kd_... kernel distance, prdc_... precision and recall
    kid50k_train, prdc10k_test            Inception again
    msssim10k_train                       mean MS-SSIM over 10,000 pairs of samples: diversity
    rec10k_test, lpips10k_test            reconstruction error of held-out images
    elbo10k_test                          KL of real, reconstructed and generated images, and the ELBO
    density2d                             2-D point sets: gnELBO, KL, JSD
    speed                                 images per second, as the run's own log has it

Endings: `_raw` takes the trained weights instead of their average; `_bnbatch` and `_bnrecalibrated` say what BatchNorm normalises by.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

from genzoo.errors import UsageError, suggest

BatchNormPolicy = Literal["ema", "batch", "recalibrate"]
LOWER, HIGHER, NEITHER = "lower", "higher", "none"

# metric -> value -> which direction is better
VALUES: dict[str, dict[str, str]] = {
    "frechet": {"frechet": LOWER},
    "kernel": {"kernel": LOWER},
    "prdc": {"precision": HIGHER, "recall": HIGHER, "density": HIGHER, "coverage": HIGHER},
    "diversity": {"ms_ssim": NEITHER, "ms_ssim_real": NEITHER},
    "reconstruction": {"sse": LOWER, "psnr": HIGHER, "ssim": HIGHER},
    "lpips": {"lpips": LOWER},
    "latent": {"kl_real": NEITHER, "kl_reconstruction": NEITHER, "kl_sample": NEITHER, "elbo": HIGHER},
    "density2d": {"gnelbo_raw": LOWER, "kl_raw": LOWER, "jsd_raw": LOWER, "nll_grid": LOWER, "kl": LOWER, "jsd": LOWER},
    "speed": {"images_per_second": HIGHER, "peak_memory_gib": LOWER},
}
_OF_FEATURES = {"fid": "frechet", "fd": "frechet", "kid": "kernel", "kd": "kernel", "prdc": "prdc"}
_OF_IMAGES = {"msssim": "diversity", "rec": "reconstruction", "lpips": "lpips", "elbo": "latent"}
_BATCHNORM: dict[str, BatchNormPolicy] = {"": "ema", "_bnbatch": "batch", "_bnrecalibrated": "recalibrate"}

_COUNT = r"[1-9]\d*k?"
_PATTERN = re.compile(
    rf"((?P<word>fid|kid|prdc|msssim|rec|lpips|elbo)(?P<n>{_COUNT})"
    rf"|(?P<by>fd|kd|prdc)_(?P<extractor>inception|(timm|classifier)_.+?)_(?P<n2>{_COUNT}))"
    r"_(?P<split>train|test)(?P<bug>_sintrovae2021)?(?P<raw>_raw)?(?P<bn>_bnbatch|_bnrecalibrated)?"
)
EXAMPLES = (
    "fid50k_train",
    "fid10k_test",
    "kid50k_train",
    "prdc10k_test",
    "fid50k_train_sintrovae2021",
    "fd_classifier_cifar10_10k_test",
    "kd_classifier_cifar10_10k_test",
    "prdc_classifier_cifar10_10k_test",
    "fd_timm_resnet18_10k_test",
    "msssim10k_train",
    "rec10k_test",
    "lpips10k_test",
    "elbo10k_test",
    "density2d",
    "speed",
)


@dataclass(frozen=True)
class Protocol:
    """What is measured, on what, with what."""

    name: str
    metric: str  # a key of VALUES
    extractor: str | None = None  # see genzoo.metrics.extractors
    n: int = 0  # generated images, pairs of them, or images to reconstruct
    split: Literal["train", "test"] = "train"  # of the data; `test` is whatever split is held out
    weights: Literal["ema", "raw"] = "ema"
    batchnorm: BatchNormPolicy = "ema"  # of the model
    features: Literal["eval", "train"] = "eval"  # mode of the extractor; `train` only to reproduce a published mistake

    @property
    def values(self) -> dict[str, str]:
        """What it yields, and which direction is better: lower, higher or none."""
        return VALUES[self.metric]

    @property
    def definition(self) -> str:
        """One sentence or two for a report."""
        parts = [_DEFINITIONS[self.metric].format(n=f"{self.n:,}", split=self.split, extractor=self.extractor)]
        if self.features == "train":
            parts.append("Extractor and model run in train mode, as Soft-IntroVAE's published code does: comparable with its figures only.")
        elif self.batchnorm != "ema":
            parts.append(
                {"batch": "BatchNorm uses each batch's own statistics.", "recalibrate": "BatchNorm is recalibrated."}[self.batchnorm]
            )
        return " ".join(parts)


_DEFINITIONS = {
    "frechet": "Fréchet distance between Gaussians fitted to {extractor} features of {n} samples and of the {split} split (as many images, "
    "or all that it has).",
    "kernel": "Kernel distance (unbiased squared MMD, cubic polynomial kernel, 100 subsets of 1,000) on {extractor} features of {n} samples "
    "and of the {split} split.",
    "prdc": "Precision, recall, density and coverage (k = 5) on {extractor} features of {n} samples and of the {split} split.",
    "diversity": "Mean MS-SSIM over {n} random pairs of samples, and over as many pairs of the {split} split; lower is more diverse.",
    "reconstruction": "Means over {n} images of the {split} split (or all that it has), reconstructed from the posterior's mode: SSE summed "
    "over pixels, PSNR in dB, SSIM.",
    "lpips": "Mean LPIPS (AlexNet) over {n} images of the {split} split, reconstructed from the posterior's mode.",
    "latent": "Mean KL to the prior in nats of {n} images of the {split} split, of their reconstructions and of as many samples; "
    "ELBO = -(SSE / 2 + KL) of the real ones, from the posterior's mode.",
    "density2d": "gnELBO and nll_grid on a 1024 x 1024 grid and 12,800 points; raw KL and JSD as Soft-IntroVAE's code computes them, 10 draws of "
    "5,000; KL and JSD in nats, 10 draws of 50,000 (genzoo/metrics/density2d.py).",
    "speed": "Images per second between the log's lines after the warm-up (first tenth left out), and the process's peak memory: of tensors "
    "on a GPU, else resident.",
}


def get_protocol(name: str) -> Protocol:
    """Reads a protocol's name.

    Raises:
        UsageError: no protocol is called so; the message suggests the nearest.
    """
    if name in ("density2d", "speed"):
        return Protocol(name, name)
    match = _PATTERN.fullmatch(name)
    if not match or (match["bug"] and (match["word"] != "fid" or match["bn"])):
        raise UsageError(f"No protocol is called {name!r}.{suggest(name, EXAMPLES)} See `genzoo eval --list`.")
    split, n = match["split"], _count(match["n"] or match["n2"])
    common = Protocol(name, "", n=n, split=split, weights="raw" if match["raw"] else "ema", batchnorm=_BATCHNORM[match["bn"] or ""])
    if match["by"]:
        if match["extractor"] == "inception":
            own = {"fd": "fid", "kd": "kid", "prdc": "prdc"}[match["by"]]
            raise UsageError(f"{name}: on Inception's features it is called {own}{match['n2']}_{split}.")
        return replace(common, metric=_OF_FEATURES[match["by"]], extractor=match["extractor"].replace("_", ":", 1))
    if match["word"] in _OF_IMAGES:
        return replace(common, metric=_OF_IMAGES[match["word"]])
    if match["bug"]:
        return replace(common, metric="frechet", extractor="inception-pytorch", features="train", batchnorm="batch")
    return replace(common, metric=_OF_FEATURES[match["word"]], extractor="inception")


def _count(text: str) -> int:
    return int(text[:-1]) * 1000 if text.endswith("k") else int(text)
