"""States of torch into rows of bytes and back, on the device they are on, in as few operations as there can be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thick.pytrees import map_arrays, walk
from thick.runtimes.layout import ALIGNMENT, Layout

_split: Any = torch.split_with_sizes_copy  # whose stub forgets what it returns


class Packing:
    """The same bytes as :class:`thick.runtimes.layout.Layout` makes.

    Args:
        layout: of a row.
        example: any batch of states.
    """

    def __init__(self, layout: Layout, example: Any) -> None:
        self._layout = layout
        self._example = example
        self._dtypes = [tensor.dtype for _, tensor in walk(example)]
        self._sections: dict[torch.dtype, list[int]] = {}
        """how a row read as this type falls into leaves and what lies between them, in elements"""
        self._section: list[int] = [-1] * len(layout.leaves)
        """which of these a leaf is"""
        for dtype in set(self._dtypes):
            sizes, at = [], 0
            for index, leaf in enumerate(layout.leaves):
                if self._dtypes[index] != dtype or not leaf.size:
                    continue
                if leaf.offset > at:
                    sizes.append((leaf.offset - at) // dtype.itemsize)
                self._section[index] = len(sizes)
                sizes.append(leaf.size // dtype.itemsize)
                at = leaf.offset + leaf.size
            if layout.row_bytes > at:
                sizes.append((layout.row_bytes - at) // dtype.itemsize)
            self._sections[dtype] = sizes

    def pack(self, state: Any) -> Tensor:
        """The rows ``[B, row_bytes]`` uint8 of a batch of states.

        Raises:
            ValueError: a leaf has another type or shape than the layout says.
        """
        tensors = [tensor for _, tensor in walk(state)]
        if len(tensors) != len(self._layout.leaves):
            raise ValueError(f"the state has {len(tensors)} arrays, the layout {len(self._layout.leaves)}")
        batch = tensors[0].shape[0]
        gap = torch.zeros((batch, ALIGNMENT), dtype=torch.uint8, device=tensors[0].device)
        pieces = []
        # As few operations as there can be: while the event loop is busy, each waits for the interpreter's lock.
        for leaf, dtype, tensor in zip(self._layout.leaves, self._dtypes, tensors, strict=True):
            if tensor.shape[1:] != leaf.shape or tensor.dtype != dtype:
                raise ValueError(
                    f"{leaf.name}: expected {dtype} {leaf.shape}, got {tensor.dtype} {tuple(tensor.shape[1:])}"
                )
            if leaf.size:
                row = tensor if len(leaf.shape) == 1 else tensor.reshape(batch, -1)
                if row.stride(-1) != 1:  # torch calls a row of one number contiguous whatever its stride
                    row = row.clone(memory_format=torch.contiguous_format)
                pieces.append((row if row.is_contiguous() else row.contiguous()).view(torch.uint8))
            if leaf.size % ALIGNMENT:
                pieces.append(gap[:, : ALIGNMENT - leaf.size % ALIGNMENT])
        return torch.cat(pieces, 1).detach() if pieces else gap[:, :0]

    def unpack(self, rows: Tensor) -> Any:
        """The batch of states in rows ``[B, row_bytes]``; the opposite of :meth:`pack`."""
        batch = rows.shape[0]
        rows = rows.contiguous()
        # All leaves of a type in one operation, with what lies between them.
        read = {dtype: _split(rows.view(dtype), sizes, 1) for dtype, sizes in self._sections.items()}
        leaves = iter(zip(self._layout.leaves, self._dtypes, self._section, strict=True))

        def leaf_of(_: Tensor) -> Tensor:
            leaf, dtype, section = next(leaves)
            if not leaf.size:
                return torch.zeros((batch, *leaf.shape), dtype=dtype, device=rows.device)
            found: Tensor = read[dtype][section]
            return found if len(leaf.shape) == 1 else found.view(batch, *leaf.shape)

        return map_arrays(leaf_of, self._example)
