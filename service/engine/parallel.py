"""How many threads of a CPU a slice gets, and how many plans step at the same time: chosen by trial on the real work.

Threads that share one piece of work wait for each other, and lose more than they gain as soon as anything else wants a
core: the client of a demo, another server, a compiler. What is fastest changes while the server runs, so it is tried
again all the time: seldom where the loss would be large, at once where what was fastest has become slow. Nothing that
comes out depends on it: only counts that give the same numbers are tried (``service.models.warmup``).

Used by one thread at a time.
"""

from __future__ import annotations

import itertools
import os
from collections import OrderedDict, deque
from collections.abc import Sequence
from statistics import median
from typing import Any

MEMORY = 5
"""measurements that a median is of: few, so that a change is followed soon"""
LEAST = 2
"""measurements of each way before one is preferred"""
SHARE = 0.02
"""of the time may go into trying what was slower"""
SOONEST, LATEST = 8, 2000
"""uses after which another way is tried again, at least and at most"""
SURPRISE = 1.4
"""times its usual cost, twice in a row: something has changed, and the others are tried at once"""
KNOWN = 512
"""settings remembered; the least recently used are evicted first"""


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Choice:
    """One of some ways to do the same, by what they cost.

    Args:
        ways: in the order in which they are tried first.
    """

    def __init__(self, ways: Sequence[int]) -> None:
        self._seen: dict[int, deque[float]] = {way: deque(maxlen=MEMORY) for way in ways}
        self._unused = dict.fromkeys(ways, 0)
        """uses of others since a way was used itself"""
        self._slow = 0
        """measurements in a row that were a surprise"""
        self._trials = 0

    @property
    def best(self) -> int:
        """What costs least, as far as is known."""
        return min(self._seen, key=self.cost)

    def cost(self, way: int) -> float:
        """The median of the last measurements; 0 where there is none."""
        seen = self._seen[way]
        return median(seen) if seen else 0.0

    def pick(self) -> int:
        """The way to go now: the best one, or one that is due for a trial."""
        if len(self._seen) == 1:
            return next(iter(self._seen))
        fewest = min(self._seen, key=lambda way: len(self._seen[way]))
        if len(self._seen[fewest]) < LEAST:
            return fewest
        best = self.best
        for way in self._seen:
            if way != best and self._unused[way] >= self._interval(way, best):
                self._trials += 1
                return way
        return best

    def learn(self, way: int, cost: float) -> None:
        """One measurement of a way."""
        if len(self._seen) == 1:
            return
        seen = self._seen[way]
        surprising = way == self.best and len(seen) >= LEAST and cost > SURPRISE * median(seen)
        self._slow = self._slow + 1 if surprising else 0
        seen.append(cost)
        for other in self._unused:
            self._unused[other] = (
                0 if other == way else self._unused[other] + (LATEST if self._slow > 1 else 1)
            )

    def _interval(self, way: int, best: int) -> int:
        """Uses of the best one between two trials of another, so that these cost a small share of the time."""
        lost = self.cost(way) / max(self.cost(best), 1e-9) - 1
        # Never in step with what repeats itself, such as the iterations of a plan.
        return min(LATEST, max(SOONEST, round(lost / SHARE))) + self._trials % 3


