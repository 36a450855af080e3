"""`genzoo eval`: numbers with their protocol, for a model or a folder of anybody's images."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.errors import UsageError

if TYPE_CHECKING:
    from genzoo.metrics.subject import ModelSubject
    from genzoo.spec import DataConfig

DESCRIPTION = """Scores a trained model, or a folder of images, by protocols: names that say what a number is.
Prints a table and appends one JSON line per protocol, with every field that decides the number."""

EXAMPLES = """examples:
  genzoo eval RUN                                                   what needs no feature extractor
  genzoo eval RUN --metrics fid50k_train,kid50k_train --extractor-weights FOLDER
  genzoo eval RUN --metrics fd_classifier_cifar10_10k_test --data FOLDER
  genzoo eval FOLDER-OF-IMAGES --data cifar10 --res 32 --metrics fid10k_test
  torchrun --standalone --nproc_per_node 2 -m genzoo eval RUN --metrics fid50k_train
  genzoo eval --list                                                the protocols"""

DEFAULT_OF_IMAGES = ("rec1k_test", "elbo1k_test", "msssim1k_train")
DEFAULT_OF_POINTS = ("density2d",)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "subject", nargs="?", metavar="RUN_OR_MODEL", help="run folder, save_pretrained folder, hub id, or folder of images"
    )
    parser.add_argument("--data", metavar="DATA", help="what to compare with (default: what the run was trained on)")
    parser.add_argument(
        "--res", metavar="RES", help="resolution at which a folder of images and that data are compared (default: their own)"
    )
    parser.add_argument("--metrics", metavar="A,B", help="protocols (default: those that need no extractor); see --list")
    parser.add_argument(
        "--extractor-weights", metavar="PATH", help="weights of the extractor: Inception's file or folder, a timm checkpoint"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of samples and choices (default 0)")
    parser.add_argument("--out", metavar="FILE", help="JSON lines to append to (default RUN/eval.jsonl, or eval.jsonl here)")
    parser.add_argument(
        "--set", metavar="data.F=V", action="append", default=[], help="how the data is read: data.split=train[:29000], data.fit=pad, ..."
    )
    parser.add_argument("--list", action="store_true", help="explain the protocols' names and print examples")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from genzoo.metrics import protocols

    if args.list:
        print(protocols.__doc__)
        print("\n".join(f"{name:34}{protocols.get_protocol(name).definition}" for name in protocols.EXAMPLES))
        return 0
    if args.subject is None:
        raise UsageError("What is to be scored? genzoo eval RUN_OR_MODEL, or a folder of images. See `genzoo eval --help`.")
    named = [protocols.get_protocol(name.strip()) for name in (args.metrics or "").split(",") if name.strip()]  # before anything slow
    if args.metrics is not None and not named:
        raise UsageError("--metrics is empty: name a protocol, e.g. --metrics rec1k_test; `genzoo eval --list` shows them.")
    _score(args, named)
    return 0


def _score(args: argparse.Namespace, named: list) -> None:
    from genzoo.metrics.evaluate import Job, result_line
    from genzoo.metrics.protocols import get_protocol
    from genzoo.metrics.subject import ModelSubject, open_subject
    from genzoo.training.launch import make_accelerator

    acc = make_accelerator("auto", "fp32", (), Path())  # several processes share the extraction of features
    device = acc.device
    like = _plain_data(args)
    subjects = {raw: open_subject(args.subject, device, raw, like) for raw in sorted({p.weights == "raw" for p in named} or {False})}
    subject = next(iter(subjects.values()))
    is_model = isinstance(subject, ModelSubject)
    if not named:
        names = DEFAULT_OF_POINTS if is_model and not subject.model.is_image else DEFAULT_OF_IMAGES if is_model else ()
        named = [get_protocol(name) for name in names]
    if not named:
        raise UsageError("A folder of images needs --metrics, e.g. --metrics fid10k_test; `genzoo eval --list` shows them.")
    data = _data_of_run(args, subject) if is_model else like
    if data is None:
        raise UsageError(f"{args.subject} is a folder of images: say with --data what it is compared with.")
    if args.set and not is_model:
        raise UsageError("--set is for models; a folder of images is compared with the data as it comes.")
    out = Path(args.out) if args.out else (subject.folder or Path()) / "eval.jsonl" if is_model else Path("eval.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    if is_model and (alarm := subject.batchnorm_alarm(data)):
        acc.print(f"warning: {alarm}")
    weights = Path(args.extractor_weights) if args.extractor_weights else None
    lines, memo = [], {}
    try:
        for protocol in named:
            subject = subjects[protocol.weights == "raw"]
            lines.append(result_line(Job(subject, protocol, data, args.seed, weights, acc.is_main_process, memo)))
            if acc.is_main_process:
                with out.open("a") as file:  # at once: what is measured is not lost
                    file.write(json.dumps(lines[-1]) + "\n")
    finally:
        if lines and acc.is_main_process:
            _print(lines)
            print(f"{out}: {len(lines)} line{'s' * (len(lines) > 1)} added")


def _plain_data(args: argparse.Namespace) -> "DataConfig | None":
    """What a folder of images is compared with."""
    from genzoo.resolve import describe
    from genzoo.settings import parse_size
    from genzoo.spec import DataConfig

    if args.data is None:
        return None
    entry = describe(args.data)
    return DataConfig(name=args.data, size=parse_size(args.res) if args.res else None, channels=entry.channels if entry else 3)


def _data_of_run(args: argparse.Namespace, subject: "ModelSubject") -> "DataConfig":
    """What a model is compared with: as its run read it, or as the options say."""
    from genzoo.cli.common import data_config

    if args.res:
        raise UsageError("--res is for a folder of images: a model has a resolution of its own.")
    return data_config(argparse.Namespace(model=args.subject, data=args.data, images=(), set=args.set), subject.model)


def _print(lines: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("protocol", "value", "", "n", box=None, header_style="bold")
    for line in lines:
        n = line["details"].get("n_fake") or line["details"].get("n_real")
        for i, (name, value) in enumerate(line["values"].items()):
            spread = f"± {line['spreads'][name]:.3g}" if name in line["spreads"] else ""
            table.add_row(
                line["protocol"] if i == 0 else "", name, f"{value:.5g} {spread}", f"{n:,}" if isinstance(n, int) and not i else ""
            )
    Console().print(table)
