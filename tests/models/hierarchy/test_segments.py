"""Segment targets: one reverse scan, against a plain loop that follows the definition word for word."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from thick.models.hierarchy.segments import at_segment_end, segment_ends, segment_targets

GAMMA = 0.9


@st.composite
def chunks(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Random ``ends``, ``is_first`` and ``reward``, all ``[B, T]``."""
    batch, time = draw(st.integers(1, 3)), draw(st.integers(2, 14))

    def flags() -> Tensor:
        rows = st.lists(st.booleans(), min_size=time, max_size=time)
        return torch.tensor(draw(st.lists(rows, min_size=batch, max_size=batch)))

    numbers = st.lists(st.integers(-4, 4), min_size=time, max_size=time)
    reward = torch.tensor(draw(st.lists(numbers, min_size=batch, max_size=batch)), dtype=torch.float64)
    return flags(), flags(), reward


def plainly(ends: Tensor, is_first: Tensor, reward: Tensor, row: int, now: int) -> tuple[int, float] | None:
    """τ and R of one step by definition; None where no change follows within chunk and episode."""
    total = 0.0
    for later in range(now + 1, ends.shape[1]):
        total += GAMMA ** (later - 1 - now) * float(reward[row, later - 1])
        if is_first[row, later]:
            return None
        if ends[row, later]:
            return later, total
    return None


@given(chunks())
def test_every_target_is_what_a_plain_loop_finds(chunk: tuple[Tensor, Tensor, Tensor]) -> None:
    ends, is_first, reward = chunk
    segments = segment_targets(ends, is_first.double(), reward, GAMMA)
    batch, time = ends.shape
    assert all(part.shape == (batch, time - 1) for part in segments)
    for row in range(batch):
        for now in range(time - 1):
            expected = plainly(ends, is_first, reward, row, now)
            found = tuple(float(part[row, now]) for part in segments)
            if expected is None:
                assert found[1:] == (0.0, 0.0, 0.0)
                assert 1 <= found[0] < time  # still an index that can be gathered
            else:
                end, total = expected
                assert found[0] == end
                assert found[1] == end - 1 - now
                assert found[2] == pytest.approx(total)
                assert found[3] == 1.0


@given(chunks(), st.integers(1, 12))
def test_an_episode_learns_nothing_from_the_one_after_it(
    chunk: tuple[Tensor, Tensor, Tensor], border: int
) -> None:
    ends, is_first, reward = chunk
    border = min(border, ends.shape[1] - 1)
    is_first[:, border] = True
    other_ends, other_reward = ends.clone(), reward.clone()
    other_ends[:, border:] = ~ends[:, border:]
    other_reward[:, border:] += 1
    one = segment_targets(ends, is_first, reward, GAMMA)
    other = segment_targets(other_ends, is_first, other_reward, GAMMA)
    for part, changed in zip(one[1:], other[1:], strict=True):
        torch.testing.assert_close(part[:, :border], changed[:, :border])


@given(chunks())
def test_rows_of_a_batch_do_not_matter_to_each_other(chunk: tuple[Tensor, Tensor, Tensor]) -> None:
    ends, is_first, reward = chunk
    together = segment_targets(ends, is_first, reward, GAMMA)
    for row in range(ends.shape[0]):
        part = slice(row, row + 1)
        alone = segment_targets(ends[part], is_first[part], reward[part], GAMMA)
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[part], expected)


@given(chunks())
def test_what_is_gathered_at_an_end_lies_at_the_end(chunk: tuple[Tensor, Tensor, Tensor]) -> None:
    ends, is_first, reward = chunk
    batch, time = ends.shape
    segments = segment_targets(ends, is_first, reward, GAMMA)
    stamp = torch.arange(time).expand(batch, time)[..., None, None].expand(batch, time, 2, 3)
    torch.testing.assert_close(at_segment_end(stamp, segments)[..., 0, 0], segments.end)
    torch.testing.assert_close(at_segment_end(stamp, segments, offset=-1)[..., 1, 2], segments.end - 1)


def test_any_open_gate_ends_a_segment_and_a_terminal_step_where_it_is_asked_to() -> None:
    gates = torch.zeros(1, 4, 3)
    gates[0, 1, 2] = 1.0
    terminal = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    assert segment_ends(gates, terminal, ("gates",)).tolist() == [[False, True, False, False]]
    assert segment_ends(gates, terminal, ("ends",)).tolist() == [[False, False, False, True]]
    assert segment_ends(gates, terminal, ("gates", "ends")).tolist() == [[False, True, False, True]]


def test_an_unknown_criterion_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"\['ends', 'gates'\].*'gate'"):
        segment_ends(torch.zeros(1, 2, 1), torch.zeros(1, 2), ("gate",))
