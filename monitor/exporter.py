"""All metric names, and how they are exposed.

The series of probes are written by hand from cached label prefixes: prometheus_client would block the event loop for
0.4 s at 50,000 series (measured). Everything else is a plain prometheus_client metric. prometheus_client's
own parser and `promtool check metrics` prove the text right in the tests.
"""

import platform
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import prometheus_client as prom
from prometheus_client import openmetrics

from monitor.health import Target
from monitor.incidents import Incident
from monitor.updates import Update
from probes.sample import Outcome, Sample, Step, Trigger

MOST_STEPS = 60            # of a target that are exported, by name
STEP_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
PHASES = ("resolve", "connect", "tls", "processing", "transfer")
TEXT_LIMIT = 64            # of a version or a phase in a label
CHUNK_LINES = 2_000        # written between two turns of the event loop
LEVELS = ("critical", "error", "warning")
# name -> (help, the names of `Sample.counts` that it adds up, each with the label that tells it apart)
LOGGED: dict[str, tuple[str, dict[str, str]]] = {
    "tillwatch_log_lines": ("Lines of logs read", {"lines": ""}),
    "tillwatch_log_events": ("Errors logged by level", {f"events/{level}": f',level="{level}"' for level in LEVELS}),
    "tillwatch_log_new_signatures": ("Errors logged that were never seen before", {"new_signatures": ""}),
}
_LOGGED = tuple(name for _, names in LOGGED.values() for name in names)
_MANUAL = Trigger.MANUAL   # the hot path pays for each look into an enum

# name -> (help, where it is found in a measured sample)
FACTS: dict[str, tuple[str, str]] = {
    "probe_http_status_code": ("Response status code", "status_code"),
    "probe_http_redirects": ("Redirects followed", "redirects"),
    "probe_http_ssl": ("Whether the final response came over TLS", "ssl"),
    "probe_http_version": ("HTTP version of the response", "version"),
    "probe_http_content_length": ("Length of the response body in bytes, -1 if unknown", "content_length"),
    "probe_ssl_earliest_cert_expiry": ("Earliest expiry of the certificates shown, Unix time", "cert_expiry"),
    "probe_dns_lookup_time_seconds": ("Time taken by name resolution", "dns_lookup"),
    "probe_failed_due_to_regex": ("Whether the probe failed because of a pattern", "failed_due_to_regex"),
    "tillwatch_web_vital_lcp_seconds": ("Largest contentful paint of the slowest document of the run", "lcp"),
    "tillwatch_web_vital_fcp_seconds": ("First contentful paint of the slowest document of the run", "fcp"),
    "tillwatch_web_vital_ttfb_seconds": ("Time to the first byte of the slowest document of the run", "ttfb"),
    "tillwatch_web_vital_inp_seconds": ("Interaction to next paint of the slowest document of the run", "inp"),
    "tillwatch_web_vital_cls": ("Cumulative layout shift of the worst document of the run", "cls"),
}


