"""Clients that play side by side while something is done to the service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def playing(seeds: Iterable[int], play: Callable[[int], Any], join_s: float) -> Iterator[dict[int, Any]]:
    """A thread for each seed, which run while the block does; after it, what each of them came to.

    Args:
        play: called with a seed in a thread of its own.
        join_s: how long each may take after the block.

    Raises:
        AssertionError: one of them failed.
    """
    found: dict[int, Any] = {}
    failures: list[BaseException] = []

    def run(seed: int) -> None:
        try:
            found[seed] = play(seed)
        except BaseException as error:
            failures.append(error)

    players = [threading.Thread(target=run, args=(seed,)) for seed in seeds]
    for player in players:
        player.start()
    yield found
    for player in players:
        player.join(join_s)
    assert not failures, failures
