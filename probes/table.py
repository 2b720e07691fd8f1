"""Every kind of probe: the only list of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from probes import http
from probes.fields import Named
from probes.sample import Sample, Signal


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of probe: its settings, the function that runs it once, and which of its numbers are judged."""

    settings: type[Named]
    probe: Callable[..., Awaitable[Sample]]      # (settings, clients, checkpoint); each takes its own settings
    signals: tuple[Signal, ...]


_SUCCESS = Signal("success", "bernoulli")
_DURATION = Signal("duration", "latency")

PROBES: dict[str, Kind] = {
    "http": Kind(http.HttpSettings, http.probe, (_SUCCESS, _DURATION)),
}

