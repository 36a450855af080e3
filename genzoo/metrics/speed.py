"""Images per second and peak memory, from the log of a training run."""

from genzoo.errors import UsageError
from genzoo.metrics.inputs import RunLog
from genzoo.metrics.registry import Result, Value, metric


@metric(
    "speed",
    inputs=RunLog,
    values={"images_per_second": Value("images/s", "higher"), "peak_memory_gib": Value("peak memory, GiB", "lower")},
    definition="Images per second between the log's lines after the warm-up (first tenth left out), and the process's "
    "peak memory: of tensors on a GPU, else resident.",
    examples=("speed",),
)
def speed_metric(log: RunLog) -> Result:
    """Leaves out the first tenth of the run and all of the warm-up, whose steps log fewer losses than the others."""
    losses = [sum(name.startswith("loss/") for name in line) for line in log.lines]
    most = max(losses, default=0)
    steps = [line for line, count in zip(log.lines, losses, strict=True) if count == most]
    steps = steps[max(1, len(steps) // 10) - 1 :]
    seconds = steps[-1]["seconds"] - steps[0]["seconds"] if most and len(steps) > 1 else 0
    if not seconds:
        raise UsageError(f"{log.run} is too short to time: train more steps, or set train.log_every=1.")
    values = {"images_per_second": (steps[-1]["nimg"] - steps[0]["nimg"]) / seconds}
    if (peak := steps[-1].get("peak_gib")) is not None:  # not every system counts it
        values["peak_memory_gib"] = peak
    return Result(values, details={"n_real": 0, "n_fake": 0, "steps": steps[-1]["step"] - steps[0]["step"]})
