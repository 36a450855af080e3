"""Data: images and points by name, as uint8 and float32 tensors.

The names here are imported on first use, so that listing the datasets needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Dataset"],
        "catalog": ["list_datasets"],
        "opening": ["heldout_split", "load_image", "open_dataset", "peek"],
    },
)
