"""What a model may do in one go: whole candidates, and nodes of the high level. Both come to what steps come to."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from tests.planning.border import InNumpy, to_numpy
from tests.planning.models import agent, keys, started
from thick import pytrees
from thick.agent import Agent, AgentState
from thick.arrays import NUMPY
from thick.models.beliefs import Belief
from thick.planning.jumps import edge_reward, fades
from thick.planning.protocols import (
    Expansion,
    JumpState,
    Node,
    RolloutObjective,
    Rollouts,
    Score,
    SoFar,
)
from thick.planning.randomness import Randomness


class Fused(InNumpy):
    """A dynamics with :class:`~thick.planning.protocols.Rollouts`, candidate by candidate, as its docstring reads."""

    asked = 0

    def rollout(
        self,
        belief: Belief,
        candidates: np.ndarray,
        objective: RolloutObjective,
        randomness: Randomness | None,
    ) -> Generator[SoFar, None, Score]:
        Fused.asked += 1
        batch, count, length, _ = candidates.shape
        draws = [
            None if randomness is None else randomness.fold(i).uniform(count, self.draws)
            for i in range(length)
        ]
        score, returns = (np.full((batch, count), -np.inf, np.float32) for _ in range(2))
        for n in range(count):
            at = pytrees.map_arrays(lambda x: x[:, None], belief)
            score[:, n], returns[:, n] = self._one(at, candidates[:, n : n + 1], objective, [
                None if drawn is None else drawn[:, n : n + 1] for drawn in draws
            ])  # fmt: skip
            if n % 4 == 3:
                yield SoFar(length, lambda: Score(score.copy(), returns.copy()))
        return Score(score, returns)

    def _one(self, at: Any, actions: np.ndarray, objective: RolloutObjective, draws: list[Any]) -> Any:
        batch, length = actions.shape[0], actions.shape[2]
        total, alive, weight = np.zeros((batch, 1)), np.ones((batch, 1)), 1.0
        credit, arrived, won = np.zeros((batch, 1)), np.zeros((batch, 1), bool), np.zeros((batch, 1))
        near = (
            self._similarity(at, objective) >= objective.threshold[:, None]
            if objective.goal is not None
            else None
        )
        for i in range(length):
            at = self.imagine(at, actions[:, :, i], draws[i])
            reward, goes_on = self.outcome(at)
            before = alive
            total, alive = total + weight * before * reward, before * (1.0 if goes_on is None else goes_on)
            weight *= objective.discount
            if objective.goal is None:
                continue
            similarity = self._similarity(at, objective)
            changed = (at.gates > 0).any(-1) & (
                ((at.context - objective.context[:, None]) ** 2).sum(-1) < objective.distance[:, None]
            )
            ended = objective.ends[:, None] & (alive < 0.5) & (before >= 0.5)
            arrived = arrived | (near & (changed | ended))
            ending = (before - alive) * ((objective.ending > 0) & (reward > objective.ending))
            won = won + ending
            gained = (before - ending) * similarity + (1 + objective.bonus) * won
            credit += np.where(arrived, 1 + objective.bonus, gained) if objective.arrival else gained
            near = similarity >= objective.threshold[:, None]
        if objective.critic:
            total = total + weight * alive * self.value(at)
        returns = total[:, 0]
        return returns / length + objective.kappa / length * credit[:, 0], returns

    def _similarity(self, at: Any, objective: RolloutObjective) -> np.ndarray:
        p = np.exp(np.clip(at.logits.astype(np.float64), -40, 40))
        return ((p * objective.goal[:, None]).sum(-1) / np.sqrt((p * p).sum(-1))).mean(-1)


class FusedHigh(InNumpy):
    """A high level with :class:`~thick.planning.protocols.Expansion`."""

    asked = 0

    def expand(self, state: JumpState, *, critic: bool) -> Node:
        FusedHigh.asked += 1
        prior = NUMPY.softmax(self.prior(state.stoch, state.context))
        lead, count = prior.shape[:-1], prior.shape[-1]
        landings = [
            self.jump(state.stoch, state.context, np.full(lead, action, np.int64)) for action in range(count)
        ]
        landing = pytrees.map_arrays(lambda *x: np.stack(x, len(lead)), *landings)
        reward = edge_reward(landing, state.reward[..., None], self.gamma)
        value = self.value(state.stoch, state.context) if critic else (prior * reward).sum(-1)
        fade = fades(self.gamma, landing.elapsed) * landing.continuation
        children = JumpState(landing.stoch, landing.context, landing.reward, landing.elapsed)
        return Node(prior, value, reward, fade, children)


def fused(of: Agent) -> Agent:
    """The agent over numpy, with all that may be done in one go."""
    model: Any = InNumpy(of.model)
    model.search = model.exact = Fused(of.model.exact)
    model.high = FusedHigh(of.model.high)
    assert isinstance(model.search, Rollouts) and isinstance(model.high, Expansion)
    return Agent(
        model,
        observation_space=of.observation_space,
        action_space=of.action_space,
        planner=of.planner.to_json(),
    )


@pytest.mark.parametrize("action", ["discrete", "continuous"])
@pytest.mark.parametrize(
    "options",
    [
        {"method": "hierarchical", "kappa": 0.7, "arrival_similarity": 0.3},
        {"method": "hierarchical", "kappa": 0.7, "arrival": False, "stochastic": False, "high": "tree"},
        {"method": "hierarchical", "kappa": 0.7, "arrival_similarity": 0.3, "ending_reward": 1e-6},
        {"method": "flat", "discount": 0.9, "critic": False},
    ],
)
def test_a_plan_of_a_model_that_does_all_in_one_go_is_that_of_its_steps(
    action: str, options: dict[str, Any]
) -> None:
    of = agent(action=action, actor_critic=True, planner={**options, "samples": 16})
    at_once = fused(of)
    state = started(of, 2)
    Fused.asked = FusedHigh.asked = 0
    theirs = of.act(state, keys=keys(2))
    ours_state: AgentState = to_numpy(state)
    ours = at_once.act(ours_state, keys=keys(2).numpy())
    assert Fused.asked > 0 and (FusedHigh.asked > 0) == (options["method"] == "hierarchical")
    told = [(each.action, each.found.memory, each.found.expected_return) for each in (ours, theirs)]
    for (name, x), (_, y) in zip(pytrees.walk(told[0]), pytrees.walk(to_numpy(told[1])), strict=True):
        assert np.allclose(x, y, rtol=1e-4, atol=1e-4), name


def test_candidates_that_were_not_reached_are_not_the_plan_so_far() -> None:
    of = fused(agent(planner={"method": "flat", "samples": 16, "iterations": 1}))
    planning = of.plan(to_numpy(started(agent(), 1)), keys=keys(1).numpy())
    seen = []
    while not planning.done:
        planning.step()
        result = planning.result()
        assert result.action.sum() == 1 and np.isfinite(result.found.expected_return).all()
        seen.append(result.found.expected_return[0])
    assert len(seen) > 3
