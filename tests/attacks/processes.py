"""Commands that are killed at random moments, that work on one folder at once, or whose disk is full: what was saved
stays readable, and the end equals that of an undisturbed command, or the command is refused in one line.

  python tests/attacks/processes.py --cases 40
  python tests/attacks/processes.py --only together,full          without kills

The full disk is a small tmpfs, which needs the right to mount one; it is left out without.
"""

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]  # where `attacks` and `genzoo` are

from warm import Warm  # noqa: E402

from attacks.material import SUITE  # noqa: E402
from attacks.outcome import Outcome, judged, options, report  # noqa: E402
from genzoo.files import JsonLines  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TRAIN = (
    "train vae --data digits --res 8 --images 2048 --set data.channels=1 --set arch.channels=8 --set arch.z_dim=4 "
    "--set train.batch=8 --set train.snapshot_every=256 --set train.log_every=4 --out {}"
)
EVAL = "eval peace --metrics rec500_train,rec100_test,rec100_train --out {}.jsonl"
BENCH = "bench suite.toml --out {}"
WEIGHTS = "model/diffusion_pytorch_model.safetensors"
COLD, COLD_S = 0.2, 6.0  # share of commands whose interpreter starts afresh, and how long it imports
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What a process that ends by a signal may return: what the system gives, or genzoo's status.
STATUS = {
    signal.SIGKILL: (-9,),
    signal.SIGTERM: (-15, 130, 143),
    signal.SIGINT: (-2, 130),
    signal.SIGHUP: (-1, 129, 130),
}
VOLATILE = ("seconds", "peak_gib", "commit", "versions", "device", "seconds_in_all")
CURVES = "curves"  # an interruption adds a point to them


class Processes:
    """Starts commands, in forks of a warm interpreter or in one of their own."""

    def __init__(self) -> None:
        self._warm = Warm(ROOT)

    def start(self, command: str, cold: bool = False) -> Any:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        if not cold:
            return self._warm.start(shlex.split(command), Path.cwd(), env)
        words = [sys.executable, "-m", "genzoo", *shlex.split(command)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, env=env | {"PYTHONPATH": str(ROOT)}, **pipes)

    def close(self) -> None:
        self._warm.close()


def ended(process: Any, timeout: float | None = None) -> tuple[int, str, str]:
    """Waits for the end; returns status, output and errors. Raises subprocess.TimeoutExpired."""
    if isinstance(process, subprocess.Popen):
        out, errors = process.communicate(timeout=timeout)
        return process.returncode, out, errors
    process.wait(timeout)
    done = process.completed()
    return done.returncode, done.stdout, done.stderr


def product(command: str, place: str) -> object:
    """What a command leaves in its place that must not depend on when it was killed."""
    if command is TRAIN:
        steps = [line["step"] for line in JsonLines(Path(place, "log.jsonl")).read()]  # and those of interruptions
        return Path(place, WEIGHTS).read_bytes(), steps == sorted(steps), steps[-1]
    if command is EVAL:
        return [_stable(line) for line in JsonLines(Path(f"{place}.jsonl")).read()[-3:]]
    lines = JsonLines(Path(place, "results", "suite.jsonl")).read()
    return {(line["kind"], line.get("cell"), line.get("protocol")): _stable(line) for line in lines}


def _stable(line: dict[str, Any]) -> str:
    return repr({key: value for key, value in sorted(line.items()) if key not in (*VOLATILE, CURVES)})


def killed(processes: Processes, whole: Mapping[str, float], cases: int, seed: int = 0) -> Iterator[Outcome]:
    """Kills commands at random moments and repeats them; their results are those of undisturbed commands.

    Args:
        processes: starts them.
        whole: how long each takes undisturbed, in seconds.
        cases: how many are killed.
        seed: of what is killed, and when.
    """
    rng = random.Random(seed)
    peace = {command: product(command, "peace") for command in whole}
    while cases > 0:
        command, cold, number = rng.choice(list(peace)), rng.random() < COLD, rng.choice(SIGNALS)
        verb = command.partition(" ")[0]
        for _ in range(rng.randint(1, 3)):  # kills of one and the same
            process = processes.start(command.format("killed"), cold)
            after = rng.uniform(0, 1.1) * (whole[command] + COLD_S * cold)
            try:
                status, out, errors = ended(process, after)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                status, out, errors = ended(process)
            cases -= 1
            yield _judged_kill(
                f"{verb}, {number.name} after {after:.2f} s{', cold' * cold}", number, status, out, errors
            )
        status, out, errors = ended(processes.start(command.format("killed")))
        same = status == 0 and product(command, "killed") == peace[command]
        yield judged(f"{verb} again after {number.name}", status, out, errors, same, "the same command again")
        remove("killed")


def _judged_kill(attack: str, number: signal.Signals, status: int, out: str, errors: str) -> Outcome:
    if status == 0 or "Traceback" in errors:
        return judged(attack, status, out, errors, status == 0, "killed")
    fine = status in STATUS[number]
    return Outcome(attack, "warned" if fine else "silent", f"status {status}\n{errors}", "killed")


def remove(name: str) -> None:
    shutil.rmtree(name, ignore_errors=True)
    Path(f"{name}.jsonl").unlink(missing_ok=True)


