"""The operations of :class:`thick.arrays.operations.Arrays` in torch, on one device."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thick.arrays.operations import Arrays


@functools.cache
def kernels(device: torch.device) -> Any:
    """The module of kernels for random numbers, where Triton can build kernels; else None."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    try:
        module = importlib.import_module("thick.arrays.random_kernels")
        module.bits(torch.zeros(1, dtype=torch.int64, device=device), 0, 1)
    except Exception as error:  # no C compiler, say; each reason has an exception of its own
        warnings.warn(
            f"Triton cannot build kernels here ({error}); plans take several times longer without",
            stacklevel=2,
        )
        return None
    return module


class TorchArrays:
    """See :class:`~thick.arrays.operations.Arrays`.

    Args:
        device: where new arrays are made.
    """

    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    erfinv = staticmethod(torch.erfinv)
    power: Any = staticmethod(torch.pow)
    sqrt = staticmethod(torch.sqrt)
    isfinite = staticmethod(torch.isfinite)
    minimum = staticmethod(torch.minimum)
    maximum = staticmethod(torch.maximum)
    where: Any = staticmethod(torch.where)
    concat: Any = staticmethod(torch.cat)
    stack: Any = staticmethod(torch.stack)

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.random: Any = kernels(device)

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self.device)

    def ones(self, *shape: int) -> Tensor:
        return torch.ones(shape, device=self.device)

    def full(self, shape: Sequence[int], value: float) -> Tensor:
        return torch.full(tuple(shape), value, device=self.device)

    def whole(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=self.device)

    def no(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.bool, device=self.device)

    def arange(self, begin: int, end: int | None = None) -> Tensor:
        if end is None:
            return torch.arange(begin, device=self.device)
        return torch.arange(begin, end, device=self.device)

    def eye(self, count: int) -> Tensor:
        return torch.eye(count, device=self.device)

    def one_hot(self, index: Tensor, count: int) -> Tensor:
        return F.one_hot(index, count).float()

    def array(self, values: Any) -> Tensor:
        return torch.as_tensor(values, device=self.device)

    def empty_like(self, array: Tensor, *shape: int) -> Tensor:
        return array.new_zeros(shape)

    def as_float(self, array: Tensor) -> Tensor:
        return array.float()

    def as_int(self, array: Tensor) -> Tensor:
        return array.long()

    def as_like(self, array: Tensor, other: Tensor) -> Tensor:
        return array.to(other.dtype)

    def numpy(self, array: Tensor) -> np.ndarray:
        array = array.detach().cpu()
        return (array.float() if array.dtype == torch.bfloat16 else array).numpy()

    def copy(self, array: Tensor) -> Tensor:
        return array.clone(memory_format=torch.contiguous_format)

    def expand(self, array: Tensor, *shape: int) -> Tensor:
        return array.expand(shape)

    def flip(self, array: Tensor, axis: int) -> Tensor:
        return array.flip(axis)

    def swap(self, array: Tensor, axis: int, other: int) -> Tensor:
        return array.transpose(axis, other)

    def clip(self, array: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
        return array.clamp(low, high)

    def drawn(self, below: Tensor, uniform: Tensor) -> Tensor:
        return (below[..., :-1] <= uniform[..., None]).sum(-1)

    def no_nan(self, array: Tensor, value: float) -> Tensor:
        return torch.nan_to_num(array, nan=value)

    def max(self, array: Tensor, axis: int, *, keep: bool = False) -> Tensor:
        return array.amax(axis, keepdim=keep)

    def min(self, array: Tensor, axis: int) -> Tensor:
        return array.amin(axis)

    def sum(self, array: Tensor, axis: int | tuple[int, ...], *, keep: bool = False) -> Tensor:
        return array.sum(axis, keepdim=keep)

    def std(self, array: Tensor, axis: int, *, keep: bool = False) -> Tensor:
        return array.std(axis, keepdim=keep, correction=0)

    def softmax(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def norm(self, array: Tensor) -> Tensor:
        return torch.linalg.vector_norm(array, dim=-1)

    def top(self, array: Tensor, count: int) -> tuple[Tensor, Tensor]:
        values, places = array.topk(count, dim=1)
        return values, places

    def take_along(self, array: Tensor, index: Tensor, axis: int) -> Tensor:
        return array.gather(axis, index)

    def put(self, array: Tensor, index: Tensor, values: Tensor) -> Tensor:
        return array.index_copy(0, index, values)

    def nonzero(self, mask: Tensor) -> Tensor:
        return mask.nonzero().squeeze(1)

    def no_grad(self) -> AbstractContextManager[Any]:
        return torch.no_grad()

    def irfft(self, real: Tensor, imaginary: Tensor, length: int) -> Tensor:
        return torch.fft.irfft(torch.complex(real, imaginary), n=length, dim=-1)


@functools.cache
def on(device: torch.device) -> Arrays:
    """The operations for a device."""
    return TorchArrays(device)
