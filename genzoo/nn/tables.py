"""Tables of network builders by name, open to other distributions through the entry-point group `genzoo.backbones`."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from torch import nn

from genzoo import plugins
from genzoo.errors import UsageError, did_you_mean
from genzoo.spec import ArchConfig

GROUP = "genzoo.backbones"  # an entry point's name is a backbone's; loading it registers the backbone's builders


class EncoderBuilder(Protocol):
    def __call__(self, shape: tuple[int, ...], arch: ArchConfig, outputs: int) -> nn.Module:
        """Builds an encoder.

        Args:
            shape: of one item: (C, H, W) for images, (D,) for vectors.
            arch: `arch.encoder` is the name asked for, with what follows a colon; `latent_shape` gives the latent's.
            outputs: 2 for an encoder [N, *shape] -> (mu, logvar), [N, *latent] each; 1 for a point code [N, *latent].

        Raises:
            UsageError: the network cannot take that shape; the message names a shape or an option that works.
        """
        ...


class DecoderBuilder(Protocol):
    def __call__(self, shape: tuple[int, ...], arch: ArchConfig) -> nn.Module:
        """Builds a decoder, [N, *latent] -> [N, *shape]; see `EncoderBuilder`."""
        ...


B = TypeVar("B", EncoderBuilder, DecoderBuilder)


class Table(Generic[B]):
    """Builders by name. `register` is a decorator; in a plugin, it runs when the plugin's entry point is loaded."""

    def __init__(self, kind: str):
        self.kind = kind  # encoder | decoder
        self._builders: dict[str, B] = {}

    def register(self, name: str) -> Callable[[B], B]:
        """Adds a builder; it also gets every name that begins with `name:`.

        Raises:
            ValueError: the name is taken.
        """

        def add(builder: B) -> B:
            if self._builders.setdefault(name, builder) is not builder:
                raise ValueError(f"There is a {self.kind} named {name!r} already: choose another name.")
            return builder

        return add

    def names(self) -> list[str]:
        """Returns all names, sorted; a plugin's backbone may turn out to have the other network only."""
        return sorted({*self._builders, *plugins.offers(GROUP)})

    def builder(self, name: str) -> B:
        """Returns the builder of a network, importing the plugin that offers it.

        Raises:
            UsageError: there is none (with suggestions), two offer it (genzoo itself may be one of them), or the plugin
                cannot be loaded or has only the other network.
        """
        family = name.partition(":")[0]
        points = plugins.offers(GROUP).get(family, [])
        owners = ["genzoo"] * self._is_built_in(family) + [plugins.distribution(point) for point in points]
        if len(owners) > 1:
            raise UsageError(f"Backbone {family!r} is offered by {' and '.join(owners)}: uninstall one of them.")
        if family not in self._builders and points:
            plugins.load("Backbone", points[0])
        if family not in self._builders:
            reason = f": {owners[0]} registers no {self.kind} of that name" if owners else ""
            hint = did_you_mean(family, [other for other in self.names() if other != family])
            raise UsageError(
                f"Unknown {self.kind} {name!r} in arch.{self.kind}{reason}.{hint} See `genzoo train MODEL --help`."
            )
        return self._builders[family]

    def _is_built_in(self, family: str) -> bool:
        return family in self._builders and self._builders[family].__module__.startswith("genzoo.")


ENCODERS: Table[EncoderBuilder] = Table("encoder")
DECODERS: Table[DecoderBuilder] = Table("decoder")


def check_flat(arch: ArchConfig, name: str) -> None:
    """Refuses `arch.latent=grid` for a network that has flat latents only."""
    if arch.latent == "grid":
        raise UsageError(
            f"arch.latent=grid needs networks with a grid, and {name} has none: "
            "set arch.encoder=conv and arch.decoder=conv, or arch.latent=flat."
        )


def check_pretrained(arch: ArchConfig) -> None:
    """Refuses `arch.pretrained` for an encoder that is not one of timm's."""
    if arch.pretrained and arch.encoder.partition(":")[0] != "timm":
        raise UsageError(
            f"arch.pretrained=true is for timm's trunks, and genzoo has no pretrained weights of arch.encoder="
            f"{arch.encoder}: set arch.encoder=timm:resnet18, or leave it out. Trained models are read by genzoo.load."
        )
