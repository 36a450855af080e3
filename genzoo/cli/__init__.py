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
from genzoo.cli.guard import guarded, prepare_streams, print_error, print_once, reports
from genzoo.errors import PeerLost, RunStopped, UsageError, cause, did_you_mean, of_client, shown, system_error

VERBS = {
    "train": "train a model, or resume a run with the same command",
    "sample": "draw new images from a trained model",
    "reconstruct": "encode and decode images, side by side",
    "interpolate": "walk between two images in latent space",
    "translate": "exchange class and content between images, by a model with two encoders",
    "encode": "write the latents of images to .npz or .safetensors",
    "eval": "score a model, or a folder of images, by protocols",
    "copies": "find samples of a model that are copies of its training images",
    "ood": "measure which scores of a model tell other images from those it was trained on",
    "bench": "run a suite of models x datasets x seeds, and report",
    "doctor": "diagnose a run and recommend fixes",
    "suggest": "inspect your data and propose a preset, with reasons",
    "data": "look at your data without training: what is read, what is left out, a contact sheet",
    "cache": "list or clear decoded images and features on disk",
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
    """An argparse parser that raises `UsageError`: one line, with the option that was meant."""

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

    def parse_args(self, args: Sequence[str], namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parses what was typed after the verb.

        Raises:
            UsageError: an option or argument is unknown, empty or wrong.
        """
        _refuse_empty(args)
        options = self.options()
        found, unknown = None, _unknown_options(args, options)  # argparse would name missing arguments before these
        if not unknown:
            found, unknown = self.parse_known_args(args)
        if unknown or found is None:
            from genzoo.cli.hints import unrecognized

            raise unrecognized(self.prog.partition(" ")[2], options, args, unknown)
        return found

    def error(self, message: str) -> NoReturn:
        if wrong := re.match(r"argument (.+?): invalid choice: '(.*?)' \(choose from (.*)\)", message, re.DOTALL):
            name = "verb" if wrong[1] == "VERB" else wrong[1]
            choices = VERBS if wrong[1] == "VERB" else re.findall(r"[\w-]+", wrong[3])
            message = f"unknown {name} {shown(wrong[2])}.{did_you_mean(wrong[2], choices)}"
        raise UsageError(
            f"{message.rstrip('.?')}{message[-1] if message[-1] in '.?' else '.'} See `{self.prog} --help`."
        )


def _unknown_options(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """Lists what looks like an option and is none of these, up to a `--`."""
    known, end = {*options, "-h"}, args.index("--") if "--" in args else len(args)
    return [text for text in args[:end] if re.match(r"--?[A-Za-z]", text) and text.partition("=")[0] not in known]


def _refuse_empty(args: Sequence[str]) -> None:
    """Refuses an empty text, which an unset variable of the shell leaves, before it is taken for a default.

    Raises:
        UsageError: the line names the option.
    """
    for before, text in zip(("", *args), args, strict=False):
        option = text.rstrip()[:-1] if re.fullmatch(r"--[\w-]+=\s*", text) else before if not text.strip() else None
        if option is not None:
            name = option if option.startswith("-") else "an argument"
            raise UsageError(f"{name} is empty (an unset shell variable?): give a value, or leave it out.")


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
        The exit status: 0 done, 1 the run stopped, 2 bad input, 130 interrupted, 141 the output's reader is gone, 143
        ended by SIGTERM before or after training.
    """
    prepare_streams()
    warnings.filterwarnings("ignore", "Image size .* decompression bomb")  # Pillow's, of images that it reads
    warnings.showwarning = print_once()
    try:
        return guarded(_dispatch, sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # as in `genzoo list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return 141
    except OSError as error:  # a file or folder that cannot be read or written
        return _fail(_line(error), 2)
    except KeyboardInterrupt:
        return 130
    except PeerLost as error:
        return _fail(str(error), 1, ranks=("0", "1"))  # the lost peer may be rank 0
    except RunStopped as error:
        return _fail(str(error), 1)
    except Exception as error:
        if of_client(error) or system_error(error) is not None:  # of libraries whose errors are no OSErrors
            return _fail(_line(error), 2)
        raise


def _dispatch(argv: Sequence[str]) -> int:
    if argv and argv[0] in VERBS:
        verb = build_verb_parser(argv[0])
        return importlib.import_module(f"genzoo.cli.{argv[0]}").run(verb.parse_args(argv[1:]), verb) or 0
    if argv and argv[0].startswith("-") and (verb := next((text for text in argv if text in VERBS), None)):
        raise UsageError(f"the verb comes first: genzoo {verb} {argv[0]} ...")
    parser = build_parser()
    named = bool(argv) and not argv[0].startswith("-")
    parser.parse_args(argv[:1] if named else argv)  # an unknown verb is named before its options
    parser.print_help()
    return 0


def _line(error: Exception) -> str:
    """What was in the way of reading or writing, and what helps."""
    return f"{': '.join(filter(None, cause(error)))}."


def _fail(message: str, status: int, ranks: Sequence[str] = ("0",)) -> int:
    """Prints an error on the given ranks only: several processes usually fail for the same reason."""
    if reports(os.environ, ranks):
        print_error(message)
    else:
        time.sleep(GRACE_S)
    return status
