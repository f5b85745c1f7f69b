"""Configurations: presets load, overrides apply, mistakes are named."""

from __future__ import annotations

import pytest

from thick.configuration import describe, merge, to_dict
from thick.learners.schedules import Schedule
from thick.models.config import LevelConfig, ModelConfig
from thick.training.config import TrainConfig, load_config, override, presets


def test_two_levels_are_refused_with_what_is_possible() -> None:
    with pytest.raises(ValueError, match=r"levels: got 2; expected a list of none or one"):
        ModelConfig(levels=(LevelConfig(), LevelConfig()))
    assert [len(ModelConfig(levels=levels).levels) for levels in ((), (LevelConfig(),))] == [0, 1]


@pytest.mark.parametrize("preset", presets())
def test_every_preset_loads_and_survives_the_way_through_plain_values(preset: str) -> None:
    config = load_config(preset)
    assert merge(TrainConfig(), to_dict(config)) == config


def test_any_field_can_be_overridden_on_the_command_line() -> None:
    config = override(
        TrainConfig(),
        ["--model.stoch", "8", "--optimizer.lr=1e-3", "--model.levels.0.segment_ends", "[gates, ends]"],
    )
    assert config.model.stoch == 8
    assert config.optimizer.lr == 1e-3
    assert config.model.levels[0].segment_ends == ("gates", "ends")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.stohc", "8"], "did you mean 'model.stoch'"),
        (["--bacth", "8"], "did you mean 'batch'"),
        (["--model.dynamics", "gru"], "expected 'crssm' or 'rssm', got 'gru'"),
        (["--updates", "many"], "updates: expected a valid integer, got 'many'"),
        (["--optimizer.lr", "fast"], "optimizer.lr: expected a valid number, got 'fast'"),
        (["--updates"], "a value is missing"),
        (["8"], "expected --FIELD VALUE"),
    ],
)
def test_a_mistake_is_answered_with_what_was_expected(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError) as error:
        override(TrainConfig(), arguments)
    assert message in str(error.value)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'cartpole'"):
        load_config("cartpol")


def test_every_field_is_explained() -> None:
    for line in describe(TrainConfig()).splitlines():
        if line.startswith("  --"):
            assert len(line.split(maxsplit=2)) == 3, line


def test_a_schedule_is_geometric_between_its_ends() -> None:
    schedule = Schedule(start=1.0, final=100.0, ramp_from=10, ramp_to=20)
    assert [schedule.at(update) for update in (0, 10, 20, 30)] == [1.0, 1.0, 100.0, 100.0]
    assert schedule.at(15) == pytest.approx(10.0)
