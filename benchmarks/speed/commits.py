"""Training steps of two checkouts of genzoo, in alternating processes on one machine: their time and their memory.

    python benchmarks/speed/commits.py OLD [NEW]                     # NEW: by default the checkout of this script
    python benchmarks/speed/commits.py OLD --rows vae-2d --rounds 1  # one row, two processes
    python benchmarks/speed/commits.py OLD --table                   # the table of what commits.jsonl holds

Protocol: every model at 32x32 (embedded toyfaces) with the networks of its quick start (channels 16, 32, 64, batch 16)
and with those of softintrovae.cifar10 (64, 128, 256, batch 32), and on 2-D points (8gaussians, batch 512); adversarial
training from the first step (objective.warmup=0), fp32 on the CPU. A process imports one checkout's genzoo, builds the
trainer, and runs two steps, after which caches are filled and Adam has its moments. Then it times the steps of a row: a
batch from `Trainer.data()` and `Trainer.train_step`, with everything that these do (data, noise, gradient norms, weight
average). Its peak memory is the high-water mark of its resident memory over all these steps, minus what was resident
after the imports (two steps, as in benchmarks/memory, would differ by some MiB from process to process: holes in the
heap). Processes alternate, old new new old; round by round, so that an interrupted comparison has something of every
row, and the same command continues it. Ratios are old / new, of the medians over rounds of each process's median: of
wall-clock time, of processor time (which a busy machine disturbs less), of peak memory, and of the whole process's
peak; at least 0.98 is wanted.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from process import memory, reset_peak
from tqdm import tqdm

RESULTS = Path(__file__).with_suffix(".jsonl")
HERE = Path(__file__).resolve().parents[2]
SIDES = ("old", "new")
WANTED = 0.98  # old / new
MODELS = ("vae", "introvae", "softintrovae")
COMMON = ("train.duration=1000000it", "train.device=cpu")
KINDS: dict[str, tuple[str, tuple[str, ...], int]] = {  # by the end of a row's name: preset, settings, steps to time
    "32": ("toyfaces32", ("data.limit=256",), 60),
    "32-wide": (
        "toyfaces32",
        ("data.limit=256", "arch.channels=64,128,256", "arch.z_dim=128", "train.batch=32"),
        12,
    ),
    "2d": ("8gaussians", ("train.batch=512",), 200),
}
ROWS = {f"{model}-{kind}": (model, kind) for kind in KINDS for model in MODELS}

Line = dict[str, Any]


def measure(row: str) -> Line:
    """Measures one row with the genzoo that this process imports; works with its interfaces since commit 36b8c2e."""
    import torch

    import genzoo
    from genzoo import Trainer, create_model, resolve
    from genzoo.data import open_dataset

    model, kind = ROWS[row]
    preset, settings, steps = KINDS[kind]
    warmup = () if model == "vae" else ("objective.warmup=0",)
    config = resolve(f"{model}.{preset}", settings=[*COMMON, *settings, *warmup])
    with torch.device("meta"):
        create_model(f"{model}.{preset}").to("meta")  # imports what building and placing a model imports
    open_dataset(config.data, progress=False)  # draws the faces, unless an earlier process has
    imported = memory("VmRSS")
    reset_peak()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, out=folder, progress=False)
        batches, wall, processor = trainer.data(), [], []
        for trainer.step in range(2 + steps):
            began = time.perf_counter(), time.process_time()
            phases = trainer.train_step(batches[trainer.step], trainer.progress)
            wall.append(time.perf_counter() - began[0])
            processor.append(time.process_time() - began[1])
            if trainer.step == 0:
                losses = {k: v.item() for _, logs in phases for k, v in logs.items() if k.startswith("loss/")}
        peak = memory("VmHWM") - imported
    return {
        "steps": steps,
        "wall_s": median(wall[2:]),
        "processor_s": median(processor[2:]),
        "peak_bytes": peak,
        "imported_bytes": imported,
        "first_losses": losses,
        "genzoo": str(Path(genzoo.__file__).resolve().parents[1]),
    }


def measured(row: str, checkout: Path, threads: int) -> Line:
    """Runs `measure` in a fresh process that imports the genzoo of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--measure", row]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    line = json.loads(result.stdout.splitlines()[-1])
    assert line.pop("genzoo") == str(checkout), f"{checkout} was not imported"
    return line


