"""How many threads PyTorch uses, and how many are worth timing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch

CONVOLUTIONS = 12  # their median: the first ones may meet threads of other libraries that have not gone to sleep yet
HOPELESS = 2.0  # times as long as with another number of threads


@contextmanager
def torch_threads(n: int | str | None) -> Iterator[None]:
    """Lets PyTorch use so many threads; None changes nothing."""
    before = torch.get_num_threads()
    if isinstance(n, int):
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def useful_threads(most: int, clock: Callable[[], float]) -> int:
    """The largest number of threads, halved down from `most`, that is worth timing by whole steps.

    On a machine whose cores are busy, threads that wait for each other make a step up to 100 times as slow, which one
    convolution shows at once. It decides no more than that: what it takes in one moment says little.
    """
    x, weight = torch.ones(16, 32, 32, 32), torch.ones(32, 32, 3, 3)
    seconds = dict[int, float]()
    for n in (most // 2**i for i in range(most.bit_length())):
        with torch_threads(n), torch.no_grad():
            times = []
            for _ in range(CONVOLUTIONS):
                began = clock()
                torch.nn.functional.conv2d(x, weight)
                times.append(clock() - began)
        seconds[n] = median(times)
    return max(n for n in seconds if seconds[n] <= HOPELESS * min(seconds.values()))
