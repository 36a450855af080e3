"""Every dataset with a short name. No torch, no datasets, no scikit-learn here: `genzoo list data` must answer at once.

Hub repositories are copies that others keep, and none could be opened where this table was written. `seen` says how much of
a row was found elsewhere: `page` = repository and splits on stored pages of the hub, `code` = the name in public code only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of `genzoo list data`."""

    name: str
    kind: str  # embedded | points | hub
    what: str
    images: int | None  # over all splits; None = endless
    size: tuple[int, int] | None  # height, width in pixels; None = they differ, or points
    terms: str  # licence, as far as known
    channels: int = 3  # 1 = grey
    note: str = ""  # published splits and protocols, and what this copy lacks
    hub: str = ""  # repository, owner/name; the rest is for hub sets only, too
    config: str | None = None
    column: str = "image"
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})  # our name -> the hub's expression
    seen: str = ""


def _points(name: str, what: str) -> Entry:
    return Entry(name=name, kind="points", what=what, images=None, size=None, terms="generated", note="2-D, see genzoo/data/points.py")


_EMBEDDED = [
    Entry(
        name="toyfaces",
        kind="embedded",
        what="drawn faces with known factors (skin, hair, glasses, smile, ...)",
        images=60_000,
        size=(64, 64),
        terms="generated",
        note="50,000 train / 10,000 test; any size is drawn, not resized",
    ),
    Entry(
        name="digits",
        kind="embedded",
        what="handwritten digits (scikit-learn)",
        images=1_797,
        size=(8, 8),
        terms="UCI, CC BY 4.0",
        channels=1,
        note="1,500 train / 297 test by a fixed permutation; grey; give --res 32",
    ),
    _points("8gaussians", "8 modes on a circle"),
    _points("25gaussians", "25 modes on a grid"),
    _points("2spirals", "2 arms of 1.5 turns"),
    _points("checkerboard", "8 squares of 16"),
    _points("rings", "4 circles"),
]

_HUB = [
    Entry(
        name="cifar10",
        kind="hub",
        what="objects, 10 classes",
        images=60_000,
        size=(32, 32),
        terms="not stated",
        note="published: 50,000 train / 10,000 test",
        hub="uoft-cs/cifar10",
        column="img",
        seen="page",
    ),
    Entry(
        name="cifar100",
        kind="hub",
        what="objects, 100 classes in 20 groups",
        images=60_000,
        size=(32, 32),
        terms="not stated",
        note="published: 50,000 train / 10,000 test",
        hub="uoft-cs/cifar100",
        column="img",
        seen="page",
    ),
    Entry(
        name="mnist",
        kind="hub",
        channels=1,
        what="handwritten digits, grey",
        images=70_000,
        size=(28, 28),
        terms="MIT on the hub; see the origin's terms",
        note="published: 60,000 train / 10,000 test",
        hub="ylecun/mnist",
        seen="code",
    ),
    Entry(
        name="fashion_mnist",
        kind="hub",
        channels=1,
        what="clothes, grey",
        images=70_000,
        size=(28, 28),
        terms="MIT",
        note="published: 60,000 train / 10,000 test",
        hub="zalando-datasets/fashion_mnist",
        seen="code",
    ),
    Entry(
        name="svhn",
        kind="hub",
        what="house numbers, cropped digits",
        images=630_420,
        size=(32, 32),
        terms="non-commercial use only",
        note="published: 73,257 train / 26,032 test / 531,131 extra",
        hub="ufldl-stanford/svhn",
        config="cropped_digits",
        splits={"train": "train", "test": "test", "extra": "extra"},
        seen="page",
    ),
    Entry(
        name="celeba",
        kind="hub",
        what="faces of celebrities, aligned",
        images=202_599,
        size=(218, 178),
        terms="non-commercial research only",
        note="published: 162,770 train / 19,867 validation / 19,962 test; papers cut out a centre square: data.precrop=148 (or 178, 128)",
        hub="flwrlabs/celeba",
        config="img_align+identity+attr",
        splits={"train": "train", "validation": "valid", "test": "test"},
        seen="page",
    ),
    Entry(
        name="celeba-hq",
        kind="hub",
        what="faces of celebrities, selected and restored",
        images=30_000,
        size=(256, 256),
        terms="non-commercial research only",
        note="published: the first 29,000 train, the last 1,000 test, at 1024; the order of this copy is unknown, so its test images may "
        "be others. For the published split give a folder with 0.jpg ... 29999.jpg and data.split=train[:29000]",
        hub="eurecom-ds/celeba-hq-256",
        splits={"train": "train[:29000]", "test": "train[29000:]"},
        seen="page",
    ),
    Entry(
        name="ffhq",
        kind="hub",
        what="faces from Flickr",
        images=70_000,
        size=(256, 256),
        terms="CC BY-NC-SA 4.0; each photograph has its own",
        note="published scores use all 70,000; its authors' own split is data.split=train[:60000]",
        hub="merkol/ffhq-256",
        splits={"train": "train"},
        seen="page",
    ),
    Entry(
        name="lsun-bedroom",
        kind="hub",
        what="bedrooms",
        images=303_125,
        size=None,
        terms="see the origin's terms",
        note="a 20% sample, 287,968 train / 15,157 test; published scores use all 3,033,042 images: give a folder of them",
        hub="pcuenq/lsun-bedrooms",
        seen="page",
    ),
    Entry(
        name="afhq",
        kind="hub",
        what="animal faces: cats, dogs, wild",
        images=16_130,
        size=(512, 512),
        terms="CC BY-NC 4.0",
        note="published: 14,630 train / 1,500 test; this copy has one split",
        hub="huggan/AFHQ",
        splits={"train": "train"},
        seen="code",
    ),
    Entry(
        name="oxford-flowers",
        kind="hub",
        what="flowers, 102 classes",
        images=8_189,
        size=None,
        terms="not stated",
        note="published: 1,020 train / 1,020 validation / 6,149 test",
        hub="dpdl-benchmark/oxford_flowers102",
        splits={"train": "train", "validation": "validation", "test": "test"},
        seen="page",
    ),
    Entry(
        name="stl10",
        kind="hub",
        what="objects, 10 classes and many without",
        images=113_000,
        size=(96, 96),
        terms="see the origin's terms",
        note="published: 5,000 train / 8,000 test / 100,000 unlabeled; generative papers train on unlabeled",
        hub="jxie/stl10",
        splits={"train": "train", "test": "test", "unlabeled": "unlabeled"},
        seen="page",
    ),
    Entry(
        name="imagenet",
        kind="hub",
        what="objects, 1,000 classes",
        images=1_431_167,
        size=None,
        terms="non-commercial research only; accept them on the hub first",
        note="published: 1,281,167 train / 50,000 validation / 100,000 test",
        hub="ILSVRC/imagenet-1k",
        splits={"train": "train", "validation": "validation", "test": "test"},
        seen="code",
    ),
]

EMBEDDED: Mapping[str, Entry] = {entry.name: entry for entry in _EMBEDDED}
HUB: Mapping[str, Entry] = {entry.name: entry for entry in _HUB}


def list_datasets() -> list[Entry]:
    """Lists every short name, embedded sets first."""
    return [*EMBEDDED.values(), *HUB.values()]
