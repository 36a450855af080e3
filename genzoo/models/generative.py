"""What is trained, saved and shared: networks by name around a decoder, with diffusers' save and load."""

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from genzoo import hub
from genzoo.errors import UsageError
from genzoo.files import write_text
from genzoo.fitted import FILE as FITTED_PRIOR
from genzoo.fitted import FittedPrior, load_fitted
from genzoo.models._prior import draw_latents, resolve_prior
from genzoo.models.sources import find_config, find_prior
from genzoo.nn import build_decoder, latent_shape
from genzoo.nn.checkpointing import checkpointed
from genzoo.objective import Spaces
from genzoo.priors import Prior
from genzoo.settings import validated
from genzoo.spec import ArchConfig


@dataclass
class DecoderOutput(BaseOutput):
    """What `Generative.decode` returns, like diffusers' class of this name, whose module imports all its models."""

    sample: Tensor


class Generative(ModelMixin, ConfigMixin):
    """Base of every model: a decoder of latents, [N, *latent_shape] -> [N, *shape], and further networks by name.

    Data are images in [0, 1], [N, C, H, W], or points, [N, D]. A subclass may override

    - `arch_class`: the class of `arch`, with its own defaults and further fields;
    - `networks` and `critics`: what is built, e.g. a third network that the model needs, or one for training only;
    - `latent_shape` and `prior`;
    - `conditional`, `decoder_input` and `draw_latents`: what a model of labeled data makes of the labels.

    Args:
        preset: the registry's `model.preset`: the class that reads a saved model, and where its settings come from.
        shape: of one item: (C, H, W) or (D,).
        arch: fields of `arch_class`.
        classes: names of the data's classes, in the order of their numbers.
        data: how images were read in training, by fields of `DataConfig`; kept in config.json.

    Raises:
        UsageError: unknown field of `arch`, networks that cannot take `shape`, or no classes for a conditional model.
    """

    arch_class: ClassVar[type[ArchConfig]] = ArchConfig
    conditional: ClassVar[bool] = False  # whether the networks take labels
    fitted_prior: FittedPrior | None = None  # what `sample` draws from, where there is one; saved with the model

    config_name = "config.json"
    _supports_gradient_checkpointing = True  # diffusers' switch; a property of a run, never saved with the model

    decoder: nn.Module

    @register_to_config
    def __init__(
        self,
        preset: str = "",
        shape: Sequence[int] = (3, 32, 32),
        arch: Mapping[str, Any] | None = None,
        classes: Sequence[str] = (),
        data: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.shape, self.classes = tuple(shape), tuple(classes)
        self.arch = validated("arch", self.arch_class, arch or {})
        if self.conditional and not self.classes:
            raise UsageError(f"{type(self).__name__} is conditional: it needs `classes`, from data that has labels.")
        for name, network in (self.networks() | self.critics()).items():
            self.add_module(name, network)
        # All fields, as defaults may change; what is saved has its own weights, and loads without timm's hub.
        self.register_to_config(arch=dataclasses.asdict(self.arch) | {"pretrained": False})
        self.check_parts()

    if TYPE_CHECKING:  # diffusers decorates it so that a type checker misses `self`

        def to(self, *args: Any, **kwargs: Any) -> Self: ...  # pyright: ignore[reportIncompatibleVariableOverride]

    def networks(self) -> dict[str, nn.Module]:
        """Builds the networks by name; fresh weights are drawn in this order."""
        return {"decoder": build_decoder(self.shape, self.arch)}

    def critics(self) -> dict[str, nn.Module]:
        """Builds further networks by name, after the others."""
        return {}

    def check_parts(self) -> None:
        """Refuses, at the end of the constructor, parts that do not go together. Here: nothing."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one latent: (Z,), or a grid (C, h, w)."""
        return latent_shape(self.shape, self.arch)

    @property
    def prior(self) -> Prior:
        """What latents are drawn from in training, and in sampling where there is no `fitted_prior`."""
        return Prior()

    @property
    def unfittable(self) -> str | None:
        """Why no prior can be fitted to this model, or None."""
        return "it has no encoder"

    @property
    def spaces(self) -> Spaces:
        """What an objective needs to know of this model."""
        return Spaces(self.shape, self.latent_shape, self.prior, self.classes)

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    def decoder_input(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Joins latents and labels to what the decoder takes; an objective calls it too. Here: the latents."""
        return z

    def draw_latents(self, n: int, generator: torch.Generator | None, labels: Tensor | None) -> Tensor:
        """Draws n latents of the model's own prior on the CPU: [n, *latent_shape]. Here: whatever the labels."""
        return self.prior.sample(n, self.latent_shape, generator)

    def prior_name(self, prior: str | None = None) -> str:
        """Names the prior that `sample` draws from, for results and captions: `gmm:50`, `flow:900` or `normal`.

        Args:
            prior: `gmm`, `gmm:K`, `flow`, `flow:N`, or the kind of the model's own (`normal`); None = the fitted one
                where there is one.

        Raises:
            UsageError: there is no such prior; the message says what to give.
        """
        return resolve_prior(self, prior)

    def latents(
        self,
        n: int,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
        prior: str | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draws n latents on the CPU, [n, *latent_shape]; the arguments are those of `sample`."""
        return draw_latents(self, n, generator, labels, prior, temperature)

    def decode(self, z: Tensor, labels: Tensor | None = None) -> DecoderOutput:
        """Decodes [N, *latent_shape] to `.sample`: [N, *shape], not clamped (the decoder has no output activation).

        Args:
            z: latents.
            labels: class numbers, int64 [N]; for a conditional model only.
        """
        self.check_labels(labels, len(z))
        return DecoderOutput(sample=self.decoder(self.decoder_input(z, labels)))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
        prior: str | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Decodes n latents: [n, *shape], images clamped to [0, 1].

        Args:
            n: how many.
            generator: lives on the CPU.
            labels: class numbers, int64 [n]; for a conditional model only.
            prior: `gmm`, `flow` or the model's own, `normal`; None = the fitted one where there is one. See
                `prior_name`.
            temperature: scales the deviation from the prior's mean, or from a component's.

        Raises:
            UsageError: labels for a model that takes none, none for one that does, or wrong ones; no such prior.
        """
        self.check_labels(labels, n)
        z = self.latents(n, generator, labels, prior, temperature).to(self.device, self.dtype)
        return self.shown(self.decode(z, None if labels is None else labels.to(self.device)).sample)

    def classes_in_turn(self, n: int, start: int = 0) -> Tensor | None:
        """Returns labels for n samples of a conditional model, int64 [n]: the i-th is start + i modulo the number of
        classes. None for any other model.
        """
        return torch.arange(start, start + n) % len(self.classes) if self.conditional else None

    def check_labels(self, labels: Tensor | None, n: int) -> None:
        """Checks that labels are given to a conditional model and to no other, and that there are `n` class numbers.

        Raises:
            UsageError: they are not; the message says what to give.
        """
        name = type(self).__name__
        if labels is None:
            if self.conditional:
                raise UsageError(f"{name} is conditional: give labels, int64 [{n}], numbers of {self.classes}.")
            return
        if not self.conditional:
            raise UsageError(f"{name} is not conditional: leave out labels.")
        if labels.shape != (n,) or labels.dtype != torch.int64:
            raise UsageError(f"labels are {labels.dtype} {list(labels.shape)}: give int64 [{n}].")
        if n and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise UsageError(f"labels must be from 0 to {len(self.classes) - 1}, the numbers of {self.classes}.")

    def shown(self, x: Tensor) -> Tensor:
        """Brings decoded items into the range of the data: images to [0, 1]."""
        return x.clamp(0, 1) if self.is_image else x

    def enable_gradient_checkpointing(
        self, gradient_checkpointing_func: Callable[[nn.Module, Tensor], Tensor] | None = None
    ) -> None:
        """Lets the conv networks keep fewer activations and recompute them in backward; see `genzoo.nn.checkpointing`.

        Raises:
            UsageError: the model has no such network.
        """
        if not any(hasattr(net, "gradient_checkpointing") for net in self.modules()):
            raise UsageError(
                "train.checkpointing needs a conv network, and this model has none: set train.checkpointing=false."
            )
        super().enable_gradient_checkpointing(gradient_checkpointing_func or checkpointed)

    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, card: str | None = None, **kwargs: Any
    ) -> None:
        """Writes config.json, the weights and a fitted prior as safetensors, and a model card (`card`, or a short one
        from the config).
        """
        from genzoo.models.card import default_card

        super().save_pretrained(save_directory, *args, **kwargs)
        if self.fitted_prior is not None:
            self.fitted_prior.save(Path(save_directory) / FITTED_PRIOR)
        else:
            (Path(save_directory) / FITTED_PRIOR).unlink(missing_ok=True)  # of a model that was saved there before
        write_text(Path(save_directory) / "README.md", card or default_card(self))

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]  (a path is required)
        cls, path: str | os.PathLike, **kwargs: Any
    ) -> Self:
        """Reads a model from a `save_pretrained` folder, a run folder, or the hub (`owner/name`); never with pickle.

        Raises:
            UsageError: nothing loadable there; the message says what is missing.
        """
        return cls.read(find_config(path, **kwargs)[0], **kwargs)

    @classmethod
    def read(cls, source: str, **kwargs: Any) -> Self:
        """Reads a model from the folder or hub id that `find_config` returned."""
        options = {"use_safetensors": True, "low_cpu_mem_usage": False}
        if not Path(source).is_dir():
            options["local_files_only"] = not hub.is_reachable()
        model = super().from_pretrained(source, **(options | kwargs))
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()  # aligned in memory; mapped from a file it may take another kernel
        if (path := find_prior(source, **kwargs)) is not None:
            model.fitted_prior = load_fitted(path, math.prod(model.latent_shape))
        return model

    def push_to_hub(  # pyright: ignore[reportIncompatibleMethodOverride]  (uploads a folder, with its card)
        self,
        repo_id: str,
        folder: str | Path | None = None,
        private: bool | None = None,
        token: str | None = None,
    ) -> str:
        """Uploads a `save_pretrained` folder with its model card, by default this model saved to a temporary one;
        returns the commit's address.
        """
        from huggingface_hub import HfApi

        if folder is None:
            with tempfile.TemporaryDirectory() as temporary:
                self.save_pretrained(temporary)
                return self.push_to_hub(repo_id, temporary, private, token)
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return str(
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"Upload {type(self).__name__}")
        )
