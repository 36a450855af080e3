"""genzoo: introspective autoencoders, whose encoder is also the discriminator."""

import lazy_loader

# Lazy, so that `genzoo --help` and `import genzoo` answer without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "registry": ["create_model", "list_models", "load", "register_model"],
        "resolve": ["resolve"],
        "training.trainer": ["Trainer"],
    },
)

__version__ = "0.1.0"
