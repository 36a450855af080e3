"""What several verbs share: options, and where the images that a model works on come from."""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.cli.numbers import count, positive, seed
from genzoo.errors import UsageError, did_you_mean, shown
from genzoo.settings import parse_size
from genzoo.spec import DataConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from genzoo.data import Dataset, FiniteSet
    from genzoo.items import Items
    from genzoo.models.autoencoder import Autoencoder
    from genzoo.models.generative import Generative

CHUNK = 64  # items passed through the networks at once


def add_model(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds MODEL, --out (with this help text) and --seed."""
    parser.add_argument("model", metavar="MODEL", help="run folder, save_pretrained folder (RUN/best too), or hub id")
    parser.add_argument("--out", metavar="PATH", help=out)
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="seed of the draws (default 0)")


def add_data(parser: argparse.ArgumentParser, n: int | None) -> None:
    """Adds IMAGE, --data, --n (with this default; None = all) and --set."""
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="image files; without any, images of --data")
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="dataset to take images from, read as in training (default: what the run was trained on); of the held-out "
        "split where there is one, or of the one that --set data.split names",
    )
    shown = "all" if n is None else n
    parser.add_argument("--n", metavar="N", type=count(), default=n, help=f"how many of them (default {shown})")
    add_set(parser, "how images are read: data.fit=pad, data.split=test, ...")


def add_label(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds --label, which may be repeated; `what` is its help. `classes_of` reads it."""
    parser.add_argument("--label", metavar="NAME", action="append", help=what)


def classes_of(names: list[str] | None, model: "Generative") -> list[int]:
    """Returns the class numbers of --label.

    Raises:
        UsageError: the model knows no classes, or none of this name.
    """
    if names and not model.takes_labels:
        raise UsageError(
            "--label is for models that know classes, and this one knows none: leave it out, or train with "
            "--set arch.prior=classes."
        )
    for name in names or ():
        if name not in model.classes:
            raise UsageError(f"--label {shown(name)[1:-1]}: there is no such class.{did_you_mean(name, model.classes)}")
    return [model.classes.index(name) for name in names or ()]


def add_prior(parser: argparse.ArgumentParser) -> None:
    """Adds --prior and --temperature; `fitted_as_asked` reads the former."""
    parser.add_argument(
        "--prior",
        metavar="PRIOR",
        help="normal, or the learned classes or mog: the model's own; gmm: a mixture fitted to encodings, saved or "
        "fitted now; gmm:K: one of K components; flow: a mixture refined by a flow; flow:N: one trained for N steps "
        "(default: the fitted one that is saved, or else the model's own)",
    )
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=positive,
        default=1.0,
        help="scales the deviation from the prior's mean, or from its component's (default 1)",
    )


def fitted_as_asked(args: argparse.Namespace, model: "Generative", of_classes: bool = False) -> str:
    """Fits a prior where --prior asks for one that the model has not, to --data, or else the run's training data;
    returns the name of what is sampled from, by class or not.

    Raises:
        UsageError: there is no such prior, or nothing to fit it to.
    """
    from genzoo.data import open_dataset
    from genzoo.fitted import knows, parse, select
    from genzoo.runs.prior import fit_from

    asked = args.prior
    saved = select(model.fitted_prior, asked or "")
    if of_classes and not knows(saved, len(model.classes)):
        saved = None
    if asked is None or parse(asked) is None or model.unfittable or saved is not None:
        return model.prior_name(asked, of_classes)
    config = data_config(args.model, model, args.data, args.set)
    fit_from(model, open_dataset(config), asked, progress=True, labels=config.labels)
    return model.prior_name(asked, of_classes)


def add_set(parser: argparse.ArgumentParser, what: str, metavar: str = "data.F=V") -> None:
    """Adds --set, which may be repeated; `what` is its help."""
    parser.add_argument("--set", metavar=metavar, action="append", default=[], help=what)


