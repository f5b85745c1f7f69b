"""A trained model that acts: observe, plan, imagine. What a service or an evaluation holds.

Everything is batched over sessions, and a session's numbers do not depend on who else is in the batch. States are plain
trees of arrays, numpy's or torch's as the model has them, that can be stored, gathered, forked and written to disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import gymnasium
import numpy as np

from thick.arrays import Array
from thick.envs.actions import ActionCodec
from thick.imagination import ImaginedStep, imagine
from thick.imagination.asked import numpy_of
from thick.manifest import Manifest
from thick.planning import table
from thick.planning.actions import ActionRange, Actions
from thick.planning.memory import AgentState, PlanMemory, nothing_planned, restarted
from thick.planning.protocols import AgentModel
from thick.planning.randomness import Randomness
from thick.planning.search import ActionSearch, FoundPlan, properties
from thick.planning.settings import PlannerSettings

__all__ = ["ActPlan", "ActResult", "Agent", "AgentState", "PonderPlan", "check_seen"]


Model = TypeVar("Model", bound=AgentModel)


class Agent(Generic[Model]):
    """A model with its spaces and its planner, in the arrays that the model takes.

    Args:
        model: the trained model.
        observation_space, action_space: what it was trained on.
        manifest: where it comes from; None for a model in training.
        planner: defaults of planning, as in a manifest; what is not said is the paper's, fitted to what the model has.

    Raises:
        ValueError: a default is wrong.
    """

    def __init__(
        self,
        model: Model,
        *,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        manifest: Manifest | None = None,
        planner: Mapping[str, Any] | None = None,
    ) -> None:
        self.manifest = manifest
        self.observation_space, self.action_space = observation_space, action_space
        self.model: Model = model
        self.device = model.arrays.device
        self._codec = ActionCodec(action_space)
        self.discrete = self._codec.discrete
        self.actions = self._kind_of_actions()
        self.properties = properties(model, self.actions)
        self.planner = self._defaults(planner or {})

    # -- settings --------------------------------------------------------------------------------------------------

    def has(self, method: str) -> bool:
        """Whether the checkpoint can plan by a method: hierarchical, flat or policy."""
        return method in table.fitting("method", self.properties)

    def settings(self, changes: Mapping[str, Any]) -> PlannerSettings:
        """The agent's planner settings with some changed, checked against what the checkpoint can do.

        Raises:
            ValueError: a setting is unknown or wrong, or this checkpoint cannot do what it asks for.
        """
        settings = self.planner.updated(changes)
        table.check("method", settings.method, self.properties)
        table.check("low", settings.low, self.properties)
        return settings

    def _defaults(self, planner: Mapping[str, Any]) -> PlannerSettings:
        settings = PlannerSettings(low=table.fitting("low", self.properties)[0]).updated(planner)
        if not self.has(settings.method) and "method" not in planner:
            settings = settings.updated({"method": "flat"})
        self.planner = settings
        return self.settings({})

    # -- acting ------------------------------------------------------------------------------------------------------

    def initial(self, batch: int) -> AgentState:
        """States of ``batch`` sessions before their first observation."""
        action = self.model.arrays.zeros(batch, self.actions.size)
        return AgentState(
            self.model.initial(batch), action, self._nothing_planned(self.planner.horizon, batch)
        )

    def _nothing_planned(self, length: int, batch: int) -> PlanMemory:
        return nothing_planned(self.model, self.actions, length, batch)

    def observe(
        self,
        state: AgentState,
        observation: Array | Mapping[str, Array],
        *,
        is_first: Array,
        executed_action: Array | None = None,
        executed: Array | None = None,
        keys: Array,
    ) -> AgentState:
        """States after an observation.

        Args:
            state: ``[B, ...]``.
            observation: ``[B, ...]``, an array or one for each entry of a Dict.
            is_first: ``[B]`` bool, the observation begins an episode: belief and plan start anew.
            executed_action: ``[B, A]``, what was really done last, where ``executed`` ``[B]`` bool says so (everywhere
                if None); elsewhere the agent's own last action is taken.
            keys: ``[B]`` int64; filtering takes the mode of the posterior, so nothing is drawn.
        """
        xp, action = self.model.arrays, state.previous_action
        if executed_action is not None:
            given = xp.as_like(executed_action, action)
            action = given if executed is None else xp.where(executed[:, None], given, action)
        with xp.no_grad():
            embedding = self.model.encode(observation)
            belief = self.model.observe(state.belief, action, embedding, is_first)
        return AgentState(belief, action, self._older(state.plan, is_first))

    def _older(self, plan: PlanMemory, is_first: Array) -> PlanMemory:
        """What is remembered a step later, and nothing where ``is_first`` ``[B]`` says that an episode begins."""
        if not bool(is_first.any()):
            return plan.older()
        fresh = self._nothing_planned(plan.sequence.shape[1], is_first.shape[0])
        return fresh if bool(is_first.all()) else restarted(plan.older(), fresh, is_first)

    def plan(
        self,
        state: AgentState,
        settings: PlannerSettings | None = None,
        *,
        keys: Array,
        budget_s: float | None = None,
    ) -> ActPlan:
        """Start planning for every session; nothing is computed before the first ``step``.

        Args:
            state: ``[B, ...]``, after :meth:`observe`.
            settings: how; None takes the agent's own.
            keys: ``[B]`` int64, where each session's randomness starts (``settings.session_key``).
            budget_s: time the plan will be given, if known.
        """
        settings = self.planner if settings is None else settings
        check_seen(state)
        search = ActionSearch(
            self.model,
            self.actions,
            settings,
            state.belief,
            state.plan,
            randomness=Randomness(keys).fold("plan"),
            budget_s=budget_s,
        )
        return ActPlan(self, state, search)

    def ponder(self, state: AgentState, settings: PlannerSettings, *, keys: Array) -> PonderPlan:
        """Plan ahead, from the belief that the last action is expected to lead to.

        Args:
            state: ``[B, ...]``, after an act.
            keys: ``[B]`` int64.

        Returns:
            A plan whose result holds the same states, but for a plan that begins with the next step: the search after
            the next observation starts from it.
        """
        with self.model.arrays.no_grad():
            expected = self.model.exact.imagine(state.belief, state.previous_action)
        search = ActionSearch(
            self.model,
            self.actions,
            settings,
            expected,
            state.plan.older(),
            randomness=Randomness(keys).fold("ponder"),
        )
        return PonderPlan(self, state, search)

    def act(self, state: AgentState, settings: PlannerSettings | None = None, *, keys: Array) -> ActResult:
        """Plan with the whole budget."""
        planning = self.plan(state, settings, keys=keys)
        while not planning.done:
            planning.step()
        return planning.result()

    def imagine(
        self,
        state: AgentState,
        *,
        level: str | int = "high",
        horizon: int = 3,
        rollouts: int = 1,
        policy: str = "plan",
        actions: Sequence[Any] | None = None,
        keys: Array,
        settings: PlannerSettings | None = None,
    ) -> Iterator[ImaginedStep]:
        """Imagine from one session's state, a step at a time; see :func:`thick.imagination.imagine`."""
        steps = self.imagine_in_parts(
            state,
            level=level,
            horizon=horizon,
            rollouts=rollouts,
            policy=policy,
            actions=actions,
            keys=keys,
            settings=self.planner if settings is None else settings,
        )
        return (step for step in steps if step is not None)

    def imagine_in_parts(self, state: AgentState, **asked: Any) -> Iterator[ImaginedStep | None]:
        """:meth:`imagine` with pauses (None) within long searches, so that others can be served meanwhile.

        Args:
            asked: as :func:`thick.imagination.imagine` has it.
        """
        check_seen(state)
        return imagine(self, state, **asked)

    # -- actions and observations outside and inside -------------------------------------------------------------

    def encode_action(self, actions: Sequence[Any]) -> Array:
        """Actions as the API gives them -> ``[B, A]``: one-hot, or scaled to [-1, 1].

        Raises:
            ValueError: an action does not belong to the action space.
        """
        if any(action is None for action in actions):  # which the codec takes for zeros
            raise ValueError(f"action: expected one of {self.action_space}, got None")
        return self.model.arrays.array(self._codec.encode(actions))

    def decode_action(self, action: Array) -> list[Any]:
        """``[B, A]`` -> actions as the API gives them: integers, or arrays of the action space's shape and dtype."""
        return self._codec.decode(np.asarray(self.model.arrays.numpy(action), np.float32))

    def _kind_of_actions(self) -> Actions:
        if self.discrete:
            return Actions(self._codec.size, None)
        ones = self.model.arrays.ones(self._codec.size)  # the codec scales by the space's bounds
        return Actions(self._codec.size, ActionRange(-ones, ones))


