"""Experiments: planners differ in what they say, rows are counted right, and the page is what the CSV gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from thick.planning.settings import PlannerSettings

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    """A script of experiments/ as a module."""
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", ROOT / "experiments" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check, evaluate, report = script("check"), script("evaluate"), script("report")
layouts = script("layouts")


def row(planner: str, learner: str, seed: int, doors: int, steps: str) -> dict[str, str]:
    count = len(steps.split())
    return {
        "planner": planner, "learner": learner, "seed": str(seed), "task": f"minigrid:corridor-{doors}+held",
        "steps": steps, "episodes": str(count), "imagined_steps": "8400", "ms_per_step": "1.0", "updates": "10",
        "configuration": "c", "digest": "d", "parameters": "5", "commit": "abc", "processor": "P",
    }  # fmt: skip


def test_every_planner_is_valid_and_differs_in_what_it_is_called() -> None:
    planners = evaluate.planner_settings(ROOT / "experiments" / "planners.yaml")
    assert set(planners) == set(report.ORDER)
    whole = planners["hierarchical"][1]
    for name, differs in {
        "small-kappa": {"kappa": 0.025}, "no-arrival-credit": {"arrival": False},
        "no-inserted-action": {"action_proposals": 0.0},
        "no-redraw": {"temperature": 0.0}, "prior-subgoals": {"high": "prior"}, "random-subgoals": {"high": "random"},
    }.items():  # fmt: skip
        kind, settings = planners[name]
        assert kind == "thick" and {k: v for k, v in settings.items() if whole[k] != v} == differs
    for _, settings in planners.values():
        if settings is not None:
            PlannerSettings().updated(settings)
    assert planners["random"] == ("any", None)


def test_equal_budgets_imagine_equally_many_steps() -> None:
    planners = evaluate.planner_settings(ROOT / "experiments" / "planners.yaml")
    steps = {
        name: evaluate.imagined(PlannerSettings().updated(settings), 5)
        for name, (_, settings) in planners.items()
        if settings is not None
    }
    alike = {name for name in steps if steps[name] == steps["hierarchical"]}
    assert alike >= {"flat", "low-mcts", "prior-subgoals", "random-subgoals", "papers", "small-kappa"}
    assert steps["flat-x10"] == 10 * steps["hierarchical"]


def test_seeds_are_pooled_and_named_and_random_play_counts_once() -> None:
    rows = [
        row("hierarchical", "thick-planet", 1, 1, "5 -9 7"),
        row("hierarchical", "thick-planet", 2, 1, "-9 -9 3"),
        row("hierarchical", "thick-planet", 1, 2, "-9 -9"),
        row("random", "thick-planet", 1, 1, "-9 4"),
        row("random", "thick-planet", 2, 1, "-9 4"),
    ]
    cell = report.cells(rows)["THICK", "hierarchical"][1]
    assert (cell.successes, cell.episodes, cell.steps) == (3, 6, [5, 7, 3])
    assert cell.seeds == {"1": (2, 3), "2": (1, 3)}
    table = report.horizon_table(rows)
    assert (
        "| THICK | `hierarchical` | 8,400 | 50 % (19–81; n = 6, seeds: 67, 33) | 0 % (0–66; n = 2) |" in table
    )
    assert "| – | `random` | 8,400 | 50 % (9–91; n = 2) |  |" in table


def test_a_block_is_replaced_between_its_marks_alone() -> None:
    page = "a\n<!-- printed: horizon -->\nold\n<!-- end: horizon -->\nb\n"
    assert report.replaced(page, "horizon", "new") == page.replace("old", "\nnew\n")
    with pytest.raises(ValueError, match="no block"):
        report.replaced(page, "events", "new")


def test_the_page_of_results_is_what_the_committed_rows_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["report.py", "--check"])
    assert report.main() == 0


def test_what_a_row_lets_one_more_measurement_be() -> None:
    low, high = check.prediction(177, 200, 60)
    wide, narrow = check.prediction(177, 200, 20), check.prediction(177, 200, 10_000)
    assert low < narrow[0] < 177 / 200 < narrow[1] < high and wide[0] < low
    assert check.prediction(200, 200, 60)[0] < 59 / 60  # one failure among sixty contradicts nobody
    assert check.Found("x", low, low, high).holds and not check.Found("x", low - 0.01, low, high).holds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "trained", "bundled"])
def test_a_row_made_again_from_scratch_lands_in_its_interval(name: str) -> None:
    found = check.bundled(episodes=30) if name == "bundled" else check.CHECKS[name]()
    assert found.holds, found


def test_the_readme_says_how_much_of_the_evaluation_was_trained_on() -> None:
    words = " ".join((ROOT / "README.md").read_text().split())
    found = layouts.known(200)
    assert f"all {found['layouts']['trained']} layouts of DoorKey-6x6 are in the training data" in words
    assert found["layouts"]["share"] == 1
    assert (
        f"{found['beginnings']['share']:.0%}".replace("%", " %") + " of the evaluation seeds show one"
        in words
    )
