"""Inception's two files: NVIDIA's TorchScript, for FID and KID; pytorch-fid's weights, for layers with a train mode."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from genzoo import hub
from genzoo.data import cache
from genzoo.errors import UsageError
from genzoo.files import digest


@dataclass(frozen=True)
class WeightsFile:
    """A file that may be on the machine already, or is downloaded once."""

    name: str
    url: str
    sha256: str  # its first digits, as many as are published
    what: str  # it holds

    def find(self, given: str | Path | None) -> Path:
        """Finds and checks the file, or downloads it.

        It is taken as given, else from GENZOO_INCEPTION, else from where clean-fid or genzoo keep it.

        Args:
            given: the file, or its folder.

        Raises:
            UsageError: it is missing and cannot be downloaded, or it is another file; the message says where to put it.
        """
        path = self._path(given or os.environ.get("GENZOO_INCEPTION"))
        if not digest(path).startswith(self.sha256):
            raise UsageError(
                f"{path} is not {self.what} (sha256 {digest(path)[:12]}..., not {self.sha256[:12]}...): "
                "delete it and copy it again."
            )
        return path

    def _path(self, given: str | Path | None) -> Path:
        own = cache.root().parent / "weights" / self.name
        candidates = [Path(given).expanduser()] if given else [Path(tempfile.gettempdir()), own.parent]
        for candidate in candidates:
            path = candidate / self.name if candidate.is_dir() else candidate
            if path.is_file() and path.name == self.name:
                return path
        if given:
            raise UsageError(f"There is no {self.name} at {given}: give the file under this name, or its folder.")
        problem = "the network does not answer"
        if hub.is_reachable():
            own.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(self.url, str(own), hash_prefix=self.sha256)  # atomically
                return own
            except (URLError, OSError, RuntimeError) as error:
                problem = f"the download failed ({error})"
        raise UsageError(
            f"The Inception weights are not here and {problem}: "
            f"put {self.url} at {own}, or give their path with --extractor-weights."
        )


TORCHSCRIPT = WeightsFile(
    "inception-2015-12-05.pt",
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    # Of the file at this address, 95,607,719 bytes; published in k-diffusion's evaluation.py. clean-fid checks none.
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "clean-fid's Inception",
)
PYTORCH = WeightsFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "6726825d",  # the end of the file's name, by torch's convention
    "pytorch-fid's Inception",
)


class TorchScriptInception(nn.Module):
    """clean-fid's network, normalization included: [N, 3, 299, 299] in [0, 1] -> [N, 2048]."""

    def __init__(self, path: Path):
        from cleanfid.inception_torchscript import InceptionV3W

        super().__init__()
        self.net = InceptionV3W(str(path.parent), download=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * 255)


class PyTorchInception(nn.Module):
    """pytorch-fid's network, of PyTorch's own layers: [N, 3, 299, 299] in [0, 1] -> [N, 2048].

    It is torchvision's with pytorch-fid's blocks, as clean-fid has them, and without dropout and classifier.
    """

    def __init__(self, path: Path):
        from cleanfid import inception_pytorch as blocks
        from torchvision.models import Inception3

        super().__init__()
        net = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
        for name, block in {
            "Mixed_5b": blocks.FIDInceptionA(192, pool_features=32),
            "Mixed_5c": blocks.FIDInceptionA(256, pool_features=64),
            "Mixed_5d": blocks.FIDInceptionA(288, pool_features=64),
            "Mixed_6b": blocks.FIDInceptionC(768, channels_7x7=128),
            "Mixed_6c": blocks.FIDInceptionC(768, channels_7x7=160),
            "Mixed_6d": blocks.FIDInceptionC(768, channels_7x7=160),
            "Mixed_6e": blocks.FIDInceptionC(768, channels_7x7=192),
            "Mixed_7b": blocks.FIDInceptionE_1(1280),
            "Mixed_7c": blocks.FIDInceptionE_2(2048),
        }.items():
            setattr(net, name, block)
        net.load_state_dict(torch.load(path, weights_only=True))
        for name in ("dropout", "fc"):
            setattr(net, name, nn.Identity())
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(2 * x - 1)
