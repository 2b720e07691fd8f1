"""One run of a checkout probe: a browser walks the flow once, in a process of its own."""

import asyncio
import base64
import binascii
import re
import secrets as randomness
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from probes.artifacts import ArtifactError, Artifacts
from probes.aside import aside
from probes.checkout import cleanup
from probes.checkout.job import Job, Launch, Report
from probes.checkout.limits import Guard, Limits, Target
from probes.checkout.link import Link
from probes.checkout.settings import BrowserSettings, CheckoutSettings
from probes.clients import Clients
from probes.fields import SecretError
from probes.reasons import outcome
from probes.sample import Outcome, Sample, Step
from probes.scrub import scrub

MOST_SOURCE = 1_000_000    # bytes of a flow file
OVERTIME = 36.0            # s beyond its timeout after which a run has surely ended: evidence, a browser that is killed, orders cancelled
_CANCELLING = 25.0         # s for all orders of a run; what is left waits for the next one
_READING = 5.0             # s until a file that does not let itself be read is given up
_UNTOUCHED = {"local_resources", "flow", "refused"}        # without a step: the shop has not heard of such a run
_KINDS = re.compile(r"[a-z]{1,16}")


@dataclass(frozen=True, slots=True)
class Manner:
    """How runs by hand differ from the daemon's: to be looked at."""

    headed: bool = False
    slow_mo: float = 0.0                                 # s between what the browser does
    trace: bool = False
    told: Any = None                                     # hears of every step


@dataclass(frozen=True, slots=True)
class Profiles:
    """Where the storage of returning customers is kept, one folder for each probe and device."""

    folder: Path

    def of(self, settings: CheckoutSettings) -> str:
        told = "\0".join((settings.name, settings.browser, *settings.devices[:1]))
        return str((self.folder / blake2b(told.encode(), digest_size=8).hexdigest()).absolute())


async def probe(settings: CheckoutSettings, clients: Clients, checkpoint: bytes | None = None) -> Sample:
    """Walk the flow with the first of `devices`.

    `seconds` is the time of the steps; `values` holds the web vitals by step (s), `counts` what the browser saw, `facts` the worst of each
    vital. The checkpoint counts the runs of the day and knows the orders that are still to be cancelled.
    """
    link = clients.find(Link)
    if link is None:
        return _sample(settings, Report("browser", "there is no browser worker here"), None)
    limits = Limits.decode(checkpoint)
    if not limits.take(time.time(), settings.cap):
        return _sample(settings, Report("capped", f"{settings.cap} runs in a day"), limits)
    try:
        job = await _job(settings, clients.find(Manner) or Manner(), link.settings)
        profiles = clients.find(Profiles)
        job = replace(job, orders=tuple(limits.orders), profile_dir=profiles.of(settings) if profiles else "")
    except (OSError, SecretError, ValueError) as error:
        reason = "settings" if isinstance(error, SecretError) else "flow"
        limits.give_back()
        return _sample(settings, Report(reason, scrub(_words(error))), limits)
    lost = await _lost(settings, clients, limits)
    keeping = _Keeping(clients)
    report = await link.run(job, keeping.told, lambda: _may_submit(settings, clients, limits, job.run))
    report.evidence += await keeping.named()
    if report.reason in _UNTOUCHED and not report.steps:       # a mistake that is mended must not wait for the next day
        limits.give_back()
    await _cancel_orders(settings, limits, report)
    report.evidence += lost
    return _sample(settings, report, limits)


async def _job(settings: CheckoutSettings, manner: Manner, browser: BrowserSettings) -> Job:
    """Raises OSError or ValueError when the flow cannot be read, SecretError for a secret."""
    path = settings.flow
    source = await asyncio.wait_for(aside(lambda: _source(path), "flow file"), _READING) if path else ""
    launch = Launch(browser=settings.browser, executable_path=browser.executable_path, channel=browser.channel, no_sandbox=browser.no_sandbox,
                    hosts=settings.reachable, headed=manner.headed, slow_mo=manner.slow_mo)
    return Job(
        run=randomness.token_hex(4), probe=settings.name, url=settings.url, timeout=settings.timeout, launch=launch,
        device=settings.devices[0] if settings.devices else "", source=source, file=path.name if path else "",
        steps=tuple(step.model_dump(mode="json", by_alias=True, exclude_defaults=True) for step in settings.step),
        stop_before=settings.stop_before, step_timeout=settings.patience, variables=dict(settings.variables),
        secrets={name: secret.reveal() for name, secret in settings.secrets.items()}, fail_on=settings.fail_on, profile=settings.profile,
        trace="on" if manner.trace else settings.trace)


