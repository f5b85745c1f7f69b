"""Segments: the stretches between context changes, and what the high level is trained to predict of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Segments(NamedTuple):
    """For every step t < T-1 of a chunk; all ``[B, T-1]``."""

    end: Tensor
    """int64, index τ of the step on which the segment ends (t + 1 where the mask is 0)"""
    elapsed: Tensor
    """float, Δ = τ - 1 - t steps pass before the step that leads into the change"""
    returns: Tensor
    """float, R = Σ_{k=t}^{τ-1} γ^(k-t) r[k]"""
    mask: Tensor
    """float, 0 where no change follows within the chunk and the episode"""


def segment_ends(gates: Tensor, is_terminal: Tensor, criteria: tuple[str, ...]) -> Tensor:
    """Steps that end a segment, bool ``[B, T]``.

    Args:
        gates: ``[B, T, C]``, positive where open.
        is_terminal: ``[B, T]``.
        criteria: what ends a segment: ``"gates"``, ``"ends"`` (terminal steps) or both.
    """
    known = {"gates": (gates > 0).any(-1), "ends": is_terminal > 0}
    ends = torch.zeros_like(is_terminal, dtype=torch.bool)
    for criterion in criteria:
        if criterion not in known:
            raise ValueError(f"segment criteria: expected some of {sorted(known)}, got {criterion!r}")
        ends = ends | known[criterion]
    return ends


def segment_targets(ends: Tensor, is_first: Tensor, reward: Tensor, discount: float) -> Segments:
    """Find the end of every step's segment.

    Args:
        ends: ``[B, T]`` bool, from :func:`segment_ends`.
        is_first: ``[B, T]``; a segment never reaches across the first step of an episode.
        reward: ``[B, T]``, the reward received with each observation.
        discount: γ of the return.
    """
    time = ends.shape[1]
    ends, first = ends.bool()[:, 1:], is_first.bool()[:, 1:]
    now = torch.arange(time - 1, device=ends.device)
    # The first step after t on which something ends or begins, T where there is none: a minimum from behind.
    event = torch.where(ends | first, now + 1, time)
    next_event = event.flip(1).cummin(1).values.flip(1)
    inside = next_event.clamp_max(time - 1) - 1
    found = (next_event < time) & ~first.gather(1, inside)
    index = torch.where(found, next_event, now + 1)
    # Sums of γ^k r[k] from the beginning; their differences in fp64 lose nothing.
    power = discount ** now.double()
    sums = torch.nn.functional.pad((reward[:, :-1].double() * power).cumsum(1), (1, 0))
    returns = (sums.gather(1, index) - sums[:, :-1]) / power
    mask = found.to(reward.dtype)
    return Segments(index, (index - 1 - now).to(reward.dtype) * mask, returns.to(reward.dtype) * mask, mask)


def at_segment_end(sequence: Tensor, segments: Segments, *, offset: int = 0) -> Tensor:
    """Entries ``sequence[τ + offset]`` for every step, ``[B, T, ...] -> [B, T-1, ...]``."""
    index = segments.end + offset
    index = index.reshape(*index.shape, *(1,) * (sequence.dim() - 2))
    return sequence.gather(1, index.expand(*index.shape[:2], *sequence.shape[2:]))
