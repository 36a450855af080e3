"""Accelerate's trackers: what a run gives them besides its scalars."""

from pathlib import Path

import numpy as np
from PIL import Image

from genzoo.configure import flat, to_json
from genzoo.errors import UsageError
from genzoo.spec import RunConfig
from genzoo.training.launch import Processes

# Trackers that take pictures, with the options of their `log_images`: their signatures differ.
TAKE_PICTURES = {"tensorboard": {"dataformats": "NHWC"}, "wandb": {}}


def start_trackers(acc: Processes, run: RunConfig) -> None:
    """Starts the trackers of a run, if it has any, and gives them its settings.

    Raises:
        UsageError: one of them cannot write to a folder of this name.
    """
    if not run.train.trackers:
        return
    settings = {key: _printable(str(value)) for key, value in flat(to_json(run))}
    try:
        acc.init_trackers("genzoo", config=settings)
    except UnicodeError as error:
        raise UsageError(
            f"train.trackers={','.join(run.train.trackers)} cannot write to {acc.project_dir}, whose name is not "
            "UTF-8: choose a different --out, or leave them out."
        ) from error


def show_preview(acc: Processes, folder: Path, step: int) -> None:
    """Gives the picture of a run's last snapshot, of images or points, to the trackers that take pictures."""
    path = folder / "preview.png"
    trackers = [tracker for tracker in acc.trackers if tracker.name in TAKE_PICTURES]
    if not trackers or not path.exists():  # vectors have no picture
        return
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))[None]  # [1, H, W, 3]
    for tracker in trackers:
        tracker.log_images({"preview": pixels}, step=step, **TAKE_PICTURES[tracker.name])


def _printable(text: str) -> str:
    """Replaces the bytes of a file name that are not UTF-8, which trackers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")
