"""Checks of a metric's input; each error is one line that names the fix."""

from torch import Tensor

from genzoo.errors import UsageError


def check_features(x: Tensor, what: str = "features", at_least: int = 2) -> None:
    """Raises UsageError unless x is finite floating point [N, D] with N >= at_least; `what` names it in the message."""
    if x.ndim != 2 or not x.is_floating_point():
        raise UsageError(
            f"The {what} must be floating point [N, D], got {x.dtype} {list(x.shape)}: "
            "flatten(1).float() each item first."
        )
    if len(x) < at_least:
        raise UsageError(f"The {what} have {len(x)} item(s), at least {at_least} are needed: pass more images.")
    if not x.isfinite().all():
        raise UsageError(f"The {what} contain NaN or infinite values: check the images that went into the extractor.")


def check_feature_pair(real: Tensor, fake: Tensor) -> None:
    """Raises UsageError unless both are features (see `check_features`) of the same dimension."""
    check_features(real, "real features")
    check_features(fake, "fake features")
    if real.shape[1] != fake.shape[1]:
        raise UsageError(
            f"Real features have {real.shape[1]} dimensions and fake ones {fake.shape[1]}: "
            "extract both with one extractor."
        )


def check_images(x: Tensor) -> None:
    """Raises UsageError unless x is floating point [N, C, H, W] in [0, 1] with N >= 1."""
    if x.ndim != 4 or not len(x):
        raise UsageError(
            f"Images must be a batch [N, C, H, W], got {list(x.shape)}: add the missing dimension with unsqueeze."
        )
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise UsageError(f"Images must have channels first, got {list(x.shape)}: permute to [N, C, H, W].")
    if not x.is_floating_point():
        raise UsageError(f"Images must be floating point in [0, 1], got {x.dtype}: use x.float() / 255 for bytes.")
    low, high = (value.item() for value in x.aminmax())
    if not (low >= 0 and high <= 1):  # this form refuses NaN, too
        fix = "use x / 255 for [0, 255], (x + 1) / 2 for [-1, 1], x.clamp(0, 1) for a decoder's output"
        raise UsageError(f"Images must lie in [0, 1], got [{low:.4g}, {high:.4g}]: {fix}.")


def check_image_pair(a: Tensor, b: Tensor) -> None:
    """Raises UsageError unless both are images (see `check_images`) of the same shape."""
    check_images(a)
    check_images(b)
    if a.shape != b.shape:
        raise UsageError(
            f"The two batches differ in shape, {list(a.shape)} and {list(b.shape)}: "
            "pair each image with one of the same size."
        )
