"""Inception's two files: NVIDIA's TorchScript, which FID and KID are said of, and pytorch-fid's weights, whose BatchNorm has a train mode."""

import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from genzoo import hub
from genzoo.data import cache
from genzoo.errors import UsageError
from genzoo.metrics.classifier import sha256


@dataclass(frozen=True)
class WeightsFile:
    """A file that people may have already, or that is downloaded once."""

    name: str
    url: str
    sha256: str  # the first digits, as many as are published
    what: str

    def find(self, given: str | Path | None) -> Path:
        """Returns the file, checked: as given, else by GENZOO_INCEPTION, else where clean-fid or genzoo keep it, else downloaded.

        Args:
            given: the file, or its folder.

        Raises:
            UsageError: it is nowhere and cannot be downloaded, or it is another file; the message says where to put it.
        """
        path = self._place(given or os.environ.get("GENZOO_INCEPTION"))
        if not sha256(path).startswith(self.sha256):
            raise UsageError(
                f"{path} is not {self.what} (sha256 {sha256(path)[:12]}..., not {self.sha256[:12]}...): delete it and copy it again."
            )
        return path

    def _place(self, given: str | Path | None) -> Path:
        own = cache.root().parent / "weights" / self.name
        places = [Path(given).expanduser()] if given else [Path(tempfile.gettempdir()), own.parent]
        for place in places:
            path = place / self.name if place.is_dir() else place
            if path.is_file() and path.name == self.name:
                return path
        if given:
            raise UsageError(f"there is no {self.name} at {given}: give the file under this name, or its folder.")
        problem = "the network does not answer"
        if hub.is_reachable():
            own.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(self.url, str(own), hash_prefix=self.sha256)  # written beside its place, then moved
                return own
            except (URLError, OSError, RuntimeError) as error:
                problem = f"the download failed ({error})"
        raise UsageError(f"the Inception weights are not here and {problem}: put {self.url} at {own}, or say where by --extractor-weights.")


TORCHSCRIPT = WeightsFile(
    "inception-2015-12-05.pt",
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    # Of the file at this address, 95,607,719 bytes: published in k-diffusion's evaluation.py and elsewhere; clean-fid checks none.
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "clean-fid's Inception",
)
PYTORCH = WeightsFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "6726825d",  # by torch's rule: the end of the file's name
    "pytorch-fid's Inception",
)


class TorchScriptInception(nn.Module):
    """clean-fid's network: [N, 3, 299, 299] in [0, 1] -> [N, 2048]. Its normalisation is frozen into the script."""

    def __init__(self, path: Path):
        from cleanfid.inception_torchscript import InceptionV3W

        super().__init__()
        self.net = InceptionV3W(str(path.parent), download=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * 255)


class PyTorchInception(nn.Module):
    """pytorch-fid's network, as clean-fid has it, of PyTorch's own layers: [N, 3, 299, 299] in [0, 1] -> [N, 2048]."""

    def __init__(self, path: Path):
        from cleanfid import inception_pytorch

        super().__init__()
        from_url = inception_pytorch.load_state_dict_from_url
        inception_pytorch.load_state_dict_from_url = lambda url, progress: torch.load(path, weights_only=True)
        try:
            with warnings.catch_warnings(action="ignore"):  # torchvision's, of a name that clean-fid still uses
                self.net = inception_pytorch.InceptionV3(resize_input=False)
        finally:
            inception_pytorch.load_state_dict_from_url = from_url

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0].flatten(1)