@dataclass(slots=True)
class _Steps:
    """How long one step took: of runs in which it passed, in s."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(STEP_BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(STEP_BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class _Series:
    """What is exported of one target: its label prefix, its newest measured sample, its counts."""

    labels: str
    buckets: tuple[str, ...]
    measured: Sample | None = None
    broken: bool = False
    muted: bool = False
    missed: int = 0
    runs: dict[str, int] = field(default_factory=lambda: {"ok": 0, "failed": 0, "broken": 0})
    failures: dict[str, int] = field(default_factory=dict)
    logged: dict[str, int] = field(default_factory=dict)      # of the names in LOGGED; empty when it follows no log
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0
    steps: dict[str, _Steps] = field(default_factory=dict)

    def walked(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if step.outcome is Outcome.OK and (step.name in self.steps or len(self.steps) < MOST_STEPS):
                self.steps.setdefault(step.name, _Steps()).observe(step.seconds)


class Exporter:
    """Holds every metric of one daemon. All times in s, all sizes in bytes."""

    def __init__(self, shop: str, targets: Iterable[Target]) -> None:
        self._shop = shop
        self._series = {target: self._new_series(target) for target in targets}
        self._update: Update | None = None
        self._own = _Own(shop)

    def change(self, targets: Iterable[Target]) -> None:
        """Export these from now on; who stays keeps its counts. A new dict: a scrape may be going through the old one just now."""
        self._series = {target: self._series.get(target) or self._new_series(target) for target in targets}

    @property
    def own(self) -> "_Own":
        """The metrics about Tillwatch itself."""
        return self._own

    def observe(self, sample: Sample) -> None:
        """Count one run. Only a measured run moves the gauges."""
        series = self._series[sample.probe, sample.device, sample.cohort]
        series.runs[sample.outcome.value] += 1
        if sample.counts and sample.trigger is not _MANUAL:
            for name in _LOGGED:                         # also of a broken run: its lines were read, and are read once
                if name in sample.counts:
                    series.logged[name] = series.logged.get(name, 0) + sample.counts[name]
        if sample.outcome is Outcome.BROKEN:
            series.broken = True
            return
        series.broken, series.measured = False, sample
        series.counts[bisect_left(BUCKETS, sample.seconds)] += 1
        series.total += sample.seconds
        if sample.steps:
            series.walked(sample.steps)
        if sample.outcome is Outcome.FAILED:
            series.failures[sample.reason] = series.failures.get(sample.reason, 0) + 1

    def missed(self, target: Target, runs: int = 1) -> None:
        self._series[target].missed += runs

    def muted(self, muted: bool, targets: Iterable[Target] | None = None) -> None:
        """Mark targets (all, if none are named) as muted: their failing pages nobody just now."""
        for target in self._series if targets is None else self._series.keys() & set(targets):
            self._series[target].muted = muted

    def update(self, update: Update | None) -> None:
        """The newest update: its series stand until the next one starts."""
        self._update = update

    def incidents(self, incidents: Sequence[Incident]) -> None:
        self._own.incidents_open.clear()
        for incident in incidents:
            self._own.incidents_open.labels(self._shop, incident.kind, incident.urgency).inc()

    async def render(self, pause: Callable[[], Any], *, open_metrics: bool) -> AsyncIterator[bytes]:
        """The exposition in parts; `await pause()` between them lets probes start on time."""
        lines: list[str] = []
        for line in self._lines(open_metrics=open_metrics):
            lines.append(line)
            if len(lines) >= CHUNK_LINES:
                yield "".join(lines).encode()
                lines.clear()
                await pause()
        yield "".join(lines).encode()
        own: Callable[[prom.CollectorRegistry], bytes] = openmetrics.exposition.generate_latest if open_metrics else prom.generate_latest
        yield own(self._own.registry)

    def _lines(self, *, open_metrics: bool) -> Iterator[str]:
        yield from self._probe_gauges()
        yield from self._histogram()
        yield from self._step_histogram()
        yield from self._counters(open_metrics=open_metrics)
        if self._update:
            yield from self._update_gauges(self._update)

    def _probe_gauges(self) -> Iterator[str]:
        measured = [(s.labels, s.measured) for s in self._series.values() if s.measured and not s.broken]
        yield from _gauge("probe_success", "Whether the probe succeeded", ((lb, int(m.outcome is Outcome.OK)) for lb, m in measured))
        yield from _gauge("probe_duration_seconds", "How long the probe took", ((lb, m.seconds) for lb, m in measured))
        yield from _head("probe_http_duration_seconds", "Duration of the request by phase, summed over redirects", "gauge")
        for labels, sample in measured:
            for phase in PHASES:
                if phase in sample.values:
                    yield f'probe_http_duration_seconds{{{labels},phase="{phase}"}} {sample.values[phase]!r}\n'
        for name, (text, key) in FACTS.items():
            yield from _gauge(name, text, ((lb, m.facts[key]) for lb, m in measured if key in m.facts))
        everyone = self._series.values()
        yield from _gauge("tillwatch_probe_broken", "Whether the newest run could not be measured", ((s.labels, int(s.broken)) for s in everyone))
        yield from _gauge("tillwatch_probe_muted", "Whether paging for this probe is held back", ((s.labels, int(s.muted)) for s in everyone))

    def _histogram(self) -> Iterator[str]:
        yield from _head("probe_all_duration_seconds", "Duration of all measured runs", "histogram")
        for series in self._series.values():
            seen = 0
            for prefix, count in zip(series.buckets, series.counts, strict=True):
                seen += count
                yield f"{prefix}{seen}\n"
            yield f"probe_all_duration_seconds_sum{{{series.labels}}} {series.total!r}\nprobe_all_duration_seconds_count{{{series.labels}}} {seen}\n"

    def _step_histogram(self) -> Iterator[str]:
        name = "tillwatch_step_duration_seconds"
        yield from _head(name, "Duration of the steps of checkout flows that passed", "histogram")
        for labels, steps in ((f"{s.labels},step={_quote(step)}", steps) for s in self._series.values() for step, steps in s.steps.items()):
            seen = 0
            for edge, count in zip((*map(repr, STEP_BUCKETS), "+Inf"), steps.counts, strict=True):
                seen += count
                yield f'{name}_bucket{{{labels},le="{edge}"}} {seen}\n'
            yield f"{name}_sum{{{labels}}} {steps.total!r}\n{name}_count{{{labels}}} {seen}\n"

    def _counters(self, *, open_metrics: bool) -> Iterator[str]:
        everyone = self._series.values()
        yield from _counter("tillwatch_probe_runs", "Runs by outcome", open_metrics,
                            ((f'{s.labels},outcome="{outcome}"', count) for s in everyone for outcome, count in s.runs.items()))
        yield from _counter("tillwatch_probe_failures", "Failed runs by reason", open_metrics,
                            ((f'{s.labels},reason="{reason}"', count) for s in everyone for reason, count in s.failures.items()))
        yield from _counter("tillwatch_scheduler_missed", "Runs that were due while the one before had not ended", open_metrics,
                            ((s.labels, s.missed) for s in everyone))
        for metric, (text, names) in LOGGED.items():
            yield from _counter(metric, text, open_metrics,
                                ((s.labels + label, s.logged[name]) for s in everyone for name, label in names.items() if name in s.logged))

    def _update_gauges(self, update: Update) -> Iterator[str]:
        base = f"shop={_quote(self._shop)},update={_quote(update.id)}"
        if update.live:
            labels = f"{base},version={_quote(update.version[:TEXT_LIMIT])},phase={_quote(update.phase[:TEXT_LIMIT])}"
            yield from _gauge("tillwatch_update_info", "1 while the update is open", [(labels, 1)])
        yield from _gauge("tillwatch_update_start_timestamp_seconds", "When the update started", [(base, update.started)])
        if end := update.finished or update.closed:
            yield from _gauge("tillwatch_update_end_timestamp_seconds", "When it was finished, or closed", [(base, end)])
        verdicts = ("watching", "pass", "regression", "inconclusive")
        yield from _gauge("tillwatch_update_verdict", "The verdict as it stands",
                          ((f'{base},verdict="{v}"', int(update.verdict == v)) for v in verdicts))
        yield from self._signal_gauges(update.ruling.get("signals", ()))

    def _signal_gauges(self, signals: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        labelled = [(self._signal_labels(signal), signal) for signal in signals]
        yield from _gauge("tillwatch_signal_evidence_log10", "Evidence that the signal got worse, log10",
                          ((lb, s["evidence"]) for lb, s in labelled if s["evidence"] is not None))
        bounds = (("lower", "ratio_lower"), ("estimate", "ratio"), ("upper", "ratio_upper"))
        yield from _gauge("tillwatch_signal_change_ratio", "After divided by before, with its 95 % interval",
                          ((f'{lb},bound="{b}"', s[key]) for lb, s in labelled for b, key in bounds if s[key] is not None))

    def _signal_labels(self, signal: Mapping[str, Any]) -> str:
        target = (signal["probe"], signal.get("device", ""), signal.get("cohort", ""))
        return f"{_labels(self._shop, target)},signal={_quote(signal['signal'])}"

    def _new_series(self, target: Target) -> _Series:
        labels = _labels(self._shop, target)
        edges = (*(f"{edge!r}" for edge in BUCKETS), "+Inf")
        return _Series(labels, tuple(f'probe_all_duration_seconds_bucket{{{labels},le="{edge}"}} ' for edge in edges))


class _Own:
    """Metrics about Tillwatch itself; few series, so plain prometheus_client."""

    def __init__(self, shop: str) -> None:
        prom.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = prom.CollectorRegistry()
        self._shop = shop
        self._succeeded: set[str] = set()

        def gauge(name: str, text: str, *labels: str) -> prom.Gauge:
            return prom.Gauge(name, text, ("shop", *labels), registry=registry)

        def counter(name: str, text: str, *labels: str) -> prom.Counter:
            return prom.Counter(name, text, ("shop", *labels), registry=registry)

        def histogram(name: str, text: str, *labels: str) -> prom.Histogram:
            return prom.Histogram(name, text, ("shop", *labels), registry=registry, buckets=LAG_BUCKETS)

        self.incidents_open = gauge("tillwatch_incidents_open", "Open incidents", "kind", "urgency")
        self.pages = counter("tillwatch_pages", "Incidents that were handed out for paging", "kind")
        self.notifications = counter("tillwatch_notifications", "Delivery attempts by outcome", "receiver", "outcome")
        self.pending = gauge("tillwatch_notifications_pending", "Notifications waiting for delivery", "receiver")
        self.oldest = gauge("tillwatch_notification_oldest_seconds", "Age of the oldest waiting notification", "receiver")
        self.last_success = gauge("tillwatch_receiver_last_success_timestamp_seconds", "Last delivery that the receiver took", "receiver")
        self.feedback = counter("tillwatch_page_feedback", "What people thought of pages", "kind", "feedback")
        self.store_size = gauge("tillwatch_store_size_bytes", "Size of the database and its log").labels(shop)
        self.store_commit = histogram("tillwatch_store_commit_seconds", "Time taken by commits").labels(shop)
        self.store_failures = counter("tillwatch_store_failures", "Commits that failed").labels(shop)
        self.store_volatile = gauge("tillwatch_store_volatile", "Whether something essential is kept in memory only").labels(shop)
        self.heartbeat_at = gauge("tillwatch_heartbeat_last_success_timestamp_seconds", "When the dead man's switch last took a ping")
        self.clock_shift = gauge("tillwatch_clock_shift_seconds", "What the wall clock has been stepped by since the start").labels(shop)
        self.scheduler_lag = histogram("tillwatch_scheduler_lag_seconds", "How late runs were started", "kind")
        self.loop_lag = histogram("tillwatch_event_loop_lag_seconds", "How late the event loop came round").labels(shop)
        self.reload_ok = gauge("tillwatch_config_last_reload_successful", "Whether the last reload was taken").labels(shop)
        self.reload_at = gauge("tillwatch_config_last_reload_success_timestamp_seconds", "When the configuration was last taken").labels(shop)
        self.build = gauge("tillwatch_build_info", "Always 1", "version", "python")
        self.build.labels(shop, version("tillwatch"), platform.python_version()).set(1)
        self._lag = {group: self.scheduler_lag.labels(shop, group) for group in ("http", "browser", "other")}

    def beaten(self, at: float) -> None:
        """The dead man's switch took a ping at that time (Unix s)."""
        self.heartbeat_at.labels(self._shop).set(at)

    def late(self, group: str, seconds: float) -> None:
        self._lag[group].observe(seconds)

    def paged(self, kind: str) -> None:
        self.pages.labels(self._shop, kind).inc()

    def rated(self, kind: str, feedback: str) -> None:
        self.feedback.labels(self._shop, kind, feedback).inc()

    def attempted(self, receiver: str, outcome: str, at: float) -> None:
        self.notifications.labels(self._shop, receiver, outcome).inc()
        if outcome == "delivered":
            self.succeeded(receiver, at)

    def succeeded(self, receiver: str, at: float) -> None:
        """The receiver took something at that time (Unix s)."""
        self._succeeded.add(receiver)
        self.last_success.labels(self._shop, receiver).set(at)

    def waiting(self, pending: Mapping[str, tuple[int, float]]) -> None:
        """Notifications waiting by receiver: how many, and the age of the oldest in s. These are all receivers that there are."""
        self.pending.clear()
        self.oldest.clear()
        for gone in self._succeeded - pending.keys():
            self.last_success.remove(self._shop, gone)
        self._succeeded &= pending.keys()
        for receiver, (count, age) in pending.items():
            self.pending.labels(self._shop, receiver).set(count)
            self.oldest.labels(self._shop, receiver).set(age)


def _labels(shop: str, target: Target) -> str:
    probe, device, cohort = target
    return f'shop={_quote(shop)},probe={_quote(probe)},device={_quote(device)},cohort={_quote(cohort)},location=""'


def _quote(text: str) -> str:
    return '"' + text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") + '"'


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _gauge(name: str, text: str, lines: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield from _head(name, text, "gauge")
    for labels, value in lines:
        yield f"{name}{{{labels}}} {value!r}\n"


def _counter(name: str, text: str, open_metrics: bool, lines: Iterable[tuple[str, int]]) -> Iterator[str]:
    yield from _head(name if open_metrics else name + "_total", text, "counter")
    for labels, value in lines:
        yield f"{name}_total{{{labels}}} {value}\n"
