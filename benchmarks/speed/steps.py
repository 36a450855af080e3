"""Training steps compared with the published ones, in turns in one process.

    python benchmarks/speed/steps.py                            # all configurations; appends to steps.jsonl
    python benchmarks/speed/steps.py --only 2d --rounds 50
    python benchmarks/speed/steps.py --only 2d --process 400    # whole processes: imports, data, log, checkpoints
    python benchmarks/speed/steps.py --table                    # prints the tables of the newest results, as Markdown

Protocol: the same networks from the same seed, random images or points. After two steps each, the variants take turns,
one step at a time. A ratio compares two steps of one round (the median over rounds), or the best times. A step of ours
is `Trainer.train_step` with everything that it does (noise, gradient norms), but without the weight average, which the
published code lacks. FLOPs are FlopCounterMode's; the share of the peak is relative to a 2048^3 matrix product in fp32,
timed in the same process. Peak memory is that of a separate process over two steps, above what it held before the
networks were built.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from process import memory
from published import Players, Step, introvae, softintrovae
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm, trange

from genzoo import Trainer, resolve
from genzoo.configure import data_shape
from genzoo.files import JsonLines
from genzoo.items import Items
from genzoo.nn import build_decoder, build_encoder
from genzoo.objective import Progress
from genzoo.provenance import versions
from genzoo.spec import RunConfig

RESULTS = JsonLines(Path(__file__).with_name("steps.jsonl"))
FAR = 10**9  # images: no schedule ends within the benchmark


@dataclass(frozen=True)
class Configuration:
    """One row of the table."""

    model: str
    data: str
    batch: int
    rounds: int
    published: dict[str, Step]  # the first is the reference of all ratios
    ours: dict[str, tuple[str, ...]]  # settings of each variant
    settings: tuple[str, ...] = field(default=())


FAST = {"genzoo fp32": (), "genzoo bf16": ("train.precision=bf16",)}
POINTS = {
    "genzoo fp32": (),
    "genzoo fp32, compiled": ("train.compile=true",),
    "genzoo bf16, compiled": ("train.compile=true", "train.precision=bf16"),
}
OFFICIAL = {"margin": 120, "w_rec": 0.05, "w_neg": 0.5, "w_kl": 1.0}

CONFIGURATIONS = {
    "softintrovae 32": Configuration(
        "softintrovae.cifar10", "toyfaces", 32, 9,
        {"published": partial(softintrovae, s=1 / (3 * 32 * 32), b_kl=1, b_rec=1, b_neg=256)}, FAST,
        ("data.size=32,32",),
    ),
    "softintrovae 128": Configuration(
        "softintrovae.cifar10", "toyfaces", 8, 5,
        {"published": partial(softintrovae, s=1 / (3 * 128 * 128), b_kl=1, b_rec=1, b_neg=256)}, FAST,
        ("data.size=128,128", "arch.channels=64,128,256,512,512"),
    ),
    "introvae 256": Configuration(
        "introvae.celebahq256", "toyfaces", 4, 5,
        {
            "published": partial(introvae, patched=False, **OFFICIAL),
            "patched": partial(introvae, patched=True, **OFFICIAL),
        }, FAST,
        ("objective.form=official",),
    ),
    "2d": Configuration(
        "softintrovae.8gaussians", "8gaussians", 512, 60,
        {"published": partial(softintrovae, s=0.5, b_kl=0.3, b_rec=0.2, b_neg=0.9)}, POINTS,
    ),
}  # fmt: skip


def resolved(c: Configuration, settings: tuple[str, ...] = ()) -> RunConfig:
    """A run without warm-up, on a few images: what is timed is the step."""
    common = [f"train.batch={c.batch}", f"train.duration={FAR}", "train.ema=0", "objective.warmup=0", "train.lr_drops="]
    few = ["data.limit=8"] if c.data == "toyfaces" else []
    return resolve(c.model, data=c.data, settings=[*common, *few, *c.settings, *settings])


def make(c: Configuration, variant: str, folder: str) -> Callable[[], object]:
    """Returns a function that runs the next step of a variant; all variants have the same first weights and images."""
    run = resolved(c, c.ours.get(variant, ()))
    shape = data_shape(run)
    x = torch.rand(c.batch, *shape, generator=torch.Generator().manual_seed(0))
    if variant in c.published:
        torch.manual_seed(0)
        return partial(
            c.published[variant],
            Players(build_encoder(shape, run.arch), build_decoder(shape, run.arch), run.arch.z_dim),
            x,
        )
    trainer = Trainer(run, out=Path(folder) / variant, progress=False)
    parts = [Items(x if len(shape) == 1 else (255 * x).to(torch.uint8))]
    steps = itertools.count()
    return lambda: trainer.train_step(parts, Progress(next(steps), c.batch, FAR))


def seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def peak_flops() -> float:
    """FLOP/s of a large fp32 matrix product: the best of five."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(5))


