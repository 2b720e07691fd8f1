"""What a configured probe is to each room: its targets, its spacings, and what intake, scheduler and judge need of it."""

import math
from collections.abc import Iterable
from urllib.parse import urlsplit

from monitor.before import Judged
from monitor.config import Probe
from monitor.health import Target
from monitor.intake import Watched
from monitor.jobs import Job
from monitor.judge.signals import Subject, margin_for
from monitor.updates import UpdateSettings
from probes.table import PROBES


def watches(probe: Probe) -> list[Target]:
    """The targets of a probe: one, or one a device."""
    devices = getattr(probe, "devices", ()) or ("",)
    return [(probe.name, device, probe.cohort) for device in devices]


def of_device(probe: Probe, device: str) -> Probe:
    """The probe as the settings of one of its devices, with its share of the daily limit."""
    if not device:
        return probe
    most = getattr(probe, "max_runs_per_day", None)
    share = most and max(1, most // max(1, len(getattr(probe, "devices", ()))))
    return probe.model_copy(update={"devices": (device,), "max_runs_per_day": share})


def fast_spacing(probe: Probe, factor: float) -> float:
    """Seconds between runs while an update is watched: a whole part of the interval, never closer than the timeout."""
    if probe.kind != "http":
        return probe.interval
    closest = max(probe.interval * factor, probe.timeout)
    return probe.interval / max(1, int(probe.interval / closest + 1e-9))


def watched(probe: Probe) -> Watched:
    host = urlsplit(getattr(probe, "url", "")).hostname or ""
    return Watched(rule=probe, host=host, critical=probe.critical, control=probe.control)


def control_cohort(probe: Probe, probes: Iterable[Probe]) -> str:
    """The name of the probe that a cohort is judged beside: of the same kind and url, in no cohort; "" when there is none."""
    def what(one: Probe) -> tuple[str, object]:
        return one.kind, getattr(one, "url", None)
    return next((other.name for other in probes if probe.cohort and not other.cohort and what(other) == what(probe)), "")


def judged(target: Target, probe: Probe, update: UpdateSettings, probes: Iterable[Probe] = ()) -> Judged:
    """`probes` are all that are configured: a cohort finds its control cohort among them."""
    subject = Subject(
        probe=target[0], device=target[1], cohort=target[2], kind=probe.kind, critical=probe.critical, control=probe.control,
        margin=margin_for(probe.kind, update.margin, probe.margin), signals=PROBES[probe.kind].signals, beside=control_cohort(probe, probes))
    return Judged(subject, probe.interval, fast_spacing(probe, update.interval_factor), probe.urgency)


def job(target: Target, probe: Probe, factor: float) -> Job:
    secure = getattr(probe, "url", "").startswith("https:")
    # Lines are read once: a recheck, which is not judged, would take them. And no order is placed once more.
    once = probe.kind == "error_log" or getattr(probe, "places_orders", False)
    recheck = math.inf if once else getattr(probe, "again", probe.recheck)
    group = {"http": "http", "checkout": "browser"}.get(probe.kind, "other")
    return Job(target=target, group=group, interval=probe.interval, timeout=probe.timeout + PROBES[probe.kind].overtime, recheck=recheck,
               fast=fast_spacing(probe, factor), heavy=secure or probe.kind != "http")
