"""One text for numpy and torch: the few operations that planning needs and that the two libraries write differently.

Operators, indexing, ``shape``, ``ndim``, ``dtype``, ``reshape`` and the reductions ``sum``, ``mean``, ``any``, ``all``,
``argmax``, ``cumsum`` with the axis as the first argument are the same in both and are called on the arrays themselves.
All else is in :class:`Arrays`: ``of(x)`` gives the operations of the library (and device) that an array belongs to.
torch is loaded only for who already holds one of its tensors.

Rules that keep the two alike: numbers are float32, indices int64, masks bool; a whole array never meets a float array
without :meth:`Arrays.as_float` (numpy would go to float64).
"""

from __future__ import annotations

import importlib

import numpy as np

from thick.arrays.numpy_arrays import NUMPY
from thick.arrays.operations import Array, Arrays

__all__ = ["NUMPY", "Array", "Arrays", "of"]


def of(array: Array) -> Arrays:
    """The operations for an array.

    Raises:
        TypeError: it is of neither library.
    """
    kind = type(array)
    if kind is np.ndarray:
        return NUMPY
    if kind.__module__.partition(".")[0] == "torch":
        # By name, so that who plans in numpy needs no torch.
        operations: Arrays = importlib.import_module("thick.arrays.torch_arrays").on(array.device)
        return operations
    raise TypeError(f"expected a numpy array or a torch tensor, got {kind.__name__}")
