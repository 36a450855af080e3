"""What most of the time of a short run would go to, and tests leave out or shorten: drawing figures, waiting for the
disk, and the score.
"""

import os
from collections.abc import Callable
from typing import Any

FEW_SCORED = (32, 64, 2048)  # in place of `genzoo.training.evaluators.N_SCORED`
FEW_VITALS = 16  # in place of `genzoo.training.evaluators.N_VITALS`


def leave_out_fsync() -> None:
    """A process that is killed loses nothing that it wrote; only a power cut would."""
    os.fsync = lambda _: None


def score_few() -> tuple[int, int, int]:
    """Lets scores compare 64 images and vitals 16, and returns `N_SCORED` as it was."""
    import genzoo.training.evaluators as evaluators

    evaluators.N_VITALS = FEW_VITALS
    usual, evaluators.N_SCORED = evaluators.N_SCORED, FEW_SCORED
    return usual


def leave_out_figures() -> Callable[..., tuple[Any, Any]]:
    """Makes figures blank, and returns what draws them."""
    import genzoo.pictures as pictures

    usual, pictures._subplots = pictures._subplots, blank_subplots
    return usual


class BlankFigure:
    """In place of a matplotlib figure, which takes most of the time of a short run: a white picture of the same size.

    It is a figure and each of its panels; every method but `savefig` does nothing.
    """

    def __init__(self, width: float, height: float):
        self._size = width, height

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None

    def savefig(self, path: Any, dpi: float) -> None:
        from PIL import Image

        width, height = self._size
        Image.new("1", (round(dpi * width), round(dpi * height)), 1).save(path)


def blank_subplots(*shape: int, figsize: tuple[float, float], squeeze: bool = True, **_: Any) -> tuple[Any, Any]:
    """In place of `genzoo.pictures._subplots`."""
    import numpy as np

    figure = BlankFigure(*figsize)
    panels = np.full(shape, figure, dtype=object)
    return figure, panels.squeeze()[()] if squeeze else panels