class Parallelism:
    """Threads for each kind of slice, and how many plans step side by side.

    Args:
        threads: always so many; None chooses.
        plans_at_once: always so many; None chooses.
        available: CPUs that there are.
    """

    def __init__(
        self, *, threads: int | None = None, plans_at_once: int | None = None, available: int | None = None
    ) -> None:
        self._cores = cores() if available is None else available
        self._threads = threads
        widest = max(1, self._cores // (threads or 1))
        self.counts = self._all_counts()
        """numbers of threads that might be used"""
        self._widths = (plans_at_once,) if plans_at_once is not None else tuple({1: 0, widest: 0})
        self._allowed: dict[Any, tuple[int, ...]] = {}
        self._undivided: set[Any] = set()
        self._choices: OrderedDict[tuple[Any, Any, str], dict[int, Choice]] = OrderedDict()
        self._width: OrderedDict[tuple[Any, Any], Choice] = OrderedDict()
        self._latest: dict[Any, int] = {}

    @property
    def widest(self) -> int:
        """Plans that may ever step at the same time."""
        return max(self._widths)

    def _all_counts(self) -> tuple[int, ...]:
        """Powers of two, and all there are; or what was asked for."""
        if self._threads is not None:
            return (self._threads,)
        powers = itertools.takewhile(lambda count: count < self._cores, (1 << power for power in range(16)))
        return (*powers, self._cores)

    def allow(self, model: Any, counts: Sequence[int]) -> None:
        """Use only these numbers of threads for a model: they give the same numbers."""
        self._allowed[model] = tuple(counts)
        self._undivided.discard(model)

    def use_all(self, model: Any) -> None:
        """Give each slice of a model all threads, and let one plan step at a time.

        For runtimes whose threads take small parts of the work as they are free: a neighbour that is busy then costs
        its share of the cores and no more, so there is nothing to try.
        """
        self._allowed[model] = (max(self.counts),)
        self._undivided.add(model)

    # -- threads of one slice ----------------------------------------------------------------------------

    def threads(self, model: Any, settings: Any, phase: str, sessions: int) -> int:
        """Threads for the next slice of this kind."""
        allowed = self._allowed.get(model, self.counts)
        if len(allowed) == 1:  # nothing to choose, and nothing to learn
            self._latest[model] = allowed[0]
            return allowed[0]
        picked = self._choice(model, settings, phase, sessions).pick()
        self._latest[model] = picked
        return picked

    def took(
        self, model: Any, settings: Any, phase: str, sessions: int, threads: int, seconds: float
    ) -> None:
        """Learn from a slice that ran alone."""
        if len(self._allowed.get(model, self.counts)) == 1:
            return
        self._choice(model, settings, phase, sessions).learn(threads, seconds)

    def threads_of(self, model: Any) -> int | None:
        """Threads that a model's last slice had."""
        return self._latest.get(model)

    def share(self, model: Any, plans: int) -> int:
        """Threads for each of some plans that step at the same time."""
        fair = max(1, self._cores // plans)
        allowed = self._allowed.get(model, self.counts)
        return max((count for count in allowed if count <= fair), default=min(allowed))

    def alone(self, model: Any, settings: Any, phase: str, sessions: int) -> float:
        """What a slice costs that runs by itself, s; 0 where nothing like it has been seen, or nobody will ask."""
        if model in self._undivided:
            return 0.0
        sizes = self._choices.get((model, settings, phase), {})
        at = _up(sessions)
        known = [size for size, choice in sizes.items() if choice.cost(choice.best)]
        if not known:
            return 0.0
        near = min(known, key=lambda size: abs(size.bit_length() - at.bit_length()))
        return sizes[near].cost(sizes[near].best) * sessions / near

    # -- plans side by side ------------------------------------------------------------------------------

    def width(self, model: Any, settings: Any) -> int:
        """Plans to run at the same time, where there is more than one."""
        if model in self._undivided and len(self._widths) > 1:
            return 1
        return self._plans_at_once(model, settings).pick()

    def ran(self, model: Any, settings: Any, width: int, seconds: float, alone: float) -> None:
        """Learn from a turn in which plans that would have taken ``alone`` one by one took ``seconds``."""
        if alone > 0 and width in self._widths and model not in self._undivided:
            self._plans_at_once(model, settings).learn(width, seconds / alone)

    def forget(self, model: Any) -> None:
        """Drop everything about a model that was unloaded."""
        for key in [key for key in self._choices if key[0] is model]:
            del self._choices[key]
        for pair in [pair for pair in self._width if pair[0] is model]:
            del self._width[pair]
        self._allowed.pop(model, None)
        self._undivided.discard(model)
        self._latest.pop(model, None)

    def _choice(self, model: Any, settings: Any, phase: str, sessions: int) -> Choice:
        sizes = self._choices.setdefault((model, settings, phase), {})
        _trim(self._choices, (model, settings, phase))
        size = _up(sessions)
        if size not in sizes:
            sizes[size] = Choice(self._allowed.get(model, self.counts))
        return sizes[size]

    def _plans_at_once(self, model: Any, settings: Any) -> Choice:
        choice = self._width.setdefault((model, settings), Choice(self._widths))
        _trim(self._width, (model, settings))
        return choice


def _trim(known: OrderedDict[Any, Any], used: Any) -> None:
    known.move_to_end(used)
    while len(known) > KNOWN:
        known.popitem(last=False)


def _up(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
