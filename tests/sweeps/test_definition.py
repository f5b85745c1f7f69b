"""What a sweep file means, and what is said of one that means nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from thick.sweeps.definition import SweepRuns, read_sweep

BASE = {
    "base": ["sizes/small", "tasks/doorkey"],
    "config": {"updates": 50, "model": {"stoch": 8}},
    "grid": {
        "learner": {"rssm": {"base": "learners/planet"}, "thick": {"base": ["learners/thick-planet"]}},
        "sparsity.final": [1.0, 10.0],
        "seed": [0, 1],
    },
}


def read(tmp_path: Path, **changes: object) -> SweepRuns:
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}, sort_keys=False))
    return read_sweep(path)


def test_every_combination_is_a_run_with_its_whole_configuration(tmp_path: Path) -> None:
    plan = read(tmp_path)
    assert [run.name for run in plan.runs][:3] == [
        "rssm-final1.0-seed0",
        "rssm-final1.0-seed1",
        "rssm-final10.0-seed0",
    ]
    assert len(plan.runs) == 8
    last = plan.runs[-1].config
    assert last is not None
    assert (last.learner, last.sparsity.final, last.seed) == ("thick-planet", 10.0, 1)
    assert (last.updates, last.model.stoch, last.model.classes, last.threads) == (50, 8, 8, 1)
    assert plan.runs[-1].directory == Path("runs/toy/thick-final10.0-seed1")


def test_a_run_that_is_to_stop_after_its_last_update_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run \S*stop60\S*: stop: expected at most updates \(50\), got 60"):
        read(tmp_path, grid={"stop": [40, 60], "seed": [0, 1]})


def test_combinations_are_left_out_by_label_or_value(tmp_path: Path) -> None:
    plan = read(tmp_path, exclude=[{"learner": "rssm", "sparsity.final": 10.0}, {"seed": [1, "seed1"]}])
    assert [run.name for run in plan.runs] == [
        "rssm-final1.0-seed0",
        "thick-final1.0-seed0",
        "thick-final10.0-seed0",
    ]


def test_commands_get_the_place_of_their_run_and_a_grid_of_their_own(tmp_path: Path) -> None:
    measure = {
        "command": "thick evaluate {run} --env corridor-{n} --seed {seed} --json {out}/r.json --set {a: {learner}}",
        "grid": {"n": [1, 2]},
        "only": {"learner": "thick"},
    }
    plan = read(tmp_path, after={"evaluate": measure, "last": "echo {env}"}, folder="runs/x")
    assert plan.runs[0].steps == {"last": "echo minigrid:MiniGrid-DoorKey-6x6-v0+map"}
    run = plan.runs[-1]
    assert list(run.steps) == ["evaluate/n=1", "evaluate/n=2", "last"]
    assert run.steps["evaluate/n=2"] == (
        "thick evaluate runs/x/thick-final10.0-seed1 --env corridor-2 --seed 1 "
        "--json runs/x/thick-final10.0-seed1/after/evaluate/n=2/r.json --set {a: thick}"
    )


def test_a_configuration_can_name_what_a_command_made_before(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        before={"data": "thick collect --out {out}"},
        config={"data": {"dataset": "{before.data}", "policy": "random"}},
    )
    assert [[run.steps for run in step] for step in plan.before] == [
        [{"data": "thick collect --out runs/toy/before/data"}]
    ]
    assert plan.runs[0].config is not None
    assert plan.runs[0].config.data.dataset == "runs/toy/before/data"


def test_a_command_before_all_runs_can_name_what_an_earlier_one_made(tmp_path: Path) -> None:
    train = "thick train --data.dataset {before.data} --run {out}"
    plan = read(
        tmp_path,
        before={
            "data": {"command": "thick collect --seed {n} --out {out}", "grid": {"n": [1, 2]}},
            "first": train,
        },
        config={"init": "{before.first}"},
    )
    assert [len(stage) for stage in plan.stages] == [2, 1, len(plan.runs)]
    assert plan.before[1][0].steps == {
        "first": "thick train --data.dataset runs/toy/before/data --run runs/toy/before/first"
    }
    with pytest.raises(ValueError, match=r"before.first: no placeholder \{before.data\}"):
        read(tmp_path, before={"first": train, "data": "thick collect --out {out}"})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gird": {}}, "toy.yaml: unknown key 'gird'; did you mean 'grid'?"),
        ({"config": {"updatse": 3}}, "config: unknown key 'updatse'; did you mean 'updates'?"),
        ({"grid": {"sed": [0]}}, "grid.sed: unknown key 'sed'; did you mean 'seed'?"),
        (
            {"grid": {"size": {"big": {"model": {"stoc": 9}}}}},
            "grid.size.big: unknown key 'model.stoc'; did you mean",
        ),
        ({"grid": {"seed": 3}}, "grid.seed: expected a list of values or entries by label, got 3"),
        ({"base": ["learners/thick-plnet"]}, "no preset 'learners/thick-plnet'"),
        ({"exclude": [{"sed": 0}]}, "exclude: the grid has no axis 'sed'; did you mean 'seed'?"),
        ({"exclude": [{"learner": "thik"}]}, "exclude.learner: no entry 'thik'; did you mean 'thick'?"),
        ({"after": {"e": "echo {rnu}"}}, "after.e: no placeholder {rnu}; did you mean 'run'?"),
        ({"after": {"e": {"comand": "x"}}}, "unknown key 'after.e.comand'; did you mean 'after.e.command'"),
        (
            {"after": {"e": {"command": "x", "only": {"lerner": "x"}}}},
            "after.e.only: the grid has no axis 'lerner'",
        ),
        ({"config": {"updates": "many"}}, "config: updates: expected a valid integer"),
        ({"grid": {"seed": [0, 0]}}, "grid.seed: 'seed0' is named twice"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_right_name(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError) as caught:
        read(tmp_path, **changes)
    text = str(caught.value)
    assert says in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no run is described: expected base, config or grid"),
        ("folder: x", "no run is described: expected base, config or grid"),
        ("[]", "expected keys with values, got []"),
        ("0", "expected keys with values, got 0"),
    ],
)
def test_a_file_without_runs_is_refused_and_not_taken_for_one_of_defaults(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"^toy.yaml: {re.escape(says)}"):
        read_sweep(path)
