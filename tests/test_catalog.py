"""Short names: datasets that other distributions and scripts add."""

import subprocess
import sys

import pytest
from distributions import installed
from helpers import environment
from sample_data import refusal

from genzoo.cli import main
from genzoo.data import catalog, dataset, find_entry


@pytest.fixture(autouse=True)
def cache_root(tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


PLUGIN = """
import numpy as np

from genzoo.data import Entry, dataset


class Stripes:
    name, splits = "stripes", ("train", "test")

    def source(self, split):
        from genzoo.data.arrays import ArraySource
        from genzoo.data.labels import class_label

        numbers = np.arange(40) % 4
        images = np.stack([np.full((3, 8, 8), 60 * number, np.uint8) for number in numbers])
        return ArraySource(images, f"stripes/{split}", "1", {"label": class_label(numbers, ["a", "b", "c", "d"])})


@dataset(
    Entry(
        name="stripes", kind="embedded", what="four grays", images=80, size=(8, 8), terms="generated",
        labels={"label": 4}
    )
)
def open_stripes(config):
    return Stripes()
"""

SCRIPT = """
import torch
from genzoo.data.embedded.points import point_set

@point_set("spot", "one point", extent=1.5)
def spot(n, generator):
    return torch.rand((n, 2), generator=generator)

assert find_entry("spot").extent == 1.5 and "spot" in [entry.name for entry in list_datasets()]
assert open_dataset(DataConfig(name="spot")).draw(3, torch.Generator()).shape == (3, 2)
assert open_dataset(DataConfig(name="spot", limit=5)).size == 5
"""


@pytest.mark.process
def test_a_dataset_of_another_distribution_is_listed_opened_and_trained_on(monkeypatch, tmp_path, genzoo_command):
    """And a point set that a script registers; in other processes, so that neither stays registered."""
    site = tmp_path / "site"
    with installed(monkeypatch, site, catalog.GROUP, {"stripes": "genzoo_stripes:open_stripes"}, genzoo_stripes=PLUGIN):
        pass  # which leaves the distribution in its folder, for the other process
    env = environment(site)
    listed = """
import sys
from genzoo.data import find_entry, list_datasets
assert find_entry("stripes").labels == {"label": 4} and "stripes" in [entry.name for entry in list_datasets()]
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", listed], cwd=tmp_path, env=env, check=True)
    trained = """
from genzoo import Trainer, resolve
from genzoo.data import find_entry, heldout_split, list_datasets, open_dataset
from genzoo.spec import DataConfig
data = open_dataset(DataConfig(name="stripes", limit=8))
assert data.size == 8 and data.classes("label") == ("a", "b", "c", "d") and data.shape == (3, 8, 8)
assert heldout_split(DataConfig(name="stripes")) == "test"
small = ["arch.channels=4", "arch.z_dim=2", "train.batch=4", "train.duration=2it"]
run = resolve("vae", data="stripes", settings=["data.size=8x8", *small])
Trainer(run, out="run", progress=False).fit()
"""
    done = genzoo_command(["-c", trained + SCRIPT], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "config.json").exists()


def test_a_broken_dataset_is_named_and_hides_no_other(monkeypatch, tmp_path, capsys):
    points = {"broken": "genzoo_broken:open_broken", "plain": "genzoo_plain:open_plain"}
    sources = {"genzoo_broken": "import no_such_module", "genzoo_plain": "def open_plain(config): ..."}
    with installed(monkeypatch, tmp_path / "site", catalog.GROUP, points, **sources):
        assert "'broken' of distribution elsewhere 1.0 cannot be loaded" in refusal("broken")
        assert "no_such_module" in refusal("broken") and "decorated with genzoo.data.dataset" in refusal("plain")
        assert main(["list", "data"]) == 0
    out, err = capsys.readouterr()
    assert "digits" in out and "cifar10" in out
    assert len(err.splitlines()) == 2 and "'broken' of distribution" in err and "'plain' of distribution" in err


def test_a_name_that_is_taken_is_refused(monkeypatch, tmp_path):
    source = {"genzoo_digits": "def open_digits(config): ..."}
    with installed(monkeypatch, tmp_path / "site", catalog.GROUP, {"digits": "genzoo_digits:open_digits"}, **source):
        assert "offered by genzoo and distribution elsewhere 1.0: uninstall one" in refusal("digits")
    entry = find_entry("cifar10")
    with pytest.raises(ValueError, match="'cifar10' is registered already"):
        dataset(entry)(lambda config: None)
