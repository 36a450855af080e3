"""What is trained, saved and shared: networks by name around a decoder."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.models._prior import draw_latents, resolve_prior
from genzoo.models.pretrained import Pretrained
from genzoo.nn import build_decoder, check_pretrained, latent_shape
from genzoo.nn.checkpointing import checkpointed
from genzoo.nn.labeled import LabeledDecoder, with_labels
from genzoo.objective import Spaces
from genzoo.priors import Prior
from genzoo.settings import validated
from genzoo.spec import ArchConfig


@dataclass
class DecoderOutput(BaseOutput):
    """What `Generative.decode` returns, like diffusers' class of this name, whose module imports all its models."""

    sample: Tensor


Output = TypeVar("Output", bound=BaseOutput)


def returned(output: Output, return_dict: bool) -> Output:
    """Returns an output, or the tuple of its fields where diffusers' `return_dict` is false."""
    return output if return_dict else output.to_tuple()  # pyright: ignore[reportReturnType]


class Generative(Pretrained):
    """Base of every model: a decoder of latents, [N, *latent_shape] -> [N, *shape], and further networks by name.

    Data are images in [0, 1], [N, C, H, W], or points, [N, D]. A subclass may override

    - `arch_class`: the class of `arch`, with its own defaults and further fields;
    - `networks` and `critics`: what is built, e.g. a third network that the model needs, or one for training only;
    - `latent_shape` and `prior`;
    - `conditional`, `decoder_input` and `draw_latents`: what a model of labeled data makes of the labels.

    To run elsewhere, pass `model.decoder` or `model.encoder` to `torch.export.export`, with a dynamic batch if need be,
    or to `torch.jit.trace`; `torch.jit.script` cannot read them. diffusers' AutoModel finds diffusers' classes only:
    load with `genzoo.load`, or with the model's own class.

    Args:
        preset: the registry's `model.preset`: the class that reads a saved model, and where its settings come from.
            Where it is left out, the name of the class's model.
        shape: of one item: (C, H, W) or (D,).
        arch: fields of `arch_class`.
        classes: names of the data's classes, in the order of their numbers.
        data: how images were read in training, by fields of `DataConfig`; kept in config.json.

    Raises:
        UsageError: unknown field of `arch`, networks that cannot take `shape`, no classes for a conditional model, or
            pretrained weights for an encoder that has none.
    """

    model_name: ClassVar[str] = ""  # in the registry; each class has its own
    arch_class: ClassVar[type[ArchConfig]] = ArchConfig
    conditional: bool = False  # whether the networks take labels: those of a class, or by `arch.conditional`
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
        self.conditional = self.conditional or self.arch.conditional != "none"
        check_pretrained(self.arch)
        if self.conditional and not self.classes:
            raise UsageError(f"{type(self).__name__} is conditional: it needs `classes`, from data that has labels.")
        for name, network in (self.networks() | self.critics()).items():
            self.add_module(name, network)
        # All fields, as defaults may change; what is saved has its own weights, and loads without timm's hub.
        own_name = vars(type(self)).get("model_name", "")
        saved_arch = dataclasses.asdict(self.arch) | {"pretrained": False}
        self.register_to_config(preset=preset or own_name, arch=saved_arch)
        if self.arch.conditional != "none" and not isinstance(self.decoder, LabeledDecoder):
            raise UsageError(
                f"{type(self).__name__} has no labeled networks: leave out arch.conditional={self.arch.conditional}, "
                "or train introvae, softintrovae or vae."
            )
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
        """Refuses, at the end of the constructor, parts that do not go together. Here: classes that nothing takes, and
        a prior that is not trained.
        """
        if self.classes and self.unfittable and not self.takes_labels:
            raise UsageError(f"{type(self).__name__} takes no labels, and {self.unfittable}: leave out data.labels.")
        if self.arch.prior != "normal":
            raise UsageError(
                f"{type(self).__name__} does not learn a prior: leave out arch.prior={self.arch.prior}, or train "
                "introvae, softintrovae or vae."
            )

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

    @property
    def takes_labels(self) -> bool:
        """Whether `sample` takes labels."""
        return self.conditional

    def draw_latents(self, n: int, generator: torch.Generator | None, labels: Tensor | None) -> Tensor:
        """Draws n latents of the model's own prior on the CPU: [n, *latent_shape]. Here: whatever the labels."""
        return self.prior.sample(n, self.latent_shape, generator)

    def prior_name(self, prior: str | None = None, of_classes: bool = False) -> str:
        """Names the prior that `sample` draws from, for results and captions: `gmm:50`, `flow:900` or `normal`.

        Args:
            prior: `gmm`, `gmm:K`, `flow`, `flow:N`, or the kind of the model's own (`normal`, `classes`, `mog`); None =
                the fitted one where there is one.
            of_classes: whether labels are given, which a fitted prior knows only if it was fitted with them.

        Raises:
            UsageError: there is no such prior; the message says what to give.
        """
        return resolve_prior(self, prior, of_classes)

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

    def decode(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput:
        """Decodes [N, *latent_shape] to `.sample`: [N, *shape], not clamped (the decoder has no output activation).

        Args:
            z: latents; flat ones also as [N, Z, 1, 1].
            labels: class numbers, int64 [N]; for a conditional model only.
            return_dict: False for a tuple of one, as in diffusers.
            generator: of no effect, as in diffusers, whose pipelines pass one.

        Raises:
            UsageError: z has another shape, or see `sample` for labels.
        """
        if tuple(z.shape[1:]) == (*self.latent_shape, 1, 1):
            z = z.flatten(1)
        if tuple(z.shape[1:]) != self.latent_shape:
            raise UsageError(
                f"This model decodes latents of shape {self.latent_shape} and got {tuple(z.shape[1:])}: pass "
                "[N, *latent_shape]."
            )
        self.check_labels(labels, len(z))
        x = with_labels(self.decoder, labels)(self.decoder_input(z, labels))
        return returned(DecoderOutput(sample=x), return_dict)

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
        """Returns labels for n samples of a model that takes them, int64 [n]: the i-th is start + i modulo the number
        of classes. None for any other model.
        """
        return torch.arange(start, start + n) % len(self.classes) if self.takes_labels else None

    def check_labels(self, labels: Tensor | None, n: int) -> None:
        """Checks that labels are given to a conditional model, and to no model that takes none, and that there are `n`
        class numbers.

        Raises:
            UsageError: they are not; the message says what to give.
        """
        name = type(self).__name__
        if labels is None:
            if self.conditional:
                raise UsageError(f"{name} is conditional: give labels, int64 [{n}], numbers of {self.classes}.")
            return
        if not isinstance(labels, Tensor):
            raise UsageError(f"labels is {labels!r}: give int64 class numbers, and return_dict by its name.")
        if not self.takes_labels:
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
            UsageError: the model has no such network, or one with spectral normalization.
        """
        if self.arch.spectral_norm:  # frozen in one phase and not in backward, its weights have two different graphs
            raise UsageError(
                "train.checkpointing=true cannot recompute arch.spectral_norm=true: set one of them to false."
            )
        if not any(hasattr(net, "gradient_checkpointing") for net in self.modules()):
            raise UsageError(
                "train.checkpointing needs a conv network, and this model has none: set train.checkpointing=false."
            )
        super().enable_gradient_checkpointing(gradient_checkpointing_func or checkpointed)
