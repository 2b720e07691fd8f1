"""From the outbox to the receivers: nobody waits for a dead one, and nothing is lost or said twice."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from desk import FACTS, NIGHT, Hook, hook, make_incident, serving, settings, silent_server, teller, until
from processes import Stopwatch, free_port
from structlog.testing import capture_logs

from monitor.alerts import dispatch, lane, outbox, words
from monitor.alerts.delivery import ReceiverSettings
from monitor.alerts.dispatch import Dispatch, Reports
from monitor.clock import ManualClock
from monitor.store import Store, StoreError

INCIDENT = make_incident()


def desk_of(store: Any, clock: ManualClock, *receivers: ReceiverSettings, reports: Reports | None = None) -> Dispatch:
    return Dispatch(store, receivers, clock, lambda _incident: FACTS, reports)


def sentences(server: Hook) -> list[str]:
    return [json.loads(post.body)["data"]["sentence"] for post in server.got]


async def states(store: Store) -> list[tuple[str, str]]:
    return await store.read(lambda c: c.execute("SELECT kind, state FROM outbox ORDER BY incident, seq").fetchall())


async def test_kuma_6046_a_page_is_kept_while_its_receiver_is_down_and_delivered_later(store: Store, clock: ManualClock) -> None:
    port = free_port()
    receiver = hook(url=f"http://127.0.0.1:{port}")
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await tell("firing", INCIDENT)
        for _minute in range(14):
            await desk.settled()
            clock.at += 60
    clock.at += 60
    async with serving(Hook(), port) as server, desk_of(store, clock, receiver) as desk:
        await desk.settled()
        assert len(server.got) == 1
        assert "since 02:14, for 16 min, as of 02:30" in json.loads(server.got[0].body)["data"]["text"]
    assert await states(store) == [("firing", "done")]


async def test_what_is_over_before_the_receiver_is_back_is_told_in_one_message(store: Store, clock: ManualClock) -> None:
    port = free_port()
    receiver = hook(url=f"http://127.0.0.1:{port}")
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await tell("firing", INCIDENT)
        await desk.settled()
        clock.at = NIGHT + 840
        await tell("resolved", replace(INCIDENT, resolved=clock.at, resolution="recovered"))
        async with serving(Hook(), port) as server:
            await desk.settled()
    assert sentences(server) == ["Over, and you could not be told before: *pay* was down 02:14–02:28, lasted 14 min"]
    assert await states(store) == [("firing", "superseded"), ("resolved", "done")]


async def test_a_restart_repeats_nothing(store: Store, clock: ManualClock, server: Hook) -> None:
    tell = teller(store, clock, [hook(url=server.url)])
    async with desk_of(store, clock, hook(url=server.url)) as desk:
        await tell("firing", INCIDENT)
        await desk.settled()
    for _ in range(3):
        clock.at += 3600
        async with desk_of(store, clock, hook(url=server.url)) as desk:
            await desk.settled()
    assert len(server.got) == 1


async def test_a_crash_between_sending_and_writing_down_repeats_under_the_same_id(store: Store, clock: ManualClock, server: Hook) -> None:
    receiver = hook(url=server.url)
    await teller(store, clock, [receiver])("firing", INCIDENT)
    await store.write(lambda c: outbox.claim(c, "hook", "an earlier process", clock.at, 8))
    async with desk_of(store, clock, receiver) as desk:
        await desk.settled()
    (post,) = server.got
    ((id_,),) = await store.read(lambda c: c.execute("SELECT id FROM outbox").fetchall())
    assert post.headers["webhook-id"] == id_


async def test_prometheus_7676_a_dead_receiver_delays_no_other(store: Store, clock: ManualClock, server: Hook) -> None:
    async with silent_server() as silent:
        receivers = [hook("dead", f"http://127.0.0.1:{silent}"), hook("well", server.url)]
        tell = teller(store, clock, receivers)
        with Stopwatch(store._writer._thread.native_id) as took:
            async with desk_of(store, clock, *receivers) as desk:
                for number in range(20):
                    await tell("firing", replace(INCIDENT, id=f"i{number}"))
                took.again()
                desk.wake()
                await until(lambda: len(server.got) == 20)
                assert took() < 1.0
                took.again()
            assert took() < dispatch.DRAIN_SECONDS + 1.0
    waiting = await store.read(lambda c: outbox.waiting(c, ["dead", "well"], clock.at))
    assert waiting == {"dead": (20, 0.0), "well": (0, 0.0)}


async def test_news_is_looked_at_at_once(store: Store, clock: ManualClock, server: Hook) -> None:
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await desk.settled()
        await asyncio.sleep(0.05)  # it has lain down by now
        with Stopwatch(store._writer._thread.native_id) as took:
            await tell("firing", INCIDENT)
            desk.wake()
            await until(lambda: len(server.got) == 1)
            assert took() < 1.0


async def test_what_is_due_is_delivered_before_it_stops(
    store: Store, clock: ManualClock, server: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 20.0)  # of which it needs next to none
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver):
        await tell("firing", INCIDENT)
    assert len(server.got) == 1


async def test_at_most_eight_at_once_and_one_per_incident(store: Store, clock: ManualClock, server: Hook) -> None:
    under_way = most = 0
    gate = asyncio.Event()

    async def slow() -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await gate.wait()
        under_way -= 1
        return web.Response()

    server.answer = slow
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        for number in range(12):
            await tell("firing", replace(INCIDENT, id=f"i{number:02}"))
        desk.wake()
        await until(lambda: under_way == lane.AT_ONCE)
        gate.set()
        await desk.settled()
    assert (most, len(server.got)) == (lane.AT_ONCE, 12)


async def test_attempts_are_reported(store: Store, clock: ManualClock, server: Hook) -> None:
    seen: list[tuple[str, str]] = []
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    reports = Reports(attempted=lambda name, outcome, _seconds: seen.append((name, outcome)))
    async with desk_of(store, clock, receiver, reports=reports) as desk:
        await tell("firing", INCIDENT)
        for status, later in ((500, 2), (200, 0)):
            server.answer = status
            await desk.settled()
            clock.at += later
        await tell("firing", replace(INCIDENT, id="other"))
        server.answer = 404
        await desk.settled()
        await tell("resolved", replace(INCIDENT, id="other", resolved=clock.at))
        for _ in range(3):
            await desk.settled()
            clock.at += 2
    assert seen == [("hook", "failed"), ("hook", "delivered"), ("hook", "failed"), ("hook", "failed"), ("hook", "dead")]


@pytest.mark.parametrize("status", [401, 404])
async def test_a_receiver_that_refuses_is_not_hammered_and_has_the_page_when_it_is_mended(
    store: Store, clock: ManualClock, server: Hook, status: int
) -> None:
    seen: list[str] = []
    server.answer = status
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    reports = Reports(attempted=lambda _name, outcome, _seconds: seen.append(outcome))
    with capture_logs() as logs:
        async with desk_of(store, clock, receiver, reports=reports) as desk:
            await tell("firing", INCIDENT)
            for _second in range(600):
                await desk.settled()
                clock.at += 1
                assert len(server.got) <= 3 or clock.at > NIGHT + 120
            assert 3 <= len(server.got) <= 5
            assert await states(store) == [("firing", "queued")]
            server.answer = 200
            clock.at += 300
            await desk.settled()
    assert seen == ["failed"] * (len(server.got) - 1) + ["delivered"]
    assert len([entry for entry in logs if entry["log_level"] == "error"]) == 1, "said once, however often it is tried"
    assert await states(store) == [("firing", "done")]


async def test_alertmanager_is_told_again_every_minute_and_of_the_end_for_five(store: Store, clock: ManualClock, server: Hook) -> None:
    receiver = settings("alertmanager", name="am", peers=[server.url])
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await tell("firing", INCIDENT)
        await desk.settled()
        for _second in range(600):
            clock.at += 1
            await desk.settled()
        assert len(server.got) == 11
        await tell("resolved", replace(INCIDENT, resolved=clock.at))
        await desk.settled()
        firing = len(server.got)
        for _second in range(900):
            clock.at += 1
            await desk.settled()
    bodies = [json.loads(post.body) for post in server.got]
    assert len({json.dumps(alerts[0]["labels"]) for alerts in bodies}) == 1
    ends = {alerts[0]["endsAt"] for alerts in bodies[firing - 1 :]}
    assert len(ends) == 1
    assert len(server.got) - firing == 4  # and once at first: five in five minutes


class Failing:
    """A store of which writing, or everything, fails."""

    def __init__(self, store: Store) -> None:
        self.store, self.writes, self.reads = store, True, True

    async def write(self, work: Callable[[sqlite3.Connection], Any], *, essential: bool = False) -> Any:
        return await self._or_fail(self.store.write, work, works=self.writes)

    async def read(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self._or_fail(self.store.read, work, works=self.reads)

    async def _or_fail(self, ask: Callable[..., Awaitable[Any]], work: Any, *, works: bool) -> Any:
        if not works:
            raise StoreError("database or disk is full")
        return await ask(work)


async def test_a_store_that_cannot_write_does_not_hold_back_a_page_nor_send_it_twice(
    store: Store,
    clock: ManualClock,
    server: Hook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane, "STORE_RETRY_SECONDS", 0.01)
    shelf, receiver = Failing(store), hook(url=server.url)
    async with desk_of(shelf, clock, receiver) as desk:
        await desk.settled()
        await teller(store, clock, [receiver])("firing", INCIDENT)
        shelf.writes = False
        desk.wake()
        await until(lambda: len(server.got) == 1)
        await asyncio.sleep(0.1)
        shelf.writes = True
        await desk.settled()
    assert len(server.got) == 1
    assert await states(store) == [("firing", "done")]


async def test_a_page_goes_out_even_when_its_words_fail(
    store: Store,
    clock: ManualClock,
    server: Hook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words, "sentence", lambda *_args, **_values: 1 / 0)
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await tell("firing", INCIDENT)
        await desk.settled()
    data = json.loads(server.got[0].body)["data"]
    assert data["text"] == "outage at example-shop is firing\nhttps://till.example/incidents/01incident"


async def test_a_dead_lane_ends_the_daemon(store: Store, clock: ManualClock, server: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "claim", lambda *_: 1 / 0)
    with pytest.raises(ExceptionGroup):
        async with desk_of(store, clock, hook(url=server.url)):
            await asyncio.sleep(5)
