"""The README's results are those of the manifests, which were made as the presets say; times name their processor."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import PAGES, ROOT
from thick.configuration import merge, to_dict
from thick.training.config import TrainConfig

README = (ROOT / "README.md").read_text()
PRESETS = ROOT / "thick" / "training" / "presets"


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "checkpoints" / name / "1" / "manifest.json").read_text())
    return loaded


def preset(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    return loaded


@pytest.mark.parametrize("name", ["doorkey6", "cartpole"])
def test_the_bundled_planner_is_the_preset_s(name: str) -> None:
    assert preset(name)["planner"] == manifest(name)["planner"]


@pytest.mark.parametrize("name", ["doorkey6", "cartpole"])
def test_a_preset_with_today_s_defaults_is_what_a_bundled_checkpoint_was_trained_with(name: str) -> None:
    trained = manifest(name)
    configurations = {name: trained["configuration"]}
    before = trained["provenance"]["init"]
    while before:
        configurations[before["run"]] = before["configuration"]
        before = before.get("init")
    for run, configuration in configurations.items():
        today = dict(flat(to_dict(merge(TrainConfig(), preset(run)))))
        differences = [
            f"{run}: {key}: {value!r}, today {today.get(RENAMED.get(key, key))!r}"
            for key, value in flat(configuration)
            if not key.startswith(LEFT_OUT) and today.get(RENAMED.get(key, key), ...) != _as_today(key, value)
        ]
        assert not differences


LEFT_OUT = (
    "precision",  # what the machine of the run was asked for; the presets now measure
    "behaviour.",  # no actor and no critic were trained
    "name", "description", "planner", "model.actor_critic", "model.kind",
)  # fmt: skip
RENAMED = {
    "freeze_low": "freeze", "init_high": "init_levels", "optimizer.high_lr": "optimizer.level_lr",
    **{f"model.high.{field}": f"model.levels.0.{field}"
       for field in ("actions", "head_units", "hidden", "kl_balance", "max_time", "segment_ends")},
    "model.high.action_scale": "model.levels.0.loss.action",
    "model.high.high_action_scale": "model.levels.0.loss.high_action",
    "model.high.return_scale": "model.levels.0.loss.returns",
    "model.high.state_scale": "model.levels.0.loss.state",
    "model.high.time_scale": "model.levels.0.loss.time",
}  # fmt: skip
"""fields as the runs called them, and their names today"""


def _as_today(key: str, value: Any) -> Any:
    if key == "freeze_low":
        return ["world"] if value else []
    return value


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a configuration by their paths; a list of records has its places in them."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from flat(value, f"{path}.{key}" if path else key)
    elif isinstance(tree, list) and tree and isinstance(tree[0], Mapping):
        for place, value in enumerate(tree):
            yield from flat(value, f"{path}.{place}")
    else:
        yield path, tree


def test_the_readme_s_figures_are_those_of_the_manifests() -> None:
    room, cart = (manifest(name)["provenance"] for name in ("doorkey6", "cartpole"))
    own = room["results"]["methods"]["hierarchical"]
    within = [
        f"{100 * room['results']['methods'][m]['success_rate']:.1f} %" for m in ("hierarchical", "random")
    ]
    assert room["results"]["max_steps"] is None  # to the environment's own limit, the last column
    assert all(
        _row(start).split("|")[5].strip() == rate
        for start, rate in zip(("hierarchical planning (200", "random actions (200"), within, strict=True)
    )
    for start, gates in (("scripted play", room["gates"]), ("the agent's own", own)):
        shown = [
            f"{100 * gates['context_change']:.2g} %",
            f"{100 * gates['precision']:.0f} %",
            f"{100 * gates['events']['pickup']['recall']:.0f} %",
            f"{100 * gates['events']['door_opened']['recall']:.0f} %",
        ]
        assert [cell.split("(")[0].strip() for cell in _row(start).split("|")[2:6]] == shown
    for start, method in (("flat planning (10", "flat"), ("random actions (10", "random")):
        assert f"{cart['results']['methods'][method]['mean_return']:.0f}" in _row(start)


def test_the_readme_s_corridor_is_the_manifest_s_which_names_the_layouts_it_was_tested_on() -> None:
    trained = manifest("corridor")
    results = trained["provenance"]["results"]
    assert (
        results["env_options"]["split"] == "test"
        and trained["configuration"]["env_options"]["split"] == "train"
    )
    assert not results["env_options"].get("exploring_starts")
    assert results["planner"] == {key: value for key, value in trained["planner"].items() if key != "method"}
    for start, method in (
        ("planning over subgoals, an end", "hierarchical"), ("the actor, its actions", "policy"),
        ("flat planning with the same", "flat"), ("random actions (unseen", "random"),
    ):  # fmt: skip
        assert f"| {100 * results['methods'][method]['success_rate']:.1f} % |" in _row(start)


def test_the_readme_s_pixels_are_the_manifest_s() -> None:
    results = manifest("pixels")["provenance"]["results"]
    for start, method in (("the actor, its mode", "policy"), ("random actions (the same 20", "random")):
        found = results["methods"][method]
        assert results["episodes"] == 20
        assert f"| {found['mean_return']:.0f} |" in _row(start)


def _row(start: str) -> str:
    return next(line for line in README.splitlines() if line.startswith(f"| {start}"))


def test_the_readme_says_what_its_results_rest_on() -> None:
    words = " ".join(README.split())
    for said in (
        "One training run each", "scripted play that knows the task", "98 % of the evaluation seeds",
        "The planner does more than the paper's", "20 % (12–32, Wilson) is above random actions", "is open",
    ):  # fmt: skip
        assert said in words
    assert "cannot" not in words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_that_quotes_measured_times_names_the_processor(page: Path) -> None:
    text = page.read_text()
    measured = re.search(r"acts/s|GFLOP/s|updates a second|\d\.\d+ s\b|p50 ms|\bms/act", text)
    if measured:
        named = re.search(r"Xeon|EPYC|Ryzen|Zen \d|AVX|H100|H200", text)
        assert named, f"{measured[0]!r}: on which processor? Quote it, or a ratio within one run"
