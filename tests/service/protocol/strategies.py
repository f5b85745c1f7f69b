"""Hypothesis strategies for what travels: arrays, trees, spaces and members of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.protocol.arrays import DTYPES
from thick import spaces

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
dtypes = st.sampled_from([np.dtype(name) for name in DTYPES])


@st.composite
def arrays(draw: st.DrawFn, finite: bool = False) -> np.ndarray:
    """Any array that may travel."""
    dtype = draw(dtypes)
    elements = None
    if dtype.kind == "f":
        width: Any = dtype.itemsize * 8
        elements = st.floats(width=width, allow_nan=not finite, allow_infinity=not finite)
    return draw(hnp.arrays(dtype, draw(shapes), elements=elements))


text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
keys = text.filter(lambda key: key not in ("dtype", "shape", "data", "encoding"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | text
    | st.floats(allow_nan=False, allow_infinity=False)
)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nested dicts and lists."""
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    """Boxes of all kinds of numbers, bounded or not, with one bound for all or one for each element."""
    dtype = draw(st.sampled_from([np.dtype(n) for n in ("uint8", "int32", "float32", "float64")]))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4))
    inner = draw(st.sampled_from([(), shape]))
    if dtype.kind == "f":
        numbers = st.integers(-50, 50).map(lambda n: n / 4)
        low = draw(hnp.arrays(np.float64, inner, elements=numbers | st.just(-np.inf)))
        width = draw(hnp.arrays(np.float64, inner, elements=st.integers(0, 50).map(float) | st.just(np.inf)))
        high = np.where(np.isfinite(low), low, 0.0) + width
    else:
        low = draw(hnp.arrays(np.int64, inner, elements=st.integers(0, 100)))
        high = low + draw(hnp.arrays(np.int64, inner, elements=st.integers(0, 100)))
    return spaces.make_box(shape, dtype, low, high)


leaf_spaces = (
    boxes()
    | st.builds(spaces.Discrete, st.integers(1, 9), st.integers(-9, 9))
    | st.lists(st.integers(1, 9), min_size=1, max_size=4).map(lambda n: spaces.MultiDiscrete(tuple(n)))
    | st.just(spaces.MultiDiscrete((2, 3, 4, 1), (0, 1, -1, 5), (2, 2)))
)
any_space = leaf_spaces | st.dictionaries(keys.filter(bool), leaf_spaces, min_size=1, max_size=3).map(
    spaces.Dict
)


def same(a: Any, b: Any) -> bool:
    """Equality of trees with arrays: dtype, shape and bits (NaN equals NaN)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return (
            a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    return type(a) is type(b) and bool(a == b)
