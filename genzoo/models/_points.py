"""The recipe that the 2-D presets of all models share: networks and schedule of Soft-IntroVAE's published code, so that
only the losses differ.
"""

from typing import Any

from genzoo.spec import Preset


def points_preset(name: str, objective: dict[str, Any], source: str) -> Preset:
    """Returns the preset of a 2-D set: an objective's own weights on the shared recipe."""
    return Preset(
        data={"name": name},
        arch={"z_dim": 2, "encoder": "mlp", "decoder": "mlp"},
        objective=objective,
        train={
            "batch": 512,
            "duration": "30000it",
            "lr_drops": ("10000it", "15000it"),
            "lr_factor": 0.1,
            "snapshot_every": "10%",
            "log_every": 50,
            "ema": 0.0,
        },
        source=source,
    )
