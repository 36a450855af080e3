"""What the steps of a run are fed with: its dataset in batches, as its ladder has changed them."""

from genzoo.data import Dataset
from genzoo.data.batches import Batches
from genzoo.spec import RunConfig
from genzoo.training.recovery import Ladder


def batches_of(config: RunConfig, dataset: Dataset, ladder: Ladder, parts: int, rank: int, world: int) -> Batches:
    """Returns one process's part of every step's batches.

    Args:
        config: of the run.
        dataset: what it trains on.
        ladder: what it does differently since its last trouble.
        parts: batches in a step.
        rank: number of the process.
        world: how many processes share each batch; 1 = the global batches.
    """
    c, data = config.train, config.data
    local = c.batch // world
    return Batches(
        dataset,
        seed=c.seed,
        batch=c.batch,
        start=rank * local,
        stop=(rank + 1) * local,
        mirror=data.mirror,
        labels=data.labels,
        parts=parts,
        seed_of=ladder.seed,
        left_out=ladder.left_out,
    )
