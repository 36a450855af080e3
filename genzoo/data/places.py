"""Which folders of a tree are splits, by their names and by what lies beside them."""

import re
from collections.abc import Iterable, Mapping, Sequence

# Names of folders or files that are splits.
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "eval", "evaluation", "test", "testing")
TRAINING = ("train", "training")

Place = tuple[str, str]  # a split, and the start of the paths of classes in it
Places = Mapping[str, Place]  # by the prefix of a folder


def split_word(name: str) -> str | None:
    """Finds the split in a folder's name, the last if there are several: `train2017` and `train-images` -> train."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((word for word in reversed(words) if word in SPLITS), None)


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


def misread(prefixes: Iterable[str], places: Places) -> str:
    """Says which folders have names of splits and are read otherwise; "" where that needs no word."""
    for prefix, (split, _) in places.items():
        word = split_word(prefix.rstrip("/").rpartition("/")[2])
        if split == "train" and word is not None and word not in TRAINING:
            return f"nothing but {prefix} holds images: they are read as train"
    top = sorted({name for prefix in prefixes if (name := prefix.partition("/")[0])})
    named = [name for name in top if split_word(name)]
    if "" not in places or len(places) > 1 or len({split_word(name) for name in named}) < 2:
        return ""
    folders = ", ".join(f"{name}/" for name in named)
    others = ", ".join(f"{name}/" for name in top if name not in named) or "loose images"
    return f"{folders} are read as classes, because {others} beside them are no splits: give the folder of one split"


def _places(at: str, path: str, prefixes: Sequence[str]) -> dict[str, Place]:
    """Places of the splits under the folder `at`, or none."""
    inside: dict[str, list[str]] = {}
    for prefix in prefixes:
        if prefix != at:
            inside.setdefault(prefix[len(at) :].partition("/")[0], []).append(prefix)
    loose = at in prefixes
    words = {name: word for name in inside if (word := split_word(name))}
    if words and len(words) == len(inside):
        return _named(at, path, words, loose)
    if words or loose:
        return {}
    places: dict[str, Place] = {}
    for name, below in inside.items():
        found = _places(f"{at}{name}/", f"{path}{name}/" if len(inside) > 1 else path, below)
        if not found:
            return {}
        places |= found
    return places


def _named(at: str, path: str, words: Mapping[str, str], loose: bool) -> dict[str, Place]:
    """Places where all folders have the names of splits."""
    splits = set(words.values())
    if loose and not splits.difference(TRAINING):
        return {}
    if len(splits) == 1 and len(words) > 1 and any(name.lower() != word for name, word in words.items()):
        return {}  # classes whose names have a word in common
    places = {f"{at}{name}/": (word, path) for name, word in words.items()}
    return places | ({at: ("train", path)} if loose else {})