def add_res(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds --res; `what` ends its help. `resolution` reads it."""
    parser.add_argument("--res", metavar="RES", help=f"resolution, 256 or HEIGHTxWIDTH{what}")


def resolution(args: argparse.Namespace) -> tuple[int, int] | None:
    """Returns --res as (height, width), or None where it is not given.

    Raises:
        UsageError: it is not a resolution.
    """
    return parse_size(args.res) if args.res else None


def load_model(path: str) -> "Generative":
    """Loads a trained model onto the accelerator, if there is one."""
    from genzoo.models.absent import refuse_missing

    refuse_missing(path)
    from genzoo.factory import load

    return load(path).to(accelerator())


def accelerator() -> "torch.device":
    """Returns the device that a command computes on: the accelerator, or else the CPU."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def load_autoencoder(path: str, verb: str) -> "Autoencoder":
    """Loads a trained model that must have an encoder; see `load_model`.

    Raises:
        UsageError: it has none.
    """
    model = load_model(path)
    from genzoo.models.autoencoder import Autoencoder

    if not isinstance(model, Autoencoder):
        raise UsageError(
            f"{path} holds a {type(model).__name__}, which has no encoder, and `genzoo {verb}` needs one: "
            "use `genzoo sample`, or give another model."
        )
    return model


@dataclasses.dataclass(frozen=True)
class Selection:
    """The images or points that a command works on, read a few at a time."""

    count: int
    batches: "Iterator[Items]"  # of at most CHUNK, on the model's device; with labels for a conditional model
    dataset: "FiniteSet | None" = None  # where they are from, if from a finite dataset
    indices: "Sequence[int]" = ()  # and their numbers there
    split: str = ""  # which they are of


def select_items(args: argparse.Namespace, model: "Generative") -> Selection:
    """Opens the image files, or the --n items of --data, that a command names.

    Raises:
        UsageError: both or none are named, a file cannot be read, or the data lacks the labels that the model needs.
    """
    import torch

    from genzoo.data import EndlessSet, heldout_split, load_image, open_dataset
    from genzoo.data.batches import as_real
    from genzoo.items import Items
    from genzoo.noise import generator

    if args.images and args.data:
        raise UsageError("Image files and --data are both given: choose one.")
    if args.images and model.conditional:
        raise UsageError(
            f"{args.model} is trained on labels, and image files have none: take images of a dataset, --data."
        )
    config = data_config(args.model, model, args.data, args.set, bool(args.images))
    if args.images:
        files = Items(torch.stack([load_image(path, model.shape, config) for path in args.images]))
        return Selection(len(files), (as_real(part, model.device) for part in files.split(CHUNK)))
    split_given = any(text.startswith("data.split=") for text in args.set)
    split = (None if split_given else heldout_split(config)) or config.split
    dataset = open_dataset(config, split=split)
    labels = _class_numbers(args.model, model, dataset, config.labels) if model.conditional else None
    rng = generator(args.seed, "data")
    if isinstance(dataset, EndlessSet):
        points = Items(dataset.draw(args.n or 1024, rng))
        return Selection(len(points), (as_real(part, model.device) for part in points.split(CHUNK)))
    chosen = torch.randperm(dataset.size, generator=rng)[: args.n] if args.n else torch.arange(dataset.size)

    def batch(part: "Tensor") -> Items:
        return as_real(Items(dataset.batch(part.numpy()), None if labels is None else labels[part]), model.device)

    return Selection(len(chosen), map(batch, chosen.split(CHUNK)), dataset, chosen.tolist(), split)


def _class_numbers(path: str, model: "Generative", dataset: "Dataset", name: str | None) -> "Tensor":
    """Reads the class number of every item, int64 [size], and checks that the classes are those of the model."""
    import torch

    from genzoo.data.sets import class_numbers

    if name is None:
        raise UsageError(f"{path} is trained on labels: name those of the data, e.g. --set data.labels=label.")
    numbers = class_numbers(dataset, name)
    if dataset.classes(name) != model.classes:
        raise UsageError(
            f"The classes of {name} in {dataset.name} are not those of {path}, {', '.join(model.classes)}: "
            "choose other data, or another data.labels."
        )
    return torch.from_numpy(numbers)


def data_config(
    model_path: str,
    model: "Generative",
    data: str | None = None,
    settings: Sequence[str] = (),
    images: bool = False,
) -> DataConfig:
    """Decides how images are read, as `genzoo.runs.data.as_trained` does, and prints what differs from training.

    Raises:
        UsageError: as `as_trained`.
    """
    from genzoo.runs.data import as_trained

    found = as_trained(model_path, model, data, settings, images)
    for note in found.notes:
        print(f"note: {note}")
    return found.data


def default_out(model: str, name: str) -> Path:
    """Returns a path beside the model if that is a folder, else in the working directory."""
    folder = Path(model).expanduser()
    return (folder if folder.is_dir() else Path()) / name


def picture(args: argparse.Namespace, name: str, further: Sequence[str] = ()) -> Path:
    """Returns the picture to write: --out, or `name` beside the model. `further` endings are allowed, too.

    Raises:
        UsageError: --out does not end like a picture.
    """
    out = Path(args.out) if args.out else default_out(args.model, name)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", *further):
        raise UsageError(f"--out {out}: end it in .png (or {', '.join(('.jpg', '.webp', *further))}).")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out
