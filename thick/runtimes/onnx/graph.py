"""An ONNX graph in the making. Its weights stay where they are: in ``model.safetensors``, which it refers to.

Every array has a batch of rows as its first dimension. Needs the package ``onnx``; running a graph does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from thick import conversion
from thick.manifest import WEIGHTS

OPSET = 20
IR_VERSION = 10
"""of files: what ONNX Runtime 1.18 and later read"""
BATCH = "batch"


class Place(NamedTuple):
    """Where a tensor lies in the weight file."""

    shape: tuple[int, ...]
    offset: int
    """bytes from the beginning of the file"""
    length: int
    """bytes"""


def places(content: bytes, *, format_version: int) -> dict[str, Place]:
    """Where the tensors lie in a safetensors file, under their present names.

    Args:
        content: of the file.
        format_version: of the entry's manifest.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    found = {}
    for name, field in header.items():
        if name != "__metadata__":
            begin, end = field["data_offsets"]
            found[name] = Place(tuple(field["shape"]), start + begin, end - begin)
    return conversion.tensors(found) if format_version == 1 else found


class Graph:
    """A graph to which inputs, operations and outputs are added in turn; values are known by their names.

    Args:
        name: of the graph.
        tensors: the weights that there are.
    """

    def __init__(self, name: str, tensors: Mapping[str, Place]) -> None:
        self.name, self.tensors = name, tensors
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._count = 0

    # -- the border --------------------------------------------------------------------------------------------------

    def input(self, name: str, *shape: int, dtype: Any = np.float32) -> str:
        """An input ``[batch, *shape]``."""
        self._inputs.append(_info(name, shape, dtype))
        return name

    def output(self, name: str, value: str, *shape: int, dtype: Any = np.float32) -> None:
        """An output ``[batch, *shape]``."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(_info(name, shape, dtype))

    def serialized(self) -> bytes:
        """The whole as a file."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            producer_name="thick",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    # -- constants ---------------------------------------------------------------------------------------------------

    def weight(self, name: str) -> str:
        """A tensor of the weight file."""
        if name not in self._constants:
            place = self.tensors[name]
            tensor = TensorProto(
                name=name, data_type=TensorProto.FLOAT, dims=place.shape, data_location=TensorProto.EXTERNAL
            )
            where = {"location": WEIGHTS, "offset": place.offset, "length": place.length}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
            self._constants[name] = tensor
        return name

    def constant(self, array: Any, dtype: Any = None) -> str:
        """A small array of its own."""
        made = np.asarray(array, dtype)
        name = f"constant{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(made).reshape(made.shape), name)
        return name

    def number(self, value: float) -> str:
        """A float."""
        return self.constant(value, np.float32)

    def whole(self, *values: int) -> str:
        """Whole numbers."""
        return self.constant(values, np.int64)

    # -- operations --------------------------------------------------------------------------------------------------

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """An operator of ONNX with one output."""
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """An operator with several outputs."""
        names = [f"x{self._count + index}" for index in range(outputs)]
        self._count += outputs
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def concat(self, *values: str, axis: int = -1) -> str:
        """One after the other."""
        return values[0] if len(values) == 1 else self("Concat", *values, axis=axis)

    def split(self, value: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """Parts of these sizes along an axis."""
        if len(sizes) == 1:
            return [value]
        return self.several("Split", len(sizes), value, self.whole(*sizes), axis=axis)

    def reshape(self, value: str, *shape: int) -> str:
        """``[batch, ...]`` -> ``[batch, *shape]``"""
        return self("Reshape", value, self.whole(-1, *shape))

    def squeeze(self, value: str) -> str:
        """Without the last dimension, of length 1."""
        return self("Squeeze", value, self.whole(-1))

    def cast(self, value: str, dtype: Any = np.float32) -> str:
        """As another type."""
        return self("Cast", value, to=_type(dtype))


def _type(dtype: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _info(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    return helper.make_tensor_value_info(name, _type(dtype), [BATCH, *shape])
