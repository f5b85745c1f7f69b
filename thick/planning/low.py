"""The search over low-level actions: its problem, what a candidate is worth, and what the actor proposes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from thick import pytrees
from thick.arrays import Array, of
from thick.models.beliefs import Belief
from thick.planning import table
from thick.planning.actions import Actions
from thick.planning.objectives import ReturnObjective, Subgoal, SubgoalObjective
from thick.planning.protocols import LowModel, Rollouts, Score, SoFar, offers
from thick.planning.randomness import Randomness
from thick.planning.sampling import Proposals, Sampler, SamplingSearch, Warm, rollout_in_parts
from thick.planning.searches import LowSearch
from thick.planning.settings import PlannerSettings


class Actor(Protocol):
    """Whoever says how likely actions are."""

    def policy(self, belief: Any) -> tuple[Array, Array | None]:
        """Logits ``[*B, A]`` and None, or mean and standard deviation ``[*B, A]``."""


class LowProblem(NamedTuple):
    """What a search over low-level actions is asked."""

    dynamics: LowModel
    objective: ReturnObjective | SubgoalObjective
    settings: PlannerSettings
    actions: Actions
    belief: Any
    """[B, ...] where it starts"""
    subgoal: Subgoal | None
    """where it should go"""
    warm: Warm
    """the previous plan"""
    randomness: Randomness


class LowGiven(NamedTuple):
    """What differs from one search of the same settings to the next, a tree of arrays; leading dimension ``[B]``."""

    belief: Belief
    """where it starts"""
    subgoal: Subgoal | None
    """where it should go"""
    warm: Warm
    """the previous plan"""
    keys: Array
    """[B] int64, where each session's randomness starts"""


LowSearches: TypeAlias = Callable[[LowGiven], LowSearch]
"""makes the searches of one kind, whatever is given"""


@runtime_checkable
class Recorder(Protocol):
    """What ``model.search`` may have besides :class:`~thick.planning.protocols.LowModel`: searches that are recorded
    once and replayed."""

    def recorded(self, settings: PlannerSettings, given: LowGiven, build: LowSearches) -> LowSearch:
        """What ``build(given)`` is, or the replay of such a search; ``settings`` say which are alike."""


def search_for(dynamics: LowModel, settings: PlannerSettings, actions: Actions, given: LowGiven) -> LowSearch:
    """The search over low-level actions for what is given.

    Raises:
        ValueError: the settings ask for one for the other kind of actions.
    """

    def build(given: LowGiven) -> LowSearch:
        belief, subgoal = given.belief, given.subgoal
        return low_search(
            LowProblem(
                dynamics=dynamics,
                objective=objective(dynamics, settings, subgoal, belief.context),
                settings=settings,
                actions=actions,
                belief=belief,
                subgoal=subgoal,
                warm=given.warm,
                randomness=Randomness(given.keys),
            )
        )

    if offers(dynamics, Recorder):
        recorder: Any = dynamics
        search: LowSearch = recorder.recorded(settings, given, build)
        return search
    return build(given)


def low_search(problem: LowProblem) -> LowSearch:
    """The anytime search that the settings ask for.

    Raises:
        ValueError: it is for the other kind of actions.
    """
    kind = table.DISCRETE if problem.actions.bounds is None else table.CONTINUOUS
    has = (kind, table.ACTOR) if problem.dynamics.has_actor else (kind,)
    table.check("low", problem.settings.low, has)
    search: LowSearch = table.build("low", problem.settings.low, problem)
    return search


def objective(
    dynamics: LowModel, settings: PlannerSettings, subgoal: Subgoal | None, context: Array
) -> ReturnObjective | SubgoalObjective:
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
        ending=settings.ending_reward,
    )


def sampled(problem: LowProblem, sampler: Sampler) -> SamplingSearch:
    """A sampling search of a problem."""
    dynamics, settings, goal = problem.dynamics, problem.settings, problem.objective
    fused: Any = dynamics if offers(dynamics, Rollouts) else None
    numbers = None if fused is None else goal.numbers()

    def evaluate(candidates: Array, noise: Randomness) -> Generator[SoFar, None, Score]:
        drawn = noise if settings.stochastic else None
        if fused is not None:
            scoring: Generator[SoFar, None, Score] = fused.rollout(problem.belief, candidates, numbers, drawn)
            return scoring
        return rollout_in_parts(dynamics, goal, problem.belief, candidates, drawn)

    return SamplingSearch(
        sampler=sampler,
        evaluate=evaluate,
        iterations=settings.iterations,
        elites=settings.elite_count,
        randomness=problem.randomness,
        warm=problem.warm,
        proposals=_actors_proposals(problem),
        insert=None if problem.subgoal is None else problem.subgoal.action,
        insert_share=settings.action_proposals,
        agreement=settings.agreement,
    )


def _actors_proposals(problem: LowProblem) -> Proposals | None:
    """What the actor would do, where there is one and it is asked for."""
    dynamics, settings = problem.dynamics, problem.settings
    count = min(settings.actor_proposals, settings.samples // 2)
    if not dynamics.has_actor or not count:
        return None
    randomness = problem.randomness.fold("actor")
    sequences = follow_actor(dynamics, problem.belief, count, settings.horizon, problem.actions, randomness)
    valid = ~of(sequences).no(*sequences.shape[:2])
    return Proposals(sequences, valid)


def follow_actor(
    dynamics: LowModel,
    belief: Any,
    count: int,
    horizon: int,
    actions: Actions,
    randomness: Randomness,
) -> Array:
    """Sequences that the actor would take in imagination, ``[B, count, H, A]``; the first is its modes."""
    belief = pytrees.expand(belief, count)
    steps = []
    for index in range(horizon):
        action = act(dynamics, belief, actions, randomness.fold(2 * index), temperature=1.0)
        best = act(dynamics, pytrees.map_arrays(lambda x: x[:, :1], belief), actions, None)
        action = of(action).concat([best, action[:, 1:]], 1)
        steps.append(action)
        uniforms = randomness.fold(2 * index + 1).uniform(count, dynamics.draws)
        belief = dynamics.imagine(belief, action, uniforms)
    return of(steps[0]).stack(steps, 2)


def act(
    actor: Actor,
    belief: Any,
    actions: Actions,
    randomness: Randomness | None,
    *,
    temperature: float = 0.0,
) -> Array:
    """The actor's action in beliefs ``[B, N, ...]``, ``[B, N, A]``: its mode, or a sample at a temperature."""
    output, std = actor.policy(belief)
    count = output.shape[1]
    if std is None:
        if randomness is not None and temperature > 0:
            output = output / temperature + randomness.gumbel(count, output.shape[-1])
        return of(output).one_hot(output.argmax(-1), output.shape[-1])
    assert actions.bounds is not None
    if randomness is not None and temperature > 0:
        output = output + temperature * std * randomness.normal(count, output.shape[-1])
    return actions.bounds.clip(output)
