"""Which score without a network ranks a run's snapshots as a Fréchet distance on a classifier's features does?

    python benchmarks/score/run.py --mnist FOLDER      # trains, judges, and prints the tables; skips what is done
    python benchmarks/score/run.py --table             # prints the tables of what results.jsonl holds

Protocol: short runs (batch 16, eight planned snapshots) on three datasets keep 2,000 samples of the averaged weights at
each snapshot, from N(0, I) unless the run's name says gmm. The judge is the Fréchet distance, on the penultimate
features of `classifier:<dataset>` (99.7 % on MNIST), between the first 1,000 samples and up to 2,000 held-out images.
Scores compare the first 512 samples with as many held-out images (digits: all 297 there are). A score is good if its
rank correlation (Spearman) with the judge is high within each run, where it selects the best snapshot, and over all
runs of a dataset. Controls: training images as they are, blurred (3x3 box), averaged in pairs, with the quarters of
each image swapped, and the samples of each run's last snapshot, blurred. The last table shows how much the score varies
from draw to draw.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv2d, pad, relu

from genzoo import Trainer, resolve
from genzoo.data import heldout_split, open_dataset
from genzoo.data.batches import to_float
from genzoo.data.sets import some
from genzoo.evaluation.extractors import Extractor, get_extractor
from genzoo.files import JsonLines, replacing
from genzoo.metrics.frechet import frechet_distance
from genzoo.metrics.frechet import statistics as gaussian
from genzoo.metrics.pyramid import Reference, laplacian_pyramid
from genzoo.metrics.sliced import sliced_wasserstein
from genzoo.noise import generator
from genzoo.provenance import versions
from genzoo.spec import RunConfig
from genzoo.training.evaluators import Weights
from genzoo.training.snapshot import evaluated

RESULTS = JsonLines(Path(__file__).with_name("results.jsonl"))
N_KEPT, N_JUDGED, N_REAL, N_SCORED = 2000, 1000, 2000, 512
COMMON = [
    "train.batch=16", "train.ema=0.995", "train.snapshot_every=12.5%", "train.snapshot_minutes=1000",
    "train.workers=0", "train.keep=1", "train.prior=normal",
]  # fmt: skip
MNIST = ["data.size=28x28", "data.channels=1", "arch.channels=16,32", "arch.z_dim=16", "train.lr=1e-3"]
DIGITS = ["data.size=16x16", "data.channels=1", "arch.channels=16,32", "arch.z_dim=16", "train.lr=1e-3"]
RUNS = {  # name -> model, dataset, settings
    "mnist-vae": ("vae", "mnist", [*MNIST, "objective.beta_rec=10", "train.duration=16k"]),
    "mnist-vae-weak": ("vae", "mnist", [*MNIST, "objective.beta_rec=1", "train.duration=16k"]),
    "mnist-vae-gmm": ("vae", "mnist", [*MNIST, "objective.beta_rec=10", "train.duration=16k", "train.prior=gmm:50"]),
    "mnist-introvae": ("introvae", "mnist", [*MNIST, "objective.beta=20", "objective.margin=35",
                                             "objective.warmup=12k", "train.duration=24k"]),
    "digits-vae": ("vae", "digits", [*DIGITS, "objective.beta=0.2", "objective.beta_rec=1", "train.duration=12k"]),
    "digits-introvae": ("introvae", "digits", [*DIGITS, "objective.margin=60", "objective.beta=10",
                                               "objective.warmup=6k", "train.duration=16k"]),
    "digits-softintrovae": ("softintrovae", "digits", [*DIGITS, "objective.beta_kl=0.2", "objective.beta_rec=1",
                            "objective.beta_neg=16", "objective.warmup=6k", "train.duration=16k"]),
    "toyfaces-vae": ("vae", "toyfaces", ["train.duration=16k"]),
    "toyfaces-introvae": ("introvae", "toyfaces", ["train.duration=32k"]),
}  # fmt: skip


def configured(name: str, data: Mapping[str, str]) -> RunConfig:
    """The configuration of a run; `data` gives folders of the datasets that are not built in."""
    model, dataset, settings = RUNS[name]
    return resolve(model, data=data.get(dataset, dataset), settings=[*COMMON, *settings])


@torch.no_grad()
def keep_samples(trainer: Trainer, folder: Path) -> None:
    """Makes a trainer write NIMG.npz at each snapshot: `samples`, uint8 [N_KEPT, C, H, W], of the shown weights."""
    take = trainer.snapshots.take

    def keep(weights: Weights, position: Callable[[], Mapping[str, Any]], last: bool, save: Callable[[], None]) -> bool:
        cut, here, rng = take(weights, position, last, save), position(), torch.Generator().manual_seed(0)
        with evaluated(weights):
            parts = [weights.shown.sample(100, generator=rng) for _ in range(N_KEPT // 100)]
        samples = torch.cat(parts).clamp(0, 1).mul(255).round().byte().cpu().numpy()
        np.savez(folder / f"{here['nimg']:08d}.npz", samples=samples, seconds=here["seconds"])
        return cut

    trainer.snapshots.take = keep


def snapshots(name: str, out: Path, data: Mapping[str, str]) -> dict[int, Tensor]:
    """The samples of a run by images seen, [N_KEPT, C, H, W] in [0, 1]; trained unless they are there."""
    folder = out / name
    if not folder.exists():
        with replacing(folder) as temporary:
            trainer = Trainer(configured(name, data), out=temporary / "run", progress=False)
            keep_samples(trainer, temporary)
            trainer.fit()
    return {
        int(path.stem): torch.from_numpy(np.load(path)["samples"]).float() / 255
        for path in sorted(folder.glob("*.npz"))
    }


def images(config: RunConfig, n: int, heldout: bool) -> Tensor:
    """Fixed random images of a run's data, [n or fewer, C, H, W] in [0, 1]."""
    split = heldout_split(config.data) if heldout else config.data.split
    dataset = open_dataset(config.data, split=split, progress=False)
    return to_float(some(dataset, n, generator(0, "score")).x, torch.device("cpu")).contiguous()


