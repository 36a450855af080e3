"""What a run that lacks memory may do about it, in one line."""

from collections.abc import Iterator

from genzoo.configure import data_shape
from genzoo.errors import UsageError
from genzoo.spec import RunConfig
from genzoo.training.plan import as_mib, estimate, machine_memory, unset_savers


def shortage(run: RunConfig) -> str:
    """Describes what a run needs, by the estimate of `--dry-run`, and what needs less."""
    try:
        needs = f"the run needs about {as_mib(estimate(run).total)} by the estimate of --dry-run"
    except (UsageError, RuntimeError, MemoryError):  # nothing is left even for that
        needs = "the run needs more than there is"
    memory = machine_memory(run.train.device)
    has = "" if memory is None else f", and this machine has {as_mib(memory)}, some of it in use"
    *others, last = _measures(run)
    return f"Out of memory: {needs}{has}. Less is needed with {', '.join(others)} or {last}."


def _measures(run: RunConfig) -> Iterator[str]:
    c = run.train
    if c.batch % (2 * c.accumulate) == 0:
        yield f"--set train.accumulate={2 * c.accumulate}"
    yield from (f"--set {name}=true" for name in unset_savers(run) if name != "train.checkpointing")
    if not run.arch.perceptrons and not c.checkpointing:
        yield "--set train.checkpointing=true"
    if c.precision != "bf16":
        yield "--set train.precision=bf16"
    if len(data_shape(run)) == 3:
        yield "a smaller --res"
    yield f"a smaller train.batch than {c.batch}"
