"""What makes an imagined trajectory good: its rewards, and nearness to a subgoal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from thick import pytrees
from thick.arrays import Array, of
from thick.planning.protocols import RolloutObjective, Score


class Outcomes(Protocol):
    """Heads of a model that say what is received in a belief."""

    def outcome(self, belief: Any) -> tuple[Array, Array | None]:
        """Reward received on arriving in the belief, and the probability that the episode goes on; ``[*B]``.

        The second is None where the model does not predict the end of an episode.
        """


class Returns(NamedTuple):
    """What is carried along a trajectory."""

    total: Array
    """[B, N] discounted rewards so far"""
    alive: Array
    """[B, N] probability that the episode has not ended yet"""
    weight: Array
    """[B, N] weight of the next step's reward: γ^steps"""


class ReturnObjective:
    """Mean discounted reward, masked by the predicted end of the episode, with a value at the horizon if given.

    Args:
        outcomes: reward and continuation of beliefs.
        discount: weight of a reward one step later; 1 gives PlaNet's plain mean.
        critic: value of beliefs ``[*B]``, the expected return from there on, not counting the reward of arriving.
    """

    def __init__(
        self, outcomes: Outcomes, *, discount: float, critic: Callable[[Any], Array] | None = None
    ) -> None:
        self.outcomes, self.discount, self.critic = outcomes, discount, critic

    def numbers(self) -> RolloutObjective:
        """The objective for who imagines and scores candidates in one go."""
        return RolloutObjective(
            self.discount, self.critic is not None, None, None, None, None, None, 0.0, False, 0.0
        )

    def start(self, belief: Any) -> Returns:
        leaf = pytrees.first(belief)
        xp = of(leaf)
        ones = xp.ones(*leaf.shape[:2])
        return Returns(xp.zeros(*leaf.shape[:2]), ones, ones)

    def step(self, carry: Returns, belief: Any, action: Array) -> Returns:
        return self.receive(carry, *self.outcomes.outcome(belief))

    def receive(self, carry: Returns, reward: Array, continuation: Array | None) -> Returns:
        """The carry after a step on which this reward and continuation are expected."""
        total = carry.total + carry.weight * carry.alive * reward
        alive = carry.alive if continuation is None else carry.alive * continuation
        return Returns(total, alive, carry.weight * self.discount)

    def finish(self, carry: Returns, belief: Any, length: int) -> Score:
        total = carry.total
        if self.critic is not None:
            total = total + carry.weight * carry.alive * self.critic(belief)
        return Score(total / length, total)


class Subgoal(NamedTuple):
    """Where the high level wants to be, and what it expects there; all ``[B, ...]``."""

    logits: Array
    """[B, S, K] logits of ẑ[τ-1], the state just before the context changes"""
    action: Array
    """[B, A] â, the action that leads into the change"""
    context: Array
    """[B, C] c[τ], the context after it"""
    continuation: Array
    """[B] probability that the episode goes on after it"""


class Progress(NamedTuple):
    """What is carried along a trajectory that has a subgoal."""

    returns: Returns
    credit: Array
    """[B, N] similarity to the subgoal, summed over steps"""
    near: Array
    """[B, N] bool, the last step was at the subgoal"""
    arrived: Array
    """[B, N] bool, the expected change has happened"""
    won: Array
    """[B, N] probability that the episode has ended with a reward"""


