"""Every kind of action: planned, given out in its space, taken back, and travelled as the service has it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from service.protocol.values import decode_action
from tests.models.sizes import VECTOR, model
from tests.planning.models import BUDGET, keys, started
from thick.runtimes.torch.agents import torch_agent
from thick.spaces import as_space

SPACES = [
    Discrete(3, start=4),
    MultiDiscrete([2, 3], start=[0, -1]),
    MultiDiscrete([[2], [3]]),
    MultiBinary(3),
    Box(0.0, 10.0, (2,), np.float32),
    Box(-1.0, 1.0, (2, 2), np.float64),
    Box(-5, 5, (2,), np.int16),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_an_action_of_every_kind_is_one_of_its_space_outside_and_comes_back_inside(
    space: gymnasium.Space,
) -> None:
    of = torch_agent(model(VECTOR, space), planner={**BUDGET, "method": "flat"})
    output = of.act(started(of, 2), keys=keys(2))
    actions = of.decode_action(output.action)
    assert all(space.contains(action) for action in actions)
    atol = 0.11 if of.action_space.dtype == np.int16 else 1e-5  # whole numbers are rounded
    torch.testing.assert_close(of.encode_action(actions), output.action.float(), atol=atol, rtol=0)
    if not isinstance(space, MultiBinary):  # which travels as a MultiDiscrete
        known = as_space(space)
        for action in actions:
            sent = action if isinstance(action, int) else action.tolist()
            assert np.array_equal(decode_action(sent, known), action)


@pytest.mark.parametrize("space", [MultiDiscrete([2, 3]), Box(-1.0, 1.0, (2, 2))], ids=str)
def test_actions_of_any_shape_can_be_imagined_along(space: gymnasium.Space) -> None:
    of = torch_agent(model(VECTOR, space), planner=BUDGET)
    state = started(of, 1)
    given = [of.decode_action(of.encode_action([space.sample()]))[0].tolist() for _ in range(3)]
    steps = list(of.imagine(state, level="low", horizon=3, actions=given, keys=keys(1)))
    assert len(steps) == 3
    assert all(np.allclose(step.action[0], want) for step, want in zip(steps, given, strict=True))