def commit(checkout: Path) -> str:
    """Returns the commit of a checkout.

    Raises:
        ValueError: it is not one of genzoo's, or genzoo/ has changes.
    """
    git = ["git", "-C", str(checkout)]
    try:
        changes = subprocess.run([*git, "status", "--porcelain", "genzoo"], capture_output=True, text=True, check=True)
        found = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{checkout} is not a git checkout") from error
    if not (checkout / "genzoo" / "__init__.py").exists():
        raise ValueError(f"{checkout} is not a checkout of genzoo")
    if changes.stdout:
        raise ValueError(f"{checkout} has changes in genzoo/: commit them, so that the results name what they measure")
    return found.stdout.strip()


def processor_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def known(comparison: Line) -> list[Line]:
    """Returns the lines of commits.jsonl that belong to a comparison."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    return [line for line in lines if comparison.items() <= line.items()]


def missing(lines: list[Line], rows: list[str], rounds: int) -> Iterator[tuple[str, int, str]]:
    """Yields what is still to be measured: row, round, side; in ABBA order."""
    done = {(line["row"], line["round"], line["side"]) for line in lines}
    for turn in range(rounds):
        for row in rows:
            for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
                if (row, turn, side) not in done:
                    yield row, turn, side


def table(lines: list[Line], rows: list[str]) -> str:
    """Markdown: one line per row that both sides have; a ratio below WANTED is bold."""
    head = (
        "| row | rounds | step, ms, old | new | old / new | single rounds | processor time, old / new "
        "| peak, MiB, old | new | old / new | whole process, old / new |"
    )
    text = [head, "|---" * 11 + "|"]
    for row in rows:
        by_round = {side: {x["round"]: x for x in lines if (x["row"], x["side"]) == (row, side)} for side in SIDES}
        shared = sorted(by_round["old"].keys() & by_round["new"].keys())
        if not shared:
            continue
        pairs = [(by_round["old"][turn], by_round["new"][turn]) for turn in shared]
        wall, processor, peak, imported = (
            [median(pair[i][key] for pair in pairs) for i in (0, 1)]
            for key in ("wall_s", "processor_s", "peak_bytes", "imported_bytes")
        )
        whole = [a + b for a, b in zip(peak, imported, strict=True)]
        single = [old["wall_s"] / new["wall_s"] for old, new in pairs]
        text.append(
            f"| {row} | {len(pairs)} | {1e3 * wall[0]:.1f} | {1e3 * wall[1]:.1f} | {_ratio(wall)} "
            f"| {min(single):.3f} to {max(single):.3f} | {_ratio(processor)} "
            f"| {peak[0] / 2**20:,.0f} | {peak[1] / 2**20:,.0f} | {_ratio(peak)} | {_ratio(whole)} |"
        )
        text += [f"\n{row}: the first step's losses differ: {a} and {b}\n" for a, b in _different_losses(pairs[:1])]
    return "\n".join(text)


def _ratio(values: list[float]) -> str:
    ratio = values[0] / values[1]
    return f"{ratio:.3f}" if ratio >= WANTED else f"**{ratio:.3f}**"


def _different_losses(pairs: list[tuple[Line, Line]]) -> Iterator[tuple[dict, dict]]:
    """Yields the losses of checkouts that do not compute the same, so that their times do not compare."""
    for old, new in pairs:
        a, b = old["first_losses"], new["first_losses"]
        if a.keys() != b.keys() or any(abs(a[name] - b[name]) > 1e-3 * abs(a[name]) for name in a):
            yield a, b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, nargs="?", metavar="OLD", help="a git checkout of genzoo")
    parser.add_argument("new", type=Path, nargs="?", metavar="NEW", default=HERE, help="another (default: this one)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=6, help="processes per row and checkout (default: 6)")
    parser.add_argument("--threads", type=int, default=1, help="of a process (default: 1)")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--measure", choices=ROWS, help=argparse.SUPPRESS)  # the task of a process started here
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    if args.old is None:
        parser.error("OLD is missing: give a checkout to compare with, e.g. of `git worktree add ../old COMMIT`")
    checkouts = dict(zip(SIDES, (args.old.resolve(), args.new.resolve()), strict=True))
    try:
        commits = {side: commit(path) for side, path in checkouts.items()}
    except ValueError as error:
        parser.error(str(error))
    machine = {"processor": processor_name(), "cores": os.cpu_count(), "threads": args.threads}
    comparison = commits | machine | {"python": platform.python_version(), "torch": version("torch")}
    todo = [] if args.table else list(missing(known(comparison), args.rows, args.rounds))
    for row, turn, side in tqdm(todo, unit="process", disable=not todo):
        line = {"row": row, "round": turn, "side": side, **measured(row, checkouts[side], args.threads)}
        line |= {"load": os.getloadavg()[0], **comparison}
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
    print(table(known(comparison), args.rows))


if __name__ == "__main__":
    main()
