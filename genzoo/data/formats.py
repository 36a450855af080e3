"""Which format is at a path, and what opens it; or how to turn it into one that genzoo reads.

No torch is imported here, so that a name that leads nowhere is refused at once.
"""

import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from genzoo.data.catalog import dataset_names
from genzoo.data.folder import FolderCollection
from genzoo.data.lists import LISTS, ListCollection
from genzoo.data.naming import IMAGES, idx_files, is_idx, is_image, tables_under
from genzoo.data.sources import Collection
from genzoo.data.tree import files_under, refuse_unreadable, walk
from genzoo.errors import UsageError, did_you_mean, shown
from genzoo.spec import DataConfig

Opener = Callable[[Path, DataConfig], Collection]

READ = "a folder of images, or a .parquet, .npy, .npz, .zip, .tar, .csv, .tsv, .jsonl or .txt file"
_PICKLE = "pickles can run code and are never read; load it yourself, and numpy.save('x.npy', images), uint8 [n,H,W,C]"
_CIFAR = f"{_PICKLE}; CIFAR is --data cifar10 or cifar100"
_TENSORS = "numpy.save('x.npy', torch.load('{path}', weights_only=True).numpy())"
_UNPACK = "unpack it, tar xf {path} or gunzip {path}, and give what is inside"
_FRAMES = "write frames to a folder, and give that: ffmpeg -i {path} frames/%06d.png"
_HDF5 = "numpy.save('x.npy', h5py.File('{path}')['KEY'][:]), with the KEY of the images"
_LMDB = "write each value to a file of its own, and give the folder, or to a .tar"
_DICOM = (
    "save each with 16 bits, PIL.Image.fromarray(pydicom.dcmread(file).pixel_array.astype('uint16')).save('x.png'), "
    "and give data.range its largest value, e.g. 4095 for 12 bits"
)

# What a suffix or a whole name stands for, and how it becomes something that is read; {path} is the file.
CURES: dict[str, tuple[str, str]] = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), ("DICOM", _DICOM)),
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".he5"), ("HDF5", _HDF5)),
    **dict.fromkeys((".mdb", ".lmdb"), ("an LMDB database", _LMDB)),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"), ("video", _FRAMES)),
    **dict.fromkeys((".pkl", ".pickle", ".p", ".joblib"), ("a pickle", _PICKLE)),
    **dict.fromkeys((".pt", ".pth"), ("a file of torch.save", _TENSORS)),
    **dict.fromkeys((".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst"), ("compressed", _UNPACK)),
    **dict.fromkeys((".7z", ".rar"), ("an archive of another kind", "unpack it, and give the folder")),
    ".bin": ("numbers without a header", "numpy.save('x.npy', numpy.fromfile('{path}', 'uint8').reshape(-1, C, H, W))"),
    ".nc": ("NetCDF", "numpy.save('x.npy', xarray.open_dataset('{path}')['KEY']), with the KEY of the images"),
    ".zarr": ("Zarr", "numpy.save('x.npy', zarr.open('{path}')[:])"),
    ".safetensors": ("tensors", "numpy.save('x.npy', safetensors.numpy.load_file('{path}')['KEY'])"),
    ".mat": ("a MATLAB file", "numpy.save('x.npy', scipy.io.loadmat('{path}')['KEY']), with the KEY of the images"),
    ".nii": ("NIfTI", "save its slices, numpy.save('x.npy', ...) of nibabel.load('{path}').get_fdata() / maximum"),
    ".arrow": ("an Arrow file", "datasets.Dataset.from_file('{path}').to_parquet('x.parquet')"),
    ".feather": ("an Arrow file", "pandas.read_feather('{path}').to_parquet('x.parquet')"),
    ".tfrecord": ("a TFRecord file", "write its images to files or to a .tar with tensorflow_datasets or tfrecord"),
    ".xlsx": ("a spreadsheet", "save it as .csv with a column of paths"),
    ".json": ("JSON", "write paths of images to a .csv or .jsonl file, one an item"),
}
_LOOKED_AT = 64  # files of a folder that are recognized by their content
_BEGINNINGS = ((0, b"\x80", "pickle"), (128, b"DICM", "DICOM"), (0, b"\x89HDF", "HDF5"))
_BY_CONTENT = {"pickle": ("a pickle", _CIFAR), "DICOM": ("DICOM", _DICOM), "HDF5": ("HDF5", _HDF5)}


def open_path(path: Path, config: DataConfig) -> Collection:
    """Opens what is at an existing path.

    Raises:
        UsageError: it is not a dataset; the line says how to make one of it.
    """
    if path.is_dir():
        return _open_folder(path, config)
    if opener := _OPENERS.get(path.suffix.lower()):
        return opener(path, config)
    if is_idx(path):
        return _open_idx(path, config)
    if is_image(path.name):
        raise UsageError(f"{path} is one image: give the folder that it is in, {path.resolve().parent}.")
    if found := CURES.get(path.suffix.lower()) or _by_content(path):
        what, fix = found
        raise UsageError(f"{path} is {what}, which genzoo does not read: {fix.format(path=path)}.")
    raise UsageError(f"{path} is not a dataset: give {READ}.")


