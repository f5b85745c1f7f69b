"""Planner settings: limits and messages."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from thick.planning.settings import PlannerSettings, planner_changes


def test_settings_import_no_torch() -> None:
    code = "import sys, thick.planning.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_papers_budget_is_the_default() -> None:
    settings = PlannerSettings()
    assert (settings.samples, settings.horizon, settings.iterations, settings.elites) == (1000, 12, 10, 100)
    assert (settings.simulations, settings.kappa, settings.settle) == (100, 0.025, 3)


def test_equal_settings_are_equal_and_hashable() -> None:
    first, second = (PlannerSettings().updated({"samples": 50}) for _ in range(2))
    assert first == second and hash(first) == hash(second) and first != PlannerSettings()


def test_whole_numbers_may_come_as_floats_and_floats_as_whole_numbers() -> None:
    settings = PlannerSettings().updated({"samples": 64.0, "kappa": 1})
    assert settings.samples == 64 and type(settings.samples) is int
    assert settings.kappa == 1.0 and type(settings.kappa) is float


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": 3}, "planner.sample: no such setting; did you mean 'samples'"),
        ({"zzzz": 3}, "planner.zzzz: no such setting; known are"),
        ({"method": "hierarchic"}, "planner.method: expected one of hierarchical, flat, policy"),
        ({"method": ["flat"]}, "planner.method: expected one of"),
        ({"samples": 0}, "planner.samples: expected a value from 2 to 100000, got 0"),
        ({"samples": 10**9}, "planner.samples: expected a value"),
        ({"samples": "many"}, "planner.samples: expected a number from 2 to 100000, got 'many'"),
        ({"samples": 2.5}, "planner.samples: expected a whole number"),
        ({"samples": True}, "planner.samples: expected a number"),
        ({"samples": None}, "planner.samples: expected a number"),
        ({"kappa": float("nan")}, "planner.kappa: expected a number"),
        ({"kappa": float("inf")}, "planner.kappa: expected a number"),
        ({"arrival": 1}, "planner.arrival: expected true or false, got 1"),
        ({"seed": -1}, "planner.seed: expected a value from 0"),
        ({3: 1}, "planner.3: no such setting"),
    ],
)
def test_a_wrong_setting_is_answered_with_what_was_expected(changes: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        PlannerSettings().updated(changes)
    assert message in str(error.value)


def test_something_else_than_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an object of settings, got list"):
        PlannerSettings().updated(["samples"])  # type: ignore[arg-type]


def test_every_field_says_what_it_is_and_survives_its_own_json() -> None:
    settings = PlannerSettings(seed=3, low="mcts")
    assert PlannerSettings().updated(settings.to_json()) == settings
    source = __import__("inspect").getsource(PlannerSettings)
    for spec in dataclasses.fields(PlannerSettings):
        declared = source.index(f"    {spec.name}: ")
        assert source[declared:].split("\n")[1].strip().startswith('"""'), spec.name


def test_there_are_never_more_elites_than_samples() -> None:
    assert PlannerSettings(samples=20).elite_count == 20


def test_numbers_of_a_command_line_are_read_as_those_of_the_presets() -> None:
    assert planner_changes(["kappa=1e-4", "samples=20"]) == {"kappa": 1e-4, "samples": 20}
    with pytest.raises(ValueError, match=r"^--set samples: not valid YAML: .*[(]line \d+, column \d+[)]$"):
        planner_changes(["samples={a"])
