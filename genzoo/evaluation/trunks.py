"""timm trunks with pretrained weights, behind the normalization of their training images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from genzoo import hub
from genzoo.errors import UsageError, did_you_mean
from genzoo.files import utf8_path


@dataclass(frozen=True)
class Trunk:
    """A pretrained network without its head."""

    net: nn.Module  # [N, *shape] in [0, 1] -> [N, dim]; in eval mode
    shape: tuple[int, int, int]  # C, H, W of its training images
    dim: int
    path: Path  # of the weights


def load_trunk(name: str, weights: str | Path | None) -> Trunk:
    """Loads a trunk by timm's name.

    Args:
        name: of any of timm's models.
        weights: a .safetensors file or its folder; None = the pretrained one from the hub or its cache.

    Raises:
        UsageError: timm has no such model, or its weights are missing, damaged or of another network.
    """
    import timm
    from timm.data.config import resolve_model_data_config

    if name.partition(".")[0] not in timm.list_models():
        raise UsageError(f"timm has no model {name!r}.{did_you_mean(name, timm.list_models())} See timm.list_models().")
    trunk = timm.create_model(name, pretrained=False, num_classes=0)
    pretrained = cast(dict[str, Any], trunk.pretrained_cfg)
    path = _find_file(name, weights, pretrained)
    heads = pretrained.get("classifier") or ()
    heads = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    try:
        with utf8_path(path) as opened:
            state = {key: tensor for key, tensor in load_file(opened).items() if not key.startswith(heads)}
        trunk.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"{path} does not hold the weights of timm:{name}: {' '.join(str(error).split())[:200]}."
        ) from error
    config = resolve_model_data_config(trunk)
    net = _Normalized(trunk, config["mean"], config["std"]).eval()
    with torch.no_grad():  # some trunks return another number of features than timm's num_features
        dim = net(torch.zeros(1, *config["input_size"])).shape[1]
    return Trunk(net, config["input_size"], dim, path)


class _Normalized(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.trunk = trunk
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk((x - self.mean) / self.std)


def _find_file(name: str, weights: str | Path | None, pretrained: Mapping[str, Any]) -> Path:
    """Finds the checkpoint: as given, else the pretrained one from the hub or its cache."""
    if weights is None:
        if not pretrained.get("hf_hub_id"):
            raise UsageError(
                f"The hub has no weights of timm:{name}: give their .safetensors file with --extractor-weights "
                "(weights= in Python), or use another network."
            )
        try:
            return Path(hub.download(pretrained["hf_hub_id"], "model.safetensors"))
        except UsageError as error:
            raise UsageError(
                f"There are no weights of timm:{name}; give their .safetensors file with --extractor-weights "
                f"(weights= in Python), or: {error}"
            ) from error
    path = Path(weights).expanduser()
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file() or path.suffix != ".safetensors":
        raise UsageError(
            f"{path} is not a .safetensors file: give timm:{name} one, or the folder of a model.safetensors."
        )
    return path
