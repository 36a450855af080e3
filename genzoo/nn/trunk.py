"""A timm trunk as encoder: any of timm's image models, pooled, with a linear layer to mu and logvar."""

import timm
import torch
from torch import Tensor, nn

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
        if name.partition(".")[0] not in timm.list_models():
            raise UsageError(
                f"timm has no model {name!r}.{did_you_mean(name, timm.list_models())} See timm.list_models()."
            )
        if "." in name and name not in timm.list_pretrained():
            tags = [known for known in timm.list_pretrained() if known.startswith(f"{name.partition('.')[0]}.")]
            raise UsageError(f"timm has no weights {name!r}.{did_you_mean(name, tags)} See timm.list_pretrained().")
        self.outputs = outputs
        self.trunk = timm.create_model(name, pretrained=pretrained, in_chans=shape[0], num_classes=0)
        self.head = nn.Linear(_pooled_width(self.trunk, name, shape), outputs * z_dim)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        out = self.head(self.trunk(x))
        return out if self.outputs == 1 else out.chunk(self.outputs, dim=1)


def trunk_encoder(shape: tuple[int, ...], arch: ArchConfig, outputs: int) -> TrunkEncoder:
    """Builds the trunk that `arch.encoder` names after `timm:`."""
    check_flat(arch, arch.encoder)
    name = arch.encoder.removeprefix("timm").removeprefix(":")
    return TrunkEncoder(image_shape(shape), arch.z_dim, name, arch.pretrained, outputs)


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
