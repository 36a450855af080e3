"""A run that ends before its adversarial training begins."""

from genzoo.duration import in_images
from genzoo.registry import get_spec
from genzoo.spec import RunConfig

Problem = tuple[str, str, str]  # its name, the figures, and what fixes it
TOO_SHORT = "ends in its warm-up"


def too_short(run: RunConfig, total_nimg: int, per_step: int, epoch: int | None) -> Problem | None:
    """What is wrong with a run that trains no image adversarially; None where nothing is, or the model does not.

    Args:
        run: what is trained.
        total_nimg: images in the run.
        per_step: images in a step.
        epoch: images in the dataset; None for an endless one.
    """
    text = get_spec(run.model.partition(".")[0]).warmup(run.objective)
    warmup = in_images(text, batch=per_step, epoch=epoch, total=total_nimg)
    if not 0 < total_nimg <= warmup:
        return None
    figures = f"the run ends after {total_nimg:,} images, in its warm-up of {warmup:,}: no adversarial training"
    longer = "" if text.endswith("%") else f"train for longer, --images {2 * warmup}, or "
    shorter = max(per_step, total_nimg // 5)
    return TOO_SHORT, figures, f"{longer}shorten the warm-up of a new run, --set objective.warmup={shorter}"
