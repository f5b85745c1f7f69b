"""Settings of an actor and critic trained in imagination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from thick.configuration import RECORD, Count, Index, Share, Weight


@dataclass(frozen=True)
class BehaviourConfig:
    """An actor and a critic trained in imagination (Dreamer; THICK Dreamer with a level above the dynamics)."""

    __pydantic_config__: ClassVar = RECORD
    start: Index = 0
    """first update that trains them"""
    horizon: Count = 15
    """steps imagined from every state"""
    starts: Index = 0
    """states of the batch that imagination starts from, drawn anew in every update; 0: all of them (paper)"""
    lambda_: Share = 0.95
    """λ of the return"""
    entropy: Weight = 2e-3
    """weight of the actor's entropy"""
    actor_lr: Weight = 8e-5
    """learning rate of the actor"""
    critic_lr: Weight = 2e-4
    """learning rate of the critics"""
    target_every: Count = 100
    """updates between copies of the critic to its target"""
    target_rate: Share = 0.0
    """share by which the target follows the critic after every update, in place of copies; 0: copies (paper)"""
    normalize: bool = False
    """divide the returns that teach the actor by the range of their 5th to 95th percentile, where it is above 1"""
    long_weight: Share = 0.9
    """ψ: share of V^λ against V_long in the critics' target"""
    critic_share: Share = 1.0
    """share of the imagined rollouts from which the critics learn and jumps are made, drawn anew in every update; the
    actor learns from all; 1: all (paper)"""

    def __post_init__(self) -> None:
        if self.critic_share == 0:
            raise ValueError(
                "critic_share: expected a share above 0, up to 1 (every imagined rollout), got 0"
            )


@dataclass(frozen=True)
class EnsembleConfig:
    """Predictors whose disagreement an explorer seeks (Plan2Explore)."""

    __pydantic_config__: ClassVar = RECORD
    members: Annotated[int, Field(ge=2)] = 10
    """how many; one alone never disagrees"""
    layers: Count = 4
    """hidden layers of each"""
    units: Count = 400
    """width of each"""
    lr: Weight = 3e-4
    """learning rate"""
    scale: Weight = 1.0
    """weight of the disagreement in the explorer's reward"""


@dataclass(frozen=True)
class DirectorConfig:
    """A manager, a worker and a code for goals (Director)."""

    __pydantic_config__: ClassVar = RECORD
    start: Index = 0
    """first update that trains manager and worker; the code for goals is trained from the first on"""
    goals: Count = 2
    """goals imagined one after the other from every state, each for ``model.goals.every`` steps"""
    starts: Index = 0
    """states of the batch that imagination starts from, drawn anew in every update; 0: all of them (paper)"""
    lambda_: Share = 0.95
    """λ of the returns"""
    extrinsic: Weight = 1.0
    """weight of the task's reward in what the manager seeks"""
    exploration: Weight = 0.1
    """weight of the error of the code for goals in it"""
    manager_entropy: Weight = 3e-3
    """weight of the manager's entropy"""
    worker_entropy: Weight = 3e-3
    """weight of the worker's entropy"""
    actor_lr: Weight = 1e-4
    """learning rate of manager and worker"""
    critic_lr: Weight = 1e-4
    """learning rate of the critics"""
    target_every: Count = 100
    """updates between copies of the critics to their targets"""
    goal_lr: Weight = 1e-4
    """learning rate of the code for goals"""
    goal_kl: Weight = 1.0
    """weight of the KL between the code for goals and the uniform one"""
