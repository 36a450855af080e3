"""Where a number comes from: commit, versions and device."""

import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genzoo import __version__

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "accelerate", "diffusers", "timm", "datasets", "clean-fid")


@cache
def commit() -> str:
    """Returns the commit of the checkout that genzoo runs from (`-dirty` if it has changes), or `genzoo VERSION`."""
    root = Path(__file__).parents[1]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        # No git is installed, or the checkout belongs to another user: that is no reason to stop.
        with suppress(OSError, subprocess.CalledProcessError):
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return f"genzoo {__version__}"


@cache
def versions() -> dict[str, str]:
    """Returns the versions that a result may depend on: of Python and of the installed PACKAGES."""
    installed = {"python": platform.python_version(), "genzoo": __version__}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed


def history_of(content: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Returns the versions that the run of a run.json was trained with, oldest first."""
    found = (content or {}).get("versions", [])
    found = [found] if isinstance(found, dict) else found if isinstance(found, list) else []
    return [used for used in found if isinstance(used, dict)]


def last_genzoo(content: Mapping[str, Any]) -> str:
    """Returns the version of genzoo that the run of a run.json was last trained with; "" where that is not known."""
    return next((used.get("genzoo", "") for used in reversed(history_of(content))), "")


def by_newer(path: Path, version: Any) -> str:
    """Asks to upgrade where `version` of genzoo, which wrote a file, is newer than this one; "" where it is not."""
    if _numbers(version) <= _numbers(__version__):
        return ""
    return f"{path} was written by genzoo {version}, this is {__version__}: upgrade, pip install -U genzoo."


def _numbers(version: Any) -> tuple[int, ...]:
    """`(0, 1, 0)` of 0.1.0."""
    return tuple(map(int, re.findall(r"\d+", str(version))[:3]))


def device_name(device: "torch.device") -> str:
    """Returns a device's name: `NVIDIA H200`, or `cpu, 2 threads`."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
