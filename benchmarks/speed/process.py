"""What a benchmark reads of its own process (Linux)."""

from pathlib import Path


def memory(key: str) -> int:
    """Returns a line of /proc/self/status in bytes: VmRSS, the resident memory now, or VmHWM, its high-water mark."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def reset_peak() -> None:
    """Sets the high-water mark to the resident memory of this moment."""
    Path("/proc/self/clear_refs").write_text("5")
