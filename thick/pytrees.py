"""The few operations needed on trees of arrays: NamedTuples, tuples, None, and arrays of numpy or torch, nested."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from thick.arrays import Array, of

Tree = TypeVar("Tree")


def map_arrays(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply a function to the arrays of one tree, or to those at the same place of several.

    Raises:
        TypeError: something else than arrays, tuples and None is in the tree.
    """
    if isinstance(
        tree, tuple
    ):  # the order of these questions is that of their answers: every act goes through here
        if others:
            parts = [map_arrays(function, *items) for items in zip(tree, *others, strict=True)]
        else:
            parts = [map_arrays(function, part) for part in tree]
        return tree._make(parts) if hasattr(tree, "_make") else type(tree)(parts)  # type: ignore[return-value]
    if hasattr(tree, "shape"):
        return function(tree, *others)  # type: ignore[no-any-return]
    if tree is None:
        return tree
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


def leaves(tree: Any) -> list[Array]:
    """The arrays of a tree, in order."""
    found: list[Array] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Array]) -> None:
    if isinstance(tree, tuple):
        for part in tree:
            if hasattr(part, "shape"):  # without a call of its own: most parts are
                found.append(part)
            else:
                _collect(part, found)
    elif hasattr(tree, "shape"):
        found.append(tree)
    elif tree is not None:
        raise TypeError(f"expected arrays in tuples, got {type(tree).__name__}")


def flatten(tree: Tree) -> tuple[list[Array], Callable[[Iterable[Array]], Tree]]:
    """The arrays of a tree, in order, and a function that makes such a tree of others."""
    build = _builder(tree)
    return leaves(tree), lambda others: build(iter(others))


def _builder(tree: Any) -> Callable[[Iterator[Array]], Any]:
    """What makes a tree like this one of arrays that come one after the other."""
    if tree is None:
        return lambda _: None
    if not isinstance(tree, tuple):
        return next
    parts, make = [_builder(part) for part in tree], getattr(tree, "_make", type(tree))
    return lambda arrays: make([part(arrays) for part in parts])


def first(tree: Any) -> Array:
    """The first array of a tree: its leading dimensions are those of all of them."""
    found = _first(tree)
    if found is None:
        raise ValueError("the tree holds no array")
    return found


def _first(tree: Any) -> Array | None:
    if not isinstance(tree, tuple):
        return tree
    return next((found for part in tree if (found := _first(part)) is not None), None)


def expand(tree: Tree, count: int) -> Tree:
    """``[B, ...]`` -> ``[B, count, ...]`` without copying."""
    if count == 1:
        return map_arrays(lambda x: x[:, None], tree)
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
