"""The dead man's switch: an outside service is pinged while this daemon is really healthy, and shouts when the pings stop.

Healthy means that runs are started, that anything at all is measured, that commits go through, and that no page of an open incident
lies undelivered. When it is not, `/fail` is called with the reason, so that people hear at once what is wrong. A daemon that hangs
altogether pings nobody.
"""

import asyncio
import math
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

import structlog
from aiohttp import ClientSession
from pydantic import AfterValidator, Field

from monitor.alerts.delivery import Delivered, DeliveryError
from monitor.alerts.post import open_session, post
from monitor.clock import span
from probes.fields import Duration, Secret, SecretField, Table
from probes.scrub import scrub

log = structlog.get_logger()

LOOK_SECONDS = 5.0         # between two looks at the facts
SPACING_SECONDS = 12.0     # between two pings, whatever happens: five a minute; before the first, so that a crash loop does not look well
ANSWER_SECONDS = 20.0      # facts that do not come within this time are bad news
LATE_LEAST, LATE_MOST = 10.0, 60.0        # s by which a start may be overdue: two intervals, within these bounds
COMMIT_SECONDS = 60.0
UNSENT_SECONDS = 300.0
BLIND_SECONDS = 300.0
_REASON_CHARACTERS = 1000


def _web_address(secret: Secret) -> Secret:
    inline = secret.inline.get_secret_value()
    if inline and not (inline.startswith(("http://", "https://")) and urlsplit(inline).hostname):
        raise ValueError("write the whole address, beginning with https:// or http://")
    return secret


class HeartbeatSettings(Table):
    """[heartbeat]"""

    url: Annotated[SecretField, AfterValidator(_web_address)] = Field(
        description="address that is pinged; /fail is added to it when something is wrong. Who knows it can ping in our place: it is never shown")
    interval: Duration = Field(default=60.0, ge=15.0, le=3600.0, description="time between two pings")


@dataclass(frozen=True, slots=True)
class Facts:
    """How the daemon is, times in s. `fault` is why the store cannot write to its disk just now, "" when it can."""

    overdue: float = 0.0           # how late the next start of a run is
    interval: float = 30.0         # the shortest interval of a probe
    commit: float = 0.0            # for how long the store has had work and committed none of it
    fault: str = ""
    unsent: float = 0.0            # age of the oldest message of an open incident that nobody has taken yet
    blind: float = 0.0             # for how long no probe at all could measure


def health(facts: Facts) -> str:
    """Why the daemon is not healthy, in one sentence; "" when it is."""
    if facts.overdue >= min(max(2 * facts.interval, LATE_LEAST), LATE_MOST):
        return f"the scheduler stands still: a run is {span(facts.overdue)} overdue"
    if facts.fault:
        return f"the database cannot be written: {facts.fault}"
    if facts.commit >= COMMIT_SECONDS:
        return f"the database has committed nothing for {span(facts.commit)}"
    if facts.unsent >= UNSENT_SECONDS:
        return f"a message of an open incident has waited for {span(facts.unsent)} and could not be delivered"
    if facts.blind >= BLIND_SECONDS:
        return f"no probe could measure anything for {span(facts.blind)}: tillwatch probe says why"
    return ""


def oldest_unsent(connection: sqlite3.Connection, now: float) -> float:
    """Age in s of the oldest message of an open incident that its receiver has not taken; 0 when there is none."""
    created = connection.execute(
        "SELECT min(outbox.created) FROM outbox JOIN incident ON incident.id = outbox.incident "
        "WHERE outbox.state IN ('queued', 'inflight') AND outbox.kind = 'firing' AND incident.resolved IS NULL").fetchone()[0]
    return max(0.0, now - created) if created is not None else 0.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What was said last: None before the first ping and after one that did not arrive, else the reason ("" = all is well)."""

    said: str | None = None
    at: float = -math.inf


def due(pulse: Pulse, reason: str, now: float, interval: float) -> bool:
    """Is it time to ping? News goes out at once, the same again every interval; never more than five pings a minute."""
    news = pulse.said is None or bool(pulse.said) != bool(reason)
    return now - pulse.at >= (SPACING_SECONDS if news else interval)


class Heartbeat:
    """Pings as `facts()` tell. `taken(now)` is called with Unix time in s after each ping of success that arrived."""

    def __init__(self, settings: HeartbeatSettings, facts: Callable[[], Awaitable[Facts]], now: Callable[[], float],
                 taken: Callable[[float], None] = lambda _now: None) -> None:
        self._settings, self._facts, self._now, self._taken = settings, facts, now, taken
        self._pulse = Pulse()
        self._reached = True

    async def run(self) -> None:
        """Ping until cancelled. Raises SecretError when the address cannot be read."""
        url = self._settings.url.reveal()
        loop = asyncio.get_running_loop()
        async with open_session() as session:
            await asyncio.sleep(SPACING_SECONDS)
            while True:
                await self.look(session, url, loop.time())
                await asyncio.sleep(LOOK_SECONDS)

    async def look(self, session: ClientSession, url: str, at: float) -> None:
        """One look at the facts, and a ping if one is due. `at` is monotonic time in s."""
        reason = await self._reason()
        if not due(self._pulse, reason, at, self._settings.interval):
            return
        if reason != self._pulse.said and self._pulse.said is not None:
            log.warning("not healthy", reason=reason) if reason else log.info("healthy again")
        result = await _ping(session, url, reason)
        delivered = isinstance(result, Delivered)
        self._pulse = Pulse(reason if delivered else None, at)
        if delivered and not reason:
            self._taken(self._now())
        self._tell(result)

    async def _reason(self) -> str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return health(await self._facts())
        except TimeoutError:
            return "the database does not answer"

    def _tell(self, result: Delivered | DeliveryError) -> None:
        """On transition only."""
        if isinstance(result, DeliveryError) and self._reached:
            log.warning("heartbeat not delivered", error=result.reason)
        elif isinstance(result, Delivered) and not self._reached:
            log.info("heartbeat delivered")
        self._reached = isinstance(result, Delivered)


async def _ping(session: ClientSession, url: str, reason: str) -> Delivered | DeliveryError:
    body = scrub(reason, (url,), limit=_REASON_CHARACTERS) or "ok"
    return await post(session, fail_address(url) if reason else url, body.encode(), {"Content-Type": "text/plain; charset=utf-8"}, secrets=(url,))


def fail_address(url: str) -> str:
    """Where failure is told: `/fail` behind the path, before a query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/fail"))
