"""The replay ring: windows are contiguous, short episodes stay, what is on disk comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thick.data.replay import Field, ReplayRing

FIELDS = {"step": Field((), "<i8"), "stream": Field((), "<i8"), "is_first": Field((), "|b1")}


def fill(ring: ReplayRing, steps: int, *, episode: int = 5) -> None:
    for step in range(ring.written, ring.written + steps):
        ring.add(
            {
                "step": np.full(ring.streams, step),
                "stream": np.arange(ring.streams),
                "is_first": np.full(ring.streams, step % episode == 0),
            }
        )


@given(
    capacity=st.integers(4, 30), steps=st.integers(4, 80), length=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_a_window_is_consecutive_steps_of_one_stream_among_the_newest(
    capacity: int, steps: int, length: int, seed: int
) -> None:
    ring = ReplayRing(FIELDS, streams=3, capacity=capacity)
    fill(ring, steps)
    window = ring.sample(8, length, np.random.default_rng(seed))
    assert (np.diff(window["step"], axis=1) == 1).all()
    assert (window["stream"] == window["stream"][:, :1]).all()
    assert window["step"].min() >= steps - min(capacity, steps)
    assert window["step"].max() < steps
    assert window["is_first"][:, 0].all()
    assert len(ring) == 3 * min(capacity, steps)


def test_every_step_is_sampled_also_those_of_episodes_shorter_than_a_window() -> None:
    ring = ReplayRing(FIELDS, streams=1, capacity=20)
    fill(ring, 20, episode=2)
    window = ring.sample(500, 8, np.random.default_rng(0))
    assert set(window["step"].ravel()) == set(range(20))
    assert window["is_first"].sum(1).min() >= 4


def test_windows_from_the_start_begin_with_their_episode() -> None:
    ring = ReplayRing(FIELDS, streams=2, capacity=40)
    fill(ring, 40, episode=10)
    window = ring.sample(200, 6, np.random.default_rng(0), from_start=1.0)
    assert (window["step"][:, 0] % 10 == 0).all()


def test_a_window_longer_than_what_was_written_is_refused() -> None:
    ring = ReplayRing(FIELDS, streams=1, capacity=20)
    fill(ring, 3)
    with pytest.raises(ValueError, match="windows of 5 steps need as many"):
        ring.sample(1, 5, np.random.default_rng(0))


def test_a_step_with_other_fields_is_refused() -> None:
    ring = ReplayRing(FIELDS, streams=1, capacity=20)
    with pytest.raises(ValueError, match=r"a step holds .*'stream'.* got \['step'\]"):
        ring.add({"step": np.zeros(1)})


def test_a_ring_on_disk_comes_back_and_goes_on(tmp_path: Path) -> None:
    ring = ReplayRing(FIELDS, streams=2, capacity=8, directory=tmp_path, metadata={"env": "x"})
    fill(ring, 5)
    ring.flush()
    again = ReplayRing.open(tmp_path, write=True)
    assert again.metadata == {"env": "x"}
    fill(again, 6)
    assert again.steps("step")[0].tolist() == list(range(3, 11))


def test_a_folder_without_a_data_set_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="thick collect"):
        ReplayRing.open(tmp_path, write=True)


def test_arrays_that_do_not_fit_their_description_are_refused(tmp_path: Path) -> None:
    ring = ReplayRing(FIELDS, streams=2, capacity=8, directory=tmp_path)
    ring.flush()
    np.save(tmp_path / "step.npy", np.zeros((1, 8), np.int64))
    with pytest.raises(ValueError, match=r"step.npy: expected <i8 \(2, 8\), found int64 \(1, 8\)"):
        ReplayRing.open(tmp_path, write=True)


def test_a_data_set_that_was_opened_to_be_read_cannot_change(tmp_path: Path) -> None:
    ring = ReplayRing(FIELDS, streams=2, capacity=8, directory=tmp_path)
    fill(ring, 5)
    ring.flush()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    given = ReplayRing.open(tmp_path)
    with pytest.raises(ValueError, match="never written to"):
        fill(given, 1)
    with pytest.raises(ValueError, match="read-only"):
        given._arrays["step"][:] = 3
    given.flush()
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_steps_can_be_taken_back_as_far_as_there_is_slack(tmp_path: Path) -> None:
    ring = ReplayRing(FIELDS, streams=2, capacity=8, slack=5, directory=tmp_path)
    fill(ring, 20)
    known = ring.steps("step").copy()
    fill(ring, 5)
    assert ring.steps("step")[0].tolist() == list(range(17, 25))
    ring.flush()
    again = ReplayRing.open(tmp_path, write=True)
    again.rewind(20)
    assert np.array_equal(again.steps("step"), known)
    with pytest.raises(ValueError, match="cannot go back to 14 steps"):
        again.rewind(14)


def test_a_full_disk_is_reported_before_a_step_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    ring = ReplayRing(FIELDS, streams=2, capacity=8, directory=tmp_path)
    with pytest.raises(OSError, match="No space left"):
        fill(ring, 1)
    assert ring.written == 0


def test_all_of_a_ring_on_disk_is_reserved_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    taken: list[tuple[int, int]] = []
    real = os.posix_fallocate

    def counted(descriptor: int, offset: int, length: int) -> None:
        taken.append((offset, offset + length))
        real(descriptor, offset, length)

    monkeypatch.setattr("thick.data.replay._RESERVED_BYTES", 64)
    monkeypatch.setattr("os.posix_fallocate", counted)
    ring = ReplayRing(
        {"is_first": FIELDS["is_first"], "step": FIELDS["step"]}, streams=1, capacity=20, directory=tmp_path
    )
    for step in range(45):
        ring.add({"is_first": np.ones(1, bool), "step": np.array([step])})
    assert len(taken) == 2 * 3  # of 8, 8 and 4 steps, and no more after the first round
    assert max(end for _, end in taken) == (tmp_path / "step.npy").stat().st_size


def test_entries_of_any_name_have_files_of_their_own(tmp_path: Path) -> None:
    names = [
        "observation/a/b",
        "observation/a.b",
        "observation/../x",
        "observation/%2E",
        "observation/position",
    ]
    fields = {name: Field((), "<f4") for name in names} | {"is_first": Field((), "|b1")}
    ring = ReplayRing(fields, streams=1, capacity=2, directory=tmp_path)
    step = {name: np.array([index], np.float32) for index, name in enumerate(names)}
    ring.add({**step, "is_first": np.array([True])})
    ring.flush()
    assert (tmp_path / "observation.position.npy").is_file()
    again = ReplayRing.open(tmp_path)
    assert [float(again.steps(name)[0, 0]) for name in names] == [0, 1, 2, 3, 4]
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*.npy"))
