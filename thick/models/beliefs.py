"""What an agent believes about its environment at one moment: plain, immutable tuples of tensors."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Belief(NamedTuple):
    """The belief used while planning and serving; any leading dimensions ``[*B]``.

    Categorical states are class indices here: 32 small integers instead of 1024 floats.
    """

    stoch: Tensor
    """[*B, S] int64, the class of each group of z"""
    logits: Tensor
    """[*B, S, K], the logits z was drawn from: posterior if observed, fine prior if imagined"""
    deter: Tensor
    """[*B, H], the deterministic state h"""
    context: Tensor
    """[*B, C], the context c (C = 0 for a flat RSSM)"""
    gates: Tensor
    """[*B, C], 1 where a gate opened on the last step, else 0"""


class State(NamedTuple):
    """The state used while training: z is a one-hot with straight-through gradient."""

    stoch: Tensor
    """[*B, S, K] one-hot"""
    logits: Tensor
    """[*B, S, K]"""
    deter: Tensor
    """[*B, H]"""
    context: Tensor
    """[*B, C]"""
    gates: Tensor
    """[*B, C] in {0, 1}"""


class Trajectory(NamedTuple):
    """What observing a batch of sequences gives; all ``[B, T, ...]``."""

    posterior: State
    prior_logits: Tensor
    """[B, T, S, K] fine prior"""
    coarse_logits: Tensor | None
    """[B, T, S, K] coarse prior, which never saw h (None for a flat RSSM)"""
    previous_stoch: Tensor
    """[B, T, S, K] z that the step started from, zero where is_first"""
    previous_action: Tensor
    """[B, T, A] action that the step started with, zero where is_first"""