def refuse_missing(name: str) -> None:
    """Refuses what is neither a dataset's short name nor a path where something is, and cannot be an id of the hub.

    Raises:
        UsageError: the line names what to check.
    """
    path = Path(os.path.expanduser(name))
    if path.exists() or name in (names := dataset_names()):
        return
    refuse_address(name)
    if set("*{") & set(name):
        raise UsageError(f"{name} is a pattern of names: give the folder of these files, or one of them.")
    if name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name or _is_file_name(path):
        raise UsageError(f"there is no file or folder {path}: check the path, or take a name from `genzoo list data`.")
    if "/" not in name:
        raise UsageError(
            f"no dataset is called {shown(name)}.{did_you_mean(name, names)} `genzoo list data` shows all; "
            "a folder, a .parquet or .npy file or a hub id owner/name works too."
        )


def _is_file_name(path: Path) -> bool:
    """Whether a name without a file looks like one of a format that is known, rather than like a hub id."""
    return path.suffix.lower() in (_OPENERS.keys() | CURES.keys()) or is_idx(path)


def refuse_address(name: str) -> None:
    """Raises UsageError, with what to do instead, for the address of something on the network."""
    scheme, separator, rest = name.partition("://")
    if not separator or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme, re.IGNORECASE):
        return
    bucket = rest.rstrip("/").rpartition("/")[2] or "data"
    if repository := _repository(name):
        fix = f"give the dataset's name, {repository}"
    elif scheme.lower() == "file":
        fix = f"give the path, /{rest.lstrip('/')}"
    elif scheme.lower() == "s3":
        fix = f"copy it here, aws s3 sync {name} {bucket}, and give ./{bucket}"
    elif scheme.lower() in ("gs", "gcs"):
        fix = f"copy it here, gcloud storage cp -r {name} ., and give ./{bucket}"
    elif scheme.lower() in ("http", "https", "ftp"):
        fix = f"download it, curl -LO {name}, and give the file"
    else:
        fix = "copy it here, and give its path"
    raise UsageError(f"{name} is an address, and genzoo reads files of this machine: {fix}.")


def _repository(name: str) -> str | None:
    """The id owner/name of an address of the hub."""
    try:
        parts = urlsplit(name)
    except ValueError:  # not an address after all
        return None
    path = parts.path if parts.scheme != "hf" else f"/{parts.netloc}{parts.path}"
    at_hub = parts.scheme == "hf" or parts.netloc in ("huggingface.co", "hf.co", "www.huggingface.co")
    match = re.match(r"/datasets/([^/]+/[^/@]+)", path)
    return match[1] if at_hub and match else None


def _open_folder(path: Path, config: DataConfig) -> Collection:
    from genzoo.data.disk import DiskCollection, is_saved

    if is_saved(path):
        return DiskCollection(path, config.column, config.channels)
    has_images = any(files_under(path, IMAGES))
    tables = tables_under(path)
    if has_images and not (tables and _holds_images(tables[0])):
        return FolderCollection(path, config.skip_corrupt)
    if not config.skip_corrupt:
        refuse_unreadable(path, walk(path))
    if tables:
        return _OPENERS[".parquet"](path, config)
    if any(files_under(path, {".tar"})):
        return _OPENERS[".tar"](path, config)
    if any(files_under(path, {".npy"})):
        from genzoo.data.arrayfiles import NpyFolderCollection

        return NpyFolderCollection(path, config.channels)
    if idx_files(path):
        return _open_idx(path, config)
    if reason := _without_images(path):
        raise UsageError(reason)
    return FolderCollection(path, config.skip_corrupt)  # which says what it holds instead of images


def _without_images(path: Path) -> str | None:
    """Says what a folder without images holds, and how to turn it into a dataset; None where it holds nothing known."""
    if files := sorted(files_under(path, (".npz", ".zip"))):
        return f"no images under {path}: give one file, e.g. {files[0]}."
    others = sorted(files_under(path, CURES)) or sorted(files_under(path))[:_LOOKED_AT]
    for file in [path, *others]:
        if found := CURES.get(file.suffix.lower()) or _by_content(file):
            what, fix = found
            return f"no images under {path}: {file} is {what}, which genzoo does not read: {fix.format(path=file)}."
    if files := sorted(files_under(path, LISTS)):
        return f"no images under {path}: if {files[0]} lists images elsewhere, give that file."
    return None


def _by_content(path: Path) -> tuple[str, str] | None:
    """Recognizes a file without a telling suffix by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(160)
    except OSError:
        return None
    for offset, mark, what in _BEGINNINGS:
        if start[offset : offset + len(mark)] == mark:
            return _BY_CONTENT[what]
    return None


def _holds_images(table: Path) -> bool:
    from genzoo.data.parquet import holds_images

    return holds_images(table)


def _lazily(module: str, name: str, *settings: str) -> Opener:
    """Opens with a class of `genzoo.data`, imported when it is needed (pyarrow takes 0.4 s); settings are passed on."""

    def open_with(path: Path, config: DataConfig) -> Collection:
        opener: Any = getattr(import_module(f"genzoo.data.{module}"), name)
        return opener(path, *(getattr(config, setting) for setting in settings))

    return open_with


_open_idx = _lazily("idx", "IdxCollection", "channels")
_OPENERS: dict[str, Opener] = {
    ".parquet": _lazily("parquet", "ParquetCollection", "column", "channels"),
    ".npy": _lazily("arrayfiles", "ArrayCollection", "column", "channels"),
    ".npz": _lazily("arrayfiles", "ArrayCollection", "column", "channels"),
    ".zip": _lazily("archives", "ZipCollection"),
    ".tar": _lazily("shards", "TarCollection", "column"),
    **{suffix: (lambda path, config: ListCollection(path, config.column)) for suffix in LISTS},
}