class ActResult(NamedTuple):
    """What planning an act came to, for B sessions."""

    action: Array
    """[B, A]"""
    state: AgentState
    """with the plan remembered, and the action as the previous one"""
    phase_ms: dict[str, float]
    """high_plan_ms and low_plan_ms"""
    agent: Agent
    settings: PlannerSettings
    found: FoundPlan

    def budget(self, row: int) -> dict[str, Any]:
        """How much of the budget was used for session ``row``; the deadline is the caller's to fill in."""
        found = self.found
        searched = bool(found.replanned[row])
        return {
            "deadline_ms": None,
            "iterations_done": int(found.spent.iterations[row]),
            "iterations_asked": found.iterations_asked,
            "simulations_done": found.simulations[0] if searched else 0,
            "simulations_asked": found.simulations[1] if searched else 0,
        }

    def info(self, row: int) -> dict[str, Any]:
        """The API's ``plan`` for session ``row``; arrays are numpy. ``levels`` holds what ``low`` and ``high`` hold,
        lowest first."""
        found, belief = self.found, self.state.belief
        opened = int((belief.gates[row] > 0).sum())
        low = {
            "actions": self.agent.decode_action(found.sequence[row]),
            "expected_return": float(found.expected_return[row]),
            "samples": int(found.spent.samples[row]),
            "iterations": int(found.spent.iterations[row]),
        }
        above = self._above(row)
        return {
            "method": self.settings.method,
            "replanned": bool(found.replanned[row]),
            "context_changed": opened > 0,
            "gates_open": opened,
            "high": above[0] if above else None,
            "low": low,
            "levels": [{"level": index, **level} for index, level in enumerate([low, *above])],
            "budget": self.budget(row),
        }

    def _above(self, row: int) -> list[dict[str, Any]]:
        """The plans of the levels above the lowest, as far up as there are any."""
        plans: list[dict[str, Any]] = []
        if self.settings.method != "hierarchical":
            return plans
        xp = self.agent.model.arrays
        for level in self.found.memory.levels:
            if not bool(level.active[row]):
                break
            known = level.actions[row] >= 0
            with xp.no_grad():
                subgoal = self.agent.model.decode_coarse(
                    level.subgoal.logits[row : row + 1].argmax(-1), self.state.belief.context[row : row + 1]
                )
            plans.append(
                {
                    "actions": level.actions[row][known].tolist(),
                    "durations": level.durations[row][known].tolist(),
                    "values": level.values[row].tolist(),
                    "visits": [round(count) for count in level.visits[row].tolist()],
                    "subgoal": numpy_of(_row(subgoal, 0)),
                }
            )
        return plans


