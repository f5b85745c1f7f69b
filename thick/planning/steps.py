"""Low-level tree search for discrete actions: the dynamics and the objective as a model that MCTS can ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from thick import pytrees
from thick.arrays import Array, of
from thick.planning.low import LowProblem
from thick.planning.mcts import MCTS
from thick.planning.protocols import Imaginer, Node, Objective
from thick.planning.sampling import Warm
from thick.planning.searches import LowSearch, Spent


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
        policy: Callable[[Any], Array] | None = None,
    ) -> None:
        self.dynamics, self.objective, self.belief = dynamics, objective, belief
        self.actions, self.horizon, self.policy = actions, horizon, policy

    def root(self) -> StepState:
        """The present belief, in the types that imagined ones have."""
        candidate = pytrees.expand(self.belief, 1)
        xp = of(pytrees.first(candidate))
        like = self.dynamics.imagine(candidate, xp.zeros(self._batch(), 1, self.actions), None)
        candidate = pytrees.map_arrays(xp.as_like, candidate, like)
        return pytrees.map_arrays(lambda x: x[:, 0], StepState(candidate, self.objective.start(candidate)))

    def evaluate(self, state: StepState) -> Node:
        """What each action leads to, all in one imagined step."""
        count, batch = self.actions, self._batch()
        xp = of(pytrees.first(state.belief))
        logits = xp.zeros(batch, count)
        if self.policy is not None:
            logits = self.policy(pytrees.expand(state.belief, 1))[:, 0]
        belief, carry = pytrees.expand(state, count)  # [B, A, ...]
        before = self.objective.finish(carry, belief, self.horizon).score
        action = xp.expand(xp.eye(count), batch, -1, -1)
        belief = self.dynamics.imagine(belief, action, None)
        carry = self.objective.step(carry, belief, action)
        gained = self.objective.finish(carry, belief, self.horizon).score - before
        return Node(
            xp.softmax(logits), xp.zeros(batch), gained, xp.ones(batch, count), StepState(belief, carry)
        )

    def _batch(self) -> int:
        return int(pytrees.first(self.belief).shape[0])


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

    def sequence(self) -> Array:
        """The most visited path ``[B, H, A]``; beyond its end its last action is repeated."""
        xp = of(self.warm.sequence)
        if self.samples == 0:
            likely = xp.one_hot(self.tree.best()[:, None], self.model.actions)
            return xp.where(self.warm.valid[:, None, None], self.warm.sequence, likely)
        actions = self.tree.path().actions  # [B, H]
        last = xp.clip((actions >= 0).sum(1) - 1, 0)[:, None]
        steps = xp.minimum(xp.arange(self.horizon)[None], last)
        return xp.one_hot(xp.clip(xp.take_along(actions, steps, 1), 0), self.model.actions)

    def spent(self) -> Spent:
        """What was used so far, the same for every session."""
        nothing = of(self.warm.valid).whole(self.warm.valid.shape[0])
        return Spent(nothing + self.iterations_done, nothing + self.samples)

    def expected_return(self) -> Array:
        """Return at the end of the most visited path, ``[B]``."""
        nodes = self.tree.path().nodes
        xp = of(nodes)
        last = xp.clip((nodes >= 0).sum(1) - 1, 0)[:, None]
        state = self.tree.states(xp.take_along(nodes, last, 1))  # [B, 1, ...]
        return self.model.objective.finish(state.carry, state.belief, self.horizon).returns[:, 0]


def low_search(problem: LowProblem) -> LowSearch:
    """Tree search over the actions of a problem."""
    settings, dynamics = problem.settings, problem.dynamics
    model = StepModel(
        dynamics,
        problem.objective,
        problem.belief,
        actions=problem.actions.size,
        horizon=settings.horizon,
        policy=(lambda at: dynamics.policy(at)[0]) if dynamics.has_actor else None,
    )
    return StepSearch(
        model,
        iterations=settings.iterations,
        # A simulation of a tree is one step of one candidate; it costs far more than a step among a thousand.
        simulations=max(1, settings.samples // 10),
        horizon=settings.horizon,
        warm=problem.warm,
    )
