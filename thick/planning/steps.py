"""Low-level tree search for discrete actions: the dynamics and the objective as a model that MCTS can ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.planning import pytrees
from thick.planning.mcts import MCTS
from thick.planning.protocols import Edge, Imaginer, Node, Objective
from thick.planning.sampling import Warm


class StepState(NamedTuple):
    """A state of the search."""

    belief: Any
    """[B, 1, ...]"""
    carry: Any
    """of the objective, [B, 1]"""


class StepModel:
    """Search model over low-level actions; imagined states are modes, so that a node has one meaning.

    The reward of an edge is what it adds to the objective's score, so a path is worth exactly what the objective says
    of it, whatever the objective is made of.

    Args:
        dynamics, objective: as in sampling.
        belief: ``[B, ...]``.
        actions: number of actions.
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

    def root(self) -> Node:
        """The present belief."""
        belief = pytrees.expand(self.belief, 1)
        # One imagined step gives the types that states will have.
        probe = torch.zeros(self._batch(belief), 1, self.actions, device=self._device(belief))
        like = self.dynamics.imagine(belief, probe, None)
        belief = pytrees.map_tensors(lambda x, y: x.to(y.dtype), belief, like)
        return self._node(StepState(belief, self.objective.start(belief)))

    def expand(self, state: StepState, action: Tensor) -> Edge:
        """What actions ``[B]`` lead to."""
        one_hot = F.one_hot(action, self.actions).float().unsqueeze(1)  # [B, 1, A]
        before = self.objective.finish(state.carry, state.belief, self.horizon).score
        belief = self.dynamics.imagine(state.belief, one_hot, None)
        carry = self.objective.step(state.carry, belief, one_hot)
        after = self.objective.finish(carry, belief, self.horizon).score
        gained = (after - before).squeeze(1)
        return Edge(self._node(StepState(belief, carry)), gained, torch.ones_like(gained))

    def _node(self, state: StepState) -> Node:
        batch, device = self._batch(state.belief), self._device(state.belief)
        logits = torch.zeros(batch, self.actions, device=device)
        if self.policy is not None:
            logits = self.policy(state.belief).squeeze(1)
        return Node(state, logits, torch.zeros(batch, device=device))

    @staticmethod
    def _batch(belief: Any) -> int:
        return pytrees.first(belief).shape[0]

    @staticmethod
    def _device(belief: Any) -> torch.device:
        return pytrees.first(belief).device


class StepSearch:
    """Low-level MCTS with the answers of a sampling search; a slice makes ``simulations`` of them.

    Args:
        model: where to search.
        iterations: slices of the whole budget.
        simulations: simulations of each.
        horizon: H.
        warm: the plan to follow before anything was searched.
    """

    def __init__(
        self, model: StepModel, *, iterations: int, simulations: int, horizon: int, warm: Warm
    ) -> None:
        self.model, self.warm, self.horizon = model, warm, horizon
        self.tree = MCTS(model, simulations=iterations * simulations, depth=horizon, chunk=simulations)
        self.iterations_asked, self.iterations_done, self.samples = iterations, 0, 0

    @property
    def done(self) -> bool:
        """Whether all simulations were made."""
        return self.tree.done

    def step(self) -> None:
        """One slice of simulations."""
        if not self.done:
            self.tree.step()
            self.iterations_done += 1
            self.samples = self.tree.simulations_done

    def sequence(self) -> Tensor:
        """The most visited path ``[B, H, A]``; beyond its end its last action is repeated."""
        if self.iterations_done == 0:
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
        state = pytrees.along(self.tree.states, last)
        score = self.model.objective.finish(state.carry, state.belief, self.horizon)
        return score.returns.squeeze(1)
