"""genzoo: introspective autoencoders, whose encoder is also the discriminator."""

from typing import TYPE_CHECKING

__all__ = ["Callback", "Trainer", "create_model", "list_models", "load", "register_model", "resolve"]
__version__ = "0.1.0"

if TYPE_CHECKING:
    from genzoo.configure import resolve
    from genzoo.factory import create_model, load
    from genzoo.registry import list_models, register_model
    from genzoo.training.callbacks import Callback
    from genzoo.training.trainer import Trainer
else:  # imported on first use, so that `import genzoo` and `genzoo --help` need no torch
    import lazy_loader

    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "configure": ["resolve"],
            "factory": ["create_model", "load"],
            "registry": ["list_models", "register_model"],
            "training.callbacks": ["Callback"],
            "training.trainer": ["Trainer"],
        },
    )
