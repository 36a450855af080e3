"""The complete training state, by name: saved, restored and reset together."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from genzoo.configure import to_json
from genzoo.data import Dataset
from genzoo.errors import UsageError
from genzoo.provenance import versions
from genzoo.runs.checkpoint import Checkpoints
from genzoo.runs.data import without_files
from genzoo.runs.folder import CHECKPOINTS, FORMAT, RunFolder, damaged_lines, parsed, refuse_changes
from genzoo.spec import RunConfig
from genzoo.training.launch import Processes

RUN = "run"  # the part that checkpoints of earlier versions lack


class Stateful(Protocol):
    """Anything that later steps depend on."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


class TrainingState:
    """Parts by name. Each is registered once; a checkpoint has one file pair per part.

    Args:
        checkpoints: where the state is saved.
        acc: all processes restore together; the first one saves.
    """

    def __init__(self, checkpoints: Checkpoints, acc: Processes):
        self.checkpoints, self._acc = checkpoints, acc
        self._parts: dict[str, Stateful] = {}
        self._initial: dict[str, Callable[[], Mapping[str, Any]]] = {}

    def add(self, name: str, part: Stateful, initial: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Registers a part.

        Args:
            name: becomes a file name.
            part: its state is JSON values and tensors, in nested dicts and lists.
            initial: recomputes the state before the first step; by default a copy of the present state is kept, which
                suits small parts.
        """
        if initial is None:
            first = copy.deepcopy(dict(part.state_dict()))
            initial = lambda: copy.deepcopy(first)  # noqa: E731
        self._parts[name], self._initial[name] = part, initial

    def save(self, step: int) -> None:
        self.checkpoints.save(step, {name: part.state_dict() for name, part in self._parts.items()})

    def restore(self) -> int:
        """Restores the newest intact checkpoint in every process and returns its step; 0, and no change, without one.

        Raises:
            UsageError: the processes see different checkpoints, none of them is intact, or a part refuses its state.
        """
        if self._acc.is_main_process:
            self.checkpoints.repair()
        self._acc.wait_for_everyone()
        step, state, complaints = self.checkpoints.load_latest() or (0, None, [])
        steps = self._acc.gather(torch.tensor([step], device=self._acc.device)).tolist()
        if min(steps) != max(steps):
            raise UsageError(
                f"Processes found checkpoints of different steps ({steps}): "
                f"put {self.checkpoints.folder.parent} on a disk that all nodes share."
            )
        for complaint in complaints:
            self._acc.print(f"warning: {complaint}")
        if state is None:
            return step
        if missing := self._parts.keys() - state.keys() - {RUN}:
            raise UsageError(
                f"The checkpoints in {self.checkpoints.folder} lack {', '.join(sorted(missing))}: "
                "choose a different --out, or the version of genzoo that wrote them."
            )
        for name, part in self._parts.items():
            if name in state:
                self._load(name, part, state[name])
        return step

    def _load(self, name: str, part: Stateful, state: Mapping[str, Any]) -> None:
        try:
            part.load_state_dict(state)
        except UsageError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(
                f"The checkpoints in {self.checkpoints.folder} have another {name} ({type(error).__name__}: {reason}): "
                "choose a different --out, or the versions that wrote them, which run.json lists."
            ) from error

    def resume(self, folder: RunFolder, lengths: Callable[[int], tuple[int, int] | None]) -> int:
        """Restores the newest intact checkpoint, and removes from the folder what came after it; returns its step.

        Args:
            folder: the run's.
            lengths: returns, for the restored step, those of its log and events that are kept, see `RunFolder.lengths`;
                None where the step decides.

        Raises:
            UsageError: see `restore`.
        """
        step = self.restore()
        if self._acc.is_main_process:
            for sentence in damaged_lines(folder.path):
                self._acc.print(f"warning: {sentence}")
            folder.rewind(step, lengths(step))
            self.checkpoints.rewind(step)
            self.checkpoints.trim()
        self._acc.wait_for_everyone()  # the others read what is left
        return step

    def reset(self) -> None:
        """Returns every part to its state before the first step."""
        for name, part in self._parts.items():
            part.load_state_dict(self._initial[name]())


class RunIdentity:
    """Stateful: the settings of a run, so that a checkpoint says by itself what it belongs to.

    Args:
        config: of the run.
        folder: of the run.
    """

    def __init__(self, config: RunConfig, folder: RunFolder):
        self._config, self._folder = config, folder

    def state_dict(self) -> dict[str, Any]:
        data = self._folder.data and without_files(self._folder.data)
        return {"config": to_json(self._config), "versions": [versions()], "sizes": self._folder.sizes(), "data": data}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Compares the settings with those that the checkpoint was saved with.

        Raises:
            UsageError: they would make it another run, or a newer genzoo wrote them.
        """
        saved = parsed(self._folder.path / CHECKPOINTS, {"format": FORMAT, **state_dict})
        refuse_changes(self._folder.path, saved, self._config)


class DataIdentity:
    """Stateful: which data a run trains on. Which items a step uses depends on their number and order.

    Args:
        dataset: the data of this process.
        warn: prints one line.
        name: of the data as it was typed.
    """

    def __init__(self, dataset: Dataset, warn: Callable[[str], None], name: str):
        self._dataset, self._warn, self._name = dataset, warn, name

    def state_dict(self) -> dict[str, Any]:
        return {"size": self._dataset.size, "fingerprint": self._dataset.fingerprint}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Compares the data with that of the saved run.

        Raises:
            UsageError: it has another number of items.
        """
        if state_dict["fingerprint"] == self._dataset.fingerprint:
            return
        size, saved = self._dataset.size, state_dict["size"]
        if saved != size:
            raise UsageError(
                f"{self._name} has {_count(size)} items and had {_count(saved)} when this run was "
                "saved: restore them, or choose a different --out."
            )
        self._warn(f"warning: the files of {self._name} have changed since this run was saved")


def _count(size: int | None) -> str:
    return "endless" if size is None else f"{size:,}"
