"""The dead man's switch: a real service on loopback, facts and time by hand."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from monitor.alerts.post import open_session
from monitor.clock import ManualClock
from monitor.heartbeat import ANSWER_SECONDS, LOOK_SECONDS, Facts, Heartbeat, HeartbeatSettings, Pulse, due, fail_address, health, oldest_unsent
from monitor.store import Store
from monitor.store.schema import migrate
from monitor.wellbeing import Wellbeing

KEY = "5f1c2d5e-secret-ping-key"


@dataclass
class Service:
    """What an outside service hears: (path, body), and what it answers."""

    heard: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.heard.append((request.path_qs, await request.text()))
        return web.Response(status=self.status)


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    found = Service()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", found.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/ping/{KEY}"
    assert site
    try:
        yield found
    finally:
        await runner.cleanup()


@dataclass
class Daemon:
    """Facts that a test changes, and the seconds that it lets pass."""

    facts: Facts = field(default_factory=Facts)
    taken: list[float] = field(default_factory=list)
    at: float = 0.0

    async def told(self) -> Facts:
        return self.facts

    async def live(self, heartbeat: Heartbeat, url: str, seconds: float) -> None:
        """Look as `run()` does, without the waiting."""
        async with open_session() as session:
            end = self.at + seconds
            while self.at < end:
                await heartbeat.look(session, url, self.at)
                self.at += LOOK_SECONDS


def made(daemon: Daemon, url: str, interval: str = "1m") -> Heartbeat:
    settings = HeartbeatSettings.model_validate({"url": url, "interval": interval})
    return Heartbeat(settings, daemon.told, lambda: 1000.0 + daemon.at, daemon.taken.append)


async def test_a_healthy_daemon_pings_every_interval_and_says_when_it_last_did() -> None:
    async with service() as there:
        daemon = Daemon()
        await daemon.live(made(daemon, there.url), there.url, 300)
        assert there.heard == [(f"/ping/{KEY}", "ok")] * 5
        assert daemon.taken == [1000.0, 1060.0, 1120.0, 1180.0, 1240.0]


STUCK = {
    "the store": lambda s: Facts(commit=s),
    "the outbox": lambda s: Facts(unsent=s + 240.0),
    "what it measures with": lambda s: Facts(blind=s + 240.0),
    "the scheduler": lambda s: Facts(overdue=s),
    "a full disk": lambda _s: Facts(fault="the disk is full (database or disk is full)"),
}


@pytest.mark.parametrize("what", STUCK)
async def test_t15_what_stands_still_ends_the_pings_of_success_within_90_s(what: str) -> None:
    async with service() as there:
        daemon = Daemon()
        heartbeat = made(daemon, there.url)
        await daemon.live(heartbeat, there.url, 65)                 # the newest ping has just gone out
        begun, before = daemon.at, len(there.heard)
        failed_at = 0.0
        for second in range(0, 600, int(LOOK_SECONDS)):
            daemon.facts = STUCK[what](float(second))
            await daemon.live(heartbeat, there.url, LOOK_SECONDS)
            if not failed_at and there.heard[-1][0].endswith("/fail"):
                failed_at = daemon.at - begun
        assert 0 < failed_at <= 90
        after = [path for path, _ in there.heard[before:]]
        first = after.index(f"/ping/{KEY}/fail")
        assert first <= 1                                           # a last success may come before it is known
        assert set(after[first:]) == {f"/ping/{KEY}/fail"}
        assert 9 <= len(after) <= 12                                # it goes on being said every minute
        assert any(words in there.heard[-1][1] for words in ("stands still", "database", "open incident", "measure anything for"))


async def test_the_heartbeat_hears_for_how_long_nothing_was_measured(tmp_path: Path) -> None:
    clock, still = ManualClock(), SimpleNamespace(behind=0.0)
    config = SimpleNamespace(probe=[SimpleNamespace(interval=30.0)])
    async with Store(tmp_path) as store:
        for since, seconds in ((None, 0.0), (clock.now() - 400, 400.0), (clock.now() + 5, 0.0)):
            rooms: Any = (store, still, None, None, None, clock)
            facts = await Wellbeing(*rooms, blind=lambda since=since: since)._facts(config)         # type: ignore[misc, arg-type]
            assert facts.blind == seconds
            assert ("measure" in health(facts)) is (seconds > 300)


async def test_news_goes_out_at_once_and_never_more_than_five_pings_a_minute() -> None:
    async with service() as there:
        daemon = Daemon()
        heartbeat = made(daemon, there.url, "15s")
        counts = []
        for turn in range(24):                                      # flapping every 5 s for two minutes
            daemon.facts = Facts(fault="x") if turn % 2 else Facts()
            await daemon.live(heartbeat, there.url, LOOK_SECONDS)
            counts.append(len(there.heard))
        assert max(later - earlier for earlier, later in zip(counts, counts[12:], strict=False)) <= 5
        assert counts[-1] >= 8


async def test_recovery_is_told_at_once() -> None:
    async with service() as there:
        daemon = Daemon()
        heartbeat = made(daemon, there.url, "10m")
        await daemon.live(heartbeat, there.url, 10)
        daemon.facts = Facts(commit=61)
        await daemon.live(heartbeat, there.url, 20)
        daemon.facts = Facts()
        await daemon.live(heartbeat, there.url, 20)
        assert [path.rpartition("/")[2] for path, _ in there.heard] == [KEY, "fail", KEY]


async def test_a_service_that_cannot_be_reached_is_logged_on_transition_without_the_address() -> None:
    async with service() as there:
        daemon = Daemon()
        heartbeat = made(daemon, there.url)
        with capture_logs() as logs:
            there.status = 503
            await daemon.live(heartbeat, there.url, 60)
            there.status = 200
            await daemon.live(heartbeat, there.url, 60)
        assert [entry["event"] for entry in logs] == ["heartbeat not delivered", "heartbeat delivered"]
        assert len(there.heard) >= 5                                # tried again soon, not only after an interval
        assert len(daemon.taken) == 1
        assert KEY not in str(logs)
    with capture_logs() as logs:                                    # nobody listens there any more
        await daemon.live(heartbeat, there.url, 60)
    assert [entry["event"] for entry in logs] == ["heartbeat not delivered"]
    assert KEY not in str(logs)


async def test_facts_that_do_not_come_are_bad_news(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> Facts:
        await asyncio.Event().wait()
        return Facts()
    assert ANSWER_SECONDS <= 30
    monkeypatch.setattr("monitor.heartbeat.ANSWER_SECONDS", 0.01)
    async with service() as there, open_session() as session:
        await Heartbeat(HeartbeatSettings.model_validate({"url": there.url}), never, lambda: 0.0).look(session, there.url, 0.0)
        assert there.heard == [(f"/ping/{KEY}/fail", "the database does not answer")]


def test_health_names_the_worst_thing() -> None:
    assert health(Facts()) == ""
    assert health(Facts(overdue=59, interval=300, commit=59, unsent=299)) == ""
    assert health(Facts(overdue=12, interval=1)).startswith("the scheduler")
    assert health(Facts(overdue=9, interval=0.25)) == ""
    assert health(Facts(overdue=60, interval=3600)).startswith("the scheduler")
    assert "committed nothing for 60 s" in health(Facts(commit=60))
    assert "5 min" in health(Facts(unsent=300))
    assert health(Facts(fault="the disk is full")) == "the database cannot be written: the disk is full"


def test_when_a_ping_is_due() -> None:
    assert due(Pulse(), "", 0.0, 60)
    told = Pulse("", 0.0)
    assert [due(told, "", at, 60) for at in (59.9, 60.0)] == [False, True]
    assert [due(told, "bad", at, 60) for at in (11.9, 12.0)] == [False, True]
    assert not due(Pulse("bad", 0.0), "worse", 59, 60)


@pytest.mark.parametrize(("url", "fail"), [
    ("https://hc.example/ping/uuid", "https://hc.example/ping/uuid/fail"),
    ("https://hc.example/ping/uuid/", "https://hc.example/ping/uuid/fail"),
    ("https://hc.example/ping/uuid?create=1", "https://hc.example/ping/uuid/fail?create=1"),
])
def test_failure_is_told_behind_the_path(url: str, fail: str) -> None:
    assert fail_address(url) == fail


def test_only_what_is_not_delivered_of_an_open_incident_counts() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    for incident, resolved in (("open", None), ("over", 50.0)):
        connection.execute("INSERT INTO incident VALUES (?, 'outage', 1, ?, '', '{}')", (incident, resolved))
    rows = [("a", "over", "queued", 1.0), ("b", "open", "done", 2.0), ("c", "open", "dead", 3.0)]

    def add(id_: str, incident: str, state: str, created: float) -> None:
        connection.execute("INSERT INTO outbox (id, receiver, incident, seq, kind, escalation, data, created, not_before, state) "
                           "VALUES (?, 'r', ?, ?, 'firing', 0, '{}', ?, 0, ?)", (id_, incident, ord(id_), created, state))
    for row in rows:
        add(*row)
    assert oldest_unsent(connection, 100.0) == 0.0
    add("d", "open", "inflight", 40.0)
    add("e", "open", "queued", 70.0)
    assert oldest_unsent(connection, 100.0) == 60.0
    connection.close()
