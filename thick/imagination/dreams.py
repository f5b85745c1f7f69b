"""Dreams: the low level stepped as an environment, D of them at once, each with random numbers of its own.

A dream's state is what the next step depends on: z, h and c. Rewards, continuations and values are those of the heads,
as in imagination (:mod:`thick.imagination.low`); an episode ends by a draw from its continuation.
"""

from __future__ import annotations

from typing import NamedTuple

from thick.arrays import Array
from thick.imagination.asked import ImaginingAgent
from thick.models.beliefs import Belief
from thick.planning.randomness import Randomness


class DreamState(NamedTuple):
    """What the next step depends on."""

    stoch: Array
    """[D, S] the class of each group of z"""
    deter: Array
    """[D, H]"""
    context: Array
    """[D, C]"""


class DreamStep(NamedTuple):
    """One step of D dreams."""

    state: DreamState
    reward: Array
    """[D] received with the step"""
    continuation: Array
    """[D] probability that the episode goes on"""
    terminated: Array
    """[D] bool"""
    gates_open: Array
    """[D] how many gates opened"""


def begun(agent: ImaginingAgent, randomness: Randomness | None, count: int) -> DreamState:
    """The model's own start: z from the prior before anything was seen, as the first step of an episode trains it.

    Args:
        randomness: of ``count`` dreams; None takes the mode of the prior, the same for all.
    """
    with agent.model.arrays.no_grad():
        nothing = agent.model.arrays.zeros(count, agent.actions.size)
        return of(agent.model.begin(nothing, _uniforms(agent, randomness)))


def stepped(
    agent: ImaginingAgent, state: DreamState, action: Array, randomness: Randomness | None
) -> DreamStep:
    """One step.

    Args:
        action: ``[D, A]``.
        randomness: of the dreams at this step; None takes modes, and an episode ends where that is more likely.
    """
    xp, low = agent.model.arrays, agent.model.exact
    with xp.no_grad():
        belief = low.imagine(believed(agent, state), action, _uniforms(agent, randomness))
        reward, continuation = low.outcome(belief)
        if continuation is None:
            continuation = xp.ones(reward.shape[0])
        drawn = 0.5 if randomness is None else randomness.fold("end").uniform(1)[:, 0]
        return DreamStep(of(belief), reward, continuation, continuation <= drawn, (belief.gates > 0).sum(-1))


def of(belief: Belief) -> DreamState:
    """The dreams that go on from beliefs ``[D, ...]``."""
    return DreamState(belief.stoch, belief.deter, belief.context)


def believed(agent: ImaginingAgent, state: DreamState) -> Belief:
    """A dream as the heads and the dynamics take it; what nobody asks of an old belief is zero."""
    unseen = agent.model.initial(state.stoch.shape[0])
    return unseen._replace(stoch=state.stoch, deter=state.deter).with_context(state.context)


def _uniforms(agent: ImaginingAgent, randomness: Randomness | None) -> Array | None:
    draws = agent.model.exact.draws
    return None if randomness is None or not draws else randomness.fold("states").uniform(draws)
