"""The few operations planners need on trees of tensors: NamedTuples, tuples, None and tensors, nested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")


def map_tensors(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply a function to the tensors of one tree, or to those at the same place of several."""
    if tree is None:
        return tree
    if isinstance(tree, Tensor):
        return function(tree, *others)  # type: ignore[no-any-return]
    if isinstance(tree, tuple):
        parts = [map_tensors(function, *items) for items in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)  # type: ignore[return-value]
    raise TypeError(f"expected tensors in tuples, got {type(tree).__name__}")


def first(tree: Any) -> Tensor:
    """The first tensor of a tree: its leading dimensions are those of all of them."""
    while not isinstance(tree, Tensor):
        tree = tree[0]
    return tree


def expand(tree: Tree, count: int) -> Tree:
    """``[B, ...]`` -> ``[B, count, ...]`` without copying."""
    return map_tensors(lambda x: x.unsqueeze(1).expand(-1, count, *x.shape[1:]), tree)


def select(tree: Tree, index: Tensor) -> Tree:
    """Entries ``index`` ``[M]`` of the first dimension."""
    return map_tensors(lambda x: x[index], tree)


def put(tree: Tree, index: Tensor, values: Tree) -> Tree:
    """A copy of the tree with entries ``index`` of the first dimension replaced."""
    return map_tensors(lambda x, y: x.index_copy(0, index, y.to(x.dtype)), tree, values)


def where(mask: Tensor, tree: Tree, other: Tree) -> Tree:
    """Entry by entry of the first dimension(s), ``mask`` ``[B]`` (or ``[B, N]``)."""

    def pick(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(mask.reshape(mask.shape + (1,) * (x.dim() - mask.dim())), x, y)

    return map_tensors(pick, tree, other)


def along(tree: Tree, index: Tensor) -> Tree:
    """Entry ``index[b]`` of the second dimension: ``[B, N, ...]``, ``[B]`` -> ``[B, ...]``."""
    rows = torch.arange(index.shape[0], device=index.device)
    return map_tensors(lambda x: x[rows, index], tree)
