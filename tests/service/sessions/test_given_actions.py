"""Actions to imagine: one list, or one for each rollout, whatever an action looks like."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.protocol.limits import DEFAULT_LIMITS
from service.sessions.imagine import ImaginePipeline
from thick.spaces import Discrete, MultiDiscrete, as_space


def box(*shape: int) -> dict[str, Any]:
    return {"type": "Box", "shape": list(shape), "dtype": "float32", "low": -1, "high": 1}


def plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else [plain(each) for each in value]


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (Discrete(4), [3, 0]),
        (box(), [0.5, -1.0]),
        (box(2), [[0.5, 0.0], [1.0, 1.0]]),
        (box(1, 2), [[[0.5, 0.0]], [[1.0, 1.0]]]),
        (MultiDiscrete((3, 2)), [[2, 1], [0, 0]]),
        (MultiDiscrete((3, 2), dimensions=(2, 1)), [[[2], [1]], [[0], [0]]]),
    ],
    ids=str,
)
def test_one_list_is_distinguished_from_one_for_each_rollout(space: Any, actions: list[Any]) -> None:
    hosted: Any = SimpleNamespace(action_space=as_space(space))
    within = ImaginePipeline.__new__(ImaginePipeline)
    within._limits = DEFAULT_LIMITS

    def taken(given: list[Any]) -> Any:
        body: Any = SimpleNamespace(level="low", actions=given, rollouts=1)
        return plain(within._actions(hosted, body))

    assert taken(actions) == plain(actions)
    assert taken([actions, actions, actions]) == plain([actions] * 3)
