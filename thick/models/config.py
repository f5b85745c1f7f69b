"""Sizes and loss weights of a world model, as frozen, documented records (defaults: the paper's)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from thick.configuration import RECORD, Count, Positive, Share, Weight

NORM_EPS = 1e-4
"""what RMSNorm adds to a mean square"""
STEEP_GATE = 2.0**24
"""by which a hard gate is steeper than a soft one that stands for it in a runtime"""


@dataclass(frozen=True)
class LevelLossConfig:
    """Weights of a level's losses."""

    __pydantic_config__: ClassVar = RECORD
    state: Weight = 1.0
    """KL to the state before the change"""
    high_action: Weight = 1.0
    """KL between posterior and prior of the high-level action"""
    action: Weight = 1.0
    """negative log-likelihood of the low-level action that leads into the change"""
    time: Weight = 1.0
    """negative log-likelihood of the elapsed time"""
    returns: Weight = 1.0
    """negative log-likelihood of the segment's return"""


@dataclass(frozen=True)
class LevelConfig:
    """A level of the hierarchy above the dynamics (THICK's high level)."""

    __pydantic_config__: ClassVar = RECORD
    actions: Count = 5
    """number of high-level actions"""
    hidden: Count = 1024
    """width of body, prior and posterior"""
    head_units: Count = 400
    """width of the action, time and return heads"""
    segment_ends: tuple[str, ...] = ("gates",)
    """what ends a segment: gates, ends (terminal steps), or both"""
    kl_balance: Share = 0.8
    """weight of the prior's side in the KL between posterior and prior of the high-level action"""
    max_time: Positive = 100.0
    """bound on the predicted number of steps before a change"""
    loss: LevelLossConfig = field(default_factory=LevelLossConfig)
    """weights of the level's losses"""


@dataclass(frozen=True)
class GoalConfig:
    """Goals of a manager (Director)."""

    __pydantic_config__: ClassVar = RECORD
    codes: Count = 8
    """categoricals of the code of a goal"""
    classes: Count = 8
    """classes of each"""
    every: Count = 8
    """steps for which a goal is held"""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the world model's losses."""

    __pydantic_config__: ClassVar = RECORD
    decoder: Weight = 1.0
    """negative log-likelihood of the observation, fine path"""
    reward: Weight = 1.0
    """negative log-likelihood of the reward, fine path"""
    discount: Weight = 1.0
    """negative log-likelihood of the discount, fine path"""
    kl: Weight = 1.0
    """balanced KL to the fine prior"""
    coarse_decoder: Weight = 1.0
    """negative log-likelihood of the observation, coarse path"""
    coarse_reward: Weight = 1.0
    """negative log-likelihood of the reward, coarse path"""
    coarse_discount: Weight = 1.0
    """negative log-likelihood of the discount, coarse path"""
    coarse_kl: Weight = 1.0
    """balanced KL to the coarse prior"""
    sparsity: Weight = 1.0
    """β: mean number of open gates"""


