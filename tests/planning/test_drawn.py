"""Controls for the high-level search: jumps that are drawn, by the prior or uniformly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.planning.border import InNumpy
from tests.planning.plain import Bandit
from tests.planning.toys import CorridorModel
from thick.planning.actions import Actions
from thick.planning.drawn import Drawn
from thick.planning.memory import nothing_planned
from thick.planning.randomness import Randomness
from thick.planning.search import ActionSearch
from thick.planning.settings import PlannerSettings

KEYS = np.arange(4000)
PRIOR = np.array([[0.7, 0.2, 0.1]])
REWARD = np.array([[0.0, 0.0, 5.0]])


def shares(uniform: bool) -> np.ndarray:
    model = Bandit(PRIOR.repeat(len(KEYS), 0), REWARD.repeat(len(KEYS), 0))
    drawn = Drawn(model, uniform=uniform, randomness=Randomness(KEYS))
    drawn.step()
    assert drawn.done and (drawn.root_visits.argmax(-1) == drawn.best()).all()
    counted: np.ndarray = np.bincount(drawn.best(), minlength=3) / len(KEYS)
    return counted


def test_jumps_are_drawn_by_the_prior_or_uniformly_whatever_they_are_worth() -> None:
    assert np.abs(shares(uniform=False) - PRIOR[0]).max() < 0.03
    assert np.abs(shares(uniform=True) - 1 / 3).max() < 0.03


@pytest.mark.parametrize("high", ["prior", "random"])
@pytest.mark.parametrize("numpy", [True, False])
def test_the_drawn_jump_is_the_subgoal_and_what_is_remembered(high: str, numpy: bool) -> None:
    model: Any = InNumpy(CorridorModel()) if numpy else CorridorModel()
    belief = CorridorModel().exact.belief(2, 2)
    keys: Any = torch.tensor([3, 8])
    if numpy:
        from tests.planning.border import to_numpy

        belief, keys = to_numpy(belief), keys.numpy()
    settings = PlannerSettings(
        high=high, low="categorical-cem", samples=40, iterations=1, elites=5, horizon=5
    )
    actions = Actions(3, None)
    search = ActionSearch(
        model, actions, settings, belief, nothing_planned(model, actions, 5, 2), randomness=Randomness(keys)
    )
    while not search.done:
        search.step()
    found = search.result()
    (level,) = found.memory.levels
    jump = model.high.jump(belief.stoch, belief.context, level.actions[:, 0])
    assert (level.subgoal.logits == jump.logits_before).all()
    assert level.durations[:, 0].tolist() == jump.elapsed.tolist()
    assert (level.actions[:, 1:] == -1).all() and found.simulations == (1, 1)
