"""Planning one action: search over jumps, then steer the low level towards where the first jump leaves from.

The first jump of the best high-level plan says in which state ẑ[τ-1] the context will change, by which action â and
to what context c[τ]. That is the subgoal of the low-level search until a gate opens (and more than a few steps have
passed), or until it has not been reached for long. Flat planning is the low-level search alone, the policy a single
question to the actor.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from thick import pytrees
from thick.arrays import Array
from thick.models.beliefs import Belief
from thick.planning import table
from thick.planning.actions import Actions
from thick.planning.ahead import AheadModel
from thick.planning.goals import Worker, held
from thick.planning.groups import GroupedSearch
from thick.planning.jumps import JumpModel
from thick.planning.low import Actor, LowGiven, Recorder, act, search_for
from thick.planning.memory import (
    GoalMemory,
    LevelMemory,
    PlanMemory,
    fitted,
    needs_search,
    remembered,
    warm_sequence,
)
from thick.planning.objectives import Subgoal
from thick.planning.protocols import Lookahead, PlanningModel, SearchModel, offers
from thick.planning.randomness import Randomness
from thick.planning.searches import HighSearch, LowSearch, Path, Spent
from thick.planning.settings import PlannerSettings


class FoundPlan(NamedTuple):
    """What a search came to; all ``[B, ...]``."""

    action: Array
    """[B, A] to take now"""
    memory: PlanMemory
    """what to remember"""
    replanned: Array
    """[B] bool, the high level searched"""
    sequence: Array
    """[B, H, A] the low-level plan"""
    expected_return: Array
    """[B] of it"""
    spent: Spent
    """candidates and iterations of the low level, for each session"""
    iterations_asked: int
    """of the low level"""
    simulations: tuple[int, int]
    """of the high level: done, asked"""
    phase_ms: dict[str, float]
    """time spent: high_plan_ms, low_plan_ms"""


class ActionSearch:
    """The search for one action of B sessions, in slices; has a valid answer at any time.

    Args:
        model: what to plan in.
        actions: kind of actions.
        settings: how to plan.
        belief: ``[B, ...]``.
        memory: what the sessions remember.
        randomness: of this step.
        budget_s: time it will be given, if that is known: the high level then takes at most half of it.

    Raises:
        ValueError: the model cannot plan by this method.
    """

    def __init__(
        self,
        model: PlanningModel,
        actions: Actions,
        settings: PlannerSettings,
        belief: Belief,
        memory: PlanMemory,
        *,
        randomness: Randomness,
        budget_s: float | None = None,
    ) -> None:
        self.model, self.actions, self.settings = model, actions, settings
        self.belief, self.memory, self.randomness = belief, memory, randomness
        self.phase_ms = {"high_plan_ms": 0.0, "low_plan_ms": 0.0}
        self._xp = model.arrays
        self._high: HighSearch | None = None
        self._searched = self._xp.whole(0)
        self._above: tuple[int, LevelMemory] | None = None
        """what the high level had found after so many simulations"""
        self._low: LowSearch | None = None
        self._chosen: Array | None = None
        self._held: GoalMemory | None = None
        self._looks_ahead = offers(model.high, Lookahead)
        self._limit = None if budget_s is None else time.perf_counter() + budget_s / 2
        has = properties(model, actions)
        table.check("method", settings.method, has)
        table.check("low", settings.low, has)
        if settings.method == "hierarchical":
            self._searched = self._xp.nonzero(needs_search(belief, memory.levels[0], settings))

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""
        if self.settings.method == "policy":
            return self._chosen is not None
        return self._low is not None and self._low.done

    @property
    def phase(self) -> str:
        """What the next slice works on: high, low or policy."""
        if self.settings.method == "policy":
            return "policy"
        return "high" if self._high_due() else "low"

    @property
    def simulations(self) -> tuple[int, int]:
        """Simulations of the high level, done and asked; 0 of 0 where none was due."""
        return (0, 0) if self._high is None else (self._high.simulations_done, self._high.simulations_asked)

    @property
    def iterations(self) -> tuple[int, int]:
        """Iterations of the low level, done and asked."""
        if self.settings.method == "policy":
            return (int(self._chosen is not None), 1)
        return (0 if self._low is None else self._low.iterations_done, self.settings.iterations)

    def step(self) -> None:
        """One slice: some simulations of the high level, or one iteration of the low level."""
        began = time.perf_counter()
        phase = "low_plan_ms"
        if self.done:
            return
        if self.settings.method == "policy":
            self._chosen = self._act()
        elif self._high_due():
            phase = "high_plan_ms"
            self._search_high()
        else:
            if self._low is None:
                self._low = self._start_low()
            self._low.step()
        self.phase_ms[phase] += 1e3 * (time.perf_counter() - began)

    def result(self) -> FoundPlan:
        """The best plan so far; changes nothing."""
        memory = self.memory
        if self.settings.method == "policy":
            action = self._act() if self._chosen is None else self._chosen
            critic = self.model.exact if self.model.manager is None else self.model.manager
            memory = memory._replace(goals=self._goals())
            return self._found(memory, action[:, None], critic.value(self.belief))
        memory = self._with_subgoal(memory)
        if self._low is None:
            return self._found(memory, self._unsearched(memory), self._xp.zeros(memory.taken.shape[0]))
        return self._found(memory, self._low.sequence(), self._low.expected_return())

    # -- high level ----------------------------------------------------------------------------------------------

    def _high_due(self) -> bool:
        if self._low is not None or not self._searched.shape[0]:
            return False
        if self._high is None:
            return True
        late = self._limit is not None and time.perf_counter() > self._limit
        return not self._high.done and not late

    def _search_high(self) -> None:
        settings, high = self.settings, self.model.high
        assert high is not None
        if self._high is None:
            belief = pytrees.select(self.belief, self._searched)
            jumps_of = AheadModel if self._looks_ahead else JumpModel
            jumps: SearchModel = jumps_of(high, belief.stoch, belief.context, critic=settings.critic)
            randomness = self._of_search("exploration")
            self._high = table.build("high", settings.high, jumps, settings, randomness)
        assert self._high is not None
        self._high.step()

    def _with_subgoal(self, memory: PlanMemory) -> PlanMemory:
        """The memory with what the high level found, for the sessions that searched."""
        if self._high is None or self._high.simulations_done == 0:
            return memory
        level, *above = memory.levels
        done = self._high.simulations_done
        if self._above is None or self._above[0] != done:  # asked again by the low level and for the result
            self._above = done, self._found_above(self._high, self._searched)
        if self._searched.shape[0] == memory.taken.shape[0]:
            level = self._above[1]
        else:
            level = pytrees.put(level, self._searched, self._above[1])
        return memory._replace(levels=(level, *above))

    def _found_above(self, search: HighSearch, rows: Array) -> LevelMemory:
        """What the high level of sessions ``rows`` found."""
        xp, high = self._xp, self.model.high
        assert high is not None
        randomness = self._of_search("temperature")
        first = search.best(temperature=self.settings.temperature, randomness=randomness)
        found = search.path(first)
        elapsed = xp.array(search.states(found.nodes).elapsed)
        path = Path(xp.array(found.actions), xp.array(found.nodes))
        belief = pytrees.select(self.belief, rows)
        landing = high.jump(belief.stoch, belief.context, xp.array(first))
        reached = path.nodes >= 0
        count = rows.shape[0]
        return LevelMemory(
            active=~xp.no(count),
            since=xp.whole(count),
            subgoal=Subgoal(landing.logits_before, landing.action, landing.context, landing.continuation),
            actions=fitted(path.actions, -1),
            durations=fitted(xp.where(reached, elapsed, 0.0), 0),
            values=xp.array(search.root_values),
            visits=xp.array(search.root_visits),
        )

    def _of_search(self, purpose: str) -> Randomness:
        """Randomness of the sessions that search, where the search keeps its counts."""
        randomness = self.randomness.fold(purpose).select(self._searched)
        return randomness.on_host() if self._looks_ahead else randomness

    # -- low level -------------------------------------------------------------------------------------------------

    def _start_low(self) -> LowSearch:
        """The search of all sessions; those whose plan still holds are a group of their own, with fewer samples."""
        settings, xp = self.settings, self._xp
        holding = xp.no(self.memory.taken.shape[0])
        if settings.hold < 1:
            holding = self._plan_holds()
        groups = []
        for rows, samples in (
            (xp.nonzero(~holding), settings.samples),
            (xp.nonzero(holding), max(2, round(settings.hold * settings.samples))),
        ):
            if rows.shape[0]:
                fewer = settings if samples == settings.samples else settings.updated({"samples": samples})
                groups += [(part, self._low_of(part, fewer)) for part in self._apart(rows)]
        return groups[0][1] if len(groups) == 1 else GroupedSearch(groups)

    def _apart(self, rows: Array) -> list[Array]:
        """Sessions ``[M]`` in the parts that are searched for together. A device that records searches takes about as
        long for all of them as for one."""
        if table.LOW[self.settings.low].apart and not offers(self.model.search, Recorder):
            return [rows[index : index + 1] for index in range(rows.shape[0])]
        return [rows]

    def _plan_holds(self) -> Array:
        """Sessions that have a plan and no reason for another, ``[B]`` bool."""
        holds = warm_sequence(self.memory, self.settings.horizon).valid & ~(self.belief.gates > 0).any(-1)
        return holds & ~self._replanned()

    def _low_of(self, rows: Array, settings: PlannerSettings) -> LowSearch:
        """The search of some sessions, all of them or ``rows`` ``[M]``."""
        dynamics, memory, belief = self.model.search, self._with_subgoal(self.memory), self.belief
        randomness = self.randomness.fold("low")
        if rows.shape[0] < memory.taken.shape[0]:
            memory, belief = pytrees.select(memory, rows), pytrees.select(belief, rows)
            randomness = randomness.select(rows)
        warm = warm_sequence(memory, settings.horizon)
        if not settings.warm_start:
            warm = warm._replace(valid=self._xp.no(*warm.valid.shape))
        subgoal = memory.levels[0].subgoal if settings.method == "hierarchical" else None
        return search_for(dynamics, settings, self.actions, LowGiven(belief, subgoal, warm, randomness.keys))

    def _unsearched(self, memory: PlanMemory) -> Array:
        """What to do when there was no time to search: go on with the last plan, else as the actor would, else
        the first action or the middle of the range. ``[B, H, A]``"""
        xp, bounds = self._xp, self.actions.bounds
        warm = warm_sequence(memory, self.settings.horizon)
        batch = warm.valid.shape[0]
        if self.model.exact.has_actor:
            action = act(self.model.exact, pytrees.expand(self.belief, 1), self.actions, None)
        elif bounds is not None:
            action = xp.expand(bounds.clip(bounds.middle), batch, 1, -1)
        else:
            action = xp.one_hot(xp.whole(batch, 1), self.actions.size)
        return xp.where(warm.valid[:, None, None], warm.sequence, action)

    def _replanned(self) -> Array:
        """Sessions whose high level searched, ``[B]`` bool."""
        replanned = self._xp.no(self.memory.taken.shape[0])
        if self._high is not None:
            replanned[self._searched] = True
        return replanned

    def _act(self) -> Array:
        belief, temperature = pytrees.expand(self.belief, 1), self.settings.temperature
        randomness = self.randomness.fold("policy") if temperature > 0 else None
        actor: Actor = self.model.exact
        if self.model.manager is not None:
            actor = Worker(self.model.manager, self._goals()[0].goal[:, None])
        return act(actor, belief, self.actions, randomness, temperature=temperature)[:, 0]

    def _goals(self) -> tuple[GoalMemory, ...]:
        """The goals that sessions hold now; the same however often it is asked."""
        manager = self.model.manager
        if manager is None:
            return ()
        if self._held is None:
            self._held = held(manager, self.belief, self.memory.goals[0], self.randomness)
        return (self._held,)

    def _found(self, memory: PlanMemory, sequence: Array, expected: Array) -> FoundPlan:
        xp, batch = self._xp, sequence.shape[0]
        memory = memory._replace(
            sequence=xp.as_float(remembered(sequence, memory.sequence.shape[1])),
            planned=~xp.no(batch),
            taken=xp.whole(batch),
        )
        if self._low is None:
            spent = Spent(xp.whole(batch) + self.iterations[0], xp.whole(batch))
        else:
            spent = self._low.spent()
        return FoundPlan(
            sequence[:, 0],
            memory,
            self._replanned(),
            sequence,
            expected,
            spent,
            self.iterations[1],
            self.simulations,
            dict(self.phase_ms),
        )


def properties(model: PlanningModel, actions: Actions) -> tuple[str, ...]:
    """What a model has that planners need (:mod:`thick.planning.table`)."""
    found = [table.DISCRETE if actions.bounds is None else table.CONTINUOUS]
    if model.high is not None:
        found.append(table.HIGH_LEVEL)
    if model.exact.has_actor or model.manager is not None:
        found.append(table.ACTOR)
    return tuple(found)
