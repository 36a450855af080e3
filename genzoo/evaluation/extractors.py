"""Feature extractors by name: `inception`, `timm:<name>`, `classifier:<dataset>`; images in [0, 1] -> pooled features.

FID and KID always mean `inception`: clean-fid's TorchScript Inception behind clean-fid's resize. `inception-pytorch`
has the same weights in layers with a train mode, behind pytorch-fid's resize (bilinear, without antialiasing), which
some published scores were computed with.

Images are clamped to [0, 1] before they are resized, by whoever makes them. clean-fid, given floats outside that range,
would clip after resizing, which is another image.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from genzoo.data import cache
from genzoo.data.catalog import find_entry
from genzoo.errors import UsageError, did_you_mean
from genzoo.evaluation.classifier import (
    Classifier,
    ResidualClassifier,
    classifier_folder,
    included_classifier,
    load_classifier,
    namesakes,
    short_name,
)
from genzoo.evaluation.classifier_training import train_classifier
from genzoo.evaluation.inception import PYTORCH, TORCHSCRIPT, PyTorchInception, TorchScriptInception
from genzoo.evaluation.trunks import load_trunk
from genzoo.files import digest
from genzoo.spec import DataConfig

Mode = Literal["eval", "train"]
Precision = Literal["fp32", "bf16"]

# Families of which bf16 changes Fréchet distances by less than 0.4 % (benchmarks/speed/features.py --agree).
BF16_AGREES = ("classifier",)


@dataclass(frozen=True)
class Extractor:
    """A network that maps images to features, and how images are resized for it."""

    name: str
    digest: str  # sha256 of the file with the weights, hexadecimal
    size: tuple[int, int] | None  # H, W of the network's input; None = any
    channels: int  # C of the network's input; gray images are repeated to 3, a gray extractor refuses RGB images
    resize: str  # begins with torch's name of the filter, "antialias" may follow; or "none"
    dim: int  # D
    net: nn.Module  # [N, channels, *size] in [0, 1] -> [N, D]; in eval mode
    classifier: Classifier | None = None  # whose features these are

    @property
    def key(self) -> str:
        """Identifies the extractor, so that features of two extractors are never compared."""
        return f"{self.name}/{self.digest[:12]}/{self.resize}"

    def identity(self, mode: Mode, precision: Precision = "fp32") -> str:
        """Returns the key, with the mode and the precision where they are not the usual ones."""
        return "/".join(
            [self.key, *(["train mode"] if mode == "train" else []), *([precision] if precision != "fp32" else [])]
        )

    def best_precision(self, mode: Mode) -> Precision:
        """bf16 if the processor has matrix units for it and distances stay the same, else fp32."""
        agrees = mode == "eval" and self.name.partition(":")[0] in BF16_AGREES
        return "bf16" if agrees and self.device.type == "cpu" and torch.cpu._is_amx_tile_supported() else "fp32"

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @torch.no_grad()
    def __call__(self, images: Tensor, *, mode: Mode = "eval", precision: Precision = "fp32") -> Tensor:
        """Extracts features.

        Args:
            images: [N, C, H, W] float in [0, 1], 1 or 3 channels, any size.
            mode: `train` normalizes by each batch's own statistics, so that scores depend on the batch size: only to
                reproduce published ones. The network's running averages are kept.
            precision: `bf16` runs the network under autocast.

        Returns:
            [N, D] float32, on the extractor's device.

        Raises:
            UsageError: not images in [0, 1], a wrong number of channels, or train mode of a network without BatchNorm.
        """
        x = self._prepared(images)
        if mode == "train":  # in channels_last, sums over a batch lose digits on a CPU, see genzoo.nn.batchnorm
            x = x.contiguous()
        with (
            _train_mode(self) if mode == "train" else nullcontext(),
            torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            return self.net(x).float()

    def _prepared(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise UsageError(
                f"{self.name} takes images [N, 1 or 3, H, W], not {list(images.shape)}: convert them to gray or RGB."
            )
        if self.channels == 1 and images.shape[1] == 3:
            raise UsageError(
                f"{self.name} was trained on gray images and these are RGB: "
                "set data.channels=1, or use another extractor."
            )
        if not (images.min() >= 0 and images.max() <= 1):  # this form refuses NaN, too
            raise UsageError(
                f"{self.name} takes images in [0, 1], and these are in [{images.min():.3g}, {images.max():.3g}]: "
                "clamp them first."
            )
        x = resized(images.to(self.device), self.size, self.resize).expand(-1, self.channels, -1, -1)
        return x.contiguous(memory_format=torch.channels_last)


def resized(images: Tensor, size: tuple[int, int] | None, how: str) -> Tensor:
    """Resizes images [N, C, H, W] in [0, 1], clamped; `how` begins with the filter's name and may say `antialias`.

    `bicubic antialias` is clean-fid's resize (Pillow's, on floats) up to 0.005 of 255.
    """
    if size is None or images.shape[2:] == size:
        return images
    mode, antialias = how.partition(" ")[0], "antialias" in how
    return interpolate(images, size, mode=mode, antialias=antialias, align_corners=False).clamp(0, 1)


def refuse_unknown(name: str) -> None:
    """Raises UsageError where no family of extractors takes this name; its weights are not looked for."""
    family, _, rest = name.partition(":")
    if family not in _FAMILIES or family.startswith("inception") == bool(rest):
        raise UsageError(
            f"No extractor is called {name!r}.{did_you_mean(family, _FAMILIES)} "
            "There are inception, inception-pytorch, timm:<name> and classifier:<dataset>."
        )


def get_extractor(
    name: str,
    *,
    weights: str | Path | None = None,
    data: DataConfig | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Extractor:
    """Loads an extractor by its name.

    Args:
        name: `inception`, `inception-pytorch`, `timm:<name>` for any timm trunk, or `classifier:<dataset>` (see
            `genzoo.evaluation.classifier_training`).
        weights: inception: the file or its folder; timm: a .safetensors file or its folder; classifier: its folder.
            Without it they are looked for where they are usually kept, then downloaded or trained. The classifiers of
            toyfaces, mnist and cifar10 come with genzoo.
        data: what `classifier:<name>` is trained on if it is not in the cache; used only if `name` is its name, as of a
            folder `svhn`. Cataloged datasets need none.
        device: of the network.
        progress: whether to show a progress bar.

    Raises:
        UsageError: the name is unknown, or its weights are missing, damaged or of another network.
    """
    refuse_unknown(name)
    family, _, rest = name.partition(":")
    extractor = _FAMILIES[family](_Request(rest, weights, data, torch.device(device), progress))
    # channels_last: faster convolutions
    extractor.net.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return extractor


@dataclass(frozen=True)
class _Request:
    """The arguments of `get_extractor`, with the name after the family's."""

    name: str
    weights: str | Path | None
    data: DataConfig | None
    device: torch.device
    progress: bool


