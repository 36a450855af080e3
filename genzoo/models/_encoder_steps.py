"""Several updates of the encoder for each of the decoder, as a GAN's critic may have them (ours)."""

from collections.abc import Callable
from typing import Any

from genzoo.objective import Fresh, Step, Update


def encoder_steps(iteration: Callable[[Any], Step], batch: Any, n: int) -> Step:
    """n - 1 times the first update of an iteration, each on a fresh real batch, then a whole iteration on `batch`.

    So every step has the same phases and the same curves, and takes n real batches; `Objective.fresh` is n - 1. In a
    warm-up an iteration has one update, of both networks, and all n batches train them.

    Args:
        iteration: (what `Objective.draw` made) -> an iteration of the algorithm, whose encoder is updated first.
        batch: of the step.
        n: updates of the encoder in one step.
    """
    for _ in range(n - 1):
        yield from _first_update(iteration((yield Fresh())))
    yield from iteration(batch)


def _first_update(step: Step) -> Step:
    """Ends a step as soon as an optimizer has stepped."""
    reply, last = None, False
    while not last:
        request = step.send(reply)
        last = isinstance(request, Update) and not request.waits
        reply = yield request
        del request  # and with it the graph of its loss
    step.close()
