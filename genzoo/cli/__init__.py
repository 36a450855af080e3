"""The command line: one short file per verb. Nothing here imports torch; a verb does when it runs."""

import argparse
import importlib
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import NoReturn

from genzoo import errors  # not `suggest` by name: a verb's module is called so
from genzoo.errors import UsageError

VERBS = {
    "train": "train a model, or resume it with the same command",
    "sample": "draw new images from a trained model",
    "reconstruct": "encode and decode images, side by side",
    "interpolate": "walk between two images in latent space",
    "encode": "write the latents of images to .npz or .safetensors",
    "eval": "score a model, or a folder of images, by protocols",
    "bench": "run a suite of models x datasets x seeds, and report",
    "doctor": "say what is wrong with a run, and what helps",
    "suggest": "look at your data and propose a preset, with reasons",
    "list": "show models, presets or datasets",
}

EXAMPLES = """examples:
  genzoo train introvae                       the quick start: cartoon faces, minutes on a laptop
  genzoo train introvae --res 256 --dry-run   what the paper's 256x256 recipe would do
  genzoo train softintrovae.cifar10           a published recipe on its own data
  genzoo train introvae --data FOLDER --res 128
  genzoo sample runs/introvae.toyfaces32-toyfaces-32-s0 --n 64
  genzoo list presets"""


LATER = 3  # seconds that a silent process outlives the one that tells: a launcher ends all when one has ended


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line that names the cure."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0] if message.startswith("unrecognized arguments: ") else ""
        options = [option for action in self._actions for option in action.option_strings]
        hint = errors.suggest(unknown.partition("=")[0], options) if unknown else ""
        raise UsageError(f"{message}.{hint} See `{self.prog} --help`.")


def build_parser() -> Parser:
    """Builds the whole command line; a test freezes its options."""
    parser = Parser(prog="genzoo", description="Introspective autoencoders: the encoder is also the discriminator.", epilog=EXAMPLES)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for verb, summary in VERBS.items():
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        sub = verbs.add_parser(verb, help=summary, conflict_handler="resolve", **options)  # train has a --help of its own
        importlib.import_module(f"genzoo.cli.{verb}").add_options(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0 done, 1 the run stopped, 2 bad input, 130 interrupted, 141 nobody reads the output."""
    parser = build_parser()
    warnings.showwarning = lambda message, *_, **__: print(f"genzoo: warning: {message}", file=sys.stderr)
    try:
        args, extra = parser.parse_known_args(argv)
        if args.version:
            from genzoo import __version__

            print(__version__)
            return 0
        if args.verb is None:
            parser.print_help()
            return 0
        verb = parser._subparsers._group_actions[0].choices[args.verb]
        if extra:
            verb.error(f"unrecognized arguments: {' '.join(extra)}")
        return importlib.import_module(f"genzoo.cli.{args.verb}").run(args, verb) or 0
    except UsageError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # whoever reads the output (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return 141
    except OSError as error:  # a place that cannot be read or written
        return _fail(f"{' '.join(str(error).split())}: check the path, the disk and its permissions, or choose another --out.", 2)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}  # known by name: their module imports torch
        if "RunStopped" in kinds:
            return _fail(str(error), 1, told_by=("0", "1") if "PeerLost" in kinds else ("0",))  # one of the two may be the one that is lost
        raise


def _fail(message: str, status: int, told_by: tuple[str, ...] = ("0",)) -> int:
    if os.environ.get("RANK", "0") in told_by:  # several processes make the same mistake; one tells it
        print(f"genzoo: {message}", file=sys.stderr)
    else:
        time.sleep(LATER)
    return status
