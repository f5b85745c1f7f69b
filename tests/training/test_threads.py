"""The trial of threads: takes the fewest that are about as fast as any, and the run keeps what it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import differences, finish, lines
from thick.configuration import merge
from thick.training import threads, trials
from thick.training.config import TrainConfig
from thick.training.trainer import Trainer, resume


@pytest.fixture(autouse=True)
def as_before() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("rates", "taken"),
    [
        ({1: 5.0, 2: 9.0, 4: 9.1}, 2),
        ({1: 5.0, 2: 2.0, 4: 1.0}, 1),
        ({1: 5.0, 2: 5.1, 4: 5.2}, 1),
        ({1: 1.0, 2: 2.0, 4: 4.0}, 4),
    ],
)
def test_the_fewest_threads_that_are_about_as_fast_as_any_are_taken(
    walk: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: dict[int, float], taken: int
) -> None:
    monkeypatch.setattr(threads, "counts", lambda: list(rates))
    monkeypatch.setattr(trials, "rates", lambda learner, batch, forms: {form: rates[form] for form in forms})
    run = merge(walk, {"threads": 0, "updates": 2})
    trainer = Trainer(run, tmp_path / "run")
    finish(trainer, until=1)
    assert torch.get_num_threads() == taken
    (event,) = [line["threads"] for line in lines(tmp_path / "run") if "threads" in line]
    assert event["taken"] == taken
    torch.set_num_threads(3)
    finish(resume(tmp_path / "run"))  # another machine would decide otherwise
    assert torch.get_num_threads() == taken


@pytest.mark.slow
def test_the_trial_leaves_no_trace(
    walk: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "counts", lambda: [1, 2])
    monkeypatch.setattr(threads, "WORTH", 1e9)  # one thread, whatever is measured
    finish(Trainer(merge(walk, {"threads": 0, "updates": 3}), tmp_path / "auto"))
    finish(Trainer(merge(walk, {"threads": 1, "updates": 3}), tmp_path / "plain"))
    assert not differences(tmp_path / "auto", tmp_path / "plain")
    (event,) = [line["threads"] for line in lines(tmp_path / "auto") if "threads" in line]
    assert event["rates"].keys() == {"1", "2"} and all(rate > 0 for rate in event["rates"].values())


def test_what_is_tried_begins_with_one_and_ends_with_all() -> None:
    tried = threads.counts()
    assert tried[0] == 1 and tried == sorted(set(tried))
