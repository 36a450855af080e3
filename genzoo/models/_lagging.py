"""A copy of a network that lags behind it, held by an objective and saved with the run."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.objective import Progress


class Lagging(nn.Module):
    """Base of an objective with a target: a network as it was when the present epoch began. It is never trained.

    An objective is built without the networks, so the copy is made at the first step, of the initial weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.target: nn.Module | None = None
        self._restored: Mapping[str, Tensor] = {}

    def renew(self, net: nn.Module, at: Progress) -> None:
        """Copies the network at the first step of each epoch. To be called before any update of a step.

        Raises:
            UsageError: the data are endless.
        """
        if at.epoch_nimg is None:
            raise UsageError(
                "objective.bootstrap=true copies the decoder once an epoch, and this data is endless: leave it out."
            )
        if self.target is None:
            self.target = _copied(net)
            self.target.load_state_dict(self._restored or net.state_dict())
        per_step = at.batch * at.parts
        if at.nimg // at.epoch_nimg != (at.nimg - per_step) // at.epoch_nimg:
            self.target.load_state_dict(net.state_dict())

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Returns the target's weights; none before the first step."""
        return {} if self.target is None else dict(self.target.state_dict())

    def load_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]  (restored later)
        self, state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any
    ) -> None:
        """Restores what `state_dict` returned, at the next step."""
        self.target, self._restored = None, state_dict


def _copied(net: nn.Module) -> nn.Module:
    """A copy that calls its own forward, in fp32: a wrapper for autocast would call the network's."""
    target = copy.deepcopy(net)
    target.__dict__.pop("forward", None)
    return target.requires_grad_(False)
