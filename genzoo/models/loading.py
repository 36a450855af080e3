"""Reads a saved model exactly or not at all."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from genzoo.errors import UsageError
from genzoo.files import utf8_path
from genzoo.models.options import LoadOptions
from genzoo.models.saved import AGAIN, Files, constructor_arguments, cut, find_files, of_newer, one_line, read_json
from genzoo.nn.tables import DECODERS, ENCODERS

if TYPE_CHECKING:
    from genzoo.models.pretrained import Pretrained

M = TypeVar("M", bound="Pretrained")
MAX_LAYERS = 1000  # widths in a list of settings
NAMED = 3  # tensors in a message


def read_model(cls: type[M], source: str, options: LoadOptions) -> M:
    """Reads a model of this class from a folder or hub id, in eval mode, without its fitted prior.

    The networks are first built without memory and compared with the header of the weights: names, shapes and kinds of
    numbers. Every weight is then copied into the model's own memory, where it is aligned; mapped from a file, it might
    be computed with by another kernel, and the file would stay open.

    Raises:
        UsageError: anything is missing, damaged, superfluous or of another class.
    """
    files, device = find_files(source, options), options.device
    config = read_json(files.config)
    with of_newer(config, files.config):
        arguments = constructor_arguments(cls, config, files.config)
        _check_arch(arguments["arch"], files)
        skeleton = _skeleton(cls, arguments, files)
    _compare(skeleton, _header(files), files)
    with one_line(f"{files.folder} cannot be loaded"), torch.random.fork_rng(devices=[]):
        model = cls(**arguments)
        if options.torch_dtype is not None:
            nn.Module.to(model, options.torch_dtype)  # diffusers' own method warns, whatever the model
        model.load_state_dict({name: tensor for path in files.weights for name, tensor in _tensors(path).items()})
    _warn_of_nonfinite(model, files)
    if device is not None:
        try:
            nn.Module.to(model, device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"device_map={options.device_map!r} is not here ({cut(error)}): leave it out.") from error
    return model.eval()


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    with utf8_path(path) as opened:
        return load_file(opened)


def _header(files: Files) -> dict[str, tuple[bool, tuple[int, ...]]]:
    """What the files of weights hold, by name: whether the numbers are floating-point, and their shape."""
    found: dict[str, tuple[bool, tuple[int, ...]]] = {}
    for path in files.weights:
        with one_line(f"{path} is damaged"), utf8_path(path) as opened, safe_open(opened, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (not a dict)
                tensor = file.get_slice(name)
                found[name] = tensor.get_dtype().startswith(("F", "BF")), tuple(tensor.get_shape())
    return found


def _check_arch(arch: dict[str, Any], files: Files) -> None:
    """Refuses networks that no distribution offers here, and lists that would take long even without memory."""
    for kind, table in (("encoder", ENCODERS), ("decoder", DECODERS)):
        name = arch.get(kind)
        if isinstance(name, str) and (family := name.partition(":")[0]) not in table.names():
            raise UsageError(
                f"{files.config} names the {kind} {cut(family)!r}, which is not here: it may be a plugin's, install "
                "the distribution that offers it."
            )
    for name, value in arch.items():
        if isinstance(value, list) and len(value) > MAX_LAYERS:
            raise UsageError(f"{files.config} lists {len(value):,} entries in arch.{cut(name)}: {AGAIN}.")


def _skeleton(cls: type[M], arguments: dict[str, Any], files: Files) -> M:
    """Builds the model on the meta device; in memory, where a plugin's network cannot be built without."""
    with one_line(f"{files.config} cannot be used for {cls.__name__}"):
        try:
            with torch.device("meta"):
                return cls(**arguments)
        except Exception as error:
            if "meta" not in str(error):  # as in "cannot be called on meta tensors"
                raise
        with torch.random.fork_rng(devices=[]):
            return cls(**arguments)


def _compare(model: nn.Module, header: dict[str, tuple[bool, tuple[int, ...]]], files: Files) -> None:
    """Refuses weights that are not exactly those of the networks."""
    expected = {name: (t.is_floating_point(), tuple(t.shape)) for name, t in model.state_dict().items()}
    differing = {
        "missing": expected.keys() - header.keys(),
        "unexpected": header.keys() - expected.keys(),
        "of another shape or type": {
            name for name in expected.keys() & header.keys() if expected[name] != header[name]
        },
    }
    if problems := [f"{len(names):,} {kind} ({_some(names)})" for kind, names in differing.items() if names]:
        raise UsageError(
            f"The weights in {files.folder} are not those of its config.json, which has {len(expected):,} tensors: "
            f"{'; '.join(problems)}: {AGAIN}."
        )


def _warn_of_nonfinite(model: nn.Module, files: Files) -> None:
    broken = {
        name for name, t in model.state_dict().items() if t.is_floating_point() and not bool(torch.isfinite(t).all())
    }
    if broken:
        warnings.warn(
            f"{len(broken):,} tensors of the weights in {files.folder} are not finite ({_some(broken)}), and so are "
            "samples: load the run's best/, or train again.",
            stacklevel=2,
        )


def _some(names: set[str]) -> str:
    shown = [cut(name) for name in sorted(names)[:NAMED]]
    return ", ".join([*shown, "..."] if len(names) > NAMED else shown)
