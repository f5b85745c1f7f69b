"""What makes an imagined trajectory good: its rewards, and nearness to a subgoal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from thick import pytrees
from thick.planning.protocols import Score


class Outcomes(Protocol):
    """Heads of a model that say what is received in a belief."""

    def outcome(self, belief: Any) -> tuple[Tensor, Tensor | None]:
        """Reward received on arriving in the belief, and the probability that the episode goes on; ``[*B]``.

        The second is None where the model does not predict the end of an episode.
        """


class Returns(NamedTuple):
    """What is carried along a trajectory."""

    total: Tensor
    """[B, N] discounted rewards so far"""
    alive: Tensor
    """[B, N] probability that the episode has not ended yet"""
    weight: Tensor
    """[B, N] weight of the next step's reward: γ^steps"""


class ReturnObjective:
    """Mean discounted reward, masked by the predicted end of the episode, with a value at the horizon if given.

    Args:
        outcomes: reward and continuation of beliefs.
        discount: weight of a reward one step later; 1 gives PlaNet's plain mean.
        critic: value of beliefs ``[*B]``, the expected return from there on, not counting the reward of arriving.
    """

    def __init__(
        self, outcomes: Outcomes, *, discount: float, critic: Callable[[Any], Tensor] | None = None
    ) -> None:
        self.outcomes, self.discount, self.critic = outcomes, discount, critic

    def start(self, belief: Any) -> Returns:
        leaf = pytrees.first(belief)
        ones = torch.ones(leaf.shape[:2], device=leaf.device)
        return Returns(torch.zeros_like(ones), ones, ones)

    def step(self, carry: Returns, belief: Any, action: Tensor) -> Returns:
        reward, continuation = self.outcomes.outcome(belief)
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

    logits: Tensor
    """[B, S, K] logits of ẑ[τ-1], the state just before the context changes"""
    action: Tensor
    """[B, A] â, the action that leads into the change"""
    context: Tensor
    """[B, C] c[τ], the context after it"""
    continuation: Tensor
    """[B] probability that the episode goes on after it"""


class Progress(NamedTuple):
    """What is carried along a trajectory that has a subgoal."""

    returns: Returns
    credit: Tensor
    """[B, N] similarity to the subgoal, summed over steps"""
    near: Tensor
    """[B, N] bool, the last step was at the subgoal"""
    arrived: Tensor
    """[B, N] bool, the expected change has happened"""


class SubgoalObjective:
    """Mean reward + κ · mean similarity to the subgoal, with credit for going through the expected change.

    The paper's similarity (mean over the groups of the cosine between the probabilities) alone is largest for an agent
    that stays at the subgoal: the step that leads away, into the new context, costs similarity. With ``arrival`` the
    steps after the expected change count 1 + ``bonus`` instead, so the soonest way through it is the best. A change is
    the expected one if the step before it was at the subgoal, gates opened, and the context came closer to the
    predicted one than the present context is; or, where the high level expects the episode to end there, if it ends.

    Args:
        base: the rewards.
        subgoal: where to go.
        context: ``[B, C]``, the present context.
        kappa: κ.
        arrival: whether to give credit for the change.
        bonus: credit of each step after it, beyond 1.
        threshold: similarity that counts as being at the subgoal, as a share of what a certain state can reach.
    """

    def __init__(
        self,
        base: ReturnObjective,
        *,
        subgoal: Subgoal,
        context: Tensor,
        kappa: float,
        arrival: bool = True,
        bonus: float = 1.0,
        threshold: float = 0.5,
    ) -> None:
        self.base, self.kappa, self.arrival, self.bonus = base, kappa, arrival, bonus
        goal = subgoal.logits.float().softmax(-1)
        self.goal = (goal / goal.square().sum(-1, keepdim=True).sqrt()).unsqueeze(1)  # [B, 1, S, K]
        self.threshold = threshold * self.goal.amax(-1).mean(-1)  # [B, 1]
        self.context = subgoal.context.float().unsqueeze(1)  # [B, 1, C]
        self.distance = (context.float().unsqueeze(1) - self.context).square().sum(-1)  # [B, 1]
        self.ends = subgoal.continuation.unsqueeze(1) < 0.5  # [B, 1]

    def start(self, belief: Any) -> Progress:
        returns = self.base.start(belief)
        near = self.similarity(belief) >= self.threshold
        return Progress(returns, torch.zeros_like(returns.total), near, torch.zeros_like(near))

    def similarity(self, belief: Any) -> Tensor:
        """Mean over the groups of the cosine between goal and belief, ``[B, N]``."""
        # A cosine does not ask for normalised probabilities.
        probability = belief.logits.float().clamp(-40, 40).exp_()
        length = torch.linalg.vector_norm(probability, dim=-1)
        return ((probability * self.goal).sum(-1) / length).mean(-1)

    def step(self, carry: Progress, belief: Any, action: Tensor) -> Progress:
        returns = self.base.step(carry.returns, belief, action)
        similarity = self.similarity(belief)
        alive = carry.returns.alive
        if not self.arrival:
            return Progress(returns, carry.credit + alive * similarity, carry.near, carry.arrived)
        opened = (belief.gates > 0).any(-1)
        closer = (belief.context.float() - self.context).square().sum(-1) < self.distance
        ended = self.ends & (returns.alive < 0.5) & (alive >= 0.5)
        arrived = carry.arrived | (carry.near & ((opened & closer) | ended))
        credit = torch.where(arrived, torch.full_like(similarity, 1.0 + self.bonus), alive * similarity)
        return Progress(returns, carry.credit + credit, similarity >= self.threshold, arrived)

    def finish(self, carry: Progress, belief: Any, length: int) -> Score:
        score, returns = self.base.finish(carry.returns, belief, length)
        return Score(score + self.kappa * carry.credit / length, returns)
