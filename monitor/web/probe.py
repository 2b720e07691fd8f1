"""GET /probe as blackbox_exporter serves it: one run of a configured http probe against another address of the shop, for Prometheus."""

import math
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

import prometheus_client as prom
from aiohttp import web
from prometheus_client import openmetrics
from pydantic import ValidationError

from monitor.exporter import FACTS, PHASES
from monitor.web.auth import Guard
from monitor.web.problems import ProblemError
from probes import http
from probes.clients import Clients
from probes.fields import Named
from probes.sample import Outcome, Sample

MOST_RUNS = 32             # at once; what comes on top is refused, so that the daemon's own probes start on time
OFFSET_SECONDS = 0.5       # by which the run ends before Prometheus gives up, as blackbox_exporter's --timeout-offset
OPEN_METRICS = "application/openmetrics-text"


class OnDemand:
    """The handler. `probes()` gives the probes as they are configured now."""

    def __init__(self, probes: Callable[[], Iterable[Named]], clients: Clients, guard: Guard) -> None:
        self._probes, self._clients, self._guard = probes, clients, guard
        self._running = 0

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/probe", self.probe, allow_head=False)]

    async def probe(self, request: web.Request) -> web.Response:
        """Run the module against the target, and answer with what it measured and nothing of our own."""
        self._guard.reader(request)
        settings = self._settings(request)
        if self._running >= MOST_RUNS:
            raise ProblemError(503, f"{MOST_RUNS} probes are running on demand already: ask again later")
        self._running += 1
        try:
            sample = await http.probe(settings, self._clients, None)
        finally:
            self._running -= 1
        if request.query.get("debug") == "true":
            return web.Response(text=debug(sample, request.query["target"]), content_type="text/plain", charset="utf-8")
        wanted = OPEN_METRICS in request.headers.get("Accept", "")
        kind = f"{OPEN_METRICS}; version=1.0.0; charset=utf-8" if wanted else "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=exposition(sample, open_metrics=wanted), headers={"Content-Type": kind})

    def _settings(self, request: web.Request) -> http.HttpSettings:
        probes = list(self._probes())
        name, target = request.query.get("module", ""), request.query.get("target", "")
        module = next((p for p in probes if isinstance(p, http.HttpSettings) and p.name == name), None)
        if module is None:
            raise ProblemError(400, f'unknown module "{name[:64]}": name an http probe of the configuration')
        url = _checked(target)
        if _host(url) not in {_host(getattr(p, "url", "")) for p in probes}:
            raise ProblemError(403, "the host of the target belongs to no configured probe")
        if _carries_credentials(module) and _origin(url) != _origin(module.url):
            raise ProblemError(403, f'the module "{name}" carries credentials: they are for {"://".join(map(str, _origin(module.url)[:2]))} alone')
        return _against(module, url, timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds", ""), module.timeout))


def _checked(target: str) -> str:
    """The target as a whole address; without a scheme it is plain http, as for blackbox_exporter. Raises ProblemError."""
    if not target:
        raise ProblemError(400, "the target parameter is missing")
    url = target if "://" in target else f"http://{target}"
    try:
        return http.HttpSettings(name="target", url=url).url
    except ValidationError as error:
        raise ProblemError(400, f"target: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _carries_credentials(module: http.HttpSettings) -> bool:
    """Is there anything in the request that another host, or a listener on the way to it, must not see?"""
    return bool(module.headers or module.body or module.basic_auth or module.bearer_token or module.tls.cert_file)


def _against(module: http.HttpSettings, url: str, seconds: float) -> http.HttpSettings:
    """The same settings with another address and time-out. Built anew: a copy would keep the compiled plan of the old address."""
    values = {name: getattr(module, name) for name in http.HttpSettings.model_fields}
    return http.HttpSettings.model_construct(**values | {"url": url, "timeout": seconds})


def timeout(scrape: str, configured: float) -> float:
    """Seconds for the run: the probe's own time-out, or less so that it ends before the scrape. Raises ProblemError."""
    if not scrape:
        return configured
    try:
        seconds = float(scrape)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ProblemError(400, "X-Prometheus-Scrape-Timeout-Seconds is not a number of seconds")
    return min(configured, max(seconds - OFFSET_SECONDS, seconds / 2))


def exposition(sample: Sample, *, open_metrics: bool = False) -> bytes:
    """What one run measured, with blackbox_exporter's names, meaning and lack of labels."""
    registry = prom.CollectorRegistry()

    def gauge(name: str, text: str, value: float) -> None:
        prom.Gauge(name, text, registry=registry).set(value)

    gauge("probe_success", "Whether the probe succeeded", sample.outcome is Outcome.OK)
    gauge("probe_duration_seconds", "How long the probe took", sample.seconds)
    gauge("tillwatch_probe_broken", "Whether this run could not be measured", sample.outcome is Outcome.BROKEN)
    phases = prom.Gauge("probe_http_duration_seconds", "Duration of the request by phase, summed over redirects", ("phase",), registry=registry)
    for phase in PHASES:
        if phase in sample.values:
            phases.labels(phase).set(sample.values[phase])
    for name, (text, key) in FACTS.items():
        if key in sample.facts:
            gauge(name, text, sample.facts[key])
    write: Callable[[prom.CollectorRegistry], bytes] = openmetrics.exposition.generate_latest if open_metrics else prom.generate_latest
    return write(registry)


def debug(sample: Sample, target: str) -> str:
    """What happened, for a person, and then what Prometheus would have been told."""
    said: Sequence[str] = [f"{sample.probe}: {sample.outcome.value}" + (f" ({sample.reason})" if sample.reason else ""), sample.evidence]
    said = [f"host={_host(_checked(target))}", *filter(None, said), *(f"phase={name} seconds={value:.6f}" for name, value in sample.values.items())]
    return "Logs for the probe:\n" + "\n".join(said) + "\n\nMetrics that would have been returned:\n" + exposition(sample).decode()
