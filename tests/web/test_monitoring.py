"""Rules and dashboards ask only for what the service tells."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.support import Api

DEPLOY = Path(__file__).parents[2] / "deploy"
_NAME = re.compile(r"\bingest_[a-z_]+\b")
_DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "ingest.json").read_text())
_RULES = (DEPLOY / "prometheus" / "alerts.yml").read_text()


@pytest.fixture
def told(api: Api) -> set[str]:
    """Return the names of all samples that there are once something has happened."""
    api.ingest([1, 2, 3], "HIGH")
    api.advance(2)
    api.client.get("/metrics")
    kinds = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
    return {
        f"{family.name}{suffix}"
        for family in parse(api.client.get("/metrics").text)
        for suffix in kinds[family.type]
    }


def queries() -> Iterator[str]:
    """Yield what the dashboard asks."""
    for panel in _DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_every_query_of_the_dashboard_names_something_that_is_told(told: set[str]) -> None:
    names = [name for query in queries() for name in _NAME.findall(query)]
    assert len(names) >= len(_DASHBOARD["panels"])
    assert set(names) - told == set()


def test_every_rule_names_something_that_is_told(told: set[str]) -> None:
    names = set(_NAME.findall(_RULES))
    assert len(names) > 5
    assert names - told == set()


def test_every_alert_is_documented_and_has_a_test() -> None:
    alerts = re.findall(r"- alert: (\w+)", _RULES)
    tests = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    document = (DEPLOY.parent / "docs" / "metrics.md").read_text()
    assert len(alerts) == 8
    # It is seen to fire, and not to fire.
    for name in alerts:
        cases = re.findall(rf"alertname: {name}\n\s+exp_alerts:(.*)", tests)
        assert {case.strip() == "[]" for case in cases} == {True, False}, name
    assert re.findall(r"^\| (Ingest\w+) \|", document, re.MULTILINE) == alerts
