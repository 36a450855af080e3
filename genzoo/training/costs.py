"""What a run takes besides its steps, timed before it begins: snapshots, and the flow that is trained at its end."""

from collections.abc import Callable

from genzoo.training.launch import alike
from genzoo.training.threads import torch_threads
from genzoo.training.trainer import Trainer

REPEATED = 0.05  # of the budget, up to which a snapshot is timed twice
GROWS = 1.5  # later in a run, a prior has more components and curves have more points
TIMED = 2, 12  # steps of the flow: a first run, which loads code, then the one that is timed


def time_snapshot(trainer: Trainer, budget_s: float, clock: Callable[[], float]) -> float:
    """Seconds of a snapshot: of the second one of fresh networks, times what it grows by; the first one imports, and is
    the only one where it takes long.
    """
    trainer.state.reset()
    seconds = list[float]()
    with torch_threads(trainer.config.train.threads):
        if trainer.acc.is_main_process:
            trainer.snapshots.prepare(trainer.model)
        while len(seconds) < 2 and sum(seconds) < REPEATED * budget_s:
            before = clock()
            trainer.snapshot()
            seconds += alike([clock() - before], trainer.acc)
    return min(seconds[0], GROWS * seconds[-1])


def time_flow(trainer: Trainer, clock: Callable[[], float]) -> float:
    """Seconds per step of the flow that the run trains at its end, its setup included; 0 where there is none. Called
    after a snapshot.
    """
    seconds = 0.0
    if trainer.acc.is_main_process:
        model, mixture = trainer.shown, trainer.shown.fitted_prior
        with torch_threads(trainer.config.train.threads):
            for steps in TIMED:
                before = clock()
                refined = trainer.prior_fit.refine(model, steps)
                seconds, model.fitted_prior = refined * (clock() - before) / steps, mixture
    return alike([seconds * trainer.acc.num_processes], trainer.acc)[0]  # the other processes wait for the first one
