"""Low-level tree search for discrete actions: the dynamics and the objective as a model that MCTS can ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from thick import pytrees
from thick.planning.mcts import MCTS
from thick.planning.protocols import Imaginer, Node, Objective
from thick.planning.sampling import Warm


class StepState(NamedTuple):
    """A state of the search; leading dimensions ``[*B]``."""

    belief: Any
    carry: Any
    """of the objective"""


class StepModel:
    """Search model over low-level actions; imagined states are modes, so that a node has one meaning.

    The reward of an edge is what it adds to the objective's score, so a path is worth exactly what the objective says
    of it, whatever the objective is made of.

    Args:
        dynamics, objective: as in sampling.
        belief: ``[B, ...]``.
        actions: number of actions A.
        horizon: steps the objective takes its means over.
        policy: logits ``[B, 1, A]`` of beliefs, the prior of the search; None is uniform.
    """

    def __init__(
        self,
        dynamics: Imaginer,
        objective: Objective,
        belief: Any,
        *,
        actions: int,
        horizon: int,
        policy: Callable[[Any], Tensor] | None = None,
    ) -> None:
        self.dynamics, self.objective, self.belief = dynamics, objective, belief
        self.actions, self.horizon, self.policy = actions, horizon, policy

    def root(self) -> StepState:
        """The present belief, in the types that imagined ones have."""
        candidate = pytrees.expand(self.belief, 1)
        device = pytrees.first(candidate).device
        like = self.dynamics.imagine(
            candidate, torch.zeros(self._batch(), 1, self.actions, device=device), None
        )
        candidate = pytrees.map_arrays(lambda x, y: x.to(y.dtype), candidate, like)
        return pytrees.map_arrays(lambda x: x[:, 0], StepState(candidate, self.objective.start(candidate)))

    def evaluate(self, state: StepState) -> Node:
        """What each action leads to, all in one imagined step."""
        count = self.actions
        device = pytrees.first(state.belief).device
        logits = torch.zeros(self._batch(), count, device=device)
        if self.policy is not None:
            logits = self.policy(pytrees.expand(state.belief, 1)).squeeze(1)
        belief, carry = pytrees.expand(state, count)  # [B, A, ...]
        before = self.objective.finish(carry, belief, self.horizon).score
        action = torch.eye(count, device=device).expand(self._batch(), -1, -1)
        belief = self.dynamics.imagine(belief, action, None)
        carry = self.objective.step(carry, belief, action)
        gained = self.objective.finish(carry, belief, self.horizon).score - before
        return Node(
            logits.softmax(-1),
            torch.zeros_like(gained[:, 0]),
            gained,
            torch.ones_like(gained),
            StepState(belief, carry),
        )

    def _batch(self) -> int:
        return pytrees.first(self.belief).shape[0]


PART = 10
"""most simulations of a slice"""


class StepSearch:
    """Low-level MCTS with the answers of a sampling search; a slice makes a few simulations.

    Args:
        model: where to search.
        iterations: of the whole budget.
        simulations: simulations of each iteration.
        horizon: H.
        warm: the plan to follow before anything was searched.
    """

    def __init__(
        self, model: StepModel, *, iterations: int, simulations: int, horizon: int, warm: Warm
    ) -> None:
        self.model, self.warm, self.horizon = model, warm, horizon
        self.tree = MCTS(
            model, simulations=iterations * simulations, depth=horizon, chunk=min(PART, simulations)
        )
        self.simulations = simulations
        self.iterations_asked, self.iterations_done, self.samples = iterations, 0, 0

    @property
    def done(self) -> bool:
        """Whether all simulations were made."""
        return self.tree.done

    def step(self) -> None:
        """One slice of simulations."""
        if not self.done:
            self.tree.step()
            self.samples = self.tree.simulations_done
            self.iterations_done = self.samples // self.simulations

    def sequence(self) -> Tensor:
        """The most visited path ``[B, H, A]``; beyond its end its last action is repeated."""
        if self.samples == 0:
            valid = self.warm.valid[:, None, None]
            likely = F.one_hot(self.tree.path().actions.clamp_min(0)[:, :1], self.model.actions)
            return torch.where(valid, self.warm.sequence, likely.to(self.warm.sequence.dtype))
        actions = self.tree.path().actions  # [B, H]
        steps = torch.arange(self.horizon, device=actions.device)
        last = ((actions >= 0).sum(1, keepdim=True) - 1).clamp_min(0)
        actions = actions.gather(1, torch.minimum(steps.expand_as(actions), last)).clamp_min(0)
        return F.one_hot(actions, self.model.actions).to(self.warm.sequence.dtype)

    def expected_return(self) -> Tensor:
        """Return at the end of the most visited path, ``[B]``."""
        nodes = self.tree.path().nodes
        last = nodes.gather(1, ((nodes >= 0).sum(1, keepdim=True) - 1).clamp_min(0)).clamp_min(0).squeeze(1)
        state = pytrees.expand(pytrees.along(self.tree.states, last), 1)
        score = self.model.objective.finish(state.carry, state.belief, self.horizon)
        return score.returns.squeeze(1)
