"""`genzoo eval`: scores with their protocol, for a model or any folder of images."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genzoo.cli.common import add_res, add_set, resolution
from genzoo.cli.numbers import seed
from genzoo.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from genzoo.evaluation.lines import ScoreLine
    from genzoo.evaluation.protocols import Protocol
    from genzoo.evaluation.subject import ModelSubject
    from genzoo.spec import DataConfig

DESCRIPTION = """Scores a trained model, or a folder of images, by protocols, whose names define the scores.
Prints a table and appends one JSON line per protocol, with everything that decides the number."""

EXAMPLES = """examples:
  genzoo eval RUN                                                   without a feature extractor
  genzoo eval RUN RUN2                                              both in one table
  genzoo eval RUN --metrics fid50k_train,kid50k_train --extractor-weights FOLDER
  genzoo eval RUN --metrics fd_classifier_cifar10_10k_test --data FOLDER
  genzoo eval RUN --metrics classes_classifier_toyfaces_10k_test    which classes samples show, and how surely
  genzoo eval RUN --metrics labels_classifier_mnist_10k_test        samples of given classes: named right? how far?
  genzoo eval FOLDER-OF-IMAGES --data cifar10 --res 32 --metrics fid10k_test
  torchrun --standalone --nproc_per_node 2 -m genzoo eval RUN --metrics fid50k_train
  genzoo eval --list                                                lists the protocols"""

DEFAULT_OF_IMAGES = ("rec1k_test", "elbo1k_test", "msssim1k_train")
DEFAULT_OF_POINTS = ("density2d",)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="RUN_OR_MODEL",
        help="run folder, save_pretrained folder, hub id, or folder of images; several are scored into one table",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="what to compare with, read as in training (default: what the run was trained on)",
    )
    add_res(parser, ", at which a folder of images and that data are compared: both are cropped (default: their own)")
    parser.add_argument("--metrics", metavar="A,B", help="protocols (default: some that need no extractor); see --list")
    parser.add_argument(
        "--extractor-weights",
        metavar="PATH",
        help="weights of the extractor: Inception's file or folder, a timm checkpoint",
    )
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="seed of samples and choices (default 0)")
    parser.add_argument(
        "--out", metavar="FILE", help="JSON lines to append to (default RUN/eval.jsonl, or eval.jsonl here)"
    )
    add_set(parser, "how the data, and a folder of images, are read: data.split=train[:29000], data.fit=pad, ...")
    parser.add_argument("--list", action="store_true", help="explain the protocols' names and print examples")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if args.list:
        _list()
        return 0
    if not args.subjects:
        raise UsageError(
            "There is nothing to score: genzoo eval RUN_OR_MODEL, or a folder of images. See `genzoo eval --help`."
        )
    names = [name.strip() for name in (args.metrics or "").split(",") if name.strip()]
    if args.metrics is not None and not names:
        raise UsageError(
            "--metrics is empty: name a protocol, e.g. --metrics rec1k_test; `genzoo eval --list` shows them."
        )
    from genzoo.models.absent import refuse_missing

    for subject in args.subjects:
        refuse_missing(subject)
    from genzoo.evaluation.protocols import get_protocol

    protocols = [get_protocol(name) for name in names]  # a wrong name is refused before anything slow
    scored: list[tuple[str, ScoreLine]] = []
    try:
        for subject in args.subjects:
            _score(argparse.Namespace(**vars(args), subject=subject), protocols, scored)
    finally:
        if scored:
            _print(scored)
    return 0


def _list() -> None:
    from genzoo.evaluation import protocols
    from genzoo.metrics.registry import broken_plugins

    print(protocols.__doc__)
    for name in protocols.examples():
        print(f"{name}\n    {protocols.get_protocol(name).definition}")
    print("".join(f"\nwarning: {line}" for line in broken_plugins()))


def _score(args: argparse.Namespace, protocols: "list[Protocol]", scored: "list[tuple[str, ScoreLine]]") -> None:
    """Scores one subject. The first process adds its lines to `scored` and to the file, each at once, so that an error
    in a later protocol loses nothing.
    """
    from genzoo.evaluation.evaluate import Job, result_line
    from genzoo.evaluation.subject import ModelSubject, open_subject
    from genzoo.files import JsonLines
    from genzoo.training.launch import make_accelerator

    acc = make_accelerator("auto", "fp32", (), Path())  # several processes share the extraction of features
    like = _data_of_folder(args)
    subjects = {
        raw: open_subject(args.subject, acc.device, raw, like)
        for raw in sorted({protocol.weights == "raw" for protocol in protocols} or {False})
    }
    subject = next(iter(subjects.values()))
    if isinstance(subject, ModelSubject):
        data, notes = _data_of_run(args, subject)
        protocols, note = (protocols, "") if protocols else _defaults(subject, data)
        for text in filter(None, (*notes, note)):
            acc.print(f"note: {text}")
        out = (subject.folder or Path()) / "eval.jsonl"
        if alarm := subject.batchnorm_alarm(data):
            acc.print(f"warning: {alarm}")
    else:
        if not protocols:
            raise UsageError(
                "A folder of images needs --metrics, e.g. --metrics fid10k_test; `genzoo eval --list` shows them."
            )
        if like is None:
            raise UsageError(f"{args.subject} is a folder of images: give --data, what it is compared with.")
        data, out = like, Path("eval.jsonl")
    file = JsonLines(Path(args.out) if args.out else out)
    weights = Path(args.extractor_weights) if args.extractor_weights else None
    lines, memo = 0, {}
    try:
        for protocol in protocols:
            chosen = subjects[protocol.weights == "raw"]
            line = result_line(Job(chosen, protocol, data, args.seed, weights, acc.is_main_process, memo))
            if acc.is_main_process:
                file.append(line.to_json())
                scored.append((args.subject, line))
                lines += 1
    finally:
        if lines:
            print(f"{file.path}: {lines} line{'s' * (lines > 1)} added")


def _defaults(subject: "ModelSubject", data: "DataConfig") -> "tuple[list[Protocol], str]":
    """Protocols that need no extractor and that the model can be scored by; and a sentence where training images are
    scored because nothing is held out.
    """
    from genzoo.evaluation.heldout import with_split
    from genzoo.evaluation.protocols import get_protocol
    from genzoo.evaluation.refusal import refusal

    names, note = with_split(DEFAULT_OF_IMAGES if subject.model.is_image else DEFAULT_OF_POINTS, data)
    return [p for name in names if refusal((p := get_protocol(name)).metric, subject) is None], note


def _data_of_folder(args: argparse.Namespace) -> "DataConfig | None":
    """What a folder of images is compared with, all of it, and how both are read."""
    from genzoo.data import find_entry
    from genzoo.settings import parse_setting
    from genzoo.spec import DataConfig

    if args.data is None:
        return None
    entry = find_entry(args.data)
    data = DataConfig(name=args.data, size=resolution(args), channels=entry.channels if entry else 3, holdout=0)
    return replace(data, **dict(parse_setting(text, {"data": DataConfig})[1:] for text in args.set))


def _data_of_run(args: argparse.Namespace, subject: "ModelSubject") -> "tuple[DataConfig, tuple[str, ...]]":
    """What a model is compared with, its run's data or what the options ask for; and what differs from training."""
    from genzoo.runs.data import as_trained

    if args.res:
        raise UsageError("--res is for a folder of images: a model has its own resolution.")
    found = as_trained(args.subject, subject.model, args.data, args.set)
    return found.data, found.notes


