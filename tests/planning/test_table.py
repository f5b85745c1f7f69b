"""One table of planners: whoever lists them lists these."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import get_args

import pytest

from clients.flags import add_planner
from service.protocol import requests
from thick.planning import table
from thick.planning.settings import PlannerSettings

ROOT = Path(__file__).resolve().parents[2]


def test_the_settings_offer_what_the_table_has() -> None:
    for setting, planners in table.TABLE.items():
        for name in planners:
            assert getattr(PlannerSettings().updated({setting: name}), setting) == name
        with pytest.raises(ValueError, match=f"planner.{setting}: expected one of {', '.join(planners)}"):
            PlannerSettings().updated({setting: "magic"})


def test_the_api_and_its_clients_offer_what_the_table_has() -> None:
    offered = {"method": requests.PlanMethod, "low": requests.LowSearch, "high": requests.HighSearch}
    for setting, literal in offered.items():
        assert get_args(literal) == tuple(table.TABLE[setting]), setting
    import argparse

    parser = argparse.ArgumentParser()
    add_planner(parser, baseline=False)
    text = re.sub(r"\s+", " ", parser.format_help())
    for setting in ("low", "high"):
        assert ", ".join(table.TABLE[setting]) in text


def test_every_search_is_where_the_table_says() -> None:
    for setting in ("low", "high"):
        for planner in table.TABLE[setting].values():
            assert callable(getattr(importlib.import_module(planner.module), f"{setting}_search"))


def test_the_page_on_planning_has_a_row_for_every_planner() -> None:
    page = (ROOT / "docs" / "planning.md").read_text()
    for setting, planners in table.TABLE.items():
        listed = re.findall(rf"^\| `{setting}` \| `([\w-]+)` \|", page, re.MULTILINE)
        assert listed == list(planners), setting


def test_what_a_checkpoint_lacks_is_named_with_what_would_do() -> None:
    has = (table.DISCRETE, table.ACTOR)
    assert table.fitting("method", has) == ["flat", "policy"] and table.fitting("high", has) == []
    assert table.fitting("low", has) == ["categorical-cem", "mcts", "policy-rollouts"]
    with pytest.raises(
        ValueError, match=r"'hierarchical' needs a high level, .* expected one of flat, policy"
    ):
        table.check("method", "hierarchical", has)
    table.check("low", "mcts", has)
