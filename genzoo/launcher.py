"""What a launcher of several processes leaves in the environment, as numbers."""

import os
from collections.abc import Mapping

from genzoo.errors import UsageError

# Read by torch, Accelerate or genzoo; whatever else starts with these names is the launcher's own.
COUNTS = (
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_PORT",
    "PMI_SIZE",
    "MPI_LOCALNRANKS",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_LOCAL_SIZE",
)
RANKS = (
    "RANK",
    "LOCAL_RANK",
    "PMI_RANK",
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
)
NO_RANK = -1  # Accelerate's value for a process without a launcher


def launcher_number(name: str, default: int = 1, env: Mapping[str, str] | None = None) -> int:
    """Reads a variable of a launcher; `env` is the process's own environment by default.

    Raises:
        UsageError: it is not a whole number.
    """
    text = (os.environ if env is None else env).get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"{name}={text} is not a whole number: a launcher such as torchrun sets it, so start with the launcher, or "
            f"unset {name}."
        ) from None


def refuse_broken_launch(env: Mapping[str, str] | None = None) -> None:
    """Refuses variables of a launcher that no launcher has set so.

    Raises:
        UsageError: one is not a number, or out of range; the line names it.
    """
    for names, least in ((COUNTS, 1), (RANKS, NO_RANK)):
        for name in names:
            if (value := launcher_number(name, least, env)) < least:
                raise UsageError(f"{name}={value} is below {max(0, least)}: start with a launcher, or unset {name}.")
    rank, world = launcher_number("RANK", 0, env), launcher_number("WORLD_SIZE", 1, env)
    if rank >= world:
        raise UsageError(
            f"RANK={rank} is not one of the {world} processes of WORLD_SIZE={world}: ranks begin at 0. Start with a "
            "launcher, or unset both."
        )
