"""Imagining jumps: from one context change to just after the next."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from thick import pytrees
from thick.arrays import Array, Arrays
from thick.imagination.asked import Asked, is_first, numpy_of, rectangle
from thick.imagination.steps import HighStep
from thick.planning import table
from thick.planning.jumps import JumpModel, edge_reward, fades
from thick.planning.protocols import HighModel
from thick.planning.searches import HighSearch
from thick.planning.settings import PlannerSettings


def imagine_jumps(asked: Asked, actions: Sequence[Any] | None) -> Iterator[HighStep | None]:
    """Steps of the high level, and None in the pauses of a search.

    Raises:
        ValueError: the actions are no high-level actions. Raised at once.
    """
    high = asked.agent.model.high
    assert high is not None
    given = None
    if actions is not None:
        given = _given(actions, high.actions, asked.agent.model.arrays)
        rollouts = max(asked.rollouts, given.shape[0]) if given.shape[0] == 1 else given.shape[0]
        asked = asked._replace(rollouts=rollouts, horizon=given.shape[1])
        given = asked.agent.model.arrays.expand(given, rollouts, -1)
    elif asked.policy == "all":
        asked = asked._replace(rollouts=high.actions)
    return _jumps(asked, high, given)


def _jumps(asked: Asked, high: HighModel, given: Array | None) -> Iterator[HighStep | None]:
    agent, state, horizon, rollouts, policy, randomness, settings = asked
    model, xp = agent.model, agent.model.arrays
    distinct = policy == "all" or (given is not None and bool((given != given[:1]).any()))
    with xp.no_grad():
        stoch, context = (xp.expand(x, rollouts, -1) for x in (state.belief.stoch, state.belief.context))
        reward, _ = high.outcome(stoch, context)
        total, time, weight, likely = (
            xp.zeros(rollouts),
            xp.zeros(rollouts),
            xp.ones(rollouts),
            xp.ones(rollouts),
        )
    for index in range(horizon):
        with xp.no_grad():
            noise = randomness.fold(index)
            prior = high.prior(stoch, context)
            if given is not None:
                action = given[:, index]
            elif policy == "all":
                action = xp.arange(rollouts) if index == 0 else prior.argmax(-1)
            elif policy == "prior":
                drawn = (prior + noise.fold("prior").gumbel(rollouts, high.actions)[0]).argmax(-1)
                action = xp.where(is_first(rollouts, prior), prior.argmax(-1), drawn)
            else:
                action = yield from _searched(high, stoch, context, settings)
            probability = xp.take_along(xp.softmax(prior), action[:, None], 1)[:, 0]
            landing = high.jump(stoch, context, action)
            if rollouts > 1 and not distinct:
                uniforms = noise.fold("states").uniform(rollouts, 2 * stoch.shape[-1])[0]
                sampled = high.jump(stoch, context, action, uniforms)
                landing = pytrees.where(is_first(rollouts, prior), landing, sampled)
            earned = edge_reward(landing, reward, high.gamma)
            jumps = JumpModel(high, landing.stoch, landing.context, critic=settings.critic)
            value = jumps.evaluate(jumps.root()).value
            subgoal = model.decode_coarse(landing.stoch_before, context)
            observation = model.decode_coarse(landing.stoch, landing.context)
            total = total + weight * earned
            time, likely = time + landing.elapsed, likely * probability
            weight = weight * fades(high.gamma, landing.elapsed) * landing.continuation
            stoch, context, reward = landing.stoch, landing.context, landing.reward
        yield HighStep(
            xp.numpy(action),
            xp.numpy(probability),
            xp.numpy(landing.elapsed),
            xp.numpy(time),
            xp.numpy(landing.reward),
            xp.numpy(earned),
            xp.numpy(value),
            xp.numpy(landing.continuation),
            numpy_of(subgoal),
            numpy_of(observation),
            xp.numpy(likely),
            xp.numpy(total),
        )


def _searched(
    high: HighModel, stoch: Array, context: Array, settings: PlannerSettings
) -> Generator[None, None, Array]:
    """The high-level action that the planner would choose in each state, ``[R]``."""
    model = JumpModel(high, stoch, context, critic=settings.critic)
    search: HighSearch = table.build("high", settings.high, model, settings, None)
    while not search.done:
        search.step()
        yield
    return search.best()


def _given(actions: Sequence[Any], count: int, xp: Arrays) -> Array:
    """``[R, horizon]``"""
    array = rectangle(actions)
    if array.ndim == 1:
        array = array[None]
    whole = array.ndim == 2 and array.size > 0 and array.dtype.kind in "iu"
    if not whole or array.min() < 0 or array.max() >= count:
        raise ValueError(f"actions: expected high-level actions from 0 to {count - 1}, got {actions!r}")
    return xp.array(array.astype(np.int64))
