"""Writes the Grafana dashboards: python dashboards/build.py. A test holds the JSON files to what this writes.

The classic dashboard schema, with the variable `datasource` and fixed uids, so that they can be provisioned, linked and
updated in place. Every query is taken to a real Prometheus by tests/dashboards.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "grafana"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
ONE = 'shop="$shop"'
PICKED = 'shop="$shop",probe=~"$probe"'
RUNS = "tillwatch_probe_runs_total"
GOOD = (f'sum by (probe, device, cohort) (increase({RUNS}{{{PICKED},outcome="ok"}}[$__rate_interval])) '
        f'/ sum by (probe, device, cohort) (increase({RUNS}{{{PICKED},outcome=~"ok|failed"}}[$__rate_interval]))')
TARGET = "{{probe}} {{device}} {{cohort}}"       # the legend of a target
WALKED = PICKED + ',device=~"$device"'
STEP = "tillwatch_step_duration_seconds"
WALKER = "{{probe}} {{device}}"
GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"
Json = dict[str, Any]


def steps(*edges: tuple[float | None, str]) -> Json:
    """Thresholds: from each edge on, a colour; the first edge is None."""
    return {"mode": "absolute", "steps": [{"value": edge, "color": colour} for edge, colour in edges]}


def names(texts: dict[str, tuple[str, str]]) -> list[Json]:
    """What a value is called, and in which colour."""
    return [{"type": "value", "options": {value: {"text": text, "color": colour} for value, (text, colour) in texts.items()}}]


def panel(kind: str, title: str, *queries: tuple[str, str], width: int = 12, height: int = 8, unit: str = "short", about: str = "",
          instant: bool = False, **more: Any) -> Json:
    """One panel. `queries` are (PromQL, legend)."""
    targets = [{
        "refId": chr(65 + number), "expr": expr, "legendFormat": legend, "datasource": SOURCE, "editorMode": "code",
        "instant": instant, "range": not instant, "format": "table" if kind == "table" else "time_series",
    } for number, (expr, legend) in enumerate(queries)]
    defaults = {"unit": unit, "thresholds": more.pop("thresholds", steps((None, GREEN))), "mappings": more.pop("mappings", []),
                **more.pop("field", {})}
    if kind == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False} | more.pop("custom", {})
        more.setdefault("options", {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}})
    return {"type": kind, "title": title, "description": about, "datasource": SOURCE, "targets": targets, "gridPos": {"w": width, "h": height},
            "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])}, **more}


def stat(title: str, expr: str, *, width: int = 4, legend: str = "", **more: Any) -> Json:
    """One large figure."""
    options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "background", "graphMode": "none",
               "textMode": more.pop("text", "auto")}
    return panel("stat", title, (expr, legend), width=width, height=4, instant=True, options=options, **more)


def row(title: str) -> Json:
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def variable(name: str, query: str, *, several: bool = False, unnamed: bool = False) -> Json:
    """`unnamed`: "All" takes in what has no such label."""
    everything = {"text": "All", "value": "$__all"}
    return {"type": "query", "name": name, "label": name.capitalize(), "datasource": SOURCE, "query": {"query": query, "refId": name},
            "definition": query, "refresh": 2, "sort": 1, "multi": several, "includeAll": several, **({"allValue": ".*"} if unnamed else {}),
            "current": {"text": [everything["text"]], "value": [everything["value"]]} if several else {}}


PROBES = (variable("probe", 'label_values(tillwatch_probe_runs_total{shop="$shop"}, probe)', several=True),)
FLOWS = (variable("probe", 'label_values(tillwatch_step_duration_seconds_count{shop="$shop"}, probe)', several=True),
         variable("device", 'label_values(tillwatch_step_duration_seconds_count{shop="$shop"}, device)', several=True, unnamed=True))


def dashboard(
    uid: str, title: str, about: str, panels: list[Json], *, picks: tuple[Json, ...] = (), span: str = "now-6h", refresh: str = "30s",
) -> Json:
    """A whole dashboard; its panels are laid out from left to right, row by row."""
    variables = [{"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "current": {}},
                 variable("shop", "label_values(tillwatch_build_info, shop)"), *picks]
    links = [{"type": "dashboards", "title": "Tillwatch", "tags": ["tillwatch"], "asDropdown": False, "includeVars": True, "keepTime": True}]
    updates = {"name": "Updates", "datasource": SOURCE, "enable": True, "iconColor": "blue", "expr": f"tillwatch_update_info{{{ONE}}}",
               "titleFormat": "update {{version}}", "textFormat": "phase {{phase}}", "step": "60s"}
    return {
        "uid": uid, "title": title, "description": about, "tags": ["tillwatch"], "schemaVersion": 39, "version": 1, "editable": True,
        "timezone": "", "time": {"from": span, "to": "now"}, "refresh": refresh, "links": links, "graphTooltip": 1,
        "templating": {"list": variables}, "annotations": {"list": [updates]}, "panels": laid_out(panels),
    }


def laid_out(panels: list[Json]) -> list[Json]:
    """Number the panels and give each its place on the grid of 24 columns."""
    x = y = tallest = 0
    for number, found in enumerate(panels, 1):
        place = found["gridPos"]
        if x + place["w"] > 24:
            x, y, tallest = 0, y + tallest, 0
        found["id"] = number
        place |= {"x": x, "y": y}
        x, tallest = x + place["w"], max(tallest, place["h"])
    return panels


def quantile(share: float, metric: str, by: str, labels: str) -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{{{labels}}}[$__rate_interval])))"


def age(metric: str) -> str:
    return f"time() - {metric}{{{ONE}}}"


UP = {"0": ("failing", RED), "1": ("ok", GREEN)}

SHOP = [
    row("Now"),
    stat("Probes that fail", f"count(probe_success{{{ONE}}} == 0) or vector(0)", thresholds=steps((None, GREEN), (1, RED)),
         about="Newest measured run of each target. One failed run is not yet an outage."),
    stat("Cannot be measured", f"sum(tillwatch_probe_broken{{{ONE}}})", thresholds=steps((None, GREEN), (1, YELLOW)),
         about="Our fault, or a bot wall's: it says nothing about the shop."),
    stat("Incidents that page", f'sum(tillwatch_incidents_open{{{ONE},urgency="page"}}) or vector(0)', thresholds=steps((None, GREEN), (1, RED))),
    stat("Tickets", f'sum(tillwatch_incidents_open{{{ONE},urgency="ticket"}}) or vector(0)', thresholds=steps((None, GREEN), (1, YELLOW))),
    stat("Muted probes", f"sum(tillwatch_probe_muted{{{ONE}}})", thresholds=steps((None, GREEN), (1, BLUE)),
         about="Announced downtime, a shadow run, or a silence: their failing pages nobody."),
    stat("Next certificate expires in", f"min(probe_ssl_earliest_cert_expiry{{{ONE}}} - time())", unit="s",
         thresholds=steps((None, RED), (3 * 86400, YELLOW), (14 * 86400, GREEN))),
    panel("state-timeline", "What worked when", (f"probe_success{{{PICKED}}}", TARGET), width=24, height=8,
          mappings=names(UP), about="Gaps: it could not be measured.", options={"showValue": "never", "mergeValues": True}),
    row("How well"),
    panel("timeseries", "Share of good runs", (GOOD, TARGET), unit="percentunit", field={"min": 0, "max": 1},
          about="Runs that could not be measured are left out."),
    panel("timeseries", "Failed runs by reason", (f"sum by (reason) (increase(tillwatch_probe_failures_total{{{PICKED}}}[$__rate_interval]))",
                                                  "{{reason}}"), custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}}),
    panel("timeseries", "Duration, median", (quantile(0.5, "probe_all_duration_seconds", "probe, device, cohort", PICKED),
                                             TARGET), unit="s"),
    panel("timeseries", "Duration, 95th percentile", (quantile(0.95, "probe_all_duration_seconds", "probe, device, cohort", PICKED),
                                                      TARGET), unit="s"),
    panel("timeseries", "Where the time goes", (f"avg by (phase) (probe_http_duration_seconds{{{PICKED}}})", "{{phase}}"), unit="s",
          custom={"fillOpacity": 40, "stacking": {"mode": "normal"}}, about="Mean of the picked probes' newest runs."),
    panel("timeseries", "Newest run", (f"probe_duration_seconds{{{PICKED}}}", TARGET), unit="s"),
    row("What the logs say"),
    panel("timeseries", "Errors logged", (f"sum by (probe, level) (increase(tillwatch_log_events_total{{{PICKED}}}[$__rate_interval]))",
                                          "{{probe}} {{level}}"), width=8, custom={"drawStyle": "bars", "fillOpacity": 60}),
    panel("timeseries", "Never seen before", (
        f"sum by (probe) (increase(tillwatch_log_new_signatures_total{{{PICKED}}}[$__rate_interval]))", "{{probe}}"), width=8,
          custom={"drawStyle": "bars", "fillOpacity": 60}, about="Kinds of errors by their signature; /api/v1/signatures names them."),
    panel("timeseries", "Lines", (f"sum by (probe) (rate(tillwatch_log_lines_total{{{PICKED}}}[$__rate_interval]))", "{{probe}}"), unit="cps",
          width=8, about="A log that always spoke and falls silent with an update is a sign as well."),
    row("What answers"),
    panel("table", "Answers", (f"probe_http_status_code{{{PICKED}}}", ""), instant=True, width=8,
          about="Status code of the newest measured run."),
    panel("timeseries", "Look-up of the name", (f"max by (probe) (probe_dns_lookup_time_seconds{{{PICKED}}})", "{{probe}}"), unit="s", width=8),
    panel("timeseries", "Open incidents", (f"sum by (kind, urgency) (tillwatch_incidents_open{{{ONE}}})", "{{kind}} ({{urgency}})"), width=8,
          custom={"lineInterpolation": "stepAfter"}),
]

EVIDENCE = "Evidence that the signal got worse, as a power of ten. The judge combines all signals; a lone one is guilty at about 2."
UPDATE = [
    row("The newest update"),
    panel("table", "Update", (f"tillwatch_update_info{{{ONE}}}", ""), instant=True, width=8, height=4, about="Empty when no update is open."),
    stat("Verdict", f"tillwatch_update_verdict{{{ONE}}} == 1", legend="{{verdict}}", text="name", width=8, thresholds=steps((None, BLUE)),
         about="watching, pass, regression or inconclusive.", field={"color": {"mode": "thresholds"}},
         overrides=[{"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}
                    for name, colour in (("pass", GREEN), ("regression", RED), ("inconclusive", YELLOW))]),
    stat("Since its start", age("tillwatch_update_start_timestamp_seconds"), unit="s", thresholds=steps((None, GREY))),
    stat("Since its end", f"({age('tillwatch_update_end_timestamp_seconds')}) or vector(-1)", unit="s", thresholds=steps((None, GREY)),
         mappings=names({"-1": ("not finished", GREY)})),
    panel("timeseries", "Evidence against it", (f"tillwatch_signal_evidence_log10{{{PICKED}}}", f"{TARGET} {{{{signal}}}}"), width=24,
          about=EVIDENCE, thresholds=steps((None, GREEN), (2, RED)), custom={"thresholdsStyle": {"mode": "dashed"}}),
    row("Before and after"),
    panel("bargauge", "Change, with its 95 % interval", (
        f"tillwatch_signal_change_ratio{{{PICKED}}}", f"{TARGET} {{{{signal}}}} {{{{bound}}}}"), instant=True, unit="percentunit",
        about="After divided by before. 100 % is no change. For success: shares of good runs; for duration: times.",
        options={"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}),
    panel("timeseries", "Change as it was estimated", (
        f'tillwatch_signal_change_ratio{{{PICKED},bound="estimate"}}', f"{TARGET} {{{{signal}}}}"), unit="percentunit"),
    panel("timeseries", "Duration, median", (quantile(0.5, "probe_all_duration_seconds", "probe, device, cohort", PICKED),
                                             TARGET), unit="s"),
    panel("timeseries", "Share of good runs", (GOOD, TARGET), unit="percentunit", field={"min": 0, "max": 1}),
    row("Around it"),
    panel("timeseries", "Failed runs by reason", (f"sum by (reason) (increase(tillwatch_probe_failures_total{{{PICKED}}}[$__rate_interval]))",
                                                  "{{reason}}"), width=8, custom={"drawStyle": "bars", "fillOpacity": 60}),
    panel("timeseries", "Open incidents", (f"sum by (kind, urgency) (tillwatch_incidents_open{{{ONE}}})", "{{kind}} ({{urgency}})"), width=8,
          custom={"lineInterpolation": "stepAfter"}),
    panel("timeseries", "Muted and unmeasured", (f"sum(tillwatch_probe_muted{{{ONE}}})", "muted"),
          (f"sum(tillwatch_probe_broken{{{ONE}}})", "broken"), width=8),
]

SELF = [
    row("Is it well?"),
    stat("Version", f"tillwatch_build_info{{{ONE}}}", legend="{{version}} on Python {{python}}", text="name", thresholds=steps((None, GREY))),
    stat("Configuration", f"tillwatch_config_last_reload_successful{{{ONE}}}", mappings=names({"0": ("refused", RED), "1": ("taken", GREEN)}),
         about="Whether the last reload was taken. When it was refused, the one before is still in force."),
    stat("Messages that wait", f"sum(tillwatch_notifications_pending{{{ONE}}})", thresholds=steps((None, GREEN), (1, YELLOW))),
    stat("Oldest of them", f"max(tillwatch_notification_oldest_seconds{{{ONE}}})", unit="s",
         thresholds=steps((None, GREEN), (60, YELLOW), (300, RED))),
    stat("Commits that failed, 1 h", f"increase(tillwatch_store_failures_total{{{ONE}}}[1h])", thresholds=steps((None, GREEN), (1, RED))),
    stat("Cannot be measured", f"sum(tillwatch_probe_broken{{{ONE}}})", thresholds=steps((None, GREEN), (1, YELLOW))),
    row("Messages"),
    panel("timeseries", "Attempts", (f"sum by (receiver, outcome) (increase(tillwatch_notifications_total{{{ONE}}}[$__rate_interval]))",
                                     "{{receiver}} {{outcome}}"), width=8, custom={"drawStyle": "bars", "fillOpacity": 60}),
    panel("timeseries", "Waiting", (f"tillwatch_notifications_pending{{{ONE}}}", "{{receiver}}"), width=8),
    panel("table", "Last success", (age("tillwatch_receiver_last_success_timestamp_seconds"), ""), instant=True, unit="s", width=8,
          about="Seconds since each receiver last took a message. Send a drill when it is more than a week: tillwatch test-alert."),
    panel("timeseries", "Pages", (f"sum by (kind) (increase(tillwatch_pages_total{{{ONE}}}[$__rate_interval]))", "{{kind}}"),
          custom={"drawStyle": "bars", "fillOpacity": 60}),
    panel("timeseries", "Were they useful?", (f"sum by (feedback) (tillwatch_page_feedback_total{{{ONE}}}) or vector(0)", "{{feedback}}")),
    row("Measuring"),
    panel("timeseries", "Runs", (f"sum by (outcome) (rate({RUNS}{{{ONE}}}[$__rate_interval]))", "{{outcome}}"), unit="ops", width=8),
    panel("timeseries", "Late starts, 99th percentile",
          (quantile(0.99, "tillwatch_scheduler_lag_seconds", "kind", ONE), "{{kind}}"), unit="s", width=8),
    panel("timeseries", "Runs that were due too soon", (f"sum by (probe) (increase(tillwatch_scheduler_missed_total{{{ONE}}}[$__rate_interval]))",
                                                        "{{probe}}"), width=8),
    panel("timeseries", "Event loop lag", (
        f"histogram_quantile(0.99, sum by (le) (rate(tillwatch_event_loop_lag_seconds_bucket{{{ONE}}}[$__rate_interval])))", "99th percentile"),
        unit="s", about="Above 0.1 s durations are not judged: give the host more CPU, or fewer probes."),
    panel("state-timeline", "Cannot be measured", (f"tillwatch_probe_broken{{{ONE}}}", TARGET),
          mappings=names({"0": ("measured", GREEN), "1": ("broken", YELLOW)}), options={"showValue": "never", "mergeValues": True}),
    row("Remembering"),
    panel("timeseries", "Database", (f"tillwatch_store_size_bytes{{{ONE}}}", "size"), unit="bytes", width=8),
    panel("timeseries", "Commits, 99th percentile", (
        f"histogram_quantile(0.99, sum by (le) (rate(tillwatch_store_commit_seconds_bucket{{{ONE}}}[$__rate_interval])))", "99th percentile"),
        unit="s", width=8),
    panel("timeseries", "Commits that failed", (f"increase(tillwatch_store_failures_total{{{ONE}}}[$__rate_interval])", "failed"), width=8),
]

def vital(title: str, name: str, good: float, poor: float, about: str, **more: Any) -> Json:
    """A web vital, with what web.dev calls good and poor."""
    return panel("timeseries", title, (f"tillwatch_web_vital_{name}{{{WALKED}}}", WALKER), width=8, about=about,
                 thresholds=steps((None, GREEN), (good, YELLOW), (poor, RED)), custom={"thresholdsStyle": {"mode": "dashed"}}, **more)


def share_of(outcome: str) -> str:
    """Of the runs of flows, those that ended so."""
    runs = "sum by (probe, device) (increase(" + RUNS + "{%s}[$__rate_interval]))"
    return runs % f'{WALKED},outcome="{outcome}"' + " / " + runs % f'{WALKED},outcome=~"ok|failed"'


CHECKOUT = [
    row("Now"),
    stat("Flows that fail", f"count(probe_success{{{WALKED}}} == 0) or vector(0)", thresholds=steps((None, GREEN), (1, RED)),
         about="Newest measured run of each flow and device. One failed run is not yet an outage."),
    stat("Cannot be walked", f"sum(tillwatch_probe_broken{{{WALKED}}})", thresholds=steps((None, GREEN), (1, YELLOW)),
         about="The browser, the flow's own file, or this machine: it says nothing about the shop. tillwatch doctor looks for the cause."),
    stat("A whole flow takes", f"max(probe_duration_seconds{{{WALKED}}})", unit="s", about="The slowest of the newest runs: the sum of its steps."),
    stat("Runs, 24 h", f"sum(increase({RUNS}{{{WALKED}}}[1d]))", thresholds=steps((None, GREY)), field={"decimals": 0}),
    *(stat(f"{outcome.capitalize()}, 24 h", f'sum(increase({RUNS}{{{WALKED},outcome="{outcome}"}}[1d]))', field={"decimals": 0},
           thresholds=steps((None, GREEN), (1, YELLOW))) for outcome in ("failed", "broken")),
    panel("state-timeline", "When customers could buy", (f"probe_success{{{WALKED}}}", WALKER), width=24, height=6, mappings=names(UP),
          about="Gaps: it could not be walked.", options={"showValue": "never", "mergeValues": True}),
    row("Step by step"),
    panel("timeseries", "Duration of a step, median", (quantile(0.5, STEP, "probe, device, step", WALKED), "{{step}} {{device}}"), unit="s",
          about="Of steps that came out. A step ends with what it leads to, so that the shop's answer is in it."),
    panel("timeseries", "Duration of a step, 95th percentile", (quantile(0.95, STEP, "probe, device, step", WALKED), "{{step}} {{device}}"),
          unit="s"),
    panel("timeseries", "Where the time goes", (
        f"sum by (step) (rate({STEP}_sum{{{WALKED}}}[$__rate_interval])) / sum by (step) (rate({STEP}_count{{{WALKED}}}[$__rate_interval]))",
        "{{step}}"),
        unit="s", custom={"fillOpacity": 40, "stacking": {"mode": "normal"}}, about="Mean of each step."),
    panel("bargauge", "How far they come", (f"sum by (step) (increase({STEP}_count{{{WALKED}}}[$__range]))", "{{step}}"), instant=True,
          about="How often each step came out in the time that is shown. Where a bar is shorter than the one above it, customers were stopped there.",
          options={"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}),
    row("How well"),
    panel("timeseries", "Share of good runs", (share_of("ok"), WALKER), unit="percentunit", field={"min": 0, "max": 1}, width=8,
          about="Runs that could not be walked are left out."),
    panel("timeseries", "Failed runs by reason", (f"sum by (reason) (increase(tillwatch_probe_failures_total{{{WALKED}}}[$__rate_interval]))",
                                                  "{{reason}}"), width=8,
          custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}}, about="Zero until a run has failed for that reason."),
    panel("timeseries", "Broken runs", (f'sum by (probe, device) (increase({RUNS}{{{WALKED},outcome="broken"}}[$__rate_interval]))', WALKER), width=8,
          custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}}),
    panel("timeseries", "Evidence against the update", (f"tillwatch_signal_evidence_log10{{{WALKED}}}", f"{WALKER} {{{{signal}}}}"), width=24,
          about=f"{EVIDENCE} Steps, vitals, and what the browser saw beside them; new findings are those that no run before the update had.",
          thresholds=steps((None, GREEN), (2, RED)), custom={"thresholdsStyle": {"mode": "dashed"}}),
    row("What customers feel"),
    vital("Largest contentful paint", "lcp_seconds", 2.5, 4.0, "When the largest part was there; of the run's slowest document.", unit="s"),
    vital("Interaction to next paint", "inp_seconds", 0.2, 0.5, "How soon a click was seen to have been heard.", unit="s"),
    vital("Cumulative layout shift", "cls", 0.1, 0.25, "How much the page jumped while it was read."),
    vital("First contentful paint", "fcp_seconds", 1.8, 3.0, "When anything was there.", unit="s"),
    vital("Time to the first byte", "ttfb_seconds", 0.8, 1.8, "How long the shop took before it began to answer.", unit="s"),
    panel("timeseries", "Late starts, 99th percentile", (
        quantile(0.99, "tillwatch_scheduler_lag_seconds", "kind", f'{ONE},kind="browser"'), "late"), unit="s", width=8,
          about="One flow is walked at a time: with many, or slow ones, each waits for the others."),
]

DASHBOARDS = {
    "checkout.json": dashboard("tillwatch-checkout", "Tillwatch: checkout", "Whether customers can buy, step by step, as a real browser sees it.",
                               CHECKOUT, picks=FLOWS),
    "shop.json": dashboard("tillwatch-shop", "Tillwatch: shop", "How the shop does, as its probes see it.", SHOP, picks=PROBES),
    "update.json": dashboard("tillwatch-update", "Tillwatch: update", "What the newest update did to the shop.", UPDATE, picks=PROBES, span="now-3h",
                             refresh="10s"),
    "tillwatch.json": dashboard("tillwatch-self", "Tillwatch itself", "Whether the watcher is well.", SELF, span="now-24h"),
}


def main() -> None:
    for name, found in DASHBOARDS.items():
        (FOLDER / name).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
