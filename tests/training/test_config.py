"""Configurations: presets load, overrides apply, mistakes are named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from thick.configuration import describe, merge, to_dict
from thick.learners.schedules import Schedule
from thick.models.config import LevelConfig, ModelConfig
from thick.training.config import OptimizerConfig, TrainConfig, load_config, override, presets


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
    ("text", "taken"),
    [
        ("7", "7"),
        ("2024-01-01", "2024-01-01"),
        ("a: b", "a: b"),
        ("50 % # of it", "50 % # of it"),
        ("[x", "[x"),
        ("yes", "yes"),
        ("'7'", "7"),
        ('"quoted"', "quoted"),
    ],
)
def test_a_text_on_the_command_line_is_taken_as_it_stands(text: str, taken: str) -> None:
    config = override(TrainConfig(), ["--env", text, "--description", text, "--init", text])
    assert (config.env, config.description, config.init) == (taken, taken, taken)
    assert override(TrainConfig(), ["--data.dataset", text]).data.dataset == taken
    assert override(config, ["--init", "null"]).init is None


@pytest.mark.parametrize("flag", ["--init", "--data.dataset", "--updates", "--planner", "--planner.low"])
def test_a_value_that_is_empty_is_missing_and_never_null(flag: str) -> None:
    with pytest.raises(ValueError, match=f"{flag}: a value is missing"):
        override(TrainConfig(), [flag, ""])
    with pytest.raises(ValueError, match=f"{flag}: a value is missing"):
        override(TrainConfig(), [f"{flag}="])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.stohc", "8"], "did you mean 'model.stoch'"),
        (["--bacth", "8"], "did you mean 'batch'"),
        (["--model.dynamics", "gru"], "expected 'crssm' or 'rssm', got 'gru'"),
        (["--updates", "many"], "updates: expected a valid integer, got 'many'"),
        (["--optimizer.lr", "fast"], "optimizer.lr: expected a valid number, got 'fast'"),
        (["--updates"], "a value is missing"),
        (["--data.streams", "0"], "data.streams: expected at least 1, got 0"),
        (["--from_start", "7"], "from_start: expected at most 1, got 7"),
        (["--optimizer.clip", "0"], "optimizer.clip: expected more than 0, got 0"),
        (["--optimizer.lr", ".nan"], "optimizer.lr: expected a finite number, got nan"),
        (["--name", "a/b"], "name: expected a text that matches '^[A-Za-z0-9]"),
        (["--ensemble.members", "1"], "ensemble.members: expected at least 2, got 1"),
        (["--seed", "9" * 20], f"seed: expected at most {2**63 - 1}, got 9"),
        (["--sparsity.start", "0", "--sparsity.ramp_to", "5"], "a geometric ramp cannot begin or end at 0"),
        (["8"], "expected --FIELD VALUE"),
    ],
)
def test_a_mistake_is_answered_with_what_was_expected(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError) as error:
        override(TrainConfig(), arguments)
    assert message in str(error.value)


def _numbers(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """Where there are numbers in a configuration."""
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from _numbers(value[0], (*path, key, "0"))
        elif isinstance(value, dict):
            yield from _numbers(value, (*path, key))
        elif type(value) in (int, float):
            yield (*path, key), type(value)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_no_number_may_be_negative_or_not_finite(value: float) -> None:
    for path, kind in _numbers(to_dict(TrainConfig())):
        if kind is int and value != -1:
            continue
        name = ".".join(path)
        with pytest.raises(ValueError, match=re.escape(path[-1])):
            override(TrainConfig(), [f"--{name}", {"-1": "-1", "nan": ".nan", "inf": ".inf"}[str(value)]])


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'cartpole'"):
        load_config("cartpol")


def test_every_field_is_explained() -> None:
    for line in describe(TrainConfig()).splitlines():
        if line.startswith("  --"):
            assert len(line.split(maxsplit=2)) == 3, line


def test_learning_rates_rise_from_the_first_update_on_and_then_fall_to_their_end() -> None:
    def rates(**settings: float) -> list[float]:
        options = merge(OptimizerConfig(), settings)
        return [options.rate(8.0, update, 8) for update in (0, 1, 2, 4, 8, 9)]

    assert rates() == [8.0] * 6
    assert rates(warmup=4) == [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]
    assert rates(decay=0.5) == [8.0, 7.5, 7.0, 6.0, 4.0, 4.0]
    assert rates(warmup=4, decay=0.5) == [2.0, 3.75, 5.25, 6.0, 4.0, 4.0]


def test_a_schedule_is_geometric_between_its_ends() -> None:
    schedule = Schedule(start=1.0, final=100.0, ramp_from=10, ramp_to=20)
    assert [schedule.at(update) for update in (0, 10, 20, 30)] == [1.0, 1.0, 100.0, 100.0]
    assert schedule.at(15) == pytest.approx(10.0)
