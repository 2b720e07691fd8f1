"""Dashboards and rules as they are shipped: written by their builder, of metrics that exist, right by promtool."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitor.exporter import Exporter
from probes.sample import Outcome, Sample

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
DASHBOARDS = sorted(FOLDER.glob("grafana/*.json"))
WORD = re.compile(r"\b(?:probe|tillwatch)_[a-z0-9_]+\b")


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def queries(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """(panel, PromQL) of all panels, and of what the variables and annotations ask."""
    found = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", ())]
    found += [("annotation " + a["name"], a["expr"]) for a in dashboard["annotations"]["list"]]
    return found + [("variable " + v["name"], v["definition"]) for v in dashboard["templating"]["list"] if v["type"] == "query"]


def exported() -> set[str]:
    """Every metric name that the exporter has, as Prometheus stores it."""
    text = (FOLDER.parent / "monitor" / "exporter.py").read_text(encoding="utf-8")
    names = set(WORD.findall(text))
    exporter = Exporter("till", [("home", "", "")])
    exporter.observe(Sample(probe="home", outcome=Outcome.OK, seconds=0.1, started=1.0, ended=1.1))
    for family in exporter.own.registry.collect():
        names |= {family.name, f"{family.name}_total"}
    return names | {f"{name}{end}" for name in names for end in ("_total", "_bucket", "_sum", "_count")}


def test_the_files_are_what_their_builder_writes() -> None:
    spec = importlib.util.spec_from_file_location("dashboards_build", FOLDER / "build.py")
    assert spec
    assert spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    assert {path.name: load(path) for path in DASHBOARDS} == build.DASHBOARDS


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_metric_of_a_dashboard_exists(path: Path) -> None:
    known = exported()
    unknown = {(title, name) for title, query in queries(load(path)) for name in WORD.findall(query) if name not in known}
    assert unknown == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_provisioned(path: Path) -> None:
    found = load(path)
    assert found["uid"].startswith("tillwatch-")
    assert found["schemaVersion"] >= 36
    assert found["templating"]["list"][0] | {"current": {}} == {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "current": {}}
    places = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        squares = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not squares & places, f"{panel['title']} lies over another panel"
        assert place["x"] + place["w"] <= 24
        places |= squares
        assert panel["type"] == "row" or panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])


def test_every_metric_of_the_rules_exists() -> None:
    rules = (FOLDER / "prometheus" / "tillwatch.rules.yml").read_text(encoding="utf-8")
    assert set(WORD.findall(rules)) - exported() == set()


def test_every_rule_has_a_test() -> None:
    folder = FOLDER / "prometheus"
    alerts = set(re.findall(r"- alert: (\w+)", (folder / "tillwatch.rules.yml").read_text(encoding="utf-8")))
    tests = (folder / "tillwatch.rules.test.yml").read_text(encoding="utf-8")
    fired = set(re.findall(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n", tests))
    assert alerts - fired == {"Watchdog"}            # which the test of a Tillwatch that is well has


@pytest.mark.parametrize("command", [
    ["check", "rules", "tillwatch.rules.yml"], ["test", "rules", "tillwatch.rules.test.yml"], ["check", "config", "prometheus.yml"],
], ids=lambda command: " ".join(command[:2]))
def test_promtool_finds_nothing_wrong(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER / "prometheus", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
