"""Which parts make which learner. A recipe reads like the algorithm box of its paper.

Every recipe has the same first step, which the learner makes before its parts: encode the batch and filter it once,
``z, h, c <- observe(o, a)``. Then the parts are updated in their order, each from what the update shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from thick.behaviours.actor_critic import ActorCritic, LongValues
from thick.behaviours.director import Director
from thick.behaviours.rewards import Disagreement, TaskReward
from thick.learners.ensemble import EnsemblePart, Explorer
from thick.learners.goals import GoalPart
from thick.learners.level import LevelPart
from thick.learners.parts import Part
from thick.learners.world import WorldPart
from thick.models.networks import AgentNetworks, Behaviour
from thick.training.config import TrainConfig


class Recipe(NamedTuple):
    """A learner."""

    parts: list[Part]
    """in the order of their updates"""
    explorer: Behaviour | None = None
    """who acts while experience is collected, where it is not the behaviour that is exported"""


def planet(model: AgentNetworks, config: TrainConfig) -> Recipe:
    """PlaNet (Hafner et al., 2019), with DreamerV2's discrete states.

    - world model: likelihood of observation, reward and end; balanced KL between posterior and prior
    - acts: search over action sequences in imagination (cross-entropy method)
    - explores: noise on the actions
    """
    _expect(model, "planet", levels=False, behaviour="none")
    return Recipe([_world(model, config)])


def dreamer(model: AgentNetworks, config: TrainConfig) -> Recipe:
    """Dreamer (Hafner et al., DreamerV2, 2021).

    - world model: as PlaNet
    - from every filtered state imagine H steps of the actor
    - critic: regress the λ-returns of the predicted rewards, bootstrapped by its slow copy
    - actor: raise the λ-returns (REINFORCE for discrete actions, through the dynamics for continuous ones) and entropy
    - acts: the actor's mode; explores: the actor's samples
    """
    _expect(model, "dreamer", levels=False, behaviour="actor_critic")
    return Recipe([_world(model, config), _actor_critic(model, config)])


def thick_planet(model: AgentNetworks, config: TrainConfig) -> Recipe:
    """THICK PlaNet (Gumbsch et al., 2024).

    - world model: a C-RSSM; as PlaNet, on the fine and on the coarse path, and few open gates
    - level: cut the filtered sequences where a context changes; from the state now and a
      high-level action predict the state and the action before the change, and time and reward until then
    - acts: tree search over high-level actions; search over action sequences for reward and nearness to the subgoal
    - explores: noise on the actions
    """
    _expect(model, "thick-planet", levels=True, behaviour="none")
    return Recipe([_world(model, config), *_levels(model, config)])


def thick_dreamer(model: AgentNetworks, config: TrainConfig) -> Recipe:
    """THICK Dreamer (Gumbsch et al., 2024).

    - world model and level: as THICK PlaNet
    - from every filtered state imagine H steps of the actor, and from each of them one jump of the level
    - critics, fine and coarse: regress ψ V^λ + (1 - ψ) V_long, where V_long = R + γ^Δ (r[τ] + γ v(z^c[τ], c[τ]))
    - actor: as Dreamer
    - acts: the actor's mode; explores: the actor's samples
    """
    _expect(model, "thick-dreamer", levels=True, behaviour="actor_critic")
    return Recipe([_world(model, config), *_levels(model, config), _actor_critic(model, config)])


def plan2explore(model: AgentNetworks, config: TrainConfig) -> Recipe:
    """Plan2Explore (Sekar et al., 2020), on any world model.

    - world model and levels: as PlaNet or THICK PlaNet
    - ensemble: from features and actions of the batch predict the next z
    - explorer: from every filtered state imagine H steps of it, and raise the λ-returns of the ensemble's disagreement
    - behaviour, where the model has one: as Dreamer or THICK Dreamer, on the reward of the task
    - acts: the task's behaviour, or the search of a model without one; explores: the explorer's samples
    """
    parts: list[Part] = [_world(model, config), *_levels(model, config)]
    ensemble = EnsemblePart(model.world, config.ensemble)
    reward = Disagreement(model.world, ensemble.ensemble, config.ensemble.scale)
    explorer = Explorer(model.world, reward, config.behaviour)
    parts += [ensemble, explorer]
    if model.behaviour is not None:
        parts.append(_actor_critic(model, config))
    return Recipe(parts, explorer.networks)


def director(model: AgentNetworks, config: TrainConfig) -> Recipe:
    """Director (Hafner et al., 2022), with the world model of Dreamer.

    - world model: as PlaNet
    - goals: code the deterministic features of the batch by few categoricals, near to uniform, and decode them again
    - from every filtered state imagine: the manager chooses a code every K steps, the worker goes to what it stands for
    - manager: raise the λ-returns, goal by goal, of the predicted rewards and of the error of the goals' code; entropy
    - worker: raise the λ-returns, within a goal, of max-cosine between goal and feature; entropy
    - acts: the worker's mode, with a sampled goal that is held for K steps; explores: the worker's samples
    """
    _expect(model, "director", levels=False, behaviour="director")
    assert model.director is not None
    return Recipe(
        [
            _world(model, config),
            GoalPart(model.director.autoencoder, config.director),
            Director(model.world, model.director, config.director),
        ]
    )


RECIPES: dict[str, Callable[[AgentNetworks, TrainConfig], Recipe]] = {
    "planet": planet,
    "dreamer": dreamer,
    "thick-planet": thick_planet,
    "thick-dreamer": thick_dreamer,
    "plan2explore": plan2explore,
    "director": director,
}
"""by the names of ``TrainConfig.learner``"""


# -- parts -------------------------------------------------------------------------------------------------------


def _world(model: AgentNetworks, config: TrainConfig) -> WorldPart:
    return WorldPart(model.world, lr=config.optimizer.lr, sparsity=config.sparsity, kl=config.kl)


def _levels(model: AgentNetworks, config: TrainConfig) -> list[Part]:
    return [
        LevelPart(f"level{index}", level, model.world, settings, lr=config.optimizer.level_lr)
        for index, (level, settings) in enumerate(zip(model.hierarchy, config.model.levels, strict=True), 1)
    ]


def _actor_critic(model: AgentNetworks, config: TrainConfig) -> ActorCritic:
    """The behaviour that is exported, on the reward of the task."""
    assert model.behaviour is not None
    long = None
    if model.hierarchy:
        long = LongValues(model.world, model.hierarchy[0], config.model.levels[0].max_time)
    reward = TaskReward(model.world)
    return ActorCritic("behaviour", model.world, model.behaviour, reward, config.behaviour, long)


def _expect(model: AgentNetworks, learner: str, *, levels: bool | None, behaviour: str) -> None:
    """ValueError if the model lacks what a recipe trains, or has what it would not train."""
    config = model.config
    if levels is not None and levels != bool(config.levels):
        wanted = "at least one level" if levels else "no levels ('model.levels: []')"
        raise ValueError(f"learner {learner!r} needs {wanted}, but the model has {len(config.levels)}")
    if config.behaviour != behaviour:
        raise ValueError(
            f"learner {learner!r} needs model.behaviour {behaviour!r}, but it is {config.behaviour!r}"
        )
