"""The few operations needed on trees of arrays: NamedTuples, tuples, None, and arrays of numpy or torch, nested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from thick.arrays import Array, of

Tree = TypeVar("Tree")


def map_arrays(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply a function to the arrays of one tree, or to those at the same place of several.

    Raises:
        TypeError: something else than arrays, tuples and None is in the tree.
    """
    if tree is None:
        return tree
    if isinstance(tree, tuple):
        parts = [map_arrays(function, *items) for items in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)  # type: ignore[return-value]
    if hasattr(tree, "shape"):
        return function(tree, *others)  # type: ignore[no-any-return]
    raise TypeError(f"expected arrays in tuples, got {type(tree).__name__}")


def walk(tree: Any, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """Name (``belief.deter``, ``levels.0.context``) and array of every leaf, in order.

    Raises:
        TypeError: something else than arrays, tuples and None is in the tree.
    """
    if tree is None:
        return
    if isinstance(tree, tuple):
        names = getattr(tree, "_fields", range(len(tree)))
        for name, part in zip(names, tree, strict=True):
            yield from walk(part, f"{prefix}.{name}" if prefix else str(name))
    elif hasattr(tree, "shape"):
        yield prefix, tree
    else:
        raise TypeError(f"{prefix}: expected arrays in tuples, got {type(tree).__name__}")


def flatten(tree: Tree) -> tuple[list[Array], Callable[[list[Array]], Tree]]:
    """The arrays of a tree, in order, and a function that makes such a tree of others."""
    arrays = [array for _, array in walk(tree)]
    if hasattr(tree, "_make") and all(hasattr(part, "shape") for part in cast(tuple[Any, ...], tree)):
        return arrays, tree._make

    def build(others: list[Array]) -> Tree:
        following = iter(others)
        return map_arrays(lambda _: next(following), tree)

    return arrays, build


def first(tree: Any) -> Array:
    """The first array of a tree: its leading dimensions are those of all of them."""
    for _, array in walk(tree):
        return array
    raise ValueError("the tree holds no array")


def expand(tree: Tree, count: int) -> Tree:
    """``[B, ...]`` -> ``[B, count, ...]`` without copying."""
    return map_arrays(lambda x: of(x).expand(x[:, None], -1, count, *x.shape[1:]), tree)


def select(tree: Tree, index: Array) -> Tree:
    """Entries ``index`` ``[M]`` of the first dimension."""
    return map_arrays(lambda x: x[index], tree)


def put(tree: Tree, index: Array, values: Tree) -> Tree:
    """A copy of the tree with entries ``index`` of the first dimension replaced."""
    return map_arrays(lambda x, y: of(x).put(x, index, of(x).as_like(y, x)), tree, values)


def where(mask: Array, tree: Tree, other: Tree) -> Tree:
    """Entry by entry of the first dimension(s), ``mask`` ``[B]`` (or ``[B, N]``)."""

    def pick(x: Array, y: Array) -> Array:
        return of(x).where(mask.reshape(tuple(mask.shape) + (1,) * (x.ndim - mask.ndim)), x, y)

    return map_arrays(pick, tree, other)


def along(tree: Tree, index: Array) -> Tree:
    """Entry ``index[b]`` of the second dimension: ``[B, N, ...]``, ``[B]`` -> ``[B, ...]``."""
    rows = of(index).arange(index.shape[0])
    return map_arrays(lambda x: x[rows, index], tree)