def _inception(request: _Request) -> Extractor:
    net, resize = TorchScriptInception(TORCHSCRIPT.read(request.weights)), "bicubic antialias (clean-fid)"
    return Extractor("inception", TORCHSCRIPT.sha256, (299, 299), 3, resize, 2048, net)


def _inception_pytorch(request: _Request) -> Extractor:
    net = PyTorchInception(PYTORCH.read(request.weights))
    return Extractor("inception-pytorch", PYTORCH.sha256, (299, 299), 3, "bilinear", 2048, net)


def _timm(request: _Request) -> Extractor:
    trunk = load_trunk(request.name, request.weights)
    channels, height, width = trunk.shape
    name, resize = f"timm:{request.name}", "bicubic antialias"
    return Extractor(name, digest(trunk.path), (height, width), channels, resize, trunk.dim, trunk.net)


def _classifier(request: _Request) -> Extractor:
    if request.weights is not None:
        folder = Path(request.weights)
    elif included := included_classifier(request.name):
        folder = included
    elif config := _training_data(request.name, request.data):
        folder = classifier_folder(config, progress=request.progress)
        if not folder.exists():
            folder = train_classifier(config, device=request.device, progress=request.progress)
        if others := namesakes(folder):
            warnings.warn(
                f"classifier:{request.name} is {folder.name}, trained on {config.name}; {others[0].name} has the same "
                "name and other data: scores of the two cannot be compared",
                stacklevel=2,
            )
    else:
        folder = _only_classifier(request.name)
    kept = load_classifier(folder)
    channels, height, width = kept.shape
    name, resize, dim = f"classifier:{request.name}", "bilinear antialias", kept.net.heads.in_features
    return Extractor(name, kept.digest, (height, width), channels, resize, dim, _Penultimate(kept.net), kept)


class _Penultimate(nn.Module):
    """The features of a classifier."""

    def __init__(self, net: ResidualClassifier):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.features(x)


def _training_data(name: str, data: DataConfig | None) -> DataConfig | None:
    """What classifier:<name> is trained on: `data` if it has that name, else the catalog's dataset.

    Always at the catalog's size and channels, so that runs at several resolutions are scored by one classifier.
    """
    entry = find_entry(name)
    if data is None or short_name(data) != name:
        data = DataConfig(name=name) if entry else None
    return replace(data, size=entry.size, channels=entry.channels) if data and entry and entry.size else data


def _only_classifier(name: str) -> Path:
    """The folder of a classifier whose data is not given."""
    base = cache.root().parent / "classifiers"
    found = sorted(path for path in base.glob(f"{name}-*") if path.is_dir())
    if len(found) != 1:
        what = f"several: give one of {', '.join(map(str, found))}" if found else "none: give data= to train it"
        raise UsageError(f"classifier:{name} is not of a cataloged dataset, and {base} has {what}.")
    return found[0]


_FAMILIES = {
    "inception": _inception,
    "inception-pytorch": _inception_pytorch,
    "timm": _timm,
    "classifier": _classifier,
}


@contextmanager
def _train_mode(extractor: Extractor) -> Iterator[None]:
    """Train mode and the contiguous layout inside the context; the running averages are restored."""
    net = extractor.net
    kept = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.train().to(memory_format=torch.contiguous_format)
    try:
        yield
        if all(torch.equal(buffer, kept[name]) for name, buffer in net.named_buffers()):
            raise UsageError(f"{extractor.name} is the same in train mode, as it has no BatchNorm: leave the mode out.")
    finally:
        net.eval().to(memory_format=torch.channels_last)
        for name, buffer in net.named_buffers():
            buffer.copy_(kept[name])
