"""Every kind of probe: the only list of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from probes import http
from probes.checkout import probe as checkout
from probes.checkout.settings import CheckoutSettings
from probes.error_log import probe as error_log
from probes.error_log.settings import ErrorLogSettings
from probes.fields import Named
from probes.sample import Sample, Signal


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of probe: its settings, the function that runs it once, which of its numbers are judged, and its usual pace in s."""

    settings: type[Named]
    probe: Callable[..., Awaitable[Sample]]      # (settings, clients, checkpoint); each takes its own settings
    signals: tuple[Signal, ...]
    interval: float = 30.0
    timeout: float = 10.0
    overtime: float = 0.0                        # s that a run may need beyond its timeout, for what is no longer measured


_SUCCESS = Signal("success", "bernoulli")
_DURATION = Signal("duration", "latency")
_LOGGED = (
    Signal("new errors", "novelty", "signature/", family="log"),
    Signal("critical errors", "count", "events/critical", family="log"),
    Signal("errors", "count", "events/error", family="log"),
    Signal("warnings", "count", "events/warning", family="log"),
    Signal("errors per request", "ratio", "events/error", per="requests", family="log"),
    Signal("server errors at *", "ratio", "server_errors/*", per="requests/*", family="log"),
    Signal("slow requests at *", "ratio", "slow/*", per="requests/*", family="log"),
    Signal("failed checkouts", "ratio", "failed_checkout_posts", per="checkout_posts", family="log"),
    Signal("lines", "silence", "lines", family="log"),
)

_BROWSED = (
    Signal("step *", "bernoulli", "step/*"),
    Signal("duration of step *", "latency", "step/*"),
    Signal("TTFB of *", "latency", "ttfb/*"),
    Signal("FCP of *", "latency", "fcp/*"),
    Signal("LCP of *", "latency", "lcp/*"),
    Signal("INP of *", "latency", "inp/*"),
    Signal("new findings", "novelty", "signature/"),
    Signal("page errors", "count", "page_errors"),
    Signal("console errors", "count", "console_errors"),
    Signal("failed requests", "count", "failed_requests"),
    Signal("error responses", "count", "error_responses"),
    Signal("asset errors", "count", "asset_errors"),
    Signal("JSON failures", "count", "json_failures"),
    Signal("soft errors", "count", "soft_errors"),
    Signal("third-party failures", "count", "third_party_failures"),
    Signal("third-party hosts", "count", "third_party_hosts"),
    Signal("kB", "count", "kilobytes"),
)

PROBES: dict[str, Kind] = {
    "http": Kind(http.HttpSettings, http.probe, (_SUCCESS, _DURATION)),
    "error_log": Kind(ErrorLogSettings, error_log.probe, (_SUCCESS, *_LOGGED), interval=5.0, timeout=4.0),
    "checkout": Kind(CheckoutSettings, checkout.probe, (_SUCCESS, _DURATION, *_BROWSED), interval=75.0, timeout=60.0, overtime=checkout.OVERTIME),
}
