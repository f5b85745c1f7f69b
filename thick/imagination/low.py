"""Imagining single steps of the low level."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from thick import pytrees
from thick.arrays import Array
from thick.imagination.asked import Asked, ImaginingAgent, is_first, numpy_of, rectangle
from thick.imagination.steps import LowStep
from thick.planning.goals import Worker, held
from thick.planning.low import Actor, act
from thick.planning.memory import AgentState, GoalMemory, nothing_planned
from thick.planning.randomness import Randomness
from thick.planning.search import ActionSearch, FoundPlan
from thick.planning.settings import PlannerSettings


def imagine_steps(asked: Asked, actions: Sequence[Any] | None) -> Iterator[LowStep | None]:
    """Steps of the low level, and None in the pauses of a search.

    Raises:
        ValueError: the actions do not belong to the action space. Raised at once.
    """
    agent, xp = asked.agent, asked.agent.model.arrays
    given = None
    if actions is not None:
        given = _given(agent, actions)
        rollouts = asked.rollouts if given.shape[0] == 1 else given.shape[0]
        asked = asked._replace(rollouts=rollouts, horizon=given.shape[1])
        given = xp.expand(given, rollouts, -1, -1)
    elif asked.policy == "all":
        size = agent.actions.size
        asked = asked._replace(rollouts=size)
        given = xp.expand(xp.eye(size)[:, None], -1, asked.horizon, -1)
    return _steps(asked, given)


def _steps(asked: Asked, given: Array | None) -> Iterator[LowStep | None]:
    agent, state, horizon, rollouts, policy, randomness, settings = asked
    model, xp = agent.model, agent.model.arrays
    low = model.exact
    distinct = given is not None and bool((given != given[:1]).any())
    belief = pytrees.map_arrays(lambda x: xp.expand(x, rollouts, *x.shape[1:]), state.belief)
    total, weight, likely = xp.zeros(rollouts), xp.ones(rollouts), xp.ones(rollouts)
    planned: Array | None = None
    goals = pytrees.map_arrays(lambda x: xp.expand(x, rollouts, *x.shape[1:]), state.plan.goals)
    for index in range(horizon):
        with xp.no_grad():
            noise = randomness.fold(index)
            if index:
                goals = tuple(goal._replace(age=goal.age + 1) for goal in goals)
            probability = xp.ones(rollouts)
            if given is not None:
                action = given[:, index]
            elif policy == "prior":
                action, probability = _uniform(agent, rollouts, noise)
            elif policy == "actor":
                goals = _goals(agent, belief, goals, noise)
                action, probability = _actor(agent, belief, goals, rollouts, noise)
            else:
                if planned is None or planned.shape[1] == 0:
                    found = yield from _planned(
                        agent, belief, goals, state if index == 0 else None, settings, noise
                    )
                    planned = xp.expand(found.sequence[:, : horizon - index], rollouts, -1, -1)
                    goals = pytrees.map_arrays(
                        lambda x: xp.expand(x, rollouts, *x.shape[1:]), found.memory.goals
                    )
                action, planned = planned[:, 0], planned[:, 1:]
            uniforms = None
            if rollouts > 1 and not distinct:
                uniforms = noise.fold("states").uniform(rollouts, low.draws)[0]
            following = low.imagine(belief, action, uniforms)
            if uniforms is not None:
                following = pytrees.where(is_first(rollouts, action), low.imagine(belief, action), following)
            belief = following
            reward, continuation = low.outcome(belief)
            continuation = xp.ones(rollouts) if continuation is None else continuation
            value = low.value(belief) if low.has_actor else xp.full((rollouts,), float("nan"))
            gates = (belief.gates > 0).sum(-1)
            total = total + weight * reward
            likely = likely * probability
            weight = weight * low.gamma * continuation
            observation = model.decode(belief)
        yield LowStep(
            np.asarray(agent.decode_action(action)),
            xp.numpy(reward),
            xp.numpy(value),
            xp.numpy(continuation),
            xp.numpy(gates),
            xp.numpy(gates > 0),
            numpy_of(observation),
            xp.numpy(likely),
            xp.numpy(total),
        )


def _planned(
    agent: ImaginingAgent,
    belief: Any,
    goals: tuple[GoalMemory, ...],
    state: AgentState | None,
    settings: PlannerSettings,
    noise: Randomness,
) -> Generator[None, None, FoundPlan]:
    """The planner's answer for each belief ``[R, ...]`` (``[1, ...]`` at the start, where all are the same)."""
    if state is not None:
        belief, memory = state.belief, state.plan
    else:
        rows = pytrees.first(belief).shape[0]
        memory = nothing_planned(agent.model, agent.actions, settings.horizon, rows)._replace(goals=goals)
    keys = noise.fold("plan").keys
    keys = keys + agent.model.arrays.arange(memory.taken.shape[0])
    search = ActionSearch(agent.model, agent.actions, settings, belief, memory, randomness=Randomness(keys))
    while not search.done:
        search.step()
        yield
    return search.result()


def _uniform(agent: ImaginingAgent, rollouts: int, noise: Randomness) -> tuple[Array, Array]:
    xp, (size, bounds) = agent.model.arrays, agent.actions
    if bounds is None:
        index = xp.as_int(noise.fold("actions").uniform(rollouts)[0] * size)
        return xp.one_hot(index, size), xp.full((rollouts,), 1.0 / size)
    uniform = noise.fold("actions").uniform(rollouts, size)[0]
    return bounds.middle + bounds.half * (2 * uniform - 1), xp.ones(rollouts)


def _goals(
    agent: ImaginingAgent, belief: Any, goals: tuple[GoalMemory, ...], noise: Randomness
) -> tuple[GoalMemory, ...]:
    """The goals of rollouts ``[R]``, each with random numbers of its own, where there is a manager."""
    manager = agent.model.manager
    if manager is None:
        return goals
    keys = noise.fold("goals").keys + agent.model.arrays.arange(goals[0].age.shape[0])
    return (held(manager, belief, goals[0], Randomness(keys)),)


def _actor(
    agent: ImaginingAgent, belief: Any, goals: tuple[GoalMemory, ...], rollouts: int, noise: Randomness
) -> tuple[Array, Array]:
    model, xp = agent.model, agent.model.arrays
    each: Actor = model.exact  # of one belief for each rollout
    among: Actor = model.exact  # of all beliefs in one batch
    if model.manager is not None:
        each, among = (Worker(model.manager, goal) for goal in (goals[0].goal, goals[0].goal[None]))
    batch = pytrees.map_arrays(lambda x: x[None], belief)  # [1, R, ...]
    action = act(among, batch, agent.actions, noise.fold("actions"), temperature=1.0)[0]
    mode = act(among, batch, agent.actions, None)[0]
    action = xp.where(is_first(rollouts, action)[:, None], mode, action)
    logits, std = each.policy(belief)
    if std is not None:
        return action, xp.ones(rollouts)
    return action, (xp.softmax(logits) * action).sum(-1)


def _given(agent: ImaginingAgent, actions: Sequence[Any]) -> Array:
    """``[R, horizon, A]`` (R = 1: one list for all)."""
    array = rectangle(actions)
    depth = 1 + len(agent.action_space.shape or ())
    if array.ndim == depth:
        array = array[None]
    if array.ndim != depth + 1 or array.size == 0:
        raise ValueError(f"actions: expected a list of actions, or one for each rollout, got {actions!r}")
    return agent.model.arrays.stack([agent.encode_action(row.tolist()) for row in array])
