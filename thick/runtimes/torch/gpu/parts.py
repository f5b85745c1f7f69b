"""Which parts of a frozen model a GPU gets."""

from __future__ import annotations

import torch

from thick.arrays.torch_arrays import kernels
from thick.models.networks import AgentNetworks
from thick.runtimes.torch.dynamics import FrozenDynamics
from thick.runtimes.torch.gpu.lookahead import LookaheadHighLevel as HighLevel
from thick.runtimes.torch.gpu.recorded import RecordingDynamics

__all__ = ["HighLevel", "dynamics"]


def dynamics(model: AgentNetworks, dtype: torch.dtype) -> FrozenDynamics:
    """The dynamics of a model as a GPU runs them fastest: with kernels of our own where there is Triton (it comes with
    torch for GPUs), it can build them, and they know the model's form."""
    if kernels(next(model.parameters()).device) is not None:
        from thick.runtimes.torch.gpu.rollouts import FusedDynamics, fits

        if fits(model):
            return FusedDynamics(model, dtype)
    return RecordingDynamics(model, dtype)
