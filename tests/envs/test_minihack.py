"""MiniHack: pixels around the agent, seeds that reproduce, corridors of locked doors that can be solved."""

from __future__ import annotations

import platform
import sys
from collections import deque
from typing import Any

import numpy as np
import pytest

from thick.envs import UnusableEnvironmentError, make

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="there is no wheel of nle for this machine",
)
STEPS = {"n": (0, -1), "e": (1, 0), "s": (0, 1), "w": (-1, 0)}
Cell = tuple[int, int]


def screen(env: Any, name: str = "chars") -> np.ndarray:
    base = env.unwrapped
    return base.last_observation[base._observation_keys.index(name)]


def cells(env: Any, symbol: str) -> set[Cell]:
    rows, columns = np.where(screen(env) == ord(symbol))
    return set(zip(columns.tolist(), rows.tolist(), strict=True))


def path(env: Any, goals: set[Cell]) -> list[str] | None:
    """Directions from the agent to one of the cells, over what can be walked on."""
    from thick.envs.minihack import _OPEN_DOORS

    rows, columns = np.where(np.isin(screen(env, "glyphs"), _OPEN_DOORS))
    doors = set(zip(columns.tolist(), rows.tolist(), strict=True))
    (start,) = cells(env, "@")
    queue: deque[tuple[Cell, list[str]]] = deque([(start, [])])
    seen = {start}
    while queue:
        (x, y), way = queue.popleft()
        if (x, y) in goals:
            return way
        for name, (dx, dy) in STEPS.items():
            cell = (x + dx, y + dy)
            free = chr(screen(env)[cell[1], cell[0]]) in ".(<" or cell in doors or cell in goals
            if free and cell not in seen:
                seen.add(cell)
                queue.append((cell, [*way, name]))
    return None


@pytest.mark.parametrize(("doors", "seed"), [(1, 0), (3, 1), (3, 2)])
def test_a_corridor_is_solved_by_taking_a_key_opening_door_after_door_and_reaching_the_stairs(
    doors: int, seed: int
) -> None:
    env = make(f"minihack:corridor-{doors}")
    env.reset(seed=seed)
    events: list[str] = []
    carrying = over = False

    def do(name: str) -> None:
        nonlocal over
        *_, terminated, truncated, info = env.step(env.get_wrapper_attr("action_names").index(name))
        events.extend(info["events"])
        over = terminated or truncated

    while not over:
        (stairs, keys, locked) = (path(env, cells(env, symbol)) for symbol in ">(+")
        if stairs:
            way, last = stairs, ""
        elif keys and not carrying:
            way, last, carrying = keys, "pickup", True
        elif locked:
            way, last = locked[:-1], "apply"
        else:
            way, last = ["e"], ""  # through the door that was opened last, to see what is behind it
        for name in [*way, *([last] if last else [])]:
            do(name)
    assert events == ["pickup", *["door_opened"] * doors, "goal"]


@pytest.mark.parametrize("task", ["KeyRoom-S5", "River", "WoD-Easy-Full", "corridor-2"])
def test_the_paper_s_tasks_show_pixels_that_the_seed_decides(task: str) -> None:
    env = make(f"minihack:{task}")

    def play(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        shown = [env.reset(seed=seed)[0]]
        for _ in range(8):
            shown.append(env.step(int(rng.integers(env.action_space.n)))[0])
        return shown

    first, again = play(1), play(1)
    assert first[0].shape == (64, 64, 3) and first[0].any()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    if task in ("KeyRoom-S5", "corridor-2"):  # the others have one level
        assert any(not np.array_equal(first[0], play(seed)[0]) for seed in (2, 3, 4))
    env.close()


def test_the_symbols_around_the_agent_are_a_grid() -> None:
    env = make("minihack:corridor-1+chars")
    seen, info = env.reset(seed=0)
    assert seen.shape == (9, 9, 1) and chr(seen[4, 4, 0]) == "@"
    assert info == {"events": [], "success": False}


def test_an_unknown_option_is_refused_in_one_line() -> None:
    with pytest.raises(UnusableEnvironmentError, match="minihack has no option 'rooms'"):
        make("minihack:corridor-1", rooms=2)