def flops(step: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak_memory(configuration: str, variant: str) -> int:
    """Peak memory of two steps, in bytes: of a fresh process, above what it held before the networks were built."""
    command = [sys.executable, __file__, "--memory", configuration, variant]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def print_peak_memory(configuration: str, variant: str) -> None:
    before = memory("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        step = make(CONFIGURATIONS[configuration], variant, folder)
        step(), step()
    print(memory("VmHWM") - before)


def measure(name: str, rounds: int) -> list[dict]:
    """One row per variant of a configuration."""
    c = CONFIGURATIONS[name]
    names = [*c.published, *c.ours]
    times: dict[str, list[float]] = {variant: [] for variant in names}
    with tempfile.TemporaryDirectory() as folder:
        steps = {variant: make(c, variant, folder) for variant in names}
        counted = {variant: flops(step) for variant, step in steps.items() if "compiled" not in variant}
        for step in tqdm(steps.values(), desc=f"{name}: warming up", leave=False):
            step(), step()  # compiles, too
        peak = peak_flops()
        for _ in trange(rounds, desc=name, leave=False):
            for variant, step in steps.items():
                times[variant].append(seconds(step))
    reference = times[names[0]]
    protocol = {
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "versions": versions(),
        "gemm_gflops": round(peak / 1e9),
    }
    return [
        {
            "configuration": name,
            "batch": c.batch,
            "variant": variant,
            "median_s": statistics.median(taken),
            "best_s": min(taken),
            "ratio_median": statistics.median(a / b for a, b in zip(reference, taken, strict=True)),
            "ratio_best": min(reference) / min(taken),
            "gflop": counted[variant] / 1e9 if variant in counted else None,
            "peak_memory_mib": round(peak_memory(name, variant) / 2**20),
            **protocol,
        }
        for variant, taken in times.items()
    ]


def whole_process(name: str, steps: int) -> dict:
    """Times a whole process (imports, data, log, weight average, two snapshots) and its steps alone, in seconds."""
    c = CONFIGURATIONS[name]
    settings = (
        *c.settings,
        f"train.batch={c.batch}",
        "objective.warmup=0",
        "train.lr_drops=",
        f"train.duration={steps}it",
    )
    chosen = [part for text in (*settings, "train.snapshot_every=50%") for part in ("--set", text)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "genzoo",
            "train",
            c.model,
            "--data",
            c.data,
            *chosen,
            "--out",
            f"{folder}/run",
        ]
        taken = seconds(lambda: subprocess.run(command, capture_output=True, check=True))
        lines = JsonLines(Path(folder, "run", "log.jsonl")).read()
        step = make(c, "genzoo fp32", folder)
        step(), step()
        alone = steps * statistics.median(seconds(step) for _ in range(10))
    logged = {"in_fit_s": lines[-1]["seconds"], "steps_alone_s": alone}
    return {
        "configuration": name,
        "process": True,
        "steps": steps,
        "batch": c.batch,
        "process_s": taken,
        **logged,
        "versions": versions(),
    }


def process_table(rows: list[dict]) -> str:
    """Markdown, of the newest row of each configuration."""
    lines = [
        "| `genzoo train` | steps | whole process, s | from the first step to the last, s | the steps alone, s |",
        "|---|---|---|---|---|",
    ]
    for row in {row["configuration"]: row for row in rows if "process" in row}.values():
        times = " | ".join(f"{row[key]:.1f}" for key in ("process_s", "in_fit_s", "steps_alone_s"))
        lines.append(f"| {row['configuration']}, batch {row['batch']} | {row['steps']} | {times} |")
    return "\n".join(lines)


def table(rows: list[dict]) -> str:
    """Markdown, of the newest row of each variant."""
    newest = {(row["configuration"], row["variant"]): row for row in rows if "variant" in row}
    lines = [
        "| configuration | variant | step, ms (median, best) | images/s | times published (median, best) "
        "| GFLOP | share of peak | peak MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in newest.values():
        share = f"{row['gflop'] / row['best_s'] / row['gemm_gflops']:.0%}" if row["gflop"] else "not counted"
        gflop = f"{row['gflop']:.1f}" if row["gflop"] else "not counted"
        lines.append(
            f"| {row['configuration']}, batch {row['batch']} | {row['variant']} "
            f"| {1e3 * row['median_s']:.0f}, {1e3 * row['best_s']:.0f} | {row['batch'] / row['median_s']:.3g} "
            f"| **{row['ratio_median']:.2f}**, {row['ratio_best']:.2f} | {gflop} | {share} | {row['peak_memory_mib']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CONFIGURATIONS, action="append", help="one configuration; may be repeated")
    parser.add_argument("--rounds", type=int, help="turns of every variant (default: the configuration's)")
    parser.add_argument(
        "--process", type=int, metavar="STEPS", help="instead: time whole `genzoo train` processes of STEPS steps"
    )
    parser.add_argument("--table", action="store_true", help="print the table of the newest results; measure nothing")
    parser.add_argument(
        "--memory", nargs=2, metavar=("CONFIGURATION", "VARIANT"), help="print the peak bytes of one variant"
    )
    args = parser.parse_args()
    if args.memory:
        return print_peak_memory(*args.memory)
    if not args.table:
        for name in args.only or CONFIGURATIONS:
            rows = (
                [whole_process(name, args.process)]
                if args.process
                else measure(name, args.rounds or CONFIGURATIONS[name].rounds)
            )
            RESULTS.append(*rows)
    rows = RESULTS.read()
    print(table(rows), process_table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
