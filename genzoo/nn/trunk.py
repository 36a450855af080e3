"""A timm trunk as encoder: any of timm's image models, pooled, with a linear layer to mu and logvar."""

from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn

from genzoo import hub
from genzoo.errors import UsageError, did_you_mean
from genzoo.nn.conv import image_shape
from genzoo.nn.tables import check_flat
from genzoo.spec import ArchConfig


class TrunkEncoder(nn.Module):
    """[N, C, H, W] in [0, 1] -> mu, logvar: [N, Z] each; or one such tensor, a point code. The trunk keeps timm's own
    initialization or pretrained weights.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],  # C, H, W of the images
        z_dim: int,  # Z
        name: str,  # timm's model name, e.g. resnet18
        pretrained: bool = False,  # timm's weights, from its hub
        outputs: int = 2,  # 2: mu and logvar; 1: a point code
    ):
        super().__init__()
        check_name(name)
        self.outputs = outputs
        needed = pretrained and torch.get_default_device().type != "meta"  # a plan computes without weights
        self.trunk = _pretrained(name, shape[0]) if needed else _created(name, shape[0])
        self.head = nn.Linear(_pooled_width(self.trunk, name, shape), outputs * z_dim)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        out = self.head(self.trunk(x))
        return out if self.outputs == 1 else out.chunk(self.outputs, dim=1)


def trunk_encoder(shape: tuple[int, ...], arch: ArchConfig, outputs: int) -> TrunkEncoder:
    """Builds the trunk that `arch.encoder` names after `timm:`."""
    check_flat(arch, arch.encoder)
    return TrunkEncoder(image_shape(shape), arch.z_dim, trunk_name(arch), arch.pretrained, outputs)


def trunk_name(arch: ArchConfig) -> str:
    """What `arch.encoder` names after `timm:`."""
    return arch.encoder.removeprefix("timm").removeprefix(":")


def check_name(name: str) -> None:
    """Refuses what timm does not know.

    Raises:
        UsageError: a model or weights of this name; with suggestions.
    """
    if name.partition(".")[0] not in timm.list_models():
        raise UsageError(f"timm has no model {name!r}.{did_you_mean(name, timm.list_models())} See timm.list_models().")
    if "." in name and name not in timm.list_pretrained():
        tags = [known for known in timm.list_pretrained() if known.startswith(f"{name.partition('.')[0]}.")]
        raise UsageError(f"timm has no weights {name!r}.{did_you_mean(name, tags)} See timm.list_pretrained().")


def _created(name: str, in_chans: int, **options: Any) -> nn.Module:
    try:
        return timm.create_model(name, in_chans=in_chans, num_classes=0, **options)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise UsageError(
            f"timm cannot create {name} ({' '.join(str(error).split())[:200]}): try timm:resnet18, or set "
            "arch.pretrained=false."
        ) from error


def _pretrained(name: str, in_chans: int) -> nn.Module:
    """Creates a trunk with timm's weights: from the hub's cache where they are there, else from the network.

    Raises:
        UsageError: they are in neither. The hub is asked once, as timm tries for a minute.
    """
    if (path := _cached(name)) is not None:
        return _created(name, in_chans, pretrained=True, pretrained_cfg_overlay={"file": path})
    if not hub.is_reachable():
        raise UsageError(
            f"The pretrained weights of timm:{name} are not in the hub's cache, and the hub does not answer: check the "
            "network, or set arch.pretrained=false."
        )
    return _created(name, in_chans, pretrained=True)


def _cached(name: str) -> str | None:
    """The path of a trunk's weights in the hub's cache."""
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag, which `timm.create_model` explains
        return None
    if config is None or not config.hf_hub_id:
        return None
    found = try_to_load_from_cache(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
    return found if isinstance(found, str) and found.endswith(".safetensors") else None


def _pooled_width(trunk: nn.Module, name: str, shape: tuple[int, int, int]) -> int:
    """Passes a black image through, because timm's num_features is not what every trunk returns."""
    trunk.eval()
    try:
        with torch.no_grad():
            return trunk(torch.zeros(1, *shape)).shape[1]
    except Exception as error:
        raise UsageError(
            f"timm:{name} cannot encode {shape[1]}x{shape[2]} images ({error}): try timm:resnet18, or another --res."
        ) from error
    finally:
        trunk.train()
