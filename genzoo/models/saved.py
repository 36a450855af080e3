"""The files of a saved model: config.json, and weights as safetensors. All may be damaged or somebody else's."""

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from diffusers.utils.constants import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from pydantic import Field

from genzoo import hub
from genzoo.dataspec import DataConfig
from genzoo.dataspec import config as checked
from genzoo.errors import UsageError
from genzoo.models.absent import NEVER, pickles_in
from genzoo.models.options import LoadOptions
from genzoo.models.sources import CONFIG, in_repository
from genzoo.provenance import by_newer
from genzoo.settings import validated

VERSION = "_genzoo_version"  # key of config.json
MAX_JSON = 10_000_000  # bytes; a config.json has some hundred, and the names of classes
QUOTED = 200  # characters of an error or a value, at most
AGAIN = "copy the whole folder again, or save the model again"

Text = Annotated[str, Field(strict=True)]


@dataclass(frozen=True)
class Files:
    """A saved model on disk."""

    config: Path
    weights: list[Path]  # safetensors: one file, or the parts that an index lists

    @property
    def folder(self) -> Path:
        return self.config.parent


@checked
class SavedConfig:
    """What a config.json must hold of the arguments of `Generative`."""

    shape: Annotated[tuple[Annotated[int, Field(gt=0, strict=True)], ...], Field(min_length=1, max_length=3)]
    arch: dict[str, Any]
    preset: Text = ""
    classes: tuple[Text, ...] = ()
    data: dict[str, Any] | None = None


def find_files(source: str, options: LoadOptions) -> Files:
    """Finds config.json and the weights of a model in a folder or on the hub.

    Raises:
        UsageError: there are none in safetensors, or their index is damaged.
    """
    single, index = (
        with_variant(name, options.variant) for name in (SAFETENSORS_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)
    )
    folder = Path(source)
    if not folder.is_dir():
        return _from_hub(source, single, index, options)
    if (folder / index).is_file():
        return Files(folder / CONFIG, [folder / name for name in _parts(folder / index)])
    if (folder / single).is_file():
        return Files(folder / CONFIG, [folder / single])
    if found := sorted(path.name for path in folder.glob("*.safetensors") if path.is_file()):
        raise UsageError(f"{folder} has no {single}, but {', '.join(found[:3])}: {AGAIN}.")
    if pickled := pickles_in(folder):
        raise UsageError(f"{folder} has its weights in {pickled[0]}, a pickle file, {NEVER}: save the model again.")
    raise UsageError(f"{folder} has a {CONFIG} and no weights, {single}: {AGAIN}.")


def _from_hub(repo_id: str, single: str, index: str, options: LoadOptions) -> Files:
    options = replace(options, local_files_only=options.local_files_only or not hub.is_reachable())

    def fetched(name: str) -> Path:
        return Path(hub.download(repo_id, in_repository(name, options), **options.hub))

    config = fetched(CONFIG)
    if commit := re.search(r"/snapshots/([0-9a-f]{40})/", config.as_posix()):
        options = replace(options, revision=commit[1])  # all files of one commit, whatever is pushed meanwhile
    try:
        return Files(config, [fetched(single)])
    except UsageError as error:
        if not isinstance(error.__cause__, (RemoteEntryNotFoundError, LocalEntryNotFoundError)):
            raise
        try:
            return Files(config, [fetched(name) for name in _parts(fetched(index))])
        except UsageError as second:
            if not isinstance(second.__cause__, (RemoteEntryNotFoundError, LocalEntryNotFoundError)):
                raise
        raise error


def with_variant(filename: str, variant: str | None) -> str:
    """The name of a variant's file, as diffusers has it."""
    name, _, ending = filename.rpartition(".")
    return filename if variant is None else f"{name}.{variant}.{ending}"


