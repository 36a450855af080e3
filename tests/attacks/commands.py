"""Command lines that people type and that mean nothing: each is to be refused in one line that names the fix. And bad
values for every option of every verb and every setting, at random by seed: refused, or taken, without a traceback.

  python tests/attacks/commands.py --cases 300
"""

import os
import random
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]  # where `attacks` and `genzoo` are

from attacks.command_lines import LONG, OTHER_VERBS, WITH_TORCH, WITHOUT_TORCH  # noqa: E402
from attacks.outcome import Outcome, cut, judged, options, report, run  # noqa: E402
from genzoo.cli import VERBS, build_verb_parser  # noqa: E402
from genzoo.configure import section_classes  # noqa: E402
from genzoo.registry import get_spec  # noqa: E402
from genzoo.settings import fields  # noqa: E402

BAD_VALUES = (
    *("nan", "-1", "0", "1e999", LONG, "x" * 5000, "\x00", "\udcff", "{}", "[", "~nobody/x", "/dev/null", "/dev/full"),
    *(
        "/proc/1/mem",
        "missing/../..",
        "é ü",
        "--",
        "None",
        "true",
        "a=b",
        "1,2",
        "0x10",
        "*",
        "afile",
        "empty",
        "a.png",
    ),
    *("afile/x", "run", "nan.npy", "[[[1]]]", "-inf", "1.5", "99999x99999", ",", "=", "%", "5%", "../", "%s", "{0}"),
)
# The rest of a command for each verb, so that a value that is taken costs little.
PLAIN = {
    "train": "vae --res 16 --images 64 --set data.limit=64 --dry-run",
    "sample": "run --n 2",
    "reconstruct": "run --n 2",
    "interpolate": "run --n 2",
    "encode": "run --n 2",
    "eval": "run --metrics rec8_train",
    "bench": "--list",
    "doctor": "run",
    "suggest": "vae --data a.png",
    "data": "a.png",
    "cache": "",
    "list": "",
}


def prepare() -> None:
    """Makes what the commands name, in the working folder."""
    Path("empty").mkdir()
    Path("afile").write_text("text", encoding="utf-8")
    Image.new("RGB", (16, 16)).save("a.png")
    np.save("nan.npy", np.full((8, 3, 32, 32), np.nan, np.float32))
    sizes = "--images 96 --set data.limit=64 --set arch.channels=4,8 --set arch.z_dim=4 --set train.batch=8"
    status, _, errors = run(shlex.split(f"train vae --res 16 --out run {sizes}"))
    assert status == 0, errors


def commands(torch: bool = True) -> list[tuple[str, str]]:
    """Returns (command, a part of the line that refuses it); without torch, those that are refused before it."""
    first = [(f"train {command}", part) for command, part in WITHOUT_TORCH]
    return [*first, *OTHER_VERBS, *(WITH_TORCH if torch else ())]


def attack(table: Sequence[tuple[str, str]]) -> Iterator[Outcome]:
    """Runs the commands; one that is refused for another reason than it should counts as silent."""
    for command, part in table:
        status, out, errors = run(shlex.split(command))
        outcome = judged(cut(f"genzoo {command}"), status, out, errors, group="typed by people")
        if outcome.kind == "refused" and part not in errors:
            outcome = Outcome(outcome.attack, "silent", f"not {part!r}: {errors}", outcome.group)
        yield outcome


def random_command(rng: random.Random) -> list[str]:
    """A verb with one bad value, of an option, an argument or a setting."""
    verb, value = rng.choice(list(VERBS)), rng.choice(BAD_VALUES)
    actions = build_verb_parser(verb)._actions
    named = [action.option_strings[-1] for action in actions if action.option_strings and action.nargs != 0]
    settings = [
        f"{section}.{name}"
        for section, cls in section_classes(get_spec(rng.choice(("vae", "introvae", "softintrovae")))).items()
        for name, *_ in fields(cls)
    ]
    if "--set" in named and rng.random() < 0.5:
        section = "" if verb == "train" else "data."
        option = ["--set", f"{rng.choice([key for key in settings if key.startswith(section)])}={value}"]
    else:
        option = [rng.choice(named), value] if named and rng.random() < 0.8 else [value]
    return [verb, *shlex.split(PLAIN[verb]), *option]


def attack_at_random(seeds: Sequence[int]) -> Iterator[Outcome]:
    """Runs a random command per seed. One that is taken is not bad: whether a value means something is not known."""
    for seed in seeds:
        command = random_command(random.Random(seed))
        status, out, errors = run(command)
        text = cut(f"--seed {seed}: genzoo {shlex.join(command)}".encode(errors="backslashreplace").decode())
        yield judged(text, status, out, errors, same=status == 0, group="at random")


if __name__ == "__main__":
    args = options(__doc__ or "", 200, "how many random commands are tried besides the table").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "work").mkdir()  # "../" is among the values
        os.chdir(Path(folder, "work"))
        os.environ["GENZOO_CACHE"] = f"{folder}/cache"
        prepare()
        seeds = range(args.seed, args.seed + args.cases)
        found = report(chain(attack(commands()), attack_at_random(seeds)), len(commands()) + len(seeds))
        os.chdir("/")
    raise SystemExit(min(found, 100))
