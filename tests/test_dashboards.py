"""What is handed to Prometheus and Grafana asks for metrics that there are; so does the manual."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from redcouch.commands import VERBS
from redcouch.http.collect import View
from redcouch.http.metrics import CACHE, CLUSTER, STORAGE, WARM, exposition
from redcouch.http.processes import ProcessUsage
from redcouch.telemetry.counters import Counters
from redcouch.telemetry.service_status import SlotStatus, WorkerStatus
from redcouch.telemetry.snapshot import StatsSnapshot
from tests.support.documents import quoted, rows

_ROOT = Path(__file__).parent.parent
_ALERTS = _ROOT / "contrib/prometheus/alerts.yml"
_DASHBOARD = _ROOT / "contrib/grafana/redcouch.json"
_MANUAL = _ROOT / "docs/metrics.md"


def families() -> list[Metric]:
    """All that a scrape may have."""
    snapshot = StatsSnapshot(
        1, 0.0, 0.0, 0.0, Counters(), {"text": Counters(), "binary": Counters()}
    )
    snapshot.storage = dict.fromkeys((*WARM, *CACHE, *CLUSTER), 1)
    place = SlotStatus(1, WorkerStatus(1, True, "", 0, 0))
    traffic = {"since": 1, "known": {}, "command": [{"name": "get", "last": 2}]}
    used = ProcessUsage(0.0, 0, 0, 0.0)
    view = View(snapshot, [(place, used)], dict.fromkeys(STORAGE, 1), traffic=traffic)
    return [*text_string_to_metric_families(exposition(view, 10).decode())]


def scraped() -> dict[str, dict[str, set[str]]]:
    """Every series of a scrape: the names of the metrics, their labels, and the labels' values."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in families():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def metric_names() -> list[str]:
    """Of those that are ours."""
    ours = [family for family in families() if family.name.startswith("redcouch_")]
    return [family.name + ("_total" if family.type == "counter" else "") for family in ours]


def check(expression: str) -> None:
    """Fail where it asks for what there is not."""
    there = scraped()
    asked = re.findall(r"\b((?:redcouch|process)_\w+)(?:\{([^}]*)\})?", expression)
    assert asked or expression.startswith("up{"), expression
    for name, selector in asked:
        assert name in there, name
        for label, differs, values in re.findall(r'(\w+)(!?)=?~?"([^"]*)"', selector or ""):
            if label in ("instance", "job"):  # Prometheus's own
                continue
            possible = VERBS if label == "command" and differs else there[name][label]
            assert set(values.split("|")) <= possible, f"{name}: {label}={values}"


def test_alerts() -> None:
    """Each rule has what a rule needs, and asks for what there is."""
    (group,) = yaml.safe_load(_ALERTS.read_text())["groups"]
    assert len(group["rules"]) > 5
    for rule in group["rules"]:
        assert re.fullmatch(r"RedCouch[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert re.fullmatch(r"\d+[sm]", rule["for"])
        assert rule["annotations"].keys() == {"summary", "description"}
        check(rule["expr"])


def panels() -> list[dict[str, Any]]:
    """Those of the dashboard."""
    found: list[dict[str, Any]] = json.loads(_DASHBOARD.read_text())["panels"]
    return found


def test_dashboard() -> None:
    """Each panel asks for what there is, and none lies upon another."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        for target in panel["targets"]:
            check(target["expr"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_which_instance() -> None:
    """A line that is not of all instances together says of which one it is."""
    for panel in panels():
        if panel["type"] == "timeseries":
            for target in panel["targets"]:
                together = re.search(r"\b(sum|max|min)\b", target["expr"])
                assert together or "{{instance}}" in target["legendFormat"], target["expr"]


def test_dashboard_shows_everything() -> None:
    """No metric of ours is left out."""
    asked = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    for name in metric_names():
        assert re.search(rf"\b{name}(_bucket)?\b", asked), name


def test_the_manual() -> None:
    """It has every metric, with its labels, and no other."""
    table = rows(_MANUAL.read_text().split("\n## ")[0])
    told = {quoted(name)[0]: set(quoted(labels)) for name, labels, *_ in table}
    there = scraped()
    for name in metric_names():
        series = name if name in there else f"{name}_count"
        assert told.pop(name) == set(there[series]), name
    assert not told
