"""The programs that people copy run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_policy_is_trained_in_a_dream_and_evaluated_in_the_real_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("stable_baselines3")
    arguments = ["--steps", "160", "--envs", "4", "--max-steps", "20", "--episodes", "1", "--no-progress"]
    found = program("train_in_a_dream").main(arguments)
    assert set(found) == {"policy, real", "random, real", "policy, dream"}
    assert all(value >= 0 for value in found.values())
    assert "dm_control:cartpole-swingup" in capsys.readouterr().out
