"""Damages files of every kind that genzoo reads, at random by seed: each command is to refuse, to name the damage, or
to do what it does with the intact files.

  python tests/attacks/corruption.py --cases 300
  python tests/attacks/corruption.py --cases 50 --only log.jsonl,checkpoints
  python tests/attacks/corruption.py --seed 17 --cases 1          one case again
"""

import os
import random
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]  # where `attacks` and `genzoo` are

from shortcuts import leave_out_fsync  # noqa: E402

from attacks.damage import damage  # noqa: E402
from attacks.material import TARGETS, Target, prepare  # noqa: E402
from attacks.outcome import Outcome, judged, options, report, run  # noqa: E402
from genzoo.files import JsonLines  # noqa: E402

VOLATILE = ("seconds", "commit", "versions", "device")  # fields of a result line that differ each time


class Ground:
    """A working folder that is restored before each attack.

    Args:
        folder: holds the working folder, whose path stays the same, and a copy.
        targets: whose files it has.
    """

    def __init__(self, folder: Path, targets: Sequence[Target] = TARGETS):
        self.work, self._copy = folder / "work", folder / "copy"
        self.work.mkdir(parents=True)
        self._enter()
        prepare(targets)
        shutil.copytree(self.work, self._copy, symlinks=True)
        self._expected: dict[Target, tuple[int | None, bytes, frozenset[str]]] = {}

    def _enter(self) -> None:
        os.chdir(self.work)
        os.environ["GENZOO_CACHE"] = str(self.work / "cache")

    def restore(self) -> None:
        os.chdir(self.work.parent)
        shutil.rmtree(self.work)
        shutil.copytree(self._copy, self.work, symlinks=True)
        self._enter()

    def expected(self, target: Target) -> tuple[int | None, bytes, frozenset[str]]:
        """What the command does without an attack: its status, what it leaves, and what it prints."""
        if target not in self._expected:
            self.restore()
            status, out, errors = run(shlex.split(target.command))
            assert status in (0, 1), (target, errors)
            self._expected[target] = status, left(target, out), frozenset((*out.splitlines(), *errors.splitlines()))
        return self._expected[target]

    def attack(self, seed: int, targets: Sequence[Target] = TARGETS) -> Outcome:
        """Damages one file, and runs the command that reads it."""
        rng = random.Random(seed)
        target = rng.choice(targets)
        usual_status, product, usual = self.expected(target)
        self.restore()
        path = Path(rng.choice(sorted(map(str, Path().glob(target.files)))))
        how, blind = damage(path, rng, target.blind)
        status, out, errors = run(shlex.split(target.command))
        same = status == usual_status and (blind or left(target, out) == product)
        name = f"--seed {seed}: {path}, {how}: genzoo {' '.join(target.command.split()[:2])}"
        return judged(name, status, out, errors, same, target.group, usual)


def left(target: Target, out: str) -> bytes:
    """The product of a command, or what it printed."""
    path = Path(target.product)
    if not target.product or not path.is_file():
        return out.encode()
    if path.suffix != ".jsonl":
        return path.read_bytes()
    lines = JsonLines(path).read()
    return repr([{key: value for key, value in line.items() if key not in VOLATILE} for line in lines]).encode()


def attacks(folder: Path, seeds: Sequence[int], targets: Sequence[Target]) -> Iterator[Outcome]:
    """Attacks once per seed."""
    ground = Ground(folder, targets)
    for seed in seeds:
        yield ground.attack(seed, targets)


if __name__ == "__main__":
    parser = options(__doc__ or "", 100, "how many files are damaged, each in one way")
    parser.add_argument("--only", metavar="GROUPS", help=f"of {', '.join(dict.fromkeys(t.group for t in TARGETS))}")
    args = parser.parse_args()
    chosen = [target for target in TARGETS if not args.only or target.group in args.only.split(",")]
    leave_out_fsync()
    with tempfile.TemporaryDirectory() as temporary:
        cases = range(args.seed, args.seed + args.cases)
        found = report(attacks(Path(temporary), cases, chosen), len(cases))
        os.chdir("/")
    raise SystemExit(min(found, 100))
