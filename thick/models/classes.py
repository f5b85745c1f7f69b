"""z by its classes, where nothing needs its gradient: layers that read it add rows instead of multiplying by zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Classes:
    """z as the class of each group; it is cut and stacked like the one-hots ``[..., S, K]`` that it stands for."""

    index: Tensor
    """[..., S] int64"""
    count: int
    """K"""

    @classmethod
    def of(cls, one_hot: Tensor) -> Classes:
        """Of exact one-hots ``[..., S, K]``."""
        count = one_hot.shape[-1]
        numbers = torch.arange(count, dtype=one_hot.dtype, device=one_hot.device)
        return cls((one_hot.detach() @ numbers).long(), count)

    @classmethod
    def stack(cls, parts: Sequence[Classes]) -> Classes:
        """Stacked in front."""
        return cls(torch.stack([part.index for part in parts]), parts[0].count)

    def __getitem__(self, where: Any) -> Classes:
        return Classes(self.index[where], self.count)

    def detach(self) -> Classes:
        """Itself: it has no gradient."""
        return self

    def one_hot(self) -> Tensor:
        """``[..., S, K]`` floats."""
        return F.one_hot(self.index, self.count).to(torch.get_default_dtype())


@dataclass(frozen=True)
class Joined:
    """z's classes joined with other numbers: an input ``[..., S·K + R]`` of a layer."""

    z: Classes
    rest: Tensor
    """[..., R]"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor that it stands for."""
        return (*self.rest.shape[:-1], self.z.index.shape[-1] * self.z.count + self.rest.shape[-1])

    def __getitem__(self, where: Any) -> Joined:
        """Cut in front."""
        return Joined(self.z[where], self.rest[where])

    def detach(self) -> Joined:
        """Without gradient."""
        return Joined(self.z, self.rest.detach())

    def dense(self) -> Tensor:
        """``[..., S·K + R]``."""
        return torch.cat([self.z.one_hot().flatten(-2), self.rest], -1)

    def through(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A linear layer's output ``[..., outputs]``."""
        groups, count = self.z.index.shape[-1], self.z.count
        places = self.z.index + torch.arange(groups, device=weight.device) * count
        table = weight[:, : groups * count].T.contiguous()
        read = F.embedding_bag(places.reshape(-1, groups), table, mode="sum")
        rest = F.linear(self.rest, weight[:, groups * count :], bias)
        return rest + read.view(*rest.shape)


def join(z: Tensor | Classes, *rest: Tensor) -> Any:
    """z and what is joined to it, as a layer reads it: one tensor ``[..., S·K + R]``, or :class:`Joined`."""
    if isinstance(z, Classes):
        return Joined(z, rest[0] if len(rest) == 1 else torch.cat(rest, -1))
    return torch.cat([z.flatten(-2), *rest], -1)


def dense(x: Tensor | Joined) -> Tensor:
    """The one tensor."""
    return x.dense() if isinstance(x, Joined) else x
