"""What the verbs that use a trained model share: its options, and where its images come from."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.errors import UsageError

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

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return load(path).to(device)


def open_images(args: argparse.Namespace, model: "Autoencoder") -> "tuple[Tensor, Dataset | None, list[int]]":
    """Returns the items that a command is about, [N, *shape] on the model's device, the dataset they are from, and their places in it."""
    import torch

    from genzoo.data import load_image
    from genzoo.noise import generator
    from genzoo.training.loader import as_real

    config = data_config(args, model)
    if args.images:
        if args.data:
            raise UsageError("Image files and --data are both given: choose one.")
        batch = torch.stack([load_image(path, model.shape, config) for path in args.images])
        return as_real(batch, model.device), None, []
    dataset = open_heldout(config, chosen="data.split" in " ".join(args.set))
    if dataset.size is None:
        return dataset.draw(args.n or 1024, generator(args.seed, "data")).to(model.device), None, []
    n = dataset.size if args.n is None else min(args.n, dataset.size)
    order = torch.arange(n) if args.n is None else torch.randperm(dataset.size, generator=generator(args.seed, "data"))[:n]
    return as_real(dataset.batch(order.numpy()), model.device), dataset, order.tolist()


def data_config(args: argparse.Namespace, model: "Autoencoder"):
    """How images are read: as the run did, resized to what the model takes."""
    from genzoo.resolve import resolve
    from genzoo.spec import DataConfig
    from genzoo.training.run import read_config

    folder = Path(args.model).expanduser()
    run = next((found for at in (folder, folder.parent) if (found := read_config(at)) is not None), None)
    if run is None and not (args.data or args.images):
        raise UsageError(f"{args.model} is no run folder, so there is no default data: give image files or --data.")
    config = run.data if run is not None else DataConfig()
    sized = {"size": tuple(model.shape[1:]), "channels": model.shape[0]} if model.is_image else {}
    config = dataclasses.replace(config, **sized, **({"name": args.data, "precrop": None, "column": None} if args.data else {}))
    asked = resolve(model.config.preset, settings=args.set).data if args.set else None
    keys = [text.partition("=")[0].removeprefix("data.") for text in args.set]
    return dataclasses.replace(config, **{key: getattr(asked, key) for key in keys}) if asked is not None else config


def open_heldout(config, chosen: bool) -> "Dataset":
    """Opens the split asked for, else the held-out one where there is one, else the training data."""
    from genzoo.data import heldout_split, open_dataset

    return open_dataset(config, split=None if chosen else heldout_split(config))


def default_out(model: str, name: str) -> Path:
    """Beside the model where that is a folder, else here."""
    folder = Path(model).expanduser()
    return (folder if folder.is_dir() else Path()) / name


def write_images(images: "Tensor", out: Path, rows: int) -> str:
    """Writes [N, C, H, W] as one PNG grid of so many columns, or as one PNG each where `out` has no suffix; says what it wrote."""
    from genzoo.training.pictures import save_grid, save_image

    try:
        if out.suffix:
            out.parent.mkdir(parents=True, exist_ok=True)
            save_grid(images.split(rows), out)
            return f"{out}: {len(images)} images"
        out.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            save_image(image, out / f"{i:06d}.png")
        return f"{out}/: {len(images)} images"
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot write {out} ({error}): choose another --out, ending in .png for a grid.") from error
