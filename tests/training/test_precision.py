"""The trial of precisions: decides by what it measures, and leaves no trace in the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.conftest import differences, finish, lines
from thick.configuration import merge
from thick.training import precision
from thick.training.config import TrainConfig
from thick.training.trainer import Trainer, resume


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of an update in each precision, in place of a stopwatch; products take as long in both."""
    took = {"fp32": 1.0, "bf16": 1.0, "product": 1.0}

    def rates(learner: object, batch: object) -> dict[str, float]:
        for name in ("fp32", "bf16"):
            learner.precision = name  # type: ignore[attr-defined]
            learner.update(batch)  # type: ignore[attr-defined]
        return {name: 1 / took[name] for name in ("fp32", "bf16")}

    def product(learner: object, dtype: object) -> float:
        return took["product"] if "bfloat16" in str(dtype) else 1.0

    monkeypatch.setattr(precision, "_rates", rates)
    monkeypatch.setattr(precision, "_seconds_of_product", product)
    return took


@pytest.mark.parametrize(("bf16", "taken"), [(0.5, "bf16"), (0.97, "fp32"), (3.0, "fp32")])
def test_auto_takes_what_is_faster_and_changes_no_number(
    walk: TrainConfig, tmp_path: Path, clock: dict[str, float], bf16: float, taken: str
) -> None:
    clock["bf16"] = bf16
    run = merge(walk, {"precision": "auto", "updates": 3})
    finish(Trainer(run, tmp_path / "auto"), until=2)
    clock["bf16"] = 1 / bf16  # another machine would decide otherwise: the run keeps what it began with
    finish(resume(tmp_path / "auto"))
    finish(Trainer(merge(run, {"precision": taken}), tmp_path / "plain"))
    assert not differences(tmp_path / "auto", tmp_path / "plain")
    (event,) = [line["precision"] for line in lines(tmp_path / "auto") if "precision" in line]
    assert event["taken"] == taken


def test_where_products_alone_decide_no_update_is_tried(
    walk: TrainConfig, tmp_path: Path, clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock["product"] = 9.0
    monkeypatch.setattr(precision, "_rates", lambda learner, batch: pytest.fail("an update was tried"))
    trainer = Trainer(merge(walk, {"precision": "auto"}), tmp_path / "run")
    finish(trainer, until=1)
    assert trainer.learner.precision == "fp32"


def test_bf16_that_is_slower_is_kept_and_warned_of_once_with_both_rates(
    walk: TrainConfig, tmp_path: Path, clock: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    clock |= {"product": 9.0, "bf16": 10.0}
    trainer = Trainer(merge(walk, {"precision": "bf16"}), tmp_path / "run")
    finish(trainer, until=1)
    finish(resume(tmp_path / "run"), until=2)
    said = capsys.readouterr().err
    assert (
        said.count("bf16 is slower than fp32 on this machine: 1 updates/s in fp32, 0.1 updates/s in bf16")
        == 1
    )
    assert trainer.learner.precision == "bf16"


def test_the_real_trial_measures_both(walk: TrainConfig, tmp_path: Path) -> None:
    trainer = Trainer(merge(walk, {"precision": "bf16"}), tmp_path / "run")
    finish(trainer, until=1)
    (event,) = [line["precision"] for line in lines(tmp_path / "run") if "precision" in line]
    assert event["rates"].keys() == {"fp32", "bf16"}
    assert all(rate > 0 for rate in event["rates"].values())
