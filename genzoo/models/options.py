"""The keywords of `from_pretrained` and `save_pretrained`: diffusers' names, and no others."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch

from genzoo.errors import UsageError, did_you_mean

# Keywords that diffusers and its pipelines pass along: of no effect here, or refused unless they are empty.
WITHOUT_EFFECT = ("disable_mmap", "low_cpu_mem_usage", "mirror", "offload_state_dict", "proxies")
REFUSED = (
    "flashpack_kwargs",
    "force_download",
    "ignore_mismatched_sizes",
    "max_memory",
    "offload_folder",
    "output_loading_info",
    "parallel_config",
    "quantization_config",
    "use_flashpack",
)
SAVING = ("max_shard_size", "variant")


@dataclass(frozen=True)
class LoadOptions:
    """What to read, and how: the keywords of `Generative.from_pretrained`."""

    subfolder: str | None = None  # of the folder or repository
    variant: str | None = None  # as in diffusion_pytorch_model.VARIANT.safetensors
    torch_dtype: torch.dtype | None = None  # None = float32, in which other weights are read exactly but float64
    device_map: Any = None  # a device; None = the CPU
    revision: str | None = None  # of the repository: branch, tag or commit
    token: str | bool | None = None  # of the hub
    cache_dir: str | Path | None = None  # of the hub
    local_files_only: bool | None = None  # do not ask the hub

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Reads keywords.

        Raises:
            UsageError: an unknown one (with a suggestion), one of diffusers' that genzoo's models do not have, or a
                value that it does not take.
        """
        names = [field.name for field in fields(cls)]
        known: dict[str, Any] = {}
        for name, value in given.items():
            if name == "use_safetensors":
                _refuse_pickle("use_safetensors", value is False)
            elif name == "dtype":
                known["torch_dtype"] = value if value is not None else given.get("torch_dtype")
            elif name in names:
                known.setdefault(name, value)
            else:
                refuse_unknown("from_pretrained", name, value, names)
        options = cls(**known)
        check_dtype(options.torch_dtype)
        check_names(subfolder=options.subfolder, variant=options.variant)
        return options

    @property
    def hub(self) -> dict[str, Any]:
        """The keywords of `genzoo.hub.download`."""
        return {
            "revision": self.revision,
            "token": self.token,
            "cache_dir": self.cache_dir,
            "local_files_only": bool(self.local_files_only),
        }

    @property
    def device(self) -> torch.device | None:
        """The device that `device_map` names.

        Raises:
            UsageError: it names none, or several.
        """
        given = self.device_map
        target: Any = given[""] if isinstance(given, dict) and set(given) == {""} else given
        try:
            return None if target is None else torch.device(target)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UsageError(
                f"device_map={self.device_map!r} is not one device: a model is loaded onto one as a whole, e.g. "
                'device_map="cuda".'
            ) from error


def check_dtype(dtype: Any) -> None:
    """Refuses what is not a floating-point type."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise UsageError(f"torch_dtype={dtype!r} is not a type of weights: give torch.float16 or another of torch's.")


def check_names(subfolder: Any = None, variant: Any = None) -> None:
    """Refuses what is not the name of a sub-folder, or of a variant, which becomes a part of a file's name."""
    if not (subfolder is None or isinstance(subfolder, str | os.PathLike)):
        raise UsageError(f"subfolder={subfolder!r} is not the name of a folder.")
    if not (variant is None or (isinstance(variant, str) and re.fullmatch(r"\w[\w.-]*", variant))):
        raise UsageError(f"variant={variant!r} is not a part of a file's name: give a word, as in variant='fp16'.")


def check_saving(folder: str | os.PathLike, given: Mapping[str, Any]) -> None:
    """Checks the arguments of `save_pretrained`.

    Raises:
        UsageError: the folder is a file, or a keyword is unknown (with a suggestion) or would write another format.
    """
    if Path(folder).is_file():
        raise UsageError(f"{folder} is a file: give a folder to save the model in.")
    check_names(variant=given.get("variant"))
    _refuse_pickle("safe_serialization", not given.get("safe_serialization", True))
    if given.get("push_to_hub"):
        raise UsageError("push_to_hub=True would upload before all is written: call model.push_to_hub(repo_id).")
    for name in given.keys() - {"safe_serialization", "push_to_hub", "save_function", *SAVING}:
        refuse_unknown("save_pretrained", name, given[name], [*SAVING, "card"])


def refuse_unknown(method: str, name: str, value: Any, names: list[str]) -> None:
    """Refuses a keyword that is not among `names`, unless it is diffusers' and changes nothing."""
    if name in WITHOUT_EFFECT or (name in REFUSED and not value):
        return
    if name in REFUSED:
        raise UsageError(f"{method} has no {name}, which some models of diffusers have: leave it out.")
    raise UsageError(f"{method} has no keyword {name!r}.{did_you_mean(name, names)}")


def _refuse_pickle(name: str, asked: bool) -> None:
    if asked:
        raise UsageError(f"{name}=False asks for pickle files, which are never read or written: leave it out.")
