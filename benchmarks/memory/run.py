"""How much memory a training step needs at each resolution, and how good the estimate of `genzoo train --dry-run` is.

    python benchmarks/memory/run.py            # measures the cells that results.jsonl lacks, then prints the table
    python benchmarks/memory/run.py --table    # prints only the table, with the estimates of the present code

Protocol: `genzoo train introvae --res R` with `objective.warmup=0` on 16 of the embedded toyfaces, on the CPU, one
thread. A cell is a fresh process that imports everything, resets the kernel's high-water mark of its resident memory
(Linux: /proc/self/clear_refs), builds the trainer, and runs two steps, the second of which has Adam's moments from its
start. Peak: high-water mark at the end minus resident memory after the imports. Saving and scoring are not part of a
step. Seconds are those of the second step. Two checkouts are compared by benchmarks/speed/commits.py.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from genzoo import resolve
from genzoo.files import JsonLines
from genzoo.spec import RunConfig

RESULTS = JsonLines(Path(__file__).with_name("results.jsonl"))
STEPS, IMAGES = 2, 16
PLAIN, RECOMPUTE, CHECKPOINTING = (), ("objective.recompute=true",), ("train.checkpointing=true",)
BOTH = RECOMPUTE + CHECKPOINTING
FAST = "arch.encoder=shuffle", "arch.decoder=shuffle"  # the networks of `--budget 3min`
CELLS = [  # side, batch, options
    *((32, 64, options) for options in (PLAIN, BOTH)),
    *((32, 32, options) for options in (PLAIN, (*FAST, "arch.channels=16,48,96"))),
    *((64, 32, options) for options in (PLAIN, (*FAST, "arch.channels=16,24,48,96"))),
    *((128, 4, options) for options in (PLAIN, BOTH)),
    *((256, 2, options) for options in (PLAIN, RECOMPUTE, CHECKPOINTING, BOTH)),
    *((512, 2, options) for options in (PLAIN, BOTH)),
    *((1024, 2, options) for options in (PLAIN, BOTH)),
]


def configuration(side: int, batch: int, options: tuple[str, ...]) -> RunConfig:
    fixed = [
        "objective.warmup=0",
        f"train.batch={batch}",
        f"data.limit={IMAGES}",
        "train.device=cpu",
        "train.ema=0.999",  # as it was measured
    ]
    return resolve("introvae", res=(side, side), settings=[*fixed, *options])


def resident(key: str) -> int:
    """VmRSS, or its high-water mark VmHWM, of this process in bytes."""
    return next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(key)
    )


def measure(side: int, batch: int, options: tuple[str, ...]) -> dict:
    """Measures one cell, in this process."""
    import numpy as np
    import torch

    from genzoo.factory import create_model
    from genzoo.items import Items
    from genzoo.provenance import commit, versions
    from genzoo.training.trainer import Trainer

    torch.set_num_threads(1)
    with torch.device("meta"):
        create_model("introvae").to("meta")  # imports what building and placing a model imports
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(configuration(side, batch, options), out=folder, progress=False)
        for trainer.step in range(STEPS):
            start = time.perf_counter()
            items = Items(trainer.dataset.batch(np.arange(batch) % IMAGES))
            phases = trainer.train_step([items], trainer.progress)
            seconds = time.perf_counter() - start
    losses = {
        name: value.item() for _, scalars in phases for name, value in scalars.items() if name.startswith("loss/")
    }
    machine = {"device": "cpu", "threads": torch.get_num_threads(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    return {
        "side": side, "batch": batch, "options": options,
        "peak_bytes": resident("VmHWM") - before, "seconds": round(seconds, 2),
        "steps": STEPS, **losses, **machine, "commit": commit(), "versions": versions(),
    }  # fmt: skip


def rows() -> list[dict]:
    return RESULTS.read()


def table() -> str:
    from genzoo.training.plan import estimate

    lines = [
        "| resolution | batch | options | peak, measured | estimate | estimate / measured | seconds a step |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows(), key=lambda row: (row["side"], -row["batch"], len(row["options"]), row["options"])):
        estimated = estimate(configuration(row["side"], row["batch"], tuple(row["options"]))).total
        names = " + ".join(option.partition(".")[2].removesuffix("=true") for option in row["options"]) or "none"
        mib = [f"{size / 2**20:,.0f} MiB" for size in (row["peak_bytes"], estimated)]
        ratio = f"{estimated / row['peak_bytes']:.2f}"
        lines.append(f"| {row['side']} | {row['batch']} | {names} | {mib[0]} | {mib[1]} | {ratio} | {row['seconds']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--cell", type=int, help=argparse.SUPPRESS)  # the task of a process started here
    args = parser.parse_args()
    if args.cell is not None:
        print(json.dumps(measure(*CELLS[args.cell])))
        return
    if not args.table:
        from tqdm import tqdm

        done = {(row["side"], row["batch"], tuple(row["options"])) for row in rows()}
        for cell in tqdm([i for i, cell in enumerate(CELLS) if cell not in done], unit="cell"):
            command = [sys.executable, __file__, "--cell", str(cell)]
            result = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
            RESULTS.append(json.loads(result.stdout.splitlines()[-1]))
    print(table())


if __name__ == "__main__":
    main()
