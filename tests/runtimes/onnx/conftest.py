"""Entries of tiny models, with graphs and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.service.support import observe, write_model
from thick.runtimes.onnx.verify import Experience


def experience(name: str) -> Experience:
    """Steps of one of the models of ``tests.service.support``."""
    size = 2 if name == "arm" else 4
    rng = np.random.default_rng(0)
    action = np.eye(size)[rng.integers(size, size=24)] if size == 4 else rng.uniform(-1, 1, (24, size))
    seen = [observe(name, step) for step in range(24)]
    if isinstance(seen[0], dict):
        return Experience({k: np.stack([x[k] for x in seen]) for k in seen[0]}, action.astype(np.float32))
    return Experience(np.stack(seen), action.astype(np.float32))


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """A model of vectors without graphs."""
    return write_model(tmp_path, "arm", observation="vector", action="continuous")
