"""scikit-learn's 1,797 handwritten digits, 8x8, gray: the one labeled real set that needs no download."""

from typing import TYPE_CHECKING

import numpy as np

from genzoo.data.catalog import dataset
from genzoo.data.entry import Entry
from genzoo.data.labels import ONLY, class_label
from genzoo.spec import DataConfig

if TYPE_CHECKING:
    from genzoo.data.arrays import ArraySource

N_TRAIN = 1500


class DigitsCollection:
    """1,500 digits to train on and 297 to test on, by a fixed permutation."""

    name, splits = "digits", ("train", "test")

    def source(self, split: str) -> "ArraySource":
        from sklearn.datasets import load_digits

        from genzoo.data.arrays import ArraySource

        pixels, digits = load_digits(return_X_y=True)  # 17 levels, 0..16
        order = np.random.RandomState(0).permutation(len(digits))  # numpy keeps this legacy stream stable for good
        chosen = order[:N_TRAIN] if split == "train" else order[N_TRAIN:]
        images = np.rint(pixels[chosen].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        return ArraySource(images, f"digits/{split}", "1", {ONLY: class_label(digits[chosen], "0123456789")})


@dataset(
    Entry(
        name="digits",
        kind="embedded",
        what="handwritten digits (scikit-learn)",
        images=1_797,
        size=(8, 8),
        terms="UCI, CC BY 4.0",
        channels=1,
        labels={ONLY: 10},
        note="1,500 train / 297 test by a fixed permutation; gray; give --res 32",
    )
)
def open_digits(config: DataConfig) -> DigitsCollection:
    return DigitsCollection()