class ActPlan:
    """An anytime plan of an act: ``step`` until ``done``, ``result`` whenever an answer is wanted."""

    def __init__(self, agent: Agent, state: AgentState, search: ActionSearch) -> None:
        self._agent, self._state, self._search = agent, state, search

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""
        return self._search.done

    @property
    def phase(self) -> str:
        """What the next slice works on: high, low or policy."""
        return self._search.phase

    def step(self) -> None:
        """One slice: a chunk of high-level simulations, or one iteration of the low level."""
        with self._agent.model.arrays.no_grad():
            self._search.step()

    def result(self) -> ActResult:
        """The best plan so far; valid at any time, changes nothing."""
        xp = self._agent.model.arrays
        with xp.no_grad():
            found = self._search.result()
        state = self._state._replace(previous_action=xp.as_float(found.action), plan=found.memory)
        return ActResult(found.action, state, found.phase_ms, self._agent, self._search.settings, found)


class PonderPlan(ActPlan):
    """See :meth:`Agent.ponder`."""

    def result(self) -> ActResult:
        """The states with what was planned so far for their next step; the action is the one expected to come first."""
        found = super().result()
        state = self._state._replace(plan=found.state.plan.younger())
        return found._replace(state=state)

    @property
    def expects_change(self) -> Array:
        """``[B]`` bool, whether the context is expected to change with the last action."""
        return (self._search.belief.gates > 0).any(-1)


def check_seen(state: AgentState) -> None:
    """ValueError if a session has not observed anything yet."""
    if bool((state.belief.stoch < 0).any()):
        raise ValueError("state: a session has seen nothing yet; call observe with its first observation")


def _row(observation: Any, row: int) -> Any:
    """One row of a batch of observations, arrays or dicts of them."""
    if isinstance(observation, Mapping):
        return {key: _row(part, row) for key, part in observation.items()}
    return observation[row, ...]  # numpy would make a scalar of a symbol, which is no array
