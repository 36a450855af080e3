"""`--fast` uses the settings that are known to be fast on a device, and no others."""

import pytest
import torch

from genzoo import resolve
from genzoo.training.precision import fast_settings


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize(("data", "compiles"), [("rings", True), ("digits", False)])
def test_a_cpu_compiles_perceptrons_and_takes_bf16_with_matrix_units(data, compiles, amx, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    chosen = fast_settings(resolve("softintrovae", data=data))
    assert ("train.precision" in chosen, "train.compile" in chosen) == (amx, compiles)


def test_what_a_compiled_step_cannot_do_is_not_compiled(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fast_settings(resolve("vae", data="rings", settings=["train.checkpointing=true"])) == {}
    assert fast_settings(resolve("softintrovae", data="rings", settings=["objective.beta_neg=auto"])) == {}
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        without.delenv("CXX", raising=False)
        assert fast_settings(resolve("vae", data="rings")) == {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert fast_settings(resolve("vae", data="rings")) == {}
