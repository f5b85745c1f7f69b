"""The dashboard and the pages for operators ask for metrics that the service has."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.operations.metrics import PHASES, Distributions, Metrics

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations"
DASHBOARD: dict[str, Any] = json.loads((OPERATIONS / "grafana-dashboard.json").read_text())
QUERY = re.compile(r"\b(thick_[a-z_]+)(?:\{([^}]*)\})?")
GIVEN_BY_PROMETHEUS = {"instance", "job", "le"}


def exposed() -> dict[str, set[str]]:
    """The series of a service that has answered something, each with its labels."""
    metrics = Metrics()
    metrics.request("/v1/models", 200, 0.01)
    metrics.phase("queue", 0.01)
    metrics.batch(2)
    metrics.budget(0.5)
    metrics.model_loaded.labels("arm", "1").set(1)
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def expressions() -> list[str]:
    """What the dashboard and the alerts ask Prometheus for."""
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    asked += [
        variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable
    ]
    text = (OPERATIONS / "observability.md").read_text()
    return asked + re.findall(r"expr: (.*)", text)


@pytest.mark.parametrize("expression", expressions())
def test_every_query_is_of_metrics_and_labels_that_there_are(expression: str) -> None:
    there = exposed()
    found = QUERY.findall(expression)
    assert found
    for name, selector in found:
        assert name in there
        labels = set(re.findall(r'([a-z_]+)\s*(?:=~|!~|!=|=)"', selector))
        assert labels <= there[name] | GIVEN_BY_PROMETHEUS
    grouped = {
        label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")
    }
    assert grouped <= set().union(*(there[name] for name, _ in found)) | GIVEN_BY_PROMETHEUS
    assert expression.count("(") == expression.count(")")


def test_every_metric_is_on_the_dashboard_and_explained() -> None:
    shown = " ".join(expressions())
    explained = (OPERATIONS / "observability.md").read_text()
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exposed()}
    counters = {name.removesuffix("_total") for name in families if name.endswith("_total")}
    for family in families - counters:  # when they were created says little
        assert family in shown, family
        assert f"`{family}`" in explained, family
    assert all(f"`{phase}`" in explained for phase in PHASES)


def test_the_dashboard_can_be_imported() -> None:
    panels = DASHBOARD["panels"]
    assert DASHBOARD["uid"] and DASHBOARD["title"] and DASHBOARD["schemaVersion"] >= 36
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart


def test_distributions_are_exposed_as_the_library_s_own_histograms_are() -> None:
    registry = CollectorRegistry()
    library = Histogram("x_seconds", "About x", ["route"], buckets=(0.1, 1.0), registry=registry)
    ours = CollectorRegistry()
    distributions = Distributions("x_seconds", "About x", (0.1, 1.0), "route", ours)
    for route, value in (("a", 0.1), ("a", 0.5), ("b", 7.0), ("a", 0.0), ("b", 1.0)):
        library.labels(route).observe(value)
        distributions.of(route).add(value)

    def lines(registry: CollectorRegistry) -> list[str]:
        return [
            re.sub(r"(_created.*) .*", r"\1", line)
            for line in generate_latest(registry).decode().splitlines()
        ]

    assert lines(ours) == lines(registry)
    assert distributions.recent() == {"a": [0.0, 0.1, 0.5], "b": [1.0, 7.0]}
