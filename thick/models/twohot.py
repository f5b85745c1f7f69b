"""Numbers as distributions over bins, of which the two next to a number share it (DreamerV3, Hafner et al., 2023,
equation 9)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from thick.models.bins import BINS, bins

_END = float(np.float32(bins()[-1]))
_places: dict[torch.device, Tensor] = {}


def places(device: torch.device) -> Tensor:
    """The same in fp32 on a device."""
    if device not in _places:
        _places[device] = torch.tensor(bins(), dtype=torch.float32, device=device)
    return _places[device]


def twohot_mean(logits: Tensor) -> Tensor:
    """Mean ``[..., 1]`` in fp32 of distributions ``[..., BINS]``.

    Bins that lie opposite each other are added first, so that equal chances of both are exactly nothing.
    """
    weighted = logits.float().softmax(-1) * places(logits.device)
    half = BINS // 2
    return (weighted[..., :half] + weighted[..., half + 1 :].flip(-1)).sum(-1, keepdim=True)


def twohot(target: Tensor) -> tuple[Tensor, Tensor]:
    """The bin below numbers ``[...]``, int64, and the share of the bin above it."""
    at = places(target.device)
    target = target.float().clamp(-_END, _END)
    below = (torch.searchsorted(at, target.contiguous(), right=True) - 1).clamp(0, BINS - 2)
    low, high = at[below], at[below + 1]
    return below, (target - low) / (high - low)


def twohot_log_prob(logits: Tensor, target: Tensor) -> Tensor:
    """Log-likelihood ``[...]`` in fp32 of numbers ``[...]`` under distributions ``[..., BINS]``.

    It is that of their two bins, weighted by their shares, so that the best distribution has the mean of the numbers.
    """
    log_probs = logits.float().log_softmax(-1)
    below, share = twohot(target)
    low = log_probs.gather(-1, below.unsqueeze(-1)).squeeze(-1)
    high = log_probs.gather(-1, below.unsqueeze(-1) + 1).squeeze(-1)
    return (1 - share) * low + share * high
