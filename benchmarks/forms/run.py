"""Which form of an objective should be the default? Paper against official on scikit-learn's digits, all else equal.

    python benchmarks/forms/run.py     # 12 runs, a line of results.jsonl each; 5 minutes of one shared core

Protocol: 12,000 images seen of digits/train (1,500 images, grey, 16x16), the first 4,000 of them as a plain VAE; conv
stacks 16, 32 with BatchNorm, z 16, batch 32, Adam 1e-3, EMA 0.995; seeds 0, 1, 2. IntroVAE: m 60, alpha 0.25 in both
players, beta 10 (paper, with its 1/2) and 5 (official), so that only the hinge's reduction and the warm-up's weights
differ. Soft-IntroVAE: beta_kl 0.2, beta_rec 1, beta_neg 16, so that only the set of generated images differs. Score:
the run's own (in results.jsonl the sliced Wasserstein distance of all 256 pixels, 512 directions) of 256 samples (EMA
weights, eval mode) to 256 of the 297 held-out digits, at the end of the run; lower is better.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from genzoo import Trainer, resolve
from genzoo.files import JsonLines
from genzoo.provenance import versions
from genzoo.runs.scores import PREFIX

COMMON = [
    "train.duration=12k", "train.batch=32", "train.lr=1e-3", "train.ema=0.995", "train.snapshot_every=50%",
    "data.size=16x16", "arch.channels=16,32", "arch.z_dim=16", "objective.warmup=4k",
]  # fmt: skip
CELLS = {
    ("introvae", "paper"): ["objective.margin=60", "objective.beta=10", "objective.alpha_decoder=0.25"],
    ("introvae", "official"): ["objective.margin=60", "objective.beta=5", "objective.alpha_decoder=0.25"],
    ("softintrovae", "paper"): ["objective.beta_kl=0.2", "objective.beta_rec=1", "objective.beta_neg=16"],
    ("softintrovae", "official"): ["objective.beta_kl=0.2", "objective.beta_rec=1", "objective.beta_neg=16"],
}
RESULTS = JsonLines(Path(__file__).with_name("results.jsonl"))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    for (model, form), settings in CELLS.items():
        scores = []
        for seed in range(3):
            run = resolve(
                model, data="digits", settings=[*COMMON, *settings, f"objective.form={form}", f"train.seed={seed}"]
            )
            with tempfile.TemporaryDirectory() as folder:
                lines = JsonLines(Trainer(run, out=folder).fit() / "log.jsonl").read()
            last = {key: value for line in lines for key, value in line.items()}  # the newest value of every curve
            scores += [value for name, value in last.items() if name.startswith(PREFIX)]
            row = {
                "model": model,
                "form": form,
                "seed": seed,
                "settings": [*COMMON, *settings],
                **last,
                "versions": versions(),
            }
            RESULTS.append(row)
        print(
            f"{model} {form}: {statistics.mean(scores):.4f} +- {statistics.stdev(scores):.4f} over seeds 0, 1, 2",
            flush=True,
        )


if __name__ == "__main__":
    main()