def blurred(x: Tensor) -> Tensor:
    return avg_pool2d(pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)


def controls(config: RunConfig) -> dict[str, Tensor]:
    real = images(config, N_JUDGED, heldout=False)
    height, width = real.shape[2:]
    return {
        "training images": real,
        "blurred": blurred(real),
        "averaged pairs": (real + real.roll(1, 0)) / 2,
        "swapped quarters": real.roll((height // 2, width // 2), (2, 3)),
    }


# The candidates: (real, fake), [N, C, H, W] each -> a distance.


def thumbnails(real: Tensor, fake: Tensor) -> float:
    """The score before: sliced 2-Wasserstein distance of images that are average-pooled to at most 16x16."""
    return sliced_wasserstein(
        *(adaptive_avg_pool2d(x, (min(x.shape[2], 16), min(x.shape[3], 16))) for x in (real, fake))
    )


def pggan(real: Tensor, fake: Tensor, own: bool = True) -> float:
    """Karras et al. 2018, Section 5: sliced 1-Wasserstein distance of 7x7 patches, mean over the pyramid's levels.

    Args:
        own: normalize each set by its own statistics, as published; else both by those of the real one.
    """
    rng, distances = np.random.default_rng(0), []
    for a, b in zip(laplacian_pyramid(real), laplacian_pyramid(fake), strict=True):
        cut = [patches(x, rng) for x in (a, b)]
        norms = [(x.mean((0, 2, 3), keepdims=True), x.std((0, 2, 3), keepdims=True)) for x in cut]
        x, y = ((z - m) / s for z, (m, s) in zip(cut, norms if own else [norms[0]] * 2, strict=True))
        theta = rng.standard_normal((x[0].size, 512))
        theta /= np.linalg.norm(theta, axis=0)
        x, y = (np.sort((z.reshape(len(z), -1) @ theta).T, axis=1) for z in (x, y))
        distances.append(np.abs(x - y).mean())
    return float(np.mean(distances))


def patches(x: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Sixteen random patches of every image, [16 N, C, 7, 7]."""
    n, _, height, width = x.shape
    top, left = rng.integers(height - 6, size=(n, 16)), rng.integers(width - 6, size=(n, 16))
    return x.unfold(2, 7, 1).unfold(3, 7, 1)[np.arange(n)[:, None], :, top, left].flatten(0, 1).numpy()


def random_network(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance on averaged features of three random convolutions, normalized on the real images."""
    rng, features = generator(0, "random network"), []
    a, b = real - 0.5, fake - 0.5
    for width in (32, 32, 64):
        kernel = torch.randn(width, a.shape[1], 3, 3, generator=rng)
        kernel /= kernel.flatten(1).norm(dim=1)[:, None, None, None]
        a, b = (conv2d(pad(x, (1, 1, 1, 1), mode="reflect"), kernel) for x in (a, b))
        mean, std = a.mean((0, 2, 3), keepdim=True), a.std((0, 2, 3), keepdim=True)
        a, b = (relu((x - mean) / std) for x in (a, b))
        features.append([x.mean((2, 3)) for x in (a, b)])
        a, b = (avg_pool2d(x, 2) for x in (a, b))
    return frechet_distance(*(gaussian(torch.cat(parts, 1)) for parts in zip(*features, strict=True)))


CANDIDATES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "thumbnails": thumbnails,
    "PGGAN": pggan,
    "PGGAN, real norm": lambda real, fake: pggan(real, fake, own=False),
    "random network": random_network,
    "patches": lambda real, fake: statistics.mean(list(Reference(real).distances(fake).values())[:-1]),
    "whole": lambda real, fake: Reference(real).distances(fake)["whole"],
    "pyramid": lambda real, fake: Reference(real).distance(fake),
}


def measure(name: str, out: Path, data: Mapping[str, str]) -> None:
    """Judges and scores the snapshots of a run and its controls; appends a line of results.jsonl for each."""
    config, dataset = configured(name, data), RUNS[name][1]
    done = {(row["run"], row["what"]) for row in RESULTS.read()}
    found = snapshots(name, out, data)
    sets = controls(config) | {f"{nimg:,}": x for nimg, x in found.items()}
    sets["last, blurred"] = blurred(found[max(found)])
    if all((name, what) in done for what in sets):
        return
    judge = get_extractor(f"classifier:{dataset}", data=config.data, progress=False)
    real = images(config, N_REAL, heldout=True)
    truth = gaussian(features(judge, real))
    real = real[torch.randperm(len(real), generator=generator(0, "scored"))[:N_SCORED]]
    reference = Reference(real)
    for what, x in sets.items():
        if (name, what) not in done:
            n = len(real)
            row = {"run": name, "data": dataset, "what": what, "snapshot": what.replace(",", "").isdigit()}
            row["judge"] = frechet_distance(truth, gaussian(features(judge, x[:N_JUDGED])))
            row["scores"] = {key: candidate(real, x[:n]) for key, candidate in CANDIDATES.items()}
            row["draws"] = [reference.distance(part) for part in x.split(n) if len(part) == n]
            RESULTS.append({**row, "n": n, "judge_hash": judge.digest[:12], "versions": versions()})
            print(
                name, what, f"judge {row['judge']:.3g}", {k: round(v, 3) for k, v in row["scores"].items()}, flush=True
            )


def features(judge: Extractor, x: Tensor) -> Tensor:
    return torch.cat([judge(part) for part in x.split(250)])


def tables() -> str:
    """Markdown: correlations by run and dataset, controls, and the noise of the score."""
    rows = RESULTS.read()
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in (row for row in rows if row["snapshot"]):
        groups.setdefault(row["run"], []).append(row)
    for row in (row for row in rows if row["snapshot"]):
        groups.setdefault(f"all of {row['data']}", []).append(row)
    lines = [f"| snapshots of | n | {' | '.join(CANDIDATES)} |", "|---" * (2 + len(CANDIDATES)) + "|"]
    means: dict[str, list[float]] = {}
    for name, group in groups.items():
        judged = [row["judge"] for row in group]
        found = {key: spearmanr(judged, [row["scores"][key] for row in group])[0] for key in CANDIDATES}
        if name in RUNS:
            means = {key: [*means.get(key, []), value] for key, value in found.items()}
        lines.append(f"| {name} | {len(group)} | {' | '.join(f'{value:.2f}' for value in found.values())} |")
    shown = " | ".join(f"{statistics.mean(values):.2f}" for values in means.values())
    runs = [group for name, group in groups.items() if name in RUNS]
    right = [sum(selects(group, key) for group in runs) for key in CANDIDATES]
    lines += [f"| mean over runs | | {shown} |"]
    lines += [
        f"| best snapshot found, of {len(runs)} runs | | {' | '.join(map(str, right))} |",
        "",
        "| data | images | judge | thumbnails | PGGAN | pyramid |",
    ]
    lines.append("|---" * 6 + "|")
    once = {(row["data"], row["what"]): row for row in rows if not row["snapshot"] and row["what"] != "last, blurred"}
    for row in [*once.values(), *(row for group in groups.values() for row in ends(rows, group))]:
        label = row["what"] if (row["data"], row["what"]) in once else f"{row['run']}: {row['what']}"
        numbers = [row["scores"][key] for key in ("thumbnails", "PGGAN", "pyramid")]
        lines.append(f"| {row['data']} | {label} | {row['judge']:.3g} | {' | '.join(f'{x:.3f}' for x in numbers)} |")
    lines += [
        "",
        "| run | n | standard deviation over draws | change from snapshot to snapshot, median |",
        "|---" * 4 + "|",
    ]
    for name, group in groups.items():
        if name in RUNS:
            spread = [statistics.stdev(row["draws"]) for row in group if len(row["draws"]) > 1]
            means_of = [statistics.mean(row["draws"]) for row in group]
            steps = [abs(a - b) for a, b in pairwise(means_of)]
            lines.append(
                f"| {name} | {group[0]['n']} | {statistics.mean(spread):.4f} | {statistics.median(steps):.4f} |"
            )
    return "\n".join(lines)


def selects(group: list[dict[str, Any]], key: str) -> bool:
    """Whether a score is lowest for the snapshot that the judge prefers."""
    return min(group, key=lambda row: row["scores"][key]) is min(group, key=lambda row: row["judge"])


def ends(rows: list[dict[str, Any]], group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A run's last snapshot, as it is and blurred; nothing for a group of several runs."""
    names = {row["run"] for row in group}
    if len(names) > 1:
        return []
    return [group[-1], *(row for row in rows if row["run"] in names and row["what"] == "last, blurred")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--mnist", default="mnist", metavar="FOLDER", help="default: from the hub")
    parser.add_argument("--out", type=Path, default=Path("runs/score"), help="where runs keep their samples")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if not args.table:
        for name in args.runs:
            measure(name, args.out, {"mnist": args.mnist})
    print(tables())


if __name__ == "__main__":
    main()
