"""What the verbs that use a trained model share: its options, and where its images come from."""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.errors import UsageError
from genzoo.spec import DataConfig

if TYPE_CHECKING:
    from torch import Tensor

    from genzoo.data import Dataset
    from genzoo.models.autoencoder import Autoencoder

CHUNK = 64  # items passed through the networks at once


def add_model(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument("model", metavar="MODEL", help="run folder, save_pretrained folder (RUN/best too), or hub id")
    parser.add_argument("--out", metavar="PATH", help=out)
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of the draws (default 0)")


def add_data(parser: argparse.ArgumentParser, n: int | None) -> None:
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="image files; without any, images of --data")
    parser.add_argument(
        "--data", metavar="DATA", help="dataset to take images from (default: what the run was trained on, held-out part first)"
    )
    shown = "all" if n is None else n
    parser.add_argument("--n", metavar="N", type=int, default=n, help=f"how many of them (default {shown})")
    parser.add_argument(
        "--set", metavar="data.F=V", action="append", default=[], help="how images are read: data.fit=pad, data.split=test, ..."
    )


def load_model(path: str) -> "Autoencoder":
    """Loads a trained model onto the fastest device at hand."""
    import torch

    from genzoo.registry import load

    return load(path).to(torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu"))


@dataclasses.dataclass(frozen=True)
class Items:
    """The images or points that a command is about, read a few at a time."""

    count: int
    batches: "Iterator[Tensor]"  # [n, *shape] on the model's device, n <= CHUNK
    dataset: "Dataset | None" = None  # where they are from, if from a finite dataset
    places: "Sequence[int]" = ()  # and their indices there


def open_items(args: argparse.Namespace, model: "Autoencoder") -> Items:
    """Opens the image files, or the --n items of --data, that a command names.

    Raises:
        UsageError: both or none are named, or a file cannot be read.
    """
    import torch

    from genzoo.data import heldout_split, load_image, open_dataset
    from genzoo.noise import generator
    from genzoo.training.loader import as_real

    if args.images and args.data:
        raise UsageError("Image files and --data are both given: choose one.")
    if args.n is not None and args.n < 1:
        raise UsageError(f"--n {args.n}: ask for at least one.")
    config = data_config(args, model)
    if args.images:
        files = torch.stack([load_image(path, model.shape, config) for path in args.images])
        return Items(len(files), (as_real(part, model.device) for part in files.split(CHUNK)))
    asked = any(text.startswith("data.split=") for text in args.set)
    dataset = open_dataset(config, split=None if asked else heldout_split(config))
    if dataset.size is None:
        points = dataset.draw(args.n or 1024, generator(args.seed, "data"))
        return Items(len(points), (part.to(model.device) for part in points.split(CHUNK)))
    chosen = torch.randperm(dataset.size, generator=generator(args.seed, "data"))[: args.n] if args.n else torch.arange(dataset.size)
    batches = (as_real(dataset.batch(part.numpy()), model.device) for part in chosen.split(CHUNK))
    return Items(len(chosen), batches, dataset, chosen.tolist())


def data_config(args: argparse.Namespace, model: "Autoencoder") -> DataConfig:
    """How images are read: as the run did, resized to what the model takes."""
    from genzoo.settings import parse_setting
    from genzoo.training.run import read_config

    folder = Path(args.model).expanduser()
    run = next((found for at in (folder, folder.parent) if (found := read_config(at)) is not None), None)
    if run is None and not (args.data or args.images):
        raise UsageError(f"{args.model} is no run folder, so there is no default data: give image files or --data.")
    own = run is not None and args.data in (None, run.data.name)
    config = run.data if own else DataConfig(name=args.data or DataConfig().name)
    sized = {"size": tuple(model.shape[1:]), "channels": model.shape[0]} if model.is_image else {}
    config = dataclasses.replace(config, **sized)
    for text in args.set:
        _, field, value = parse_setting(text, {"data": DataConfig})
        config = dataclasses.replace(config, **{field: value})
    return config


def default_out(model: str, name: str) -> Path:
    """Beside the model where that is a folder, else here."""
    folder = Path(model).expanduser()
    return (folder if folder.is_dir() else Path()) / name


def picture(args: argparse.Namespace, name: str) -> Path:
    """The PNG to write: --out, or `name` beside the model; refused before any work when it is no picture's name."""
    out = Path(args.out) if args.out else default_out(args.model, name)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"--out {out}: end it in .png (or .jpg, .webp).")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out
