"""How many threads a run's updates take on a CPU: as many as are asked for, or found by a trial on this machine.

Small models lose by threads: they wait for each other longer than they compute, the more so where other programs run.
"""

from __future__ import annotations

import os
from functools import partial

import torch

from thick.models.batch import Batch
from thick.training import trials
from thick.training.learner import Learner

WORTH = 1.05
"""further threads are taken where updates are so many times faster"""


def counts() -> list[int]:
    """What is tried: 1, 2, 4, … and all the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({cores, *(1 << power for power in range(cores.bit_length()) if 1 << power <= cores)})


def try_threads(learner: Learner, batch: Batch) -> tuple[int, dict[int, float]]:
    """Measure some updates with each number of threads.

    Args:
        learner: before or after any number of updates; it stays as it is.
        batch: what it updates from.

    Returns:
        The fewest threads that are about as fast as any, and the updates a second of each number.
    """
    tried, before = counts(), torch.get_num_threads()
    if len(tried) == 1:
        return tried[0], {}
    try:
        with trials.without_trace(learner):
            rates = trials.rates(
                learner, batch, {count: partial(torch.set_num_threads, count) for count in tried}
            )
    finally:
        torch.set_num_threads(before)
    chosen = tried[0]
    for count in tried[1:]:
        if rates[count] > WORTH * rates[chosen]:
            chosen = count
    return chosen, rates
