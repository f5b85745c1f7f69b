"""A sweep whose runs are given to Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweeps.test_queue import sweep_file
from thick.commands import sweep as command
from thick.sweeps.definition import read_sweep
from thick.sweeps.queue import states

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_local_ray_works_through_the_same_file(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    path = sweep_file(tmp_path, grid={"seed": [0, 1]})
    assert command.run([str(path), "--ray", "local"]) == 0
    assert [state.status for _, state, _ in states(read_sweep(path))] == ["done", "done"]
    assert (tmp_path / "runs" / "results.csv").is_file()
