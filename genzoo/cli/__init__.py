"""The command line: one short file per verb. Nothing here imports torch; a verb does when it runs."""

import argparse
import importlib
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from typing import NoReturn

from genzoo import __version__
from genzoo.errors import PeerLost, RunStopped, UsageError, did_you_mean

VERBS = {
    "train": "train a model, or resume a run with the same command",
    "sample": "draw new images from a trained model",
    "reconstruct": "encode and decode images, side by side",
    "interpolate": "walk between two images in latent space",
    "encode": "write the latents of images to .npz or .safetensors",
    "eval": "score a model, or a folder of images, by protocols",
    "bench": "run a suite of models x datasets x seeds, and report",
    "doctor": "diagnose a run and recommend fixes",
    "suggest": "inspect your data and propose a preset, with reasons",
    "data": "look at your data without training: what is read, what is left out, a contact sheet",
    "list": "show models, presets or datasets",
}

EXAMPLES = """examples:
  genzoo train introvae                       the quick start: cartoon faces, minutes on a laptop
  genzoo train introvae --res 256 --dry-run   what the paper's 256x256 recipe would do
  genzoo train softintrovae.cifar10           a published recipe on its own data
  genzoo train introvae --data FOLDER --res 128
  genzoo sample runs/introvae.toyfaces32-toyfaces-32-s0 --n 64
  genzoo list presets"""


GRACE_S = 3  # a silent process outlives the reporting one by this long, as a launcher kills all processes when one ends


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError`: one line, with the closest option's name."""

    def __init__(self, prog: str, description: str | None = None, epilog: str | None = None):
        super().__init__(
            prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            conflict_handler="resolve",  # `train` has a --help of its own
        )

    def options(self) -> list[str]:
        """Returns the long options, in the order of the help."""
        return re.findall(r"^  (?:-\w, )?(--[\w-]+)", self.format_help(), re.MULTILINE)

    def error(self, message: str) -> NoReturn:
        _, _, unknown = message.partition("unrecognized arguments: ")
        hint = did_you_mean(re.split(r"[\s=]", unknown)[0], self.options()) if unknown else ""
        if wrong := re.match(r"argument VERB: invalid choice: '(.*?)' ", message):
            message, hint = f"unknown verb {wrong[1]!r}", did_you_mean(wrong[1], VERBS)
        raise UsageError(f"{message}.{hint} See `{self.prog} --help`.")


def build_parser() -> Parser:
    """Builds the parser of `genzoo` itself: it lists the verbs and leaves their options to `build_verb_parser`."""
    parser = Parser("genzoo", "Introspective autoencoders: the encoder is also the discriminator.", EXAMPLES)
    parser.add_argument("--version", action="version", version=__version__, help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=argparse.ArgumentParser)
    for verb, summary in VERBS.items():
        verbs.add_parser(verb, help=summary)
    return parser


def build_verb_parser(verb: str) -> Parser:
    """Builds the parser of one verb; a test freezes its options."""
    parser = Parser(f"genzoo {verb}")
    importlib.import_module(f"genzoo.cli.{verb}").add_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 0 done, 1 the run stopped, 2 bad input, 130 interrupted, 141 the output's reader is gone.
    """
    warnings.showwarning = lambda message, *_, **__: print(f"genzoo: warning: {message}", file=sys.stderr)
    try:
        return _dispatch(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # as in `genzoo list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return 141
    except OSError as error:  # a file or folder that cannot be read or written
        reason = " ".join(str(error).split())
        return _fail(f"{reason}: check the path, the disk and its permissions, or choose a different --out.", 2)
    except KeyboardInterrupt:
        return 130
    except PeerLost as error:
        return _fail(str(error), 1, ranks=("0", "1"))  # the lost peer may be rank 0
    except RunStopped as error:
        return _fail(str(error), 1)


def _dispatch(argv: Sequence[str]) -> int:
    if argv and argv[0] in VERBS:
        verb = build_verb_parser(argv[0])
        return importlib.import_module(f"genzoo.cli.{argv[0]}").run(verb.parse_args(argv[1:]), verb) or 0
    parser = build_parser()
    parser.parse_args(argv)
    parser.print_help()
    return 0


def _fail(message: str, status: int, ranks: Sequence[str] = ("0",)) -> int:
    """Prints an error on the given ranks only: several processes usually fail for the same reason."""
    if os.environ.get("RANK", "0") in ranks:
        print(f"genzoo: {message}", file=sys.stderr)
    else:
        time.sleep(GRACE_S)
    return status
