"""Builds the search over low-level actions that the settings ask for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from thick import pytrees
from thick.planning.categorical_cem import CategoricalCEM
from thick.planning.cem import CEM, ActionRange
from thick.planning.icem import ICEM
from thick.planning.mppi import MPPI
from thick.planning.objectives import ReturnObjective, Subgoal, SubgoalObjective
from thick.planning.protocols import LowModel, LowSearch, Objective, Score, SoFar
from thick.planning.randomness import Randomness
from thick.planning.sampling import Proposals, Sampler, SamplingSearch, Warm, rollout_in_parts
from thick.planning.settings import DISCRETE_SEARCHES, PlannerSettings
from thick.planning.steps import StepModel, StepSearch


class Actions(NamedTuple):
    """What actions are, inside the model."""

    size: int
    """A"""
    bounds: ActionRange | None
    """of continuous actions; None where they are discrete"""


def sampler(settings: PlannerSettings, actions: Actions) -> Sampler:
    """The sampler of a sampling search.

    Raises:
        ValueError: the search is for the other kind of actions.
    """
    check_low(settings.low, discrete=actions.bounds is None)
    if actions.bounds is None:
        return CategoricalCEM(
            horizon=settings.horizon,
            actions=actions.size,
            samples=settings.samples,
            smoothing=settings.smoothing,
            sharpness=settings.sharpness,
        )
    common: dict[str, Any] = {
        "horizon": settings.horizon,
        "actions": actions.bounds,
        "samples": settings.samples,
        "smoothing": settings.smoothing,
        "minimum_std": settings.minimum_std,
    }
    if settings.low == "icem":
        return ICEM(
            **common,
            kept=settings.kept,
            decay=settings.sample_decay,
            colour=settings.noise_colour,
            minimum=min(settings.samples, 2 * settings.elite_count),
        )
    if settings.low == "mppi":
        return MPPI(**common, sharpness=settings.sharpness)
    return CEM(**common)


def check_low(low: str, *, discrete: bool) -> None:
    """ValueError if a low-level search is for the other kind of actions."""
    if discrete != (low in DISCRETE_SEARCHES):
        kind = "discrete" if discrete else "continuous"
        known = [name for name in ("categorical-cem", "mcts", "cem", "icem", "mppi")]
        fitting = [name for name in known if (name in DISCRETE_SEARCHES) == discrete]
        raise ValueError(
            f"planner.low: {low!r} does not fit {kind} actions; expected one of {', '.join(fitting)}"
        )


def objective(
    dynamics: LowModel, settings: PlannerSettings, subgoal: Subgoal | None, context: Tensor
) -> Objective:
    """Mean reward, and nearness to the subgoal where there is one.

    Args:
        context: ``[B, C]``, now.
    """
    critic = dynamics.value if settings.critic and dynamics.has_actor else None
    returns = ReturnObjective(dynamics, discount=settings.discount, critic=critic)
    if subgoal is None:
        return returns
    return SubgoalObjective(
        returns,
        subgoal=subgoal,
        context=context,
        kappa=settings.kappa,
        arrival=settings.arrival,
        bonus=settings.arrival_bonus,
        threshold=settings.arrival_similarity,
    )


def low_search(
    dynamics: LowModel,
    settings: PlannerSettings,
    actions: Actions,
    belief: Any,
    *,
    subgoal: Subgoal | None,
    warm: Warm,
    randomness: Randomness,
) -> LowSearch:
    """An anytime search from ``belief`` ``[B, ...]``; with a subgoal it also steers towards it."""
    goal = objective(dynamics, settings, subgoal, belief.context)
    if settings.low == "mcts":
        check_low(settings.low, discrete=actions.bounds is None)
        model = StepModel(
            dynamics,
            goal,
            belief,
            actions=actions.size,
            horizon=settings.horizon,
            policy=(lambda at: dynamics.policy(at)[0]) if dynamics.has_actor else None,
        )
        # A simulation of a tree is one step of one candidate; it costs far more than a step among a thousand.
        simulations = max(1, settings.samples // 10)
        return StepSearch(
            model,
            iterations=settings.iterations,
            simulations=simulations,
            horizon=settings.horizon,
            warm=warm,
        )

    def evaluate(candidates: Tensor, noise: Randomness) -> Generator[SoFar, None, Score]:
        return rollout_in_parts(dynamics, goal, belief, candidates, noise if settings.stochastic else None)

    proposals = None
    if dynamics.has_actor and settings.actor_proposals:
        count = min(settings.actor_proposals, settings.samples // 2)
        sequences = follow_actor(dynamics, belief, count, settings.horizon, actions, randomness.fold("actor"))
        proposals = Proposals(
            sequences, torch.ones(sequences.shape[:2], dtype=torch.bool, device=sequences.device)
        )
    return SamplingSearch(
        sampler=sampler(settings, actions),
        evaluate=evaluate,
        iterations=settings.iterations,
        elites=settings.elite_count,
        randomness=randomness,
        warm=warm,
        proposals=proposals,
        insert=None if subgoal is None else subgoal.action,
        insert_share=settings.action_proposals,
    )


def follow_actor(
    dynamics: LowModel,
    belief: Any,
    count: int,
    horizon: int,
    actions: Actions,
    randomness: Randomness,
) -> Tensor:
    """Sequences that the actor would take in imagination, ``[B, count, H, A]``; the first is its modes."""
    belief = pytrees.expand(belief, count)
    steps = []
    for index in range(horizon):
        action = act(dynamics, belief, actions, randomness.fold(2 * index), temperature=1.0)
        best = act(dynamics, pytrees.map_arrays(lambda x: x[:, :1], belief), actions, None)
        action = torch.cat([best, action[:, 1:]], 1)
        steps.append(action)
        uniforms = randomness.fold(2 * index + 1).uniform(count, dynamics.draws)
        belief = dynamics.imagine(belief, action, uniforms)
    return torch.stack(steps, 2)


def act(
    dynamics: LowModel,
    belief: Any,
    actions: Actions,
    randomness: Randomness | None,
    *,
    temperature: float = 0.0,
) -> Tensor:
    """The actor's action in beliefs ``[B, N, ...]``, ``[B, N, A]``: its mode, or a sample at a temperature."""
    output, std = dynamics.policy(belief)
    count = output.shape[1]
    if std is None:
        if randomness is not None and temperature > 0:
            output = output / temperature + randomness.gumbel(count, output.shape[-1])
        return F.one_hot(output.argmax(-1), output.shape[-1]).float()
    assert actions.bounds is not None
    if randomness is not None and temperature > 0:
        output = output + temperature * std * randomness.normal(count, output.shape[-1])
    return actions.bounds.clip(output)
