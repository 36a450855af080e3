"""Where a number comes from: commit, versions and machine."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = ("genzoo", "torch", "torchvision", "accelerate", "diffusers", "timm", "datasets", "clean-fid")


@cache
def commit() -> str:
    """The commit of the checkout that genzoo runs from, `-dirty` when it is changed; else the installed version."""
    root = Path(__file__).parents[1]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):  # no git, or a checkout of somebody else's
            pass
    return f"genzoo {version('genzoo')}"


@cache
def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: "torch.device") -> str:
    """A device in words: `NVIDIA H200`, or `cpu, 2 threads`."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {torch.get_num_threads()} threads"
