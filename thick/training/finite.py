"""A run stops as soon as a loss or a gradient is no number, and says what, where and since when."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from thick.data.finite import NotFiniteError, described, not_finite


def check_update(update: int, values: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray]) -> None:
    """Look at the losses and gradient norms of an update; costs one number brought from the device.

    Args:
        update: its number, counted from 1.
        values: scalars of the update by name, of which losses and norms of gradients must be finite. Others may be
            undefined (a mean over no segment, say).
        arrays: the batch that it was made from, ``[B, T, ...]``, to find the cause.

    Raises:
        NotFiniteError: one of them is not finite.
    """
    watched = [value.detach().float().reshape(()) for name, value in values.items() if _watched(name)]
    if watched and not bool(torch.stack(watched).isfinite().all()):
        raise NotFiniteError(_diagnosis(update, values, arrays))


def _watched(name: str) -> bool:
    return any(part == "loss" or part.startswith("grad_norm") for part in name.split("/"))


def _diagnosis(update: int, values: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray]) -> str:
    bad = [f"{name} ({float(value)})" for name, value in values.items() if not bool(torch.isfinite(value))]
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    text = f"update {update}: not finite: {', '.join(bad[:5])}{more}; update {update - 1} was finite"
    cause = not_finite(arrays)
    if cause:
        fields = ", ".join(described(name) for name in cause)
        rows = np.flatnonzero(np.any(list(cause.values()), axis=0)).tolist()
        return f"{text}. The data are the cause: {fields} in rows {rows} of the batch"
    return (
        f"{text}. The batch is finite, so the updates are the cause: a smaller learning rate (--optimizer.lr), a "
        "longer --optimizer.warmup, or --precision fp32 may help"
    )
