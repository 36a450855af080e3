"""`genzoo train`: from a name to a run folder."""

import argparse
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from genzoo.cli.common import add_res, add_set, resolution
from genzoo.cli.guard import explains_lack_of_memory
from genzoo.cli.runs import read_file, refuse_path, resumed
from genzoo.configure import resolve, section_classes
from genzoo.duration import in_seconds
from genzoo.errors import UsageError
from genzoo.recipes import QUICK, is_few, table
from genzoo.registry import list_models, split_name
from genzoo.settings import fields, show
from genzoo.spec import RunConfig

if TYPE_CHECKING:
    from pathlib import Path

    import torch

DESCRIPTION = """Trains a model into a run folder: log, curves, previews, checkpoints and a model to load and share.
The same command again resumes, and so does --resume RUN; Ctrl-C saves first.
`genzoo train MODEL --help` lists that model's own options."""

EXAMPLES = """examples:
  genzoo train introvae                                    the quick start: the embedded cartoon faces in 3 minutes
  genzoo train introvae --data FOLDER --budget 30min       your images, as good as half an hour makes them
  genzoo train introvae --res 256                          the recipe for 256x256 on the embedded cartoon faces
  genzoo train introvae --data FOLDER --res 128 --images 2M
  genzoo train --resume runs/first --images 4M             the same run, made longer
  genzoo train softintrovae.cifar10 --set objective.beta_neg=128 --set train.lr=1e-4
  torchrun --standalone --nproc_per_node 2 -m genzoo train introvae"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("-h", "--help", action="store_true", help="show this help; with a model, its options too")
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="model or model.preset, e.g. introvae or introvae.celebahq256"
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="folder, file, short name or hub id; see `genzoo list data` (default: the preset's, or toyfaces)",
    )
    add_res(parser, "; picks the preset made for it")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--images", metavar="N", help="length of the run in images: 50k, 2M")
    length.add_argument("--epochs", metavar="N", help="length of the run in epochs")
    length.add_argument(
        "--budget",
        metavar="TIME",
        help="how long you want to wait: 3min, 2h30min; measures this machine, then fixes length, schedules, precision "
        "and, with --data, size and weights (default of a bare model: 3min)",
    )
    parser.add_argument("--seed", metavar="N", help="seed of weights, data order, augmentation and noise (default 0)")
    parser.add_argument("--out", metavar="RUN", help="run folder (default runs/MODEL-DATA-SIZE-sSEED)")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run; --images N makes it longer")
    parser.add_argument("--config", metavar="FILE", help="settings of a new run: a run.json, or TOML by section")
    add_set(parser, "set any option: arch.z_dim=64, objective.beta=1, train.lr=1e-4", metavar="S.F=V")
    parser.add_argument(
        "--fast",
        action="store_true",
        help="time a few steps in fp32 and bf16, with fewer threads, compiled, and take the fastest (default: fp32)",
    )
    parser.add_argument("--skip-corrupt", action="store_true", help="count unreadable images and go on")
    parser.add_argument(
        "--dry-run", action="store_true", help="print configuration, update plan, sizes and memory; train nothing"
    )


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    began = time.monotonic()
    if args.help:
        values = list(_model_help(_resolve(args, _settings(args)))) if args.model else []
        print("\n".join([parser.format_help(), *values]))
        return 0
    if any(text.startswith("train.budget=") for text in args.set):
        raise UsageError("train.budget only records what a run was planned for: give --budget TIME.")
    if args.resume is not None:
        _start(resumed(args, _settings(args)), args.resume, args.dry_run)
        return 0
    given = _read_config(args)
    if args.model is None:
        raise UsageError(f"Which model? genzoo train {' | '.join(list_models())}. See `genzoo train --help`.")
    refuse_path(args.model)
    budget = QUICK if args.budget is None and _bare(args) else args.budget
    if budget is not None:
        _train_within(args, budget, began)
        return 0
    auto = [f"train.{name}=auto" for name in ("precision", "threads", "compile")] if args.fast else []
    config = _resolve(args, [*given, *auto, *_settings(args)])
    _refuse_missing_data(config)
    _start(config, args.out, args.dry_run)
    return 0


def _read_config(args: argparse.Namespace) -> list[str]:
    """Reads the file of --config, and sets the model that it names; returns its settings."""
    if args.config is None:
        return []
    if args.budget is not None:
        raise UsageError("--budget plans a run, and --config has the plan of one: leave out either.")
    name, settings = read_file(args.config)
    if args.model is not None and name not in (None, args.model):
        raise UsageError(f"--config {args.config} is for {name}, not for {args.model}: leave out either.")
    args.model = name or args.model
    size = [f"data.size={'x'.join(map(str, found))}"] if (found := resolution(args)) else []
    return [*settings, *([f"data.name={args.data}"] if args.data else []), *size]


def _start(config: RunConfig, out: str | None, dry_run: bool) -> None:
    if dry_run:
        from genzoo.training.plan import plan

        print(plan(config))
    else:
        _train(config, out)


def _train_within(args: argparse.Namespace, budget: str, began: float) -> None:
    """Plans a run with a budget of time, and trains it."""
    in_seconds(budget)
    _refuse_missing_data(_resolve(args, _settings(args)))  # what is wrong is refused before torch is imported
    from genzoo.budgets import ask, planned

    found = planned(ask(args.model, budget, resolution(args), args.data, _settings(args)), args.out, began)
    if args.dry_run:
        from genzoo.training.plan import plan

        print("\n".join(table(found.lines)))
        print(plan(found.config))
    else:
        _train(found.config, args.out, table(found.lines), began)


def _bare(args: argparse.Namespace) -> bool:
    """Whether nothing but the model says what to train, on what, and for how long."""
    asked = (args.data, args.res, args.images, args.epochs, args.config)
    lengths = any(text.startswith(("train.duration=", "data.name=")) for text in args.set)
    return all(value is None for value in asked) and not lengths and split_name(args.model)[1] is None


@explains_lack_of_memory
def _train(config: RunConfig, out: str | None, lines: Sequence[str] = (), began: float | None = None) -> None:
    from genzoo.data import facts
    from genzoo.data.found import announcement
    from genzoo.training.trainer import Trainer

    trainer = Trainer(config, out=out, began=began)
    opened = announcement(trainer.dataset.name, facts(trainer.dataset))
    trainer.acc.print("\n".join([*lines, trainer.summary(), *opened]))
    for note in config.notes:
        trainer.acc.print(f"note: {note}")
    if trainer.folder.data and (text := trainer.folder.data.note()):
        trainer.acc.print(f"note: {text}")
    folder = trainer.fit()
    trainer.acc.print(
        f"Done: preview.png, curves.png, quality.png and model/ are in {folder}. "
        f"More images: genzoo sample {shlex.quote(str(folder))} --n 64"
    )
    first, few = trainer.acc.is_main_process, trainer.dataset.is_image and is_few(trainer.dataset.size)
    trainer.acc.state.destroy_process_group()
    if first and few:
        _check_copies(folder, trainer.acc.device)


def _check_copies(run: "Path", device: "torch.device") -> None:
    """Prints whether the samples of a run on few images are copies of these, and where to look."""
    from genzoo.evaluation.copies import PICTURE, check_run

    try:
        checked = check_run(run, device)
    except UsageError as error:
        print(f"note: samples were not compared with training images: {error}")
        return
    print(f"{run / PICTURE}: {checked.summary()}")
    if warning := checked.warning():
        print(f"warning: {warning}")


def _resolve(args: argparse.Namespace, settings: list[str]) -> RunConfig:
    return resolve(args.model, res=resolution(args), data=args.data, settings=settings)


def _refuse_missing_data(config: RunConfig) -> None:
    from genzoo.data.formats import refuse_missing  # with Pillow, which no --help needs

    refuse_missing(config.data.name)


def _settings(args: argparse.Namespace) -> list[str]:
    """The short options as `--set` texts, before the user's own, which win."""
    epochs = None if args.epochs is None else f"{args.epochs.removesuffix('ep')}ep"
    short = {"train.duration": args.images or epochs, "train.seed": args.seed}
    settings = [f"{key}={value}" for key, value in short.items() if value is not None]
    return [*settings, *(["data.skip_corrupt=true"] if args.skip_corrupt else []), *args.set]


def _model_help(run: RunConfig) -> Iterator[str]:
    """The values that a run would take, marked where they differ from their class's."""
    spec, _ = split_name(run.model)
    yield f"{spec.name}: {spec.summary}\n{spec.paper}\n"
    yield f"presets: {', '.join(spec.presets)}  (see `genzoo list presets {spec.name}`)"
    yield f"values: as {run.model} has them; * = other than {spec.name}'s default"
    for section, cls in section_classes(spec).items():
        yield f"\n{section}: --set {section}.NAME=VALUE"
        for name, kind, default, description in fields(cls):
            value = getattr(getattr(run, section), name)
            differs = value != default
            shown = f"{show(value)}, default {show(default)}" if differs else show(value)
            yield f"{'*' if differs else ' '} {name:<17} {kind} [{shown}]\n{'':20}{description}"
