"""A trained model that acts: observe, plan, imagine. What a service or an evaluation holds.

Everything is batched over sessions, and a session's numbers do not depend on who else is in the batch. States are plain
trees of tensors that can be stored, gathered, forked and written to disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor

from thick import pytrees
from thick.envs.actions import ActionCodec
from thick.export import load_model
from thick.imagination import ImaginedStep, imagine
from thick.manifest import Manifest
from thick.models.beliefs import Belief
from thick.models.world_model import WorldModel
from thick.planning.cem import ActionRange
from thick.planning.hierarchical import Plan, PlanSearch, PlanState, initial_plan
from thick.planning.low import Actions, check_low
from thick.planning.randomness import Randomness
from thick.planning.settings import PlannerSettings
from thick.runtimes.torch.model import FrozenModel


class AgentState(NamedTuple):
    """All that a session carries from step to step; every leaf has the leading dimension B."""

    belief: Belief
    previous_action: Tensor
    """[B, A] the action the agent expects to have been taken"""
    plan: PlanState


class Agent:
    """A model with its spaces and its planner.

    Args:
        model: the trained world model.
        manifest: where it comes from; None for a model in training.
        planner: defaults of planning, as in a manifest; what is not said is the paper's, fitted to what the model has.
        device, precision: see :class:`~thick.runtimes.torch.model.FrozenModel`.
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        manifest: Manifest | None = None,
        planner: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        precision: str = "auto",
    ) -> None:
        self.manifest = manifest
        self.observation_space: gymnasium.Space = model.observation_space
        self.action_space: gymnasium.Space = model.action_space
        self.model = FrozenModel(model, precision=precision, device=device)
        self.device = self.model.device
        self._codec = ActionCodec(self.action_space)
        self.discrete = self._codec.discrete
        self.actions = _actions(self._codec, self.device)
        self.planner = self._defaults(planner or {})

    @classmethod
    def load(cls, entry: Path, *, device: str = "cpu", precision: str = "auto") -> Agent:
        """The agent of a model-repository entry ``NAME/VERSION``.

        Raises:
            thick.manifest.EntryError: the entry is missing, damaged or foreign.
            ValueError: its planner defaults are wrong.
        """
        loaded = load_model(Path(entry))
        return cls(
            loaded.model,
            manifest=loaded.manifest,
            planner=loaded.manifest.planner,
            device=device,
            precision=precision,
        )

    # -- settings --------------------------------------------------------------------------------------------------

    def has(self, method: str) -> bool:
        """Whether the checkpoint can plan by a method: hierarchical, flat or policy."""
        if method == "hierarchical":
            return self.model.high is not None
        if method == "policy":
            return self.model.exact.has_actor
        return method == "flat"

    def settings(self, changes: Mapping[str, Any]) -> PlannerSettings:
        """The agent's planner settings with some changed, checked against what the checkpoint can do.

        Raises:
            ValueError: a setting is unknown or wrong, or this checkpoint cannot do what it asks for.
        """
        settings = self.planner.updated(changes)
        if not self.has(settings.method):
            able = [method for method in ("hierarchical", "flat", "policy") if self.has(method)]
            what = "a high level" if settings.method == "hierarchical" else "an actor"
            raise ValueError(
                f"planner.method: {settings.method!r} needs {what}, which this checkpoint does not have; "
                f"expected one of {', '.join(able)}"
            )
        check_low(settings.low, discrete=self.discrete)
        return settings

    def _defaults(self, planner: Mapping[str, Any]) -> PlannerSettings:
        settings = PlannerSettings(low="categorical-cem" if self.discrete else "cem").updated(planner)
        if not self.has(settings.method) and "method" not in planner:
            settings = settings.updated({"method": "flat"})
        self.planner = settings
        return self.settings({})

    # -- acting ------------------------------------------------------------------------------------------------------

    def initial(self, batch: int) -> AgentState:
        """States of ``batch`` sessions before their first observation."""
        return AgentState(
            self.model.initial(batch),
            torch.zeros(batch, self.actions.size, device=self.device),
            initial_plan(self.model, self.actions, max(self.planner.horizon, 1), batch),
        )

    @torch.no_grad()
    def observe(
        self,
        state: AgentState,
        observation: Tensor | Mapping[str, Tensor],
        *,
        is_first: Tensor,
        executed_action: Tensor | None = None,
        executed: Tensor | None = None,
        keys: Tensor,
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
        action = state.previous_action
        if executed_action is not None:
            given = executed_action.to(action.dtype)
            action = given if executed is None else torch.where(executed.unsqueeze(-1), given, action)
        embedding = self.model.encode(observation)
        belief = self.model.observe(state.belief, action, embedding, is_first)
        plan = state.plan._replace(since=state.plan.since + 1, taken=state.plan.taken + 1)
        if bool(is_first.any()):
            fresh = initial_plan(self.model, self.actions, plan.sequence.shape[1], is_first.shape[0])
            plan = pytrees.where(is_first, fresh, plan)
        return AgentState(belief, action, plan)

    @torch.no_grad()
    def plan(
        self,
        state: AgentState,
        settings: PlannerSettings | None = None,
        *,
        keys: Tensor,
        budget_s: float | None = None,
    ) -> Planning:
        """Start planning for every session; nothing is computed before the first ``step``.

        Args:
            state: ``[B, ...]``, after :meth:`observe`.
            settings: how; None takes the agent's own.
            keys: ``[B]`` int64, where each session's randomness starts (``settings.session_key``).
            budget_s: time the plan will be given, if known.
        """
        settings = self.planner if settings is None else settings
        check_low(settings.low, discrete=self.discrete)
        check_seen(state)
        search = PlanSearch(
            self.model,
            self.actions,
            settings,
            state.belief,
            state.plan,
            randomness=Randomness(keys).fold("plan"),
            budget_s=budget_s,
        )
        return Planning(self, state, search)

    @torch.no_grad()
    def act(self, state: AgentState, settings: PlannerSettings | None = None, *, keys: Tensor) -> PlanOutput:
        """Plan with the whole budget."""
        planning = self.plan(state, settings, keys=keys)
        while not planning.done:
            planning.step()
        return planning.result()

    def imagine(
        self,
        state: AgentState,
        *,
        level: str = "high",
        horizon: int = 3,
        rollouts: int = 1,
        policy: str = "plan",
        actions: Sequence[Any] | None = None,
        keys: Tensor,
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

    def encode_action(self, actions: Sequence[Any]) -> Tensor:
        """Actions as the API gives them -> ``[B, A]``: one-hot, or scaled to [-1, 1].

        Raises:
            ValueError: an action does not belong to the action space.
        """
        return torch.from_numpy(self._codec.encode(actions)).to(self.device)

    def decode_action(self, action: Tensor) -> list[Any]:
        """``[B, A]`` -> actions as the API gives them: integers, or arrays of the action space's shape and dtype."""
        return self._codec.decode(action.detach().to("cpu", torch.float32).numpy())


class PlanOutput(NamedTuple):
    """What a plan came to."""

    action: Tensor
    """[B, A]"""
    state: AgentState
    """with the plan remembered, and the action as the previous one"""
    phase_ms: dict[str, float]
    """high_plan_ms and low_plan_ms"""
    agent: Agent
    settings: PlannerSettings
    plan: Plan

    def budget(self, row: int) -> dict[str, Any]:
        """How much of the budget was used for session ``row``; the deadline is the caller's to fill in."""
        plan = self.plan
        searched = bool(plan.replanned[row])
        return {
            "deadline_ms": None,
            "iterations_done": plan.iterations[0],
            "iterations_asked": plan.iterations[1],
            "simulations_done": plan.simulations[0] if searched else 0,
            "simulations_asked": plan.simulations[1] if searched else 0,
        }

    @torch.no_grad()
    def info(self, row: int) -> dict[str, Any]:
        """The API's ``plan`` for session ``row``; arrays are numpy."""
        plan, agent, belief = self.plan, self.agent, self.state.belief
        opened = int((belief.gates[row] > 0).sum())
        low = {
            "actions": agent.decode_action(plan.sequence[row]),
            "expected_return": float(plan.expected_return[row]),
            "samples": int(plan.samples),
            "iterations": plan.iterations[0],
        }
        return {
            "method": self.settings.method,
            "replanned": bool(plan.replanned[row]),
            "context_changed": opened > 0,
            "gates_open": opened,
            "high": self._high(row),
            "low": low,
            "budget": self.budget(row),
        }

    def _high(self, row: int) -> dict[str, Any] | None:
        memory, agent = self.plan.plan, self.agent
        if self.settings.method != "hierarchical" or not bool(memory.active[row]):
            return None
        known = memory.high_actions[row] >= 0
        subgoal = agent.model.decode_coarse(
            memory.subgoal.logits[row : row + 1].argmax(-1), self.state.belief.context[row : row + 1]
        )
        return {
            "actions": memory.high_actions[row][known].tolist(),
            "durations": memory.durations[row][known].tolist(),
            "values": memory.values[row].tolist(),
            "visits": [round(count) for count in memory.visits[row].tolist()],
            "subgoal": to_numpy(one_of(subgoal, 0)),
        }


class Planning:
    """An anytime plan: ``step`` until ``done``, ``result`` whenever an answer is wanted."""

    def __init__(self, agent: Agent, state: AgentState, search: PlanSearch) -> None:
        self._agent, self._state, self._search = agent, state, search

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""
        return self._search.done

    @torch.no_grad()
    def step(self) -> None:
        """One slice: a chunk of high-level simulations, or one iteration of the low level."""
        self._search.step()

    @torch.no_grad()
    def result(self) -> PlanOutput:
        """The best plan so far; valid at any time, changes nothing."""
        plan = self._search.result()
        state = self._state._replace(previous_action=plan.action.float(), plan=plan.plan)
        return PlanOutput(plan.action, state, plan.phase_ms, self._agent, self._search.settings, plan)


def check_seen(state: AgentState) -> None:
    """ValueError if a session has not observed anything yet."""
    if bool((state.belief.stoch < 0).any()):
        raise ValueError("state: a session has seen nothing yet; call observe with its first observation")


def one_of(observation: Tensor | dict[str, Tensor], row: int) -> Any:
    """One row of a batch of observations."""
    if isinstance(observation, dict):
        return {key: array[row] for key, array in observation.items()}
    return observation[row]


def to_numpy(observation: Tensor | dict[str, Tensor]) -> Any:
    """Tensors as numpy arrays."""
    if isinstance(observation, dict):
        return {key: array.cpu().numpy() for key, array in observation.items()}
    return observation.cpu().numpy()


def _actions(codec: ActionCodec, device: torch.device) -> Actions:
    if codec.discrete:
        return Actions(codec.size, None)
    ones = torch.ones(codec.size, device=device)  # the codec scales by the space's bounds
    return Actions(codec.size, ActionRange(-ones, ones))
