"""Feature extractors by name: `inception`, `timm:<name>`, `classifier:<dataset>`; images in [0, 1] -> pooled features.

Only `inception` gives what is called FID and KID: clean-fid's TorchScript Inception behind clean-fid's resize. `inception-pytorch` has the
same weights in layers that know a train mode, behind pytorch-fid's resize (bilinear; upwards the filter is the same with and without
antialiasing): Soft-IntroVAE's published score was computed on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from genzoo import hub
from genzoo.data import cache
from genzoo.data.catalog import EMBEDDED, HUB
from genzoo.errors import UsageError, suggest
from genzoo.metrics.classifier import classifier_folder, load_classifier, sha256, short_name, train_classifier
from genzoo.metrics.inception import PYTORCH, TORCHSCRIPT, PyTorchInception, TorchScriptInception
from genzoo.spec import DataConfig

Mode = Literal["eval", "train"]
Precision = Literal["fp32", "bf16"]

BF16_AGREES = ("classifier",)  # families whose Fréchet distances bf16 was seen to keep within 0.4 % (benchmarks/speed/features.py --agree)


@dataclass(frozen=True)
class Extractor:
    """A network that turns images into features, and how images are brought to it."""

    name: str
    digest: str  # sha256 of the file with the weights, hexadecimal
    size: tuple[int, int] | None  # H, W that the network sees; None = whatever comes
    channels: int  # C that the network sees; grey images are repeated to 3, RGB images are refused by a grey extractor
    resize: str  # how other sizes are brought to `size`: its first word is torch's name of the filter, always antialiased; or "none"
    dim: int  # D
    net: nn.Module  # [N, channels, *size] in [0, 1] -> [N, D]; in eval mode

    @property
    def key(self) -> str:
        """Marks features and statistics, so that the numbers of two extractors never mix."""
        return f"{self.name}/{self.digest[:12]}/{self.resize}"

    def mark(self, mode: Mode, precision: Precision = "fp32") -> str:
        """The key, and the mode and the precision where they are not the usual ones."""
        return "/".join([self.key, *(["train mode"] if mode == "train" else []), *([precision] if precision != "fp32" else [])])

    def best_precision(self, mode: Mode) -> Precision:
        """bf16 where the processor has matrix units for it and the distances stay the same, else fp32."""
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
            mode: `train` normalises by each batch's own statistics, which is wrong: it is here to reproduce scores that were published
                so (Soft-IntroVAE's). They depend on the batch size; the network is afterwards as it was.
            precision: `bf16` runs the network under autocast.

        Returns:
            [N, D] float32, on the extractor's device.

        Raises:
            UsageError: not images in [0, 1], channels that do not fit, or train mode of a network that has no BatchNorm.
        """
        x = self._prepared(images)
        with (
            _train_mode(self) if mode == "train" else nullcontext(),
            torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            return self.net(x).float()

    def _prepared(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise UsageError(f"{self.name} takes images [N, 1 or 3, H, W], not {list(images.shape)}: convert them to grey or RGB.")
        if self.channels == 1 and images.shape[1] == 3:
            raise UsageError(f"{self.name} was trained on grey images and these are RGB: give data.channels=1, or another extractor.")
        if not (images.min() >= 0 and images.max() <= 1):  # so written that NaN is refused, too
            raise UsageError(
                f"{self.name} takes images in [0, 1], and these go from {images.min():.3g} to {images.max():.3g}: clamp them first."
            )
        x = resized(images.to(self.device), self.size, self.resize).expand(-1, self.channels, -1, -1)
        return x.contiguous(memory_format=torch.channels_last)


def resized(images: Tensor, size: tuple[int, int] | None, how: str) -> Tensor:
    """Brings images [N, C, H, W] in [0, 1] to `size` by an antialiased filter, clamped; `how` begins with the filter's name.

    Bicubic is clean-fid's resize (Pillow's, on floats): the greatest difference seen is 0.005 of 255.
    """
    if size is None or images.shape[2:] == size:
        return images
    return interpolate(images, size, mode=how.partition(" ")[0], antialias=True, align_corners=False).clamp(0, 1)


def get_extractor(
    name: str,
    *,
    weights: str | Path | None = None,
    data: DataConfig | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Extractor:
    """Finds an extractor by its name and loads it.

    Args:
        name: `inception`, `timm:<name>` for any of timm's trunks, or `classifier:<dataset>` (see `genzoo.metrics.classifier`).
        weights: inception: the TorchScript file or its folder; timm: a .safetensors file or its folder; classifier: its folder.
            Without it they are looked for where they are usually kept, then downloaded or trained.
        data: what `classifier:<name>` is trained on where it is not in the cache, if it goes by that name (a folder `cifar10`, say);
            catalogued sets need none. Not opened where the classifier is there.

    Raises:
        UsageError: an unknown name, or weights that are nowhere, damaged or do not fit; never another network in their place.
    """
    family, _, rest = name.partition(":")
    if family not in _FAMILIES or family.startswith("inception") == bool(rest):
        raise UsageError(
            f"no extractor is called {name!r}.{suggest(family, _FAMILIES)} They are inception, inception-pytorch, timm:<name>, classifier:<dataset>."
        )
    extractor = _FAMILIES[family](rest, weights, data, torch.device(device), progress)
    extractor.net.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)  # faster convolutions, the same mathematics
    return extractor


def _inception(_: str, weights: str | Path | None, __: DataConfig | None, ___: torch.device, ____: bool) -> Extractor:
    path = TORCHSCRIPT.find(weights)
    return Extractor("inception", sha256(path), (299, 299), 3, "bicubic antialias (clean-fid)", 2048, TorchScriptInception(path))


def _inception_pytorch(_: str, weights: str | Path | None, __: DataConfig | None, ___: torch.device, ____: bool) -> Extractor:
    path = PYTORCH.find(weights)
    return Extractor("inception-pytorch", sha256(path), (299, 299), 3, "bilinear antialias", 2048, PyTorchInception(path))


def _timm(name: str, weights: str | Path | None, _: DataConfig | None, __: torch.device, ___: bool) -> Extractor:
    import timm
    from timm.data import resolve_model_data_config

    if name.partition(".")[0] not in timm.list_models():
        raise UsageError(f"timm has no model {name!r}.{suggest(name, timm.list_models())} See timm.list_models().")
    trunk = timm.create_model(name, pretrained=False, num_classes=0)
    path = _timm_file(name, weights, trunk.pretrained_cfg)
    heads = trunk.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    try:
        state = {key: tensor for key, tensor in load_file(path).items() if not key.startswith(heads)}
        trunk.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UsageError(f"{path} does not hold the weights of timm:{name}: {' '.join(str(error).split())[:200]}.") from error
    config = resolve_model_data_config(trunk)
    channels, *size = config["input_size"]
    net = _Normalised(trunk, config["mean"], config["std"])
    with torch.no_grad():
        dim = net.eval()(torch.zeros(1, channels, *size)).shape[1]  # timm's num_features is not what every trunk returns
    return Extractor(f"timm:{name}", sha256(path), tuple(size), channels, "bicubic antialias", dim, net)


class _Normalised(nn.Module):
    """A trunk behind the mean and standard deviation of its training images."""

    def __init__(self, trunk: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.trunk = trunk
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk((x - self.mean) / self.std)


def _timm_file(name: str, weights: str | Path | None, about: dict) -> Path:
    """The checkpoint as given, else the pretrained one from the hub or its cache."""
    if weights is None:
        if not about.get("hf_hub_id"):
            raise UsageError(
                f"the hub has no weights of timm:{name}, and an untrained network scores nothing: give weights=<file.safetensors>."
            )
        try:
            return Path(hub.download(about["hf_hub_id"], "model.safetensors"))
        except UsageError as error:
            raise UsageError(
                f"no weights of timm:{name}; give their .safetensors file by --extractor-weights (weights= in Python), or: {error}"
            ) from error
    path = Path(weights).expanduser()
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file() or path.suffix != ".safetensors":
        raise UsageError(f"{path} is no .safetensors file: give timm:{name} one, or the folder of a model.safetensors.")
    return path


def _classifier(name: str, weights: str | Path | None, data: DataConfig | None, device: torch.device, progress: bool) -> Extractor:
    if weights is not None:
        folder = Path(weights)
    elif config := _training_data(name, data):
        folder = classifier_folder(config, progress=progress)
        folder = folder if folder.exists() else train_classifier(config, device=device, progress=progress)
    else:
        folder = _only_classifier(name)
    kept = load_classifier(folder)
    channels, *size = kept.shape
    dim = kept.net.heads.in_features
    return Extractor(f"classifier:{name}", kept.digest, tuple(size), channels, "bilinear antialias", dim, _Penultimate(kept.net))


class _Penultimate(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.features(x)


def _training_data(name: str, data: DataConfig | None) -> DataConfig | None:
    """What classifier:<name> is trained on: `data` if it goes by that name, else the catalogue's; at the catalogue's size and channels,
    so that runs at several resolutions are scored by one classifier."""
    entry = EMBEDDED.get(name) or HUB.get(name)
    if data is None or short_name(data) != name:
        data = DataConfig(name=name) if entry else None
    return replace(data, size=entry.size, channels=entry.channels) if entry and entry.size else data


def _only_classifier(name: str) -> Path:
    """The folder of a classifier whose data nobody named."""
    base = cache.root().parent / "classifiers"
    found = sorted(path for path in base.glob(f"{name}-*") if path.is_dir())
    if len(found) != 1:
        what = (
            f"several of that name: give weights= one of {', '.join(map(str, found))}"
            if found
            else "none of that name: give data= to train it"
        )
        raise UsageError(f"classifier:{name} is of no catalogued dataset, and {base} holds {what}.")
    return found[0]


_FAMILIES = {  # each imports its library on use
    "inception": _inception,
    "inception-pytorch": _inception_pytorch,
    "timm": _timm,
    "classifier": _classifier,
}


@contextmanager
def _train_mode(extractor: Extractor) -> Iterator[None]:
    """Train mode for the time being; the running averages that it moves are put back."""
    net = extractor.net
    kept = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.train()
    try:
        yield
        if all(torch.equal(buffer, kept[name]) for name, buffer in net.named_buffers()):
            raise UsageError(f"{extractor.name} is the same in train mode: it has no BatchNorm that would use a batch's statistics.")
    finally:
        net.eval()
        for name, buffer in net.named_buffers():
            buffer.copy_(kept[name])
