"""What lies under a folder: each real folder is listed once, and no file is opened."""

import os
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genzoo.data.found import HIDDEN, MODELS, PICTURES, RUBBISH, RUNS, SEEN, UNREADABLE
from genzoo.data.suffixes import suffix_of
from genzoo.errors import UsageError

# Folders that file managers, network drives and archives add, in lower case.
RUBBISH_NAMES = frozenset(
    ["@eadir", "@recycle", "#recycle", "$recycle.bin", "__macosx", "lost+found", "system volume information"]
)
RUN, WEIGHTS = "run.json", "diffusion_pytorch_model.safetensors"  # in a run folder, and in that of a saved model
CACHE = frozenset(["about.json", "images.npy"])  # in a cache of decoded images
# What a run writes into its folder, and what verbs add there.
WRITTEN = frozenset(["best", "checkpoints", "curves.png", "model", "preview.png", "previews", "quality.png"])
MADE = frozenset(
    [
        *("copies.png", "interpolation.gif", "interpolation.png", "neighbors.png", "ood.png", "reconstructions.png"),
        *("samples.png", "translation.png"),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One folder of a tree.

    Attributes:
        prefix: its path from the root, with a slash at the end; "" for the root itself.
        names: its files, whatever their suffix.
        left_out: reason -> number of what is left out of it.
        problem: why it cannot be read; "" where it can.
    """

    prefix: str
    names: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""


@dataclass
class _Content:
    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def walk(root: Path) -> Iterator[Listing]:
    """Lists a folder and all below it.

    Links to folders are followed after all real folders, so that an image that is reached both ways has its real path.
    Hidden files and folders, thumbnails, genzoo's runs and saved models are left out. A run that lies in the root
    itself is left out by the names of what it writes.
    """
    seen, pending, links = set[tuple[int, int]](), [""], deque[str]()
    while pending or links:
        prefix = pending.pop() if pending else links.popleft()
        path = os.path.join(root, prefix)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                yield Listing(prefix=prefix, left_out={SEEN: 1})
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                content = _sort(list(entries), is_root=not prefix)
        except OSError as error:
            yield Listing(prefix=prefix, left_out={UNREADABLE: 1}, problem=error.strerror or str(error))
            continue
        pending += [f"{prefix}{name}/" for name in content.folders]
        links += [f"{prefix}{name}/" for name in sorted(content.links)]
        yield Listing(prefix=prefix, names=content.names, left_out=content.left_out)


def refuse_unreadable(root: Path, listings: Iterable[Listing]) -> None:
    """Raises UsageError for a folder that cannot be read."""
    for listing in listings:
        if listing.problem:
            raise UsageError(
                f"the folder {root / listing.prefix} cannot be read ({listing.problem}): change its permissions, "
                "or leave it out with data.skip_corrupt=true."
            )


def files_under(root: Path, suffixes: Iterable[str] | None = None) -> Iterator[Path]:
    """Finds the files with one of the suffixes (lower case; None = all files) under a folder, as `walk` does."""
    wanted = None if suffixes is None else frozenset(suffixes)
    for listing in walk(root):
        names = (name for name in listing.names if wanted is None or suffix_of(name) in wanted)
        yield from (root / listing.prefix / name for name in names)


def _sort(entries: Sequence[os.DirEntry[str]], is_root: bool) -> _Content:
    """Tells files, folders and links to folders apart from what is left out."""
    names, found = {entry.name for entry in entries}, _Content()
    if not is_root and (reason := _whose(names)):
        found.left_out[reason] = 1
        return found
    outputs = WRITTEN | MADE if RUN in names else frozenset()
    for entry in entries:
        is_folder = _is_folder(entry)
        if reason := _reason(entry.name, is_folder, outputs):
            found.left_out[reason] += 1
        elif not is_folder:
            found.names.append(entry.name)
        else:
            (found.links if entry.is_symlink() else found.folders).append(entry.name)
    return found


def _whose(names: Collection[str]) -> str:
    """Returns why a folder that holds these names is none of the user's; "" if it may be."""
    if RUN in names:
        return RUNS
    return MODELS if WEIGHTS in names else PICTURES if CACHE.issubset(names) else ""


def _reason(name: str, is_folder: bool, outputs: Collection[str]) -> str:
    if name.startswith("."):
        return HIDDEN
    if is_folder and name.lower() in RUBBISH_NAMES:
        return RUBBISH
    return PICTURES if name in outputs else ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