def together(processes: Processes) -> Iterator[Outcome]:
    """Two commands on one folder: one trains and the other is refused, or both do what they do alone."""
    group = "two on one folder"
    first = processes.start(TRAIN.format("two"))
    _wait_for(Path("two/checkpoints"), first)
    second = processes.start(TRAIN.format("two"))
    ends = [ended(process) for process in (second, first)]
    refused = [end for end in ends if end[0]]
    for status, out, errors in ends:
        done = status == 0 and product(TRAIN, "two") == product(TRAIN, "peace")
        yield judged("train and train", status, out, errors, done and len(refused) == 1, group)
    at_once = [processes.start(TRAIN.format("race")) for _ in range(2)]
    ends = [ended(process) for process in at_once]
    for status, out, errors in ends:
        yield judged(
            "train and train at once", status, out, errors, product(TRAIN, "race") == product(TRAIN, "peace"), group
        )
    yield from _readers(processes, group)
    at_once = [processes.start(EVAL.format("shared")) for _ in range(2)]
    ends = [ended(process) for process in at_once]
    found = [_stable(line) for line in JsonLines(Path("shared.jsonl")).read()]
    same = sorted(found) == sorted(2 * product(EVAL, "peace"))  # type: ignore[operator]
    yield from (judged("eval and eval", *end, same, group) for end in ends)
    at_once = [processes.start(BENCH.format("bench")) for _ in range(2)]
    ends = [ended(process) for process in at_once]
    same = product(BENCH, "bench") == product(BENCH, "peace")
    yield from (judged("bench and bench", *end, same, group) for end in ends)


def _readers(processes: Processes, group: str) -> Iterator[Outcome]:
    """Commands that read a run while it is trained."""
    remove("read")
    trains = processes.start(TRAIN.format("read"))
    _wait_for(Path("read/model"), trains)
    commands = ("sample read --n 4 --out s.png", "eval read --metrics rec8_train --out e.jsonl", "doctor read")
    for command in (*commands, "cache --clear", *commands):
        status, out, errors = ended(processes.start(command))
        yield judged(f"{command.split()[0]} while it is trained", status, out, errors, status in (0, 1), group)
    status, out, errors = ended(trains)
    same = status == 0 and product(TRAIN, "read") == product(TRAIN, "peace")
    yield judged("train while it is read", status, out, errors, same, group)


def _wait_for(path: Path, process: Any) -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.02)


@contextmanager
def small_disk(kib: int) -> Iterator[Path | None]:
    """A disk of so many KiB; None where none can be mounted."""
    disk = Path("disk").absolute()
    disk.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", disk], capture_output=True)
    if mounted.returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def full(processes: Processes) -> Iterator[Outcome]:
    """Writes to a disk of a few KiB: each command stops in one line, and goes on once there is room."""
    group = "full disk"
    cache = os.environ["GENZOO_CACHE"]
    others = (
        "sample peace --n 64 --out {}/s.png",
        "encode peace --out {}/z.npz",
        "encode peace --out {}/z.safetensors",
    )
    for kib in (4, 16, 64, 96, 128, 192, 256, 384, 512, 1024):
        with small_disk(kib) as disk:
            if disk is None:
                print("no tmpfs can be mounted: the full disk is left out")
                return
            status, out, errors = ended(processes.start(TRAIN.format("disk/run")))
            yield judged(f"train, {kib} KiB", status, out, errors, status == 0, group)
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            status, out, errors = ended(processes.start(TRAIN.format("disk/run")))
            same = status == 0 and product(TRAIN, "disk/run") == product(TRAIN, "peace")
            yield judged(f"train again with room, {kib} KiB", status, out, errors, same, group)
    for kib in (4, 8, 24):
        for command in (*(text.format("disk") for text in others), EVAL.format("disk/e"), BENCH.format("disk/bench")):
            with small_disk(kib):
                status, out, errors = ended(processes.start(command))
                yield judged(f"{command.split()[0]}, {kib} KiB", status, out, errors, status == 0, group)
        with small_disk(kib) as disk:
            os.environ["GENZOO_CACHE"] = str(disk)
            status, out, errors = ended(processes.start(TRAIN.format("uncached")))
            os.environ["GENZOO_CACHE"] = cache
            same = status == 0 and product(TRAIN, "uncached") == product(TRAIN, "peace")
            yield judged(f"train, a cache of {kib} KiB", status, out, errors, same, group)
            remove("uncached")


def main() -> int:
    parser = options(__doc__ or "", 20, "how many commands are killed")
    parser.add_argument("--only", metavar="GROUPS", default="killed,together,full", help="of killed,together,full")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        os.environ["GENZOO_CACHE"] = f"{temporary}/cache"
        Path("suite.toml").write_text(SUITE.replace("duration=64", "duration=1024"), encoding="utf-8")
        processes = Processes()
        whole = {}
        for command in (TRAIN, EVAL, BENCH):
            begun = time.monotonic()
            status, out, errors = ended(processes.start(command.format("peace")))
            whole[command] = time.monotonic() - begun
            assert status == 0, out + errors
        groups = {
            "killed": killed(processes, whole, args.cases, args.seed),
            "together": together(processes),
            "full": full(processes),
        }
        found = report(chain(*(groups[name] for name in args.only.split(","))))
        processes.close()
        os.chdir("/")
    return min(found, 100)


if __name__ == "__main__":
    raise SystemExit(main())