def _print(scored: "Sequence[tuple[str, ScoreLine]]") -> None:
    from rich.console import Console
    from rich.table import Table

    from genzoo.data.found import Found, announcement

    several = len({subject for subject, _ in scored}) > 1
    table = Table(*["of"] * several, "protocol", "value", "", "n", box=None, header_style="bold")
    for subject, line in scored:
        n = line.details.get("n_fake") or line.details.get("n_real")
        for i, (name, value) in enumerate(line.values.items()):
            spread = f"± {line.spreads[name]:.3g}" if name in line.spreads else ""
            table.add_row(
                *[subject if i == 0 else ""] * several,
                line.protocol if i == 0 else "",
                name,
                f"{value:.5g} {spread}",
                f"{n:,}" if isinstance(n, int) and not i else "",
            )
    console = Console()
    console.print(table)
    opened = (announcement(f"{line.data} {line.split}", Found(**line.found)) for _, line in scored if line.found)
    for text in dict.fromkeys(text for texts in opened for text in texts):
        print(text)
    for _, line in scored:
        if kinds := line.details.get("classes"):
            console.print(f"\n{line.protocol}: classes in samples, and in the data", highlight=False)
            console.print(_classes(kinds))
        for by_class in line.details.get("labels", {}).values():
            console.print(f"\n{line.protocol}: samples of each class", highlight=False)
            console.print(_labels(by_class))


def _labels(by_class: Mapping[str, Mapping[str, float]]) -> "Table":
    """Lays out the details of the metric `labels`: a row per class."""
    from rich.table import Table

    table = Table("class", "named as asked", "(data)", "FD", box=None, header_style="bold")
    for name, found in by_class.items():
        table.add_row(name, f"{found['accuracy']:.3f}", f"({found['accuracy_real']:.3f})", f"{found['frechet']:.4g}")
    return table


def _classes(kinds: Mapping[str, Any]) -> "Table":
    """Lays out the details of the metric `classes`: a row per kind of label."""
    from rich.table import Table

    table = Table("label", "sure", "(data)", "gap", "share of each class: samples/data", box=None, header_style="bold")
    for kind, found in kinds.items():
        shares = (f"{name}={share:.2f}/{found['shares_real'][name]:.2f}" for name, share in found["shares"].items())
        row = (f"{found['sure']:.2f}", f"({found['sure_real']:.2f})", f"{found['gap']:.2f}")
        table.add_row(kind, *row, " ".join(shares))
    return table
