"""Datasets of the Hugging Face hub, and what `datasets` saved: the only module that imports `datasets`, when used."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from genzoo.data.arrays import ArraySource, open_array
from genzoo.data.decoding import Raw
from genzoo.data.found import Found
from genzoo.data.hub_table import HUB
from genzoo.data.labels import Labels
from genzoo.data.naming import role
from genzoo.data.parquet import encoded, find_column, holds_numbers, label_columns, table_labels, to_array
from genzoo.data.sets import ArraySet
from genzoo.data.sources import Source
from genzoo.errors import UsageError
from genzoo.hub import is_reachable
from genzoo.spec import DataConfig

if TYPE_CHECKING:
    import datasets


class HubCollection:
    """A repository by its short name, as `owner/name`, or as `owner/name:configuration`."""

    def __init__(self, config: DataConfig) -> None:
        self.name, entry = config.name, HUB.get(config.name)
        self._repository, _, wanted = (entry.repository if entry else config.name).partition(":")
        self._configuration = entry.config if entry else wanted or None
        self._column, self._channels = config.column or (entry.column if entry else None), config.channels
        self._expressions = dict(entry.splits) if entry else self._ask_splits()
        self.splits: tuple[str, ...] = tuple(self._expressions)

    def source(self, split: str) -> "HubSource | ArraySource | ArraySet":
        expression = self._expressions[split]
        with _reached(self._repository, self._configuration):
            import datasets

            table = datasets.load_dataset(self._repository, self._configuration, split=expression)
        # The folder is named after the repository's commit: the content's identity, whatever the cache's folder.
        commit = Path(table.cache_files[0]["filename"]).parent.name
        identity = (self._repository, self._configuration, expression, commit)
        by = role(split, self.splits, "the hub")
        return open_table(table, f"{self.name}/{split}", identity, self._column, self._channels, by)

    def _ask_splits(self) -> dict[str, str]:
        with _reached(self._repository, self._configuration):
            import datasets

            names = datasets.get_dataset_split_names(self._repository, self._configuration)
        return {name: name for name in names}


class HubSource(Source):
    """The encoded images of one column of a `datasets.Dataset`, memory-mapped from disk."""

    def __init__(self, table: "datasets.Dataset", name: str, identity: object, column: str, by: str = "") -> None:
        import datasets

        self.name, self.size, self.identity = name, len(table), (identity, column)
        self._table, self._column, self._role = table, column, by
        # Undecoded: the library would clip 16-bit images and stop at the first corrupt one.
        images = table.select_columns([column])
        self._images = images.cast_column(column, datasets.Image(decode=False)) if _is_image(table, column) else images

    def fetch(self, indices: Sequence[int]) -> list[Raw]:
        return [encoded(cell) for cell in self._images[list(indices)][self._column]]

    def where(self, index: int) -> str:
        return f"{self.name} row {index}"

    def headers(self, n: int) -> list[Raw]:
        return self.fetch(range(min(n, self.size)))

    def labels(self) -> Labels:
        columns = label_columns(self._table.features.arrow_schema)
        return table_labels({name: (self._table.data.column(name), names) for name, names in columns.items()})

    def found(self) -> Found:
        return Found(items=self.size, role=self._role, notes=(f"column {self._column!r}",))


def open_table(
    table: "datasets.Dataset", name: str, identity: object, column: str | None, channels: int = 3, by: str = ""
) -> HubSource | ArraySource | ArraySet:
    """Opens the images of a table: encoded, or as numbers (see `arrays.open_array`)."""
    schema = table.features.arrow_schema
    column = find_column(schema, name, column)
    source = HubSource(table, name, identity, column, by)
    if holds_numbers(schema.field(column).type):
        array, labels = to_array(table.data.column(column), name), source.labels()
        return open_array(array, name, (identity, column), labels, channels=channels, role=by)
    return source


def open_saved(
    folder: Path, name: str, identity: object, column: str | None, channels: int, by: str
) -> HubSource | ArraySource | ArraySet:
    """Opens a dataset that `save_to_disk` wrote."""
    import datasets

    table = datasets.Dataset.load_from_disk(str(folder)).with_format(None)
    return open_table(table, name, identity, column, channels, by)


@contextmanager
def _reached(repository: str, configuration: str | None) -> Iterator[None]:
    """Lets `datasets` work from the hub, or offline from its own cache; its errors become UsageErrors of one line."""
    online, cached = is_reachable(), _is_cached(repository)
    if not online and not cached:
        raise UsageError(_out_of_reach(repository, configuration))
    from datasets import config, exceptions
    from huggingface_hub import errors

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = not online  # otherwise each file is retried before the cached one is taken
    http_error = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]  # httpx's or httpx2's, by version
    try:
        yield
    except (ConnectionError, http_error, errors.LocalEntryNotFoundError) as error:
        raise UsageError(f"{_line(error)}. {_out_of_reach(repository, configuration)}") from error
    except (exceptions.DatasetsError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(_refused(repository, error) if online else _out_of_reach(repository, configuration)) from error
    finally:
        config.HF_HUB_OFFLINE = before


def _is_cached(repository: str) -> bool:
    """Whether `datasets` has this repository on disk, asked without importing it (3 s)."""
    from huggingface_hub import constants

    root = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")
    owner, _, name = repository.rpartition("/")
    return any(
        folder.name.lower().replace("_", "") == f"{owner}{name}".lower().replace("_", "")
        for folder in root.glob(f"{owner}___*")
    )


def _out_of_reach(repository: str, configuration: str | None) -> str:
    from huggingface_hub import constants

    state = (
        "HF_HUB_OFFLINE is set"
        if constants.HF_HUB_OFFLINE
        else f"{urlsplit(constants.ENDPOINT).hostname} cannot be reached"
    )
    folder = repository.rpartition("/")[2]
    only = f" --include '{configuration}/*'" if configuration else ""
    command = f"hf download {repository} --repo-type dataset{only} --local-dir {folder}"
    return (
        f"{repository} is neither a folder nor a cached dataset on this machine, and {state}: "
        f"on a connected one run `{command}`, copy the folder here and pass it as the dataset's name (./{folder})."
    )


def _refused(repository: str, error: Exception) -> str:
    text = _line(error)
    page = f"https://huggingface.co/datasets/{repository}"
    if "gated" in text:
        return f"{repository} is gated: accept its terms at {page} and run `hf auth login`."
    if "Config name is missing" in text:
        return f"{repository} has several configurations: name one as {repository}:<configuration> (see {page})."
    if "doesn't exist" in text or "cannot be accessed" in text:
        known = f"{repository} is neither a folder here nor a public dataset on the hub"
        return f"{known}: check the name, or run `hf auth login`."
    return f"{repository} cannot be loaded ({text}): see {page}, or pass a folder or a parquet file."


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _is_image(table: "datasets.Dataset", column: str) -> bool:
    import datasets

    return isinstance(table.features[column], datasets.Image)
