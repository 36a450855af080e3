"""Several processes on one machine, through a real launcher."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, TINY
from safetensors.torch import load_file

from genzoo import Trainer, resolve


@pytest.mark.parametrize(("model", "extra"), [("introvae", ("objective.form=official",)), ("softintrovae", ())])
def test_two_processes_equal_one(tmp_path, model, extra):
    """Same global batch, no BatchNorm, five steps: the weights agree to 1e-5, and the replicas' logs are written once."""
    settings = [*TINY, "objective.warmup=1it", "arch.norm=none", "train.duration=40", "train.device=cpu", *extra]
    args = ["-m", "genzoo", "train", model, *(part for text in settings for part in ("--set", text)), "--out"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for launcher, out in (([sys.executable], "one"), (two, "two")):
        done = subprocess.run([*launcher, *args, out], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, both = (load_file(tmp_path / out / "model" / "diffusion_pytorch_model.safetensors") for out in ("one", "two"))
    assert max((one[key] - both[key]).abs().max().item() for key in one) < 1e-5
    assert len((tmp_path / "one" / "log.jsonl").read_text().splitlines()) == len((tmp_path / "two" / "log.jsonl").read_text().splitlines())


def test_two_processes_score_as_one(tmp_path, digits_classifier):
    """The features of 250 samples and of the split, extracted in turns; one line is written."""
    settings = (*TINY, "data.size=8,8", "arch.channels=8", "data.channels=1", "train.duration=40")
    Trainer(resolve("vae", data="digits", settings=settings), out=tmp_path / "run", progress=False).fit()
    args = ["-m", "genzoo", "eval", "run", "--metrics", "fd_classifier_digits_250_train,elbo50_test", "--out"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    found = {}
    for launcher, out in (([sys.executable], "one"), (two, "two")):
        env["GENZOO_CACHE"] = str(tmp_path / f"cache-{out}")  # or the second would find the first's features
        shutil.copytree(digits_classifier, tmp_path / f"cache-{out}" / "classifiers" / digits_classifier.name)
        done = subprocess.run([*launcher, *args, out], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[out] = [json.loads(line)["values"] for line in (tmp_path / out).read_text().splitlines()]
    assert len(found["two"]) == 2
    for one, both in zip(found["one"], found["two"], strict=True):
        assert both == pytest.approx(one, rel=1e-5)
