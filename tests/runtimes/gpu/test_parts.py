"""What a GPU gets where kernels cannot be built: the same model, without them."""

from __future__ import annotations

import importlib.util
import types
from typing import Any

import pytest
import torch

from tests.models.sizes import model
from thick.arrays import torch_arrays
from thick.runtimes.torch.gpu import parts
from thick.runtimes.torch.gpu.recorded import RecordingDynamics


def fails(*_: Any) -> None:
    raise RuntimeError("Failed to find C compiler")


@pytest.mark.parametrize("found", [False, True])
def test_without_a_compiler_or_triton_there_are_no_kernels(
    monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if found else None)
    monkeypatch.setattr(importlib, "import_module", lambda name: types.SimpleNamespace(bits=fails))
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    torch_arrays.kernels.cache_clear()
    try:
        if found:
            with pytest.warns(UserWarning, match="cannot build kernels here .Failed to find C compiler"):
                assert torch_arrays.kernels(torch.device("cuda")) is None
        else:
            assert torch_arrays.kernels(torch.device("cuda")) is None
    finally:
        torch_arrays.kernels.cache_clear()


def test_a_model_without_kernels_records_its_searches() -> None:
    assert type(parts.dynamics(model(), torch.float32)) is RecordingDynamics
