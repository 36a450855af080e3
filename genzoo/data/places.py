"""Names of splits, and which folders of a tree are splits: by their names and by what lies beside them."""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

# Words that name splits, in the order in which splits are listed.
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "eval", "evaluation", "test", "testing")
_SPELLED = {"training": "train", "testing": "test"}

Place = tuple[str, str]  # a split, and the start of the paths of classes in it
Places = Mapping[str, Place]  # by the prefix of a folder


def words(name: str) -> list[str]:
    """`Train2017-images` -> train, images."""
    return re.findall(r"[a-z]+", name.lower())


def split_in(name: str) -> str | None:
    """Finds the split that a name mentions, the last if there are several: `x_training`, `train2017` -> train."""
    word = next((word for word in reversed(words(name)) if word in SPLITS), None)
    return None if word is None else _SPELLED.get(word, word)


def ordered(splits: Iterable[str]) -> tuple[str, ...]:
    """Brings splits to the order train, validation, test, then others by name."""
    return tuple(sorted(splits, key=lambda split: (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)))


def find_places(prefixes: Iterable[str]) -> Places:
    """Decides which folders are splits.

    The folders of one level are splits if all of them that hold images have the names of splits, or a split's name as a
    word of theirs, and no images lie loose beside them; images beside a split to test on are `train`. If none of them
    has such a name, the same is asked of the folders in each.

    Args:
        prefixes: folders that hold images, as `Listing.prefix`.

    Returns:
        Split and class path of the topmost folder of each split; of the root, with the split `train`, if there are
        none. An only split is `train`, whatever its name.
    """
    places = _places("", "", sorted(prefixes)) or {"": ("train", "")}
    is_only = len({split for split, _ in places.values()}) == 1
    return {prefix: ("train" if is_only else split, path) for prefix, (split, path) in places.items()}


def locate(prefix: str, places: Places) -> tuple[str, str] | None:
    """Returns a folder's split, and its path without the folders that name splits; None outside of all splits."""
    ends = [i + 1 for i, character in enumerate(prefix) if character == "/"]
    for end in (*reversed(ends), 0):
        if (place := places.get(prefix[:end])) is not None:
            return place[0], place[1] + prefix[end:]
    return None


def by_folder(paths: Iterable[str]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Groups files by split, in their order, as `find_places` reads their folders; and the notes of `misread`."""
    prefixes = {path: path[: path.rfind("/") + 1] for path in paths}
    places = find_places(set(prefixes.values()))
    splits: dict[str, list[str]] = {}
    for path, prefix in prefixes.items():
        place = locate(prefix, places)
        assert place is not None  # all of these folders hold files
        splits.setdefault(place[0], []).append(path)
    return {split: splits[split] for split in ordered(splits)}, misread([*prefixes.values()], places)


def misread(prefixes: Sequence[str], places: Places) -> tuple[str, ...]:
    """Says, in a sentence or none, which folders have names of splits and are read otherwise."""
    for prefix, (split, _) in places.items():
        if split == "train" and split_in(prefix.rstrip("/").rpartition("/")[2]) not in (None, "train"):
            return (f"nothing but {prefix} holds images: they are read as train",)
    absolute = [f"/{prefix}" for prefix in prefixes]
    shared = posixpath.commonpath(absolute) if absolute else ""
    below = (prefix.removeprefix(shared).lstrip("/") for prefix in absolute)
    top = sorted({name for prefix in below if (name := prefix.partition("/")[0])})
    named = [name for name in top if split_in(name)]
    if "" not in places or len(places) > 1 or len({split_in(name) for name in named}) < 2:
        return ()
    folders = ", ".join(f"{name}/" for name in named)
    others = ", ".join(f"{name}/" for name in top if name not in named) or "loose images"
    return (f"{folders} are read as classes, because {others} beside them are no splits: give the folder of one split",)


def _places(at: str, path: str, prefixes: Sequence[str]) -> dict[str, Place]:
    """Places of the splits under the folder `at`, or none."""
    inside: dict[str, list[str]] = {}
    for prefix in prefixes:
        if prefix != at:
            inside.setdefault(prefix[len(at) :].partition("/")[0], []).append(prefix)
    loose = at in prefixes
    named = {name: split for name in inside if (split := split_in(name))}
    if named and len(named) == len(inside):
        return _named(at, path, named, loose)
    if named or loose:
        return {}
    places: dict[str, Place] = {}
    for name, below in inside.items():
        found = _places(f"{at}{name}/", f"{path}{name}/" if len(inside) > 1 else path, below)
        if not found:
            return {}
        places |= found
    return places


def _named(at: str, path: str, named: Mapping[str, str], loose: bool) -> dict[str, Place]:
    """Places where all folders have the names of splits."""
    splits = set(named.values())
    if loose and splits == {"train"}:
        return {}
    if len(splits) == 1 and len(named) > 1 and any(name.lower() not in SPLITS for name in named):
        return {}  # classes whose names have a word in common
    places = {f"{at}{name}/": (split, path) for name, split in named.items()}
    return places | ({at: ("train", path)} if loose else {})