@dataclass(frozen=True)
class ModelConfig:
    """A model: its dynamics, the levels above it, the behaviour that acts in it; sizes and losses."""

    __pydantic_config__: ClassVar = RECORD
    dynamics: Literal["crssm", "rssm"] = "crssm"
    """crssm (with a context, THICK) or rssm (flat: PlaNet, Dreamer)"""
    levels: tuple[LevelConfig, ...] = (LevelConfig(),)
    """levels of the hierarchy above a C-RSSM, the lowest first; none for a flat learner"""
    behaviour: Literal["none", "actor_critic", "director"] = "none"
    """networks that act: actor_critic (Dreamer, THICK Dreamer), director (manager and worker)"""
    goals: GoalConfig = field(default_factory=GoalConfig)
    """what a manager chooses among (behaviour: director)"""
    stoch: Count = 32
    """categorical groups of z"""
    classes: Count = 32
    """classes of each group"""
    deter: Count = 256
    """size of the deterministic state h"""
    hidden: Count = 256
    """width of the layers around the recurrent state"""
    context: Count = 16
    """size of the context c"""
    change_threshold: Weight = 0.0
    """an open gate counts as a context change if it moves its context by at least this (0: any open gate, paper)"""
    posterior: Literal["full", "observation"] = "full"
    """what the posterior reads: full [c, h, e] (paper), or the observation's embedding alone"""
    gates: Literal["each", "shared"] = "each"
    """each dimension of the context has a soft gate (paper), or one hard gate is shared, which can reopen"""
    free_openings: Share = 0.0
    """share of a window's steps on which gates may open at no cost; 0: every opening costs (paper)"""
    coarse_decoded: Share = 1.0
    """share of a batch's steps whose observation the coarse path decodes, drawn anew in every update; 1: all (paper)"""
    free_nats: Weight = 0.0
    """nats of the KL to the fine prior that cost nothing"""
    unimix: float = 0.0
    """share of the uniform distribution in that of z, posterior and priors alike; 0: none (paper)"""
    norm: Literal["none", "rms"] = "none"
    """what follows the hidden layers of encoders and decoders of numbers and grids, of heads, actor and critics: none
    and ELU (paper), or RMSNorm and SiLU"""
    scalars: Literal["normal", "twohot"] = "normal"
    """what heads of rewards and values predict: the mean of a normal (paper), or a distribution over bins"""
    gate_noise: Weight = 0.1
    """standard deviation of the noise on the gates in training"""
    cnn_depth: Count = 48
    """channels of the first convolution"""
    mlp_layers: Count = 4
    """layers of vector and grid encoders and decoders"""
    mlp_units: Count = 400
    """width of vector and grid encoders and decoders"""
    head_layers: Count = 4
    """layers of the reward and discount heads, of actor and critics"""
    head_units: Count = 400
    """width of the reward and discount heads, of actor and critics"""
    discount_head: bool = True
    """predict the end of an episode"""
    clip_rewards: Literal["tanh", "none"] = "tanh"
    """squash rewards before they are learned"""
    discount: Share = 0.99
    """γ"""
    kl_balance: Share = 0.8
    """weight of the prior's side in the KLs"""
    loss: LossConfig = field(default_factory=LossConfig)
    """weights of the losses"""

    def __post_init__(self) -> None:
        if self.levels and self.dynamics != "crssm":
            raise ValueError(
                f"levels: {len(self.levels)} above the dynamics {self.dynamics!r}, whose states have no context that "
                "could change; expected dynamics 'crssm', or no levels"
            )
        if not 0 <= self.unimix < 1:
            raise ValueError(f"unimix: expected a share from 0 up to, not including, 1, got {self.unimix}")
        if not 0 < self.coarse_decoded <= 1:
            raise ValueError(
                f"coarse_decoded: expected a share above 0, up to 1 (every step), got {self.coarse_decoded}; "
                "'loss: {coarse_decoder: 0}' leaves that loss out"
            )
        if len(self.levels) > 1:
            raise ValueError(
                f"levels: got {len(self.levels)}; expected a list of none or one; no learner trains a level above "
                "another yet. Give 'levels: []' for a flat model, or one record"
            )

    @property
    def body(self) -> dict[str, Any]:
        """Sizes of encoders and decoders, as their arguments."""
        return {
            "cnn_depth": self.cnn_depth, "units": self.mlp_units, "layers": self.mlp_layers, "norm": self.norm
        }  # fmt: skip

    @property
    def head(self) -> dict[str, Any]:
        """Sizes of heads, actors and critics, as their arguments."""
        return {"units": self.head_units, "layers": self.head_layers, "norm": self.norm}

    @property
    def kind(self) -> str:
        """What a manifest calls it: thick (C-RSSM with levels), crssm or rssm."""
        return "thick" if self.levels else self.dynamics
