"""What every metric refuses, said in one line with the cure."""

from torch import Tensor

from genzoo.errors import UsageError


def check_features(x: Tensor, who: str = "features", at_least: int = 2) -> None:
    """Refuses what is not finite floating point [N, D] with N >= at_least."""
    if x.ndim != 2 or not x.is_floating_point():
        raise UsageError(f"The {who} must be floating point [N, D], got {x.dtype} {list(x.shape)}: flatten(1).float() each item first.")
    if len(x) < at_least:
        raise UsageError(f"The {who} hold {len(x)} item(s), at least {at_least} are needed: pass more images.")
    if not x.isfinite().all():
        raise UsageError(f"The {who} hold NaN or infinite values: look at the images that went into the extractor.")


def check_feature_pair(real: Tensor, fake: Tensor) -> None:
    """Refuses two feature sets that are no features (see `check_features`) or differ in dimension."""
    check_features(real, "real features")
    check_features(fake, "fake features")
    if real.shape[1] != fake.shape[1]:
        raise UsageError(f"Real features have {real.shape[1]} dimensions and fake ones {fake.shape[1]}: extract both with one extractor.")


def check_images(x: Tensor) -> None:
    """Refuses what is not floating point [N, C, H, W] in [0, 1] with N >= 1 and C of 1 or 3."""
    if x.ndim != 4 or not len(x):
        raise UsageError(f"Images must be a batch [N, C, H, W], got {list(x.shape)}: add the missing dimension with unsqueeze.")
    if x.shape[1] not in (1, 3):
        raise UsageError(f"Images must have 1 or 3 channels, got {list(x.shape)}: choose channels, or permute to [N, C, H, W].")
    if not x.is_floating_point():
        raise UsageError(f"Images must be floating point in [0, 1], got {x.dtype}: use x.float() / 255 for bytes.")
    low, high = (value.item() for value in x.aminmax())
    if not (low >= 0 and high <= 1):  # written so that NaN is refused too
        cure = "use x / 255 for [0, 255], (x + 1) / 2 for [-1, 1], x.clamp(0, 1) for a decoder's output"
        raise UsageError(f"Images must lie in [0, 1], got [{low:.4g}, {high:.4g}]: {cure}.")


def check_image_pair(a: Tensor, b: Tensor) -> None:
    """Refuses two batches that are no images (see `check_images`) or differ in shape."""
    check_images(a)
    check_images(b)
    if a.shape != b.shape:
        raise UsageError(f"The two batches differ in shape, {list(a.shape)} and {list(b.shape)}: pair image with image at one resolution.")