def _source(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MOST_SOURCE + 1)
    if len(data) > MOST_SOURCE:
        raise ValueError(f"{path.name} is larger than {MOST_SOURCE} bytes")
    return data.decode("utf-8-sig")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the flow's file cannot be read: the storage does not answer"
    if isinstance(error, OSError):
        return f"the flow's file cannot be read: {error.filename}: {error.strerror}"
    return "the flow's file is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


async def _may_submit(settings: CheckoutSettings, clients: Clients, limits: Limits, run: str) -> str:
    """"" once it is recorded that this run submits, else why it may not."""
    if limits.full:
        return f"{len(limits.orders)} orders are not cancelled yet: no further one is placed"
    guard = clients.find(Guard)  # type: ignore[type-abstract]
    if guard is None:
        return "nobody keeps record of orders here"
    limits.submitted = run
    return await guard.take(_target(settings), run, getattr(settings, "interval", 0.0))


async def _lost(settings: CheckoutSettings, clients: Clients, limits: Limits) -> str:
    """What to say of runs that may have placed an order which nobody could note: the daemon was killed before their sample was kept."""
    guard = clients.find(Guard)  # type: ignore[type-abstract]
    if guard is not None and (settings.places_orders or limits.submitted):
        runs = await guard.after(_target(settings), limits.submitted)
        limits.miss(runs, time.time())
        limits.submitted = [limits.submitted, *runs][-1]
    return f"; orders of unknown number may be left of the runs {', '.join(limits.lost)}" if limits.lost else ""


def _target(settings: CheckoutSettings) -> Target:
    return settings.name, settings.devices[0] if settings.devices else "", settings.cohort


class _Keeping:
    """Stores what a run leaves as evidence."""

    def __init__(self, clients: Clients) -> None:
        self._artifacts, self._manner = clients.find(Artifacts), clients.find(Manner)
        self._found: list[tuple[str, str, bytes]] = []

    def told(self, message: Mapping[str, Any]) -> None:
        """Takes what the worker says on the way."""
        if message.get("t") == "artifact":
            self._take(message)
        elif self._manner is not None and self._manner.told is not None:
            self._manner.told(message)

    def _take(self, message: Mapping[str, Any]) -> None:
        kind, ext, data = str(message.get("kind")), str(message.get("ext")), message.get("data")
        try:
            content = base64.b64decode(data if isinstance(data, str) else "", validate=True)
        except binascii.Error:
            return
        if content and _KINDS.fullmatch(kind) and len(self._found) < 10:
            self._found.append((kind, ext, content))

    async def named(self) -> str:
        """Keeps it, and says what it is called: " [screenshot artifacts/NAME.png, …]"; "" when there is none."""
        if not self._found or self._artifacts is None:
            return ""
        artifacts, found = self._artifacts, self._found
        try:
            names = await asyncio.wait_for(aside(lambda: [(kind, artifacts.put(data, ext)) for kind, ext, data in found], "artifacts"), _READING)
        except (ArtifactError, OSError) as error:
            return f" [evidence not kept: {error}]"
        return f" [{', '.join(f'{kind} artifacts/{name}' for kind, name in names)}]"


async def _cancel_orders(settings: CheckoutSettings, limits: Limits, report: Report) -> None:
    """Those of this run, and those that are still there from earlier ones. What is left is said, and tried again by the next run."""
    if report.submitted and report.reason and not report.orders and not report.cancelled:
        report.evidence += "; an order may have been placed, and its number is not known"
        limits.miss({limits.submitted: time.time()}, time.time())
    limits.settle(order for order in limits.orders if order not in report.cancelled)
    limits.owe(report.orders)
    if not limits.orders:
        return
    if settings.cleanup is not None:
        left = await cleanup.cancel(settings.cleanup, limits.orders, within=_CANCELLING)
        limits.settle(left)
        report.evidence += "".join(f"; order {order} was not cancelled: {why}" for order, why in list(left.items())[:3])
    else:
        report.evidence += f"; orders to be cancelled by hand: {', '.join(limits.orders[-5:])}"
    report.facts["orders_open"] = float(len(limits.orders))


def _sample(settings: CheckoutSettings, report: Report, limits: Limits | None) -> Sample:
    known: Sequence[Any] = report.steps
    return Sample(
        probe=settings.name, device=settings.devices[0] if settings.devices else "", cohort=settings.cohort, outcome=outcome(report.reason),
        reason=report.reason, seconds=report.seconds, evidence=report.evidence.removeprefix("; ").strip(),
        steps=tuple(Step(step.name, outcome(step.reason) if step.reason else Outcome.OK, step.seconds, step.reason) for step in known),
        values=report.values, counts=report.counts, facts=report.facts, examples=report.examples, overloaded=report.overloaded,
        checkpoint=limits.encode() if limits is not None else None)
