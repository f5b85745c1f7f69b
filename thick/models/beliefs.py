"""What an agent believes about its environment: plain, immutable tuples of numpy arrays or torch tensors."""

from __future__ import annotations

from typing import NamedTuple

from thick.arrays import Array


class Context(NamedTuple):
    """What is held on to until something important happens; leading dimensions ``[*B]``."""

    context: Array
    """[*B, C]"""
    gates: Array
    """[*B, C], 1 where a gate opened on the last step, else 0"""


class Belief(NamedTuple):
    """The belief used while planning and serving; any leading dimensions ``[*B]``.

    Categorical states are class indices here: 32 small integers instead of 1024 floats.
    """

    stoch: Array
    """[*B, S] int64, the class of each group of z"""
    logits: Array
    """[*B, S, K], the logits z was drawn from: posterior if observed, fine prior if imagined"""
    deter: Array
    """[*B, H], the deterministic state h"""
    levels: tuple[Context, ...] = ()
    """contexts, the fastest first: that of a C-RSSM, which the first level above it reads; none in a flat RSSM"""

    @classmethod
    def of(cls, stoch: Array, logits: Array, deter: Array, context: Array, gates: Array) -> Belief:
        """A belief with one context, or with none where it has no numbers (``[*B, 0]``)."""
        return cls(stoch, logits, deter, (Context(context, gates),) if context.shape[-1] else ())

    @property
    def context(self) -> Array:
        """c of the dynamics, ``[*B, C]``; C = 0 in a flat RSSM."""
        return self.levels[0].context if self.levels else self.deter[..., :0]

    @property
    def gates(self) -> Array:
        """The gates of c, ``[*B, C]``."""
        return self.levels[0].gates if self.levels else self.deter[..., :0]

    def with_context(self, context: Array) -> Belief:
        """The same with another c of the dynamics; where there is none, nothing changes."""
        if not self.levels:
            return self
        return self._replace(levels=(self.levels[0]._replace(context=context), *self.levels[1:]))


class Landing(NamedTuple):
    """One jump of the high level and what is received with it; leading dimensions ``[*B]``."""

    logits_before: Array
    """[*B, S, K] logits of ẑ[τ-1], the subgoal"""
    stoch_before: Array
    """[*B, S] its classes"""
    action: Array
    """[*B, A] â, the action that leads into the change"""
    stoch: Array
    """[*B, S] classes of the coarse z[τ]"""
    context: Array
    """[*B, C] c[τ]"""
    gates: Array
    """[*B, C]"""
    elapsed: Array
    """[*B] steps from now to τ"""
    segment: Array
    """[*B] return R of the segment, from the reward of now up to, not including, that of τ"""
    reward: Array
    """[*B] reward received at τ"""
    continuation: Array
    """[*B] probability that the episode goes on at τ"""


class State(NamedTuple):
    """The state used while training: z is a one-hot with straight-through gradient."""

    stoch: Array
    """[*B, S, K] one-hot"""
    logits: Array
    """[*B, S, K]"""
    deter: Array
    """[*B, H]"""
    context: Array
    """[*B, C]"""
    gates: Array
    """[*B, C] in {0, 1}"""


class Trajectory(NamedTuple):
    """What observing a batch of sequences gives; all ``[B, T, ...]``."""

    posterior: State
    prior_logits: Array
    """[B, T, S, K] fine prior"""
    coarse_logits: Array | None
    """[B, T, S, K] coarse prior, which never saw h (None for a flat RSSM)"""
    previous_stoch: Array
    """[B, T, S, K] z that the step started from, zero where is_first"""
    previous_action: Array
    """[B, T, A] action that the step started with, zero where is_first"""
