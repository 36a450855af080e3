"""What makes one run a different run from another."""

from typing import Any

from genzoo.configure import flat, resolve, to_json
from genzoo.lengths import LENGTH, by_length, written_out
from genzoo.spec import RunConfig

# Changing these cannot change the weights that a run ends with, so a resumed run may.
FREE = {
    "data.cache",
    "train.checkpointing",
    "train.keep",
    "train.log_every",
    "train.measure",
    "train.snapshot_every",
    "train.snapshot_minutes",
    "train.trackers",
    "train.workers",
}


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Lists, as `field: old -> new`, what would make `new` a different run from `old`.

    A longer duration would not, unless something in `new` depends on its length: a share (%) or a schedule. A share
    that `new` writes out as what it was in `old` is the same.
    """
    before, after = map(_decisive, (old, new))
    same, found = written_out(before, old.train.duration), []
    for key, value in written_out(after, old.train.duration).items():
        moved = by_length(after, old.train.duration) if key == LENGTH else []
        if same.get(key) != value and (moved or key != LENGTH):
            reason = f" ({'; '.join(moved)})" if moved else ""
            found.append(f"{key}: {before.get(key)} -> {after[key]}{reason}")
    gone = [key for key in before.keys() - after.keys() if before[key] is not None]
    return sorted([*found, *(f"{key}: {before[key]} -> None" for key in gone)])


def depends_on_length(run: RunConfig) -> bool:
    """Whether something in a run depends on its duration, a share (%) or a schedule, so that it cannot be prolonged."""
    return bool(by_length(_decisive(run), run.train.duration))


def _decisive(run: RunConfig) -> dict[str, Any]:
    """The values, by `section.field`, that decide the weights that a run ends with."""
    return {key: value for key, value in flat(to_json(run)) if key not in FREE}


def changed_settings(run: RunConfig) -> dict[str, Any]:
    """Returns what differs from a run's preset, `section.field: value`, but for what is reported elsewhere: data name
    and seed.
    """
    base = dict(flat(to_json(resolve(run.model))))
    left_out = FREE | {"data.name", "train.seed"}
    return {key: value for key, value in flat(to_json(run)) if key not in left_out and base.get(key) != value}
