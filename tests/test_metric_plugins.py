"""A third-party metric: another distribution offers one through the entry-point group `genzoo.metrics`."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT, tiny_run

from genzoo import Trainer
from genzoo.metrics.inputs import Images
from genzoo.metrics.registry import Result, Value, list_metrics, metric

METRIC = """
import torch
from genzoo.metrics.inputs import Images
from genzoo.metrics.registry import Result, Value, metric


@metric(
    "brightness",
    inputs=Images,
    values={"brightness": Value("brightness", "higher")},
    definition="Mean pixel value of {n} samples.",
    examples=("brightness1k_train",),
)
def brightness(images: Images) -> Result:
    samples = torch.cat(list(images.generate(images.n)))
    return Result({"brightness": samples.mean().item()}, details={"n_fake": len(samples)})
"""


def install(site: Path, name: str, code: str, target: str) -> None:
    """Writes what pip leaves of a distribution with one module and one entry point."""
    info = site / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[genzoo.metrics]\n{name} = {target}\n")


COMMANDS = """
from genzoo.cli import main

assert main(["eval", "run", "--metrics", "brightness30_train,rec10_test"]) == 0
assert main(["eval", "--list"]) == 0
assert main(["eval", "run", "--metrics", "brightnes30_train"]) == 2
"""


def test_a_metric_of_another_distribution_scores_a_run(tmp_path: Path, genzoo_command: Callable) -> None:
    """In another process, so that no other test has the metric; a broken distribution beside it is named."""
    site = tmp_path / "site"
    install(site, "brightness_metric", METRIC, "brightness_metric:brightness")
    install(site, "broken_metric", "import no_such_module", "broken_metric")
    Trainer(tiny_run("vae", "data.name=digits", "data.size=8,8"), out="run", progress=False).fit()
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(site)))}
    done = genzoo_command(["-c", COMMANDS], env=env)
    assert done.returncode == 0, done.stderr

    first, second = (json.loads(line) for line in Path("run/eval.jsonl").read_text().splitlines())
    assert 0 < first["values"]["brightness"] < 1 and first["details"]["n_fake"] == 30
    assert first["details"]["definition"] == "Mean pixel value of 30 samples."
    assert second["protocol"] == "rec10_test"
    assert "brightness1k_train" in done.stdout and "fid50k_train" in done.stdout
    error = done.stderr.strip().splitlines()[-1]
    assert "No protocol is called 'brightnes30_train'. Did you mean brightness" in error
    for message in (done.stdout, error):
        assert "of distribution broken_metric 1.2 cannot be loaded (ModuleNotFoundError" in message


def test_a_word_is_used_once_and_can_be_followed_by_a_number() -> None:
    assert list_metrics()
    declared = {"inputs": Images, "values": {"x": Value("x")}, "definition": "None."}
    with pytest.raises(ValueError, match="There is a metric 'rec' already"):
        metric("rec", **declared)(lambda images: Result({}))
    with pytest.raises(ValueError, match="There is a metric .fid. already"):
        metric("my", inception="fid", **declared)(lambda images: Result({}))
    for word in ("Rec", "top5", "", "a-b"):
        with pytest.raises(ValueError, match="starts and ends with a letter"):
            metric(word, **declared)
    assert "my" not in {one.word for one in list_metrics()}
