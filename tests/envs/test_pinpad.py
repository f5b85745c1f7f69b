"""Visual PinPad: the right order pays, everything else does not, and the image shows it."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

from thick.envs import make
from thick.envs.pinpad import ACTIONS, CATEGORIES, COLOURS, LAYOUTS, PinPad

SIZES = {"three": 3, "four": 4, "five": 5, "six": 6}


def path(env: PinPad, pad: str) -> list[int]:
    """Actions of a shortest way to a pad that crosses no other pad."""
    board = LAYOUTS[env.unwrapped.task_name].strip().splitlines()
    start = env.unwrapped.agent
    came: dict[tuple[int, int], tuple[tuple[int, int], int]] = {}
    queue, seen = deque([start]), {start}
    while queue:
        cell = queue.popleft()
        if board[cell[0]][cell[1]] == pad:
            actions = []
            while cell != start:
                cell, action = came[cell]
                actions.append(action)
            return actions[::-1]
        for action, (down, right) in {1: (-1, 0), 2: (1, 0), 3: (0, -1), 4: (0, 1)}.items():
            following = (cell[0] + down, cell[1] + right)
            tile = board[following[0]][following[1]]
            if following not in seen and (tile in (" ", pad) or tile == board[start[0]][start[1]] != "#"):
                seen.add(following)
                came[following] = (cell, action)
                queue.append(following)
    raise AssertionError(f"no way to pad {pad}")


def visit(env: Any, pads: str) -> tuple[float, list[str], dict[str, Any], np.ndarray]:
    """Walks over pads in turn; total reward, all events, last info and image."""
    total, events, info, image = 0.0, [], {}, np.zeros(0)
    for pad in pads:
        for action in path(env, pad):
            image, reward, terminated, truncated, info = env.step(action)
            assert not terminated and not truncated
            total += reward
            events += info["events"]
    return total, events, info, image


@pytest.mark.parametrize("task", sorted(SIZES))
def test_the_right_order_pays_ten_on_the_last_pad_and_starts_anew(task: str) -> None:
    env = make(f"pinpad:{task}", seed=1)
    env.reset()
    order = "".join(env.unwrapped.order)
    assert order == "123456"[: SIZES[task]]
    total, events, info, image = visit(env, order)
    assert total == 10
    assert events == ["pad"] * len(order) + ["completed"]
    assert info["success"]
    assert [tuple(image[60, 8 * i + 8]) for i in range(len(order))] == [COLOURS[pad] for pad in order]
    image, reward, *_, info = env.step(0)
    assert reward == 0 and info["events"] == [] and info["success"]
    assert env.unwrapped.history == []
    assert not image[56:].any()
    assert visit(env, order)[0] == 10  # it can be had again and again


@pytest.mark.parametrize(
    ("pads", "events"),
    [
        ("2", ["wrong"]),
        ("121", ["pad", "pad", "wrong"]),
        ("13", ["pad", "wrong"]),
        ("2123", ["wrong", "pad", "pad", "pad", "completed"]),
        ("12123", ["pad", "pad", "wrong", "pad", "pad", "completed"]),
        ("11", ["pad"]),
    ],
)
def test_wrong_pads_are_reported_and_the_order_can_start_at_any_time(pads: str, events: list[str]) -> None:
    env = make("pinpad:three", seed=2)
    env.reset()
    total, seen, info, _ = visit(env, pads)
    assert seen == events
    assert total == (10 if "completed" in events else 0)
    assert info["success"] == ("completed" in events)


def test_standing_on_a_pad_and_returning_to_it_count_once() -> None:
    env = make("pinpad:three", seed=2)
    env.reset()
    visit(env, "1")
    floor = path(env, " ")
    for action in [0, 0, *floor]:
        assert env.step(action)[4]["events"] == []
    assert visit(env, "1")[1] == []
    assert env.unwrapped.history == ["1"]


def test_walls_stop_the_agent_and_noop_leaves_it() -> None:
    env = make("pinpad:four", seed=0)
    env.reset()
    for action, name in enumerate(ACTIONS):
        if name == "noop":
            before = env.unwrapped.agent
            env.step(action)
            assert env.unwrapped.agent == before
            continue
        for _ in range(20):
            env.step(action)
        row, column = env.unwrapped.agent
        wanted = {"up": row == 1, "down": row == 12, "left": column == 1, "right": column == 14}
        assert wanted[name]


def test_the_image_shows_the_agent_where_it_is() -> None:
    env = make("pinpad:six", seed=0)
    image, _ = env.reset()
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    row, column = env.unwrapped.agent
    cell = image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
    assert not cell.any()
    board = image[:56].reshape(14, 4, 16, 4, 3)[:, 0, :, 0]
    colours = {tuple(map(int, c)) for c in board.reshape(-1, 3)}
    assert colours == {*COLOURS.values(), (0, 0, 0)}


def test_the_start_is_a_random_free_cell() -> None:
    env = make("pinpad:five", seed=0)
    starts = set()
    for _ in range(40):
        env.reset()
        starts.add(env.unwrapped.agent)
        row, column = env.unwrapped.agent
        assert LAYOUTS["five"].strip().splitlines()[row][column] == " "
    assert len(starts) > 20


def test_an_episode_is_two_thousand_steps_long() -> None:
    env = make("pinpad:three", seed=0)
    env.reset()
    for step in range(1, 2001):
        _, _, terminated, truncated, _ = env.step(0)
        assert (terminated, truncated) == (False, step == 2000)


def test_the_original_pause_after_completion_is_an_option() -> None:
    env = make("pinpad:three", seed=1, pause=10)
    env.reset()
    visit(env, "123")
    for _ in range(9):
        env.step(0)
        assert env.unwrapped.history == ["1", "2", "3"]
    env.step(0)
    assert env.unwrapped.history == []


@pytest.mark.parametrize("task", sorted(LAYOUTS))
def test_boards_are_closed_by_walls_and_sixteen_by_fourteen(task: str) -> None:
    rows = LAYOUTS[task].strip().splitlines()
    assert [len(row) for row in rows] == [16] * 14
    assert {*rows[0], *rows[-1], *(row[0] for row in rows), *(row[-1] for row in rows)} == {"#"}


@pytest.mark.parametrize(
    ("options", "says"),
    [({"max_steps": 0}, "at least 1"), ({"pause": 0}, "at least 1"), ({"render_mode": "human"}, "rgb")],
)
def test_wrong_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make("pinpad:three", **options)


def test_a_wrong_action_is_refused() -> None:
    env = make("pinpad:three", seed=0)
    env.reset()
    with pytest.raises(ValueError, match="expected 0 to 4"):
        env.step(5)


def test_the_cells_show_exactly_what_the_image_shows() -> None:
    image, cells = make("pinpad:five", seed=0), make("pinpad:five+cells", seed=0)
    seen, grid = image.reset()[0], cells.reset()[0]
    colours: dict[int, set[tuple[int, ...]]] = {}
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert grid.shape == (16, 16, 1)
        for number, colour in zip(grid[..., 0].T.ravel(), seen[::4, ::4].reshape(-1, 3), strict=True):
            colours.setdefault(int(number), set()).add(tuple(colour.tolist()))
        action = int(rng.integers(5))
        seen, grid = image.step(action)[0], cells.step(action)[0]
    assert all(len(shown) == 1 for shown in colours.values())  # one colour a category ...
    del colours[CATEGORIES.index("blank")]  # black as the agent, but never on the board
    assert len({colour for shown in colours.values() for colour in shown}) == len(colours)  # ... of its own


@pytest.mark.parametrize("view", ["+memory", "+cells+memory"])
def test_without_the_history_the_board_alone_is_shown(view: str) -> None:
    whole, hidden = (
        make("pinpad:three" + view.replace("+memory", ""), seed=2),
        make("pinpad:three" + view, seed=2),
    )
    a, b = whole.reset()[0], hidden.reset()[0]
    rng, differs = np.random.default_rng(1), False
    rows = slice(None, 56) if view == "+memory" else (slice(None), slice(None, 14))
    for _ in range(200):
        assert np.array_equal(a[rows], b[rows])
        differs |= not np.array_equal(a, b)
        action = int(rng.integers(5))
        a, b = whole.step(action)[0], hidden.step(action)[0]
    assert differs
