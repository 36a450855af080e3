"""Several processes on one machine, through a real launcher."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, TINY
from safetensors.torch import load_file


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
