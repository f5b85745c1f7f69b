"""Sizes and loss weights of a world model, as frozen, documented records (defaults: the paper's)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class HighLevelConfig:
    """The high level of THICK."""

    actions: int = 5
    """number of high-level actions"""
    hidden: int = 1024
    """width of body, prior and posterior"""
    head_units: int = 400
    """width of the action, time and return heads"""
    segment_ends: tuple[str, ...] = ("gates",)
    """what ends a segment: gates, ends (terminal steps), or both"""
    kl_balance: float = 0.8
    """weight of the prior's side in the KL between posterior and prior of the high-level action"""
    state_scale: float = 1.0
    """weight of the KL to the state before the change"""
    high_action_scale: float = 1.0
    """weight of the KL between posterior and prior of the high-level action"""
    action_scale: float = 1.0
    """weight of the low-level action's negative log-likelihood"""
    time_scale: float = 1.0
    """weight of the elapsed time's negative log-likelihood"""
    return_scale: float = 1.0
    """weight of the segment return's negative log-likelihood"""
    max_time: float = 100.0
    """bound on the predicted number of steps before a change"""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the low level's losses."""

    decoder: float = 1.0
    """negative log-likelihood of the observation, fine path"""
    reward: float = 1.0
    """negative log-likelihood of the reward, fine path"""
    discount: float = 1.0
    """negative log-likelihood of the discount, fine path"""
    kl: float = 1.0
    """balanced KL to the fine prior"""
    coarse_decoder: float = 1.0
    """negative log-likelihood of the observation, coarse path"""
    coarse_reward: float = 1.0
    """negative log-likelihood of the reward, coarse path"""
    coarse_discount: float = 1.0
    """negative log-likelihood of the discount, coarse path"""
    coarse_kl: float = 1.0
    """balanced KL to the coarse prior"""
    sparsity: float = 1.0
    """β: mean number of open gates"""


@dataclass(frozen=True)
class ModelConfig:
    """A world model: its kind, its sizes and its losses."""

    kind: Literal["thick", "crssm", "rssm"] = "thick"
    """thick (C-RSSM with a high level), crssm (low level alone) or rssm (flat)"""
    stoch: int = 32
    """categorical groups of z"""
    classes: int = 32
    """classes of each group"""
    deter: int = 256
    """size of the deterministic state h"""
    hidden: int = 256
    """width of the layers around the recurrent state"""
    context: int = 16
    """size of the context c"""
    change_threshold: float = 0.0
    """an open gate counts as a context change if it moves its context by at least this (0: any open gate, paper)"""
    posterior: Literal["full", "observation"] = "full"
    """what the posterior reads: full [c, h, e] (paper), or the observation's embedding alone"""
    gate_noise: float = 0.1
    """standard deviation of the noise on the gates in training"""
    cnn_depth: int = 48
    """channels of the first convolution"""
    mlp_layers: int = 4
    """layers of vector and grid encoders and decoders"""
    mlp_units: int = 400
    """width of vector and grid encoders and decoders"""
    head_layers: int = 4
    """layers of the reward and discount heads, of actor and critics"""
    head_units: int = 400
    """width of the reward and discount heads, of actor and critics"""
    actor_critic: bool = False
    """an actor and critics beside the world model (Dreamer, THICK Dreamer)"""
    discount_head: bool = True
    """predict the end of an episode"""
    clip_rewards: Literal["tanh", "none"] = "tanh"
    """squash rewards before they are learned"""
    discount: float = 0.99
    """γ"""
    kl_balance: float = 0.8
    """weight of the prior's side in the KLs"""
    loss: LossConfig = field(default_factory=LossConfig)
    """weights of the losses"""
    high: HighLevelConfig = field(default_factory=HighLevelConfig)
    """the high level (kind thick)"""
