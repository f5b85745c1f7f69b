"""Reading a fixture, and putting the reference's weights into this repository's modules."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor, nn


class Fixture(NamedTuple):
    """One file of numbers: random weights and inputs, and what the reference makes of them."""

    sizes: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]


def quantities(path: Path) -> list[str]:
    """Names of everything that a fixture expects, without reading the numbers."""
    with safe_open(path, framework="pt") as file:
        return sorted(name for name in file.keys() if not name.startswith(("w.", "in.")))  # noqa: SIM118


def read(path: Path) -> Fixture:
    """Read a fixture."""
    fixture = Fixture({}, {}, {}, {})
    with safe_open(path, framework="pt") as file:
        fixture.sizes.update(json.loads(file.metadata()["meta"]))
        for name in file.keys():  # noqa: SIM118
            if name.startswith("w."):
                fixture.weights[name.removeprefix("w.")] = file.get_tensor(name)
            elif name.startswith("in."):
                fixture.inputs[name.removeprefix("in.")] = file.get_tensor(name)
            else:
                fixture.expected[name] = file.get_tensor(name)
    return fixture


def layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers ``prefix0, prefix1, …`` there are."""
    found = {match[1] for name in weights if (match := re.match(re.escape(prefix) + r"(\d+)\.", name))}
    assert found == {str(index) for index in range(len(found))}, (
        f"{prefix}: layers {sorted(found)} have a gap"
    )
    return len(found)


def width(weights: Mapping[str, Tensor], layer: str) -> int:
    """Number of outputs of a dense layer."""
    return weights[f"{layer}.bias"].shape[0]


def filled(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> Any:
    """The module with the weights ``prefix.*``; none may be missing, none left over.

    Dense kernels are ``[in, out]`` and become ``[out, in]``; convolutions HWIO become OIHW, transposed ones
    HWOI become IOHW.
    """
    state = {}
    for name, tensor in weights.items():
        if not name.startswith(f"{prefix}."):
            continue
        path, kind = name.removeprefix(f"{prefix}.").rsplit(".", 1)
        # The high level's heads keep their hidden layers together.
        path = re.sub(r"^(action|time|reward)_head\.dense", r"\1_head.mlp.dense", path)
        if path not in dict(module.named_modules()):
            path = path.replace(".mlp.", ".")
        if kind == "kernel":
            tensor = tensor.permute(3, 2, 0, 1) if tensor.dim() == 4 else tensor.T
        state[f"{path}.{'weight' if kind == 'kernel' else kind}"] = tensor.contiguous()
    module.load_state_dict(state, strict=True)
    return module.eval()