def _parts(index: Path) -> list[str]:
    """The files that an index of weights lists, which must lie beside it."""
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UsageError(f"{index} lists no files: {AGAIN}.")
    names = {name if isinstance(name, str) else repr(name) for name in listed.values()}
    for name in names:
        if not re.fullmatch(r"[^/\\:\x00-\x1f]{1,200}\.safetensors", name):
            raise UsageError(f"{index} lists {cut(name)}, which is not a .safetensors file beside it: {AGAIN}.")
    return sorted(names)


def read_json(path: Path) -> dict[str, Any]:
    """Reads the JSON object of a config.json or an index.

    Raises:
        UsageError: it holds none, or cannot be read.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise UsageError(f"{path} is far too large: {AGAIN}.")
        content = json.loads(path.read_bytes())
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged, it is not JSON ({cut(error)}): {AGAIN}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is damaged, it holds a {type(content).__name__} and no settings: {AGAIN}.")
    return content


def read_shape(path: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Reads the shape of an item, and the names of the classes, in a config.json.

    Raises:
        UsageError: they are not there.
    """
    content = read_json(path)
    with one_line(f"{path} cannot be used"):
        given = {field.name: content[field.name] for field in fields(SavedConfig) if field.name in content}
        saved = validated(CONFIG, SavedConfig, given)
    return saved.shape, saved.classes


def constructor_arguments(cls: type, config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns the arguments of a model's class that its config.json holds.

    Left out are private keys, and `quantization_config`, which diffusers would act on. `arch.pretrained` becomes false,
    as the weights lie beside the file.

    Raises:
        UsageError: it was written for another class, has unknown or missing keys, or values of a wrong type.
    """
    check_class(cls, config, path)
    own = {key: value for key, value in config.items() if not key.startswith("_") and key != "quantization_config"}
    if unknown := _not_taken(cls, own):
        raise UsageError(
            f"{path} has {cut(', '.join(unknown))}, which {cls.__name__} does not take: update genzoo, or the plugin "
            "that the model is of."
        )
    if missing := [key for key in ("shape", "arch") if key not in own]:
        raise UsageError(f"{path} has no {missing[0]}: {AGAIN}.")
    given = {field.name: own[field.name] for field in fields(SavedConfig) if field.name in own}
    with one_line(f"{path} cannot be used for {cls.__name__}"):
        saved = validated(CONFIG, SavedConfig, given)
        reading = {name: value for name, value in (saved.data or {}).items() if name != "identity"}
        validated("data", DataConfig, reading)
    return own | {key: getattr(saved, key) for key in given} | {"arch": saved.arch | {"pretrained": False}}


def _not_taken(cls: type, keys: Iterable[str]) -> list[str]:
    """The keys that a class does not take as arguments."""
    parameters = inspect.signature(cls.__init__).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    return sorted(set(keys) - parameters.keys())


def check_class(cls: type, config: Mapping[str, Any], path: Path) -> None:
    """Refuses a config.json that another class wrote."""
    written = config.get("_class_name", cls.__name__)
    if not isinstance(written, str):
        raise UsageError(f"{path} names no class: {AGAIN}.")
    if written != cls.__name__:
        raise UsageError(
            f"{path.parent} was saved by {cut(written)}, and not by {cls.__name__}: call {cut(written)}."
            "from_pretrained, or genzoo.load, which finds the class."
        )


@contextmanager
def of_newer(config: Mapping[str, Any], path: Path) -> Iterator[None]:
    """Turns every refusal of a config.json that a newer genzoo wrote into a request to upgrade."""
    try:
        yield
    except UsageError as error:
        if upgrade := by_newer(path, config.get(VERSION, "")):
            raise UsageError(upgrade) from error
        raise


@contextmanager
def one_line(problem: str) -> Iterator[None]:
    """Turns every error into a UsageError of one line: `problem` and what the error says. Files may cause any."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
        raise UsageError(f"{problem} ({kind}{cut(error)}): {AGAIN}.") from error


def cut(value: Any) -> str:
    """Shows a value or an error of a file in one short line."""
    text = " ".join(str(value).split()).rstrip(".:")
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."
