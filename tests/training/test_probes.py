"""Linear probes find what a state holds, and nothing where it holds nothing; gates near events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from thick.training import probes
from thick.training.alignment import EventPlay, play_with_events, widened
from thick.training.probes import area_under_curve, linear_probes


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    labels = np.array([True, False, True, False])
    assert area_under_curve(np.array([3.0, 1.0, 4.0, 2.0]), labels) == 1.0
    assert area_under_curve(np.array([3.0, 1.0, 2.0, 2.5]), labels) == 0.75
    assert area_under_curve(np.zeros(4), labels) == 0.5
    assert area_under_curve(np.zeros(2), np.array([True, True])) is None


def test_a_fact_is_found_where_it_is_and_not_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    facts = [[{"carrying": bool(bit)} for bit in rng.integers(2, size=200)] for _ in range(4)]

    def told(model: Any, episode: dict[str, np.ndarray]) -> tuple[Any, torch.Tensor]:
        known = np.array([step["carrying"] for step in facts[int(episode["index"][0])]], np.float32)
        h = torch.from_numpy(known + rng.normal(0, 0.1, 200).astype(np.float32))[None, :, None]
        noise = torch.from_numpy(rng.normal(size=(1, 200, 3)).astype(np.float32))
        return SimpleNamespace(deter=h, context=noise[..., :0], stoch=noise[..., None]), torch.zeros(1, 200)

    monkeypatch.setattr(probes, "filtered", told)
    episodes = [{"index": np.array([index])} for index in range(4)]
    model: Any = None
    found = linear_probes(model, EventPlay(episodes, [], facts))["carrying"]
    assert found["h"] > 0.99 and 0.4 < found["z"] < 0.6
    assert "c" not in found and 0.4 < found["rate"] < 0.6
    with pytest.raises(ValueError, match="reports facts"):
        linear_probes(model, EventPlay(episodes, [], [[{}]] * 4))


def test_minigrid_tells_what_is_carried_and_whether_a_door_is_open() -> None:
    play = play_with_events("minigrid:corridor-1+partial", policy="scripted", steps=300, seed=3)
    carrying = False
    for names, facts in zip(play.events, play.facts, strict=True):
        for events, known in zip(names, facts, strict=True):
            if "door_opened" in events:
                assert known["door_open"]
            carrying = carrying or known["carrying"]
            if "pickup" in events:
                assert known["carrying"]
    assert carrying


def test_near_is_up_to_so_many_steps_away() -> None:
    flags = np.array([False, False, True, False, False, False])
    assert widened(flags, 0).tolist() == flags.tolist()
    assert widened(flags, 1).tolist() == [False, True, True, True, False, False]
    assert flags.sum() == 1
