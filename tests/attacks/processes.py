"""Runs that are killed at random moments, that two processes train at once, or whose disk is full: what was saved stays
readable, and the end equals that of a run in peace, or is refused in one line.

Run from the folder of the tests: `python -m attacks.processes --kills 20`. The full disk is a small tmpfs, which needs
the right to mount one; it is left out without.
"""

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attacks.outcome import Outcome, judged, report

ROOT = Path(__file__).resolve().parents[2]
TRAIN = shlex.split(
    "train vae --data digits --res 8 --images 4096 --set data.channels=1 --set arch.channels=8 --set arch.z_dim=4 "
    "--set train.batch=8 --set train.snapshot_every=256 --set train.log_every=4"
)
WEIGHTS = "model/diffusion_pytorch_model.safetensors"
TRIES = 50  # of a run that is killed again and again


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    """Starts a run in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "genzoo", *TRAIN, "--out", str(out), *more]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def weights(out: Path) -> bytes:
    return (out / WEIGHTS).read_bytes()


def killed(folder: Path, kills: int, seed: int = 0) -> Iterator[Outcome]:
    """Kills a run at random moments and resumes it; its end is that of a run in peace."""
    rng = random.Random(seed)
    begun = time.monotonic()
    start(folder / "peace").communicate()
    whole = time.monotonic() - begun
    left, run = kills, folder / "killed"
    for _ in range(TRIES + kills):
        process = start(run)
        try:
            out, errors = process.communicate(timeout=rng.uniform(0.1, 1.1) * whole if left else None)
        except subprocess.TimeoutExpired:
            number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            process.send_signal(number)
            out, errors = process.communicate()
            left -= 1
            clean = "Traceback" not in errors
            yield Outcome(f"{number.name} after a random time", "warned" if clean else "traceback", errors)
            continue
        same = process.returncode == 0 and weights(run) == weights(folder / "peace")
        yield judged("the same command after a kill", process.returncode, out, errors, same)
        if not left:
            break
        shutil.rmtree(run)


def two(folder: Path) -> Iterator[Outcome]:
    """Starts the same run twice: one trains, the other is refused."""
    first = start(folder / "two")
    while not (folder / "two" / "checkpoints").exists() and first.poll() is None:
        time.sleep(0.05)
    second = start(folder / "two")
    ends = [(process.communicate(), process.returncode) for process in (second, first)]
    refused = [end for end in ends if end[1] not in (0,)]
    for (out, errors), status in ends:
        done = status == 0 and weights(folder / "two") == weights(folder / "peace")
        yield judged("two processes in one run folder", status, out, errors, done and len(refused) == 1)


def full(folder: Path) -> Iterator[Outcome]:
    """Trains into a disk of a few hundred KiB: the run stops in one line, and goes on once there is room."""
    disk = folder / "disk"
    disk.mkdir()
    for size in (64, 256, 512, 1024):
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", disk], capture_output=True)
        if mounted.returncode:
            print("no tmpfs can be mounted: the full disk is left out")
            return
        try:
            process = start(disk / "run")
            out, errors = process.communicate()
            yield judged(f"a disk of {size} KiB", process.returncode, out, errors, process.returncode == 0)
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            process = start(disk / "run")
            out, errors = process.communicate()
            same = process.returncode == 0 and weights(disk / "run") == weights(folder / "peace")
            yield judged(f"once the disk of {size} KiB has room", process.returncode, out, errors, same)
        finally:
            subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["GENZOO_CACHE"] = f"{temporary}/cache"
        place = Path(temporary)
        raise SystemExit(report([*killed(place, args.kills), *two(place), *full(place)]))