class SubgoalObjective:
    """Mean reward + κ · mean similarity to the subgoal, with credit for going through the expected change.

    The paper's similarity (mean over the groups of the cosine between the probabilities) alone is largest for an agent
    that stays at the subgoal: the step that leads away, into the new context, costs similarity. With ``arrival`` the
    steps after the expected change count 1 + ``bonus`` instead, so the soonest way through it is the best. A change is
    the expected one if the step before it was at the subgoal, gates opened, and the context came closer to the
    predicted one than the present context is; or, where the high level expects the episode to end there, if it ends.

    Similarity counts while the episode goes on, so that whatever ends it costs all that could still have been earned,
    also the goal itself. With ``ending`` an end with a reward costs nothing: the steps after it count as an arrival's.

    Args:
        base: the rewards.
        subgoal: where to go.
        context: ``[B, C]``, the present context.
        kappa: κ.
        arrival: whether to give credit for the change.
        bonus: credit of each step after it, beyond 1.
        threshold: similarity that counts as being at the subgoal, as a share of what a certain state can reach.
        ending: the reward that an end must exceed for that; 0 for none.
    """

    def __init__(
        self,
        base: ReturnObjective,
        *,
        subgoal: Subgoal,
        context: Array,
        kappa: float,
        arrival: bool = True,
        bonus: float = 1.0,
        threshold: float = 0.5,
        ending: float = 0.0,
    ) -> None:
        self.base, self.kappa, self.arrival = base, kappa, arrival
        self.bonus, self.ending = bonus if arrival else 0.0, ending
        xp = of(subgoal.logits)
        goal = xp.softmax(xp.as_float(subgoal.logits))
        goal = goal / xp.sqrt(xp.sum(goal * goal, -1, keep=True))  # [B, S, K]
        self.goal = goal[:, None]  # [B, 1, S, K]
        self.threshold = threshold * xp.max(self.goal, -1).mean(-1)  # [B, 1]
        self.context = xp.as_float(subgoal.context)[:, None]  # [B, 1, C]
        self.distance = _squared(xp.as_float(context)[:, None] - self.context)  # [B, 1]
        self.ends = subgoal.continuation[:, None] < 0.5  # [B, 1]

    def numbers(self) -> RolloutObjective:
        """The objective for who imagines and scores candidates in one go."""
        return self.base.numbers()._replace(
            goal=self.goal[:, 0],
            threshold=self.threshold[:, 0],
            context=self.context[:, 0],
            distance=self.distance[:, 0],
            ends=self.ends[:, 0],
            kappa=self.kappa,
            arrival=self.arrival,
            bonus=self.bonus,
            ending=self.ending,
        )

    def start(self, belief: Any) -> Progress:
        returns = self.base.start(belief)
        near = self.similarity(belief) >= self.threshold
        zeros = of(near).zeros(*near.shape)
        return Progress(returns, zeros, near, of(near).no(*near.shape), zeros)

    def similarity(self, belief: Any) -> Array:
        """Mean over the groups of the cosine between goal and belief, ``[B, N]``."""
        xp = of(belief.logits)
        # A cosine does not ask for normalised probabilities.
        probability = xp.exp(xp.clip(xp.as_float(belief.logits), -40.0, 40.0))
        return ((probability * self.goal).sum(-1) / xp.norm(probability)).mean(-1)

    def step(self, carry: Progress, belief: Any, action: Array) -> Progress:
        reward, continuation = self.base.outcomes.outcome(belief)
        returns = self.base.receive(carry.returns, reward, continuation)
        similarity = self.similarity(belief)
        alive, won, xp = carry.returns.alive, carry.won, of(similarity)
        credit = alive * similarity
        if self.ending > 0 and continuation is not None:
            ending = xp.where(reward > self.ending, alive - returns.alive, 0.0)
            won = won + ending
            credit = (alive - ending) * similarity + (1.0 + self.bonus) * won
        if not self.arrival:
            return Progress(returns, carry.credit + credit, carry.near, carry.arrived, won)
        opened = (belief.gates > 0).any(-1)
        closer = _squared(xp.as_float(belief.context) - self.context) < self.distance
        ended = self.ends & (returns.alive < 0.5) & (alive >= 0.5)
        arrived = carry.arrived | (carry.near & ((opened & closer) | ended))
        credit = xp.where(arrived, 1.0 + self.bonus, credit)
        return Progress(returns, carry.credit + credit, similarity >= self.threshold, arrived, won)

    def finish(self, carry: Progress, belief: Any, length: int) -> Score:
        score, returns = self.base.finish(carry.returns, belief, length)
        return Score(score + self.kappa * carry.credit / length, returns)


def _squared(difference: Array) -> Array:
    """Squared length over the last axis."""
    return (difference * difference).sum(-1)
