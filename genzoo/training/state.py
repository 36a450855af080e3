"""Everything that a run's next step depends on: to a checkpoint, from one, and back to the beginning."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from genzoo.errors import UsageError
from genzoo.resolve import build
from genzoo.training.optim import load_state

if TYPE_CHECKING:
    from genzoo.training.trainer import Trainer


class RunState:
    """The state of a trainer: networks, average, optimisers, best score, ladder and controllers. Made before the first step."""

    def __init__(self, trainer: "Trainer"):
        self.t = trainer
        self._controllers = {name: controller.state() for name, controller in trainer.controllers.items()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: nested dicts and lists of tensors and JSON values."""
        t = self.t
        averaged = {"ema": t.ema.state_dict()} if t.ema is not None else {}
        optimizers = {f"optimizer-{name}": optimizer.state_dict() for name, optimizer in t.optimizers.items()}
        controllers = {name: controller.state() for name, controller in t.controllers.items()}
        progress = {"step": t.step, "best": t.snapshots.best, "ladder": t.recovery.state(), "controllers": controllers}
        progress["data"] = {"size": t.dataset.size, "fingerprint": t.dataset.fingerprint}
        return {"model": t.model.state_dict(), **averaged, **optimizers, "progress": progress}

    def load(self) -> int:
        """Puts every process where the newest whole checkpoint left it, if there is one; returns its step.

        Raises:
            UsageError: the processes see different checkpoints, none of them is whole, or the data has another size than when it was saved.
        """
        t = self.t
        step, state, complaints = t.checkpoints.load_latest() or (0, {}, [])
        steps = t.acc.gather(torch.tensor([step], device=t.acc.device)).tolist()
        if min(steps) != max(steps):
            raise UsageError(
                f"Processes found checkpoints of different steps ({steps}): put {t.folder.path} on a disk that all nodes share."
            )
        for complaint in complaints:
            t.acc.print(f"warning: {complaint}")
        if state:
            self._check_data(state["progress"].get("data"))
            t.model.load_state_dict(state["model"])
            if t.ema is not None:
                t.ema.load_state_dict(state["ema"])
            for name, optimizer in t.optimizers.items():
                load_state(optimizer, state[f"optimizer-{name}"])
            t.snapshots.best = state["progress"]["best"]
            t.recovery.load(state["progress"].get("ladder", {}))
            for name, controller in t.controllers.items():
                controller.load_state(state["progress"]["controllers"][name])
        return step

    def _check_data(self, saved: Mapping[str, Any] | None) -> None:
        """Compares the data with what the run began on; which images a step sees depends on their number and order."""
        data = self.t.dataset
        if saved is None or saved["fingerprint"] == data.fingerprint:
            return
        if saved["size"] != data.size:
            raise UsageError(
                f"{data.name} has {data.size:,} items and had {saved['size']:,} when this run was saved: put them back, or give another --out."
            )
        self.t.acc.print(f"warning: the files of {data.name} have changed since this run was saved")

    def rewind(self) -> None:
        """Takes out of the run folder what came after the present step. For one process."""
        self.t.folder.rewind(self.t.step)
        self.t.checkpoints.rewind(self.t.step)

    def begin(self) -> None:
        """Goes back to where the run began."""
        t = self.t
        torch.manual_seed(t.config.train.seed)
        fresh = build(t.config, t.dataset.shape).state_dict()
        t.model.load_state_dict(fresh)
        if t.ema is not None:
            t.ema.module.load_state_dict(fresh)
            t.ema.n_averaged.zero_()
        for name, controller in t.controllers.items():
            controller.load_state(self._controllers[name])
        for optimizer in t.optimizers.values():
            optimizer.state.clear()
        t.snapshots.best = math.inf
