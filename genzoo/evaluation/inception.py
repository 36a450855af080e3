"""Inception's two files: NVIDIA's TorchScript, for FID and KID; pytorch-fid's weights, for layers with a train mode."""

import hashlib
import io
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from genzoo import hub
from genzoo.data import cache
from genzoo.errors import UsageError


@dataclass(frozen=True)
class WeightsFile:
    """A file that may be on the machine already, or is downloaded once."""

    name: str
    url: str
    sha256: str
    what: str  # it holds

    def read(self, given: str | Path | None) -> io.BytesIO:
        """Finds, reads and checks the file, or downloads it. What was checked is what is returned, whatever happens to
        the file meanwhile.

        It is taken as given, else from GENZOO_INCEPTION, else from where genzoo keeps it, else from the system's
        temporary folder, where clean-fid keeps it and every user may write: a file with another hash is ignored there.

        Args:
            given: the file, or its folder.

        Raises:
            UsageError: it is missing and cannot be downloaded, or it is another file; the message says where to put it.
        """
        own = cache.root().parent / "weights" / self.name
        if named := given or os.environ.get("GENZOO_INCEPTION"):
            if (path := self._at(Path(named).expanduser())) is None:
                raise UsageError(f"There is no {self.name} at {named}: give the file under this name, or its folder.")
            return self._checked(path)
        if self._at(own) is None and (path := self._at(Path(tempfile.gettempdir()))) is not None:
            with suppress(UsageError, OSError):
                return self._checked(path)
        if self._at(own) is None:
            self._download(own)
        return self._checked(own)

    def _at(self, place: Path) -> Path | None:
        """The file at a path, or in a folder, if it has its name."""
        path = place / self.name if place.is_dir() else place
        return path if path.is_file() and path.name == self.name else None

    def _checked(self, path: Path) -> io.BytesIO:
        data = path.read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise UsageError(
                f"{path} is not {self.what} (sha256 {found[:12]}..., not {self.sha256[:12]}...): "
                f"copy it again, from {self.url}."
            )
        return io.BytesIO(data)

    def _download(self, own: Path) -> None:
        problem = "the network does not answer"
        if hub.is_reachable():
            own.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(self.url, str(own), hash_prefix=self.sha256)  # atomically
                return
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
    # Of the file at this address, 95,628,359 bytes; its first digits end the file's name, by torch's convention.
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "pytorch-fid's Inception",
)


class TorchScriptInception(nn.Module):
    """The network that clean-fid runs, and its normalization: [N, 3, 299, 299] in [0, 1] -> [N, 2048]."""

    def __init__(self, file: io.BytesIO):
        super().__init__()
        self.layers = torch.jit.load(file).eval().layers

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x * 255 - 128) / 128).view(len(x), 2048)


class PyTorchInception(nn.Module):
    """pytorch-fid's network, of PyTorch's own layers: [N, 3, 299, 299] in [0, 1] -> [N, 2048].

    It is torchvision's with pytorch-fid's blocks, as clean-fid has them, and without dropout and classifier.
    """

    def __init__(self, file: io.BytesIO):
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
        net.load_state_dict(torch.load(file, weights_only=True))
        for name in ("dropout", "fc"):
            setattr(net, name, nn.Identity())
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(2 * x - 1)
