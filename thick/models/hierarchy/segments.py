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
    """Find the end of every step's segment in one reverse scan over time.

    Args:
        ends: ``[B, T]`` bool, from :func:`segment_ends`.
        is_first: ``[B, T]``; a segment never reaches across the first step of an episode.
        reward: ``[B, T]``, the reward received with each observation.
        discount: γ of the return.
    """
    batch, time = ends.shape
    ends, first = ends.bool(), is_first.bool()
    end = torch.zeros(batch, dtype=torch.long, device=ends.device)
    valid = torch.zeros(batch, dtype=torch.bool, device=ends.device)
    following = torch.zeros_like(reward[:, 0])
    steps = []
    for now in range(time - 2, -1, -1):
        starts, stops = first[:, now + 1], ends[:, now + 1]
        here = torch.full_like(end, now + 1)
        end = torch.where(stops | starts, here, end)
        valid = torch.where(starts, torch.zeros_like(valid), stops | valid)
        inside = ~(stops | starts)
        following = reward[:, now] + discount * torch.where(inside, following, torch.zeros_like(following))
        steps.append((torch.where(valid, end, here), following, valid))
    index, returns, mask = (torch.stack(parts[::-1], 1) for parts in zip(*steps, strict=True))
    mask = mask.to(reward.dtype)
    elapsed = (index - 1 - torch.arange(time - 1, device=ends.device)).to(reward.dtype)
    return Segments(index, elapsed * mask, returns * mask, mask)


def at_segment_end(sequence: Tensor, segments: Segments, *, offset: int = 0) -> Tensor:
    """Entries ``sequence[τ + offset]`` for every step, ``[B, T, ...] -> [B, T-1, ...]``."""
    index = segments.end + offset
    index = index.reshape(*index.shape, *(1,) * (sequence.dim() - 2))
    return sequence.gather(1, index.expand(*index.shape[:2], *sequence.shape[2:]))
