"""Receivers that come, go and come back under another name while something is open: who hears of it, once."""

import asyncio
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from desk import FACTS, NIGHT, Hook, hook, make_incident, silent_server, teller, until
from processes import Stopwatch

from monitor.alerts import dispatch, lane, outbox
from monitor.alerts.delivery import DeliveryError, ReceiverSettings, hearers
from monitor.alerts.dispatch import Dispatch
from monitor.clock import Clock, ManualClock
from monitor.incidents import Transition
from monitor.store import Store, records

NOW = NIGHT + 60
DOWN = "http://127.0.0.1:9"
INCIDENT = make_incident()
TAKEN = make_incident("02taken", acked_by="ann", acked_at=NOW)
HELD = make_incident("03held")
UNTOLD = make_incident("04untold", told=False)
TICKET = make_incident("05ticket", urgency="ticket")
FAULT = make_incident("06fault", kind="monitor_fault", cause="self:receiver:oncall", urgency="page", members=(), said="oncall cannot be told")


def desk_of(store: Any, clock: Clock, *receivers: ReceiverSettings, **more: Any) -> Dispatch:
    return Dispatch(store, receivers, clock, lambda _incident: FACTS, **more)


async def look_again(desk: Dispatch, clock: ManualClock) -> None:
    clock.at += lane.LOOK_SECONDS
    await desk.settled()


def told(server: Hook) -> list[str]:
    return [post.path for post in server.got]


async def test_a_receiver_under_a_new_name_hears_once_of_what_is_open(store: Store, clock: ManualClock, server: Hook) -> None:
    stays, fresh = hook("stays", f"{server.url}/stays"), hook("oncall2", f"{server.url}/fresh")
    async with desk_of(store, clock, stays, hook("oncall", DOWN)) as desk:
        await teller(store, clock, [stays, hook("oncall", DOWN)])("firing", INCIDENT)
        await desk.settled()
        for _ in range(2):
            await desk.change([stays, fresh])
            await look_again(desk, clock)
        assert told(server) == ["/stays", "/fresh"]
    async with desk_of(store, clock, stays, fresh) as desk:
        await look_again(desk, clock)
    assert told(server) == ["/stays", "/fresh"]


async def test_a_receiver_that_is_new_at_the_start_hears_of_what_is_open(store: Store, clock: ManualClock, server: Hook) -> None:
    await teller(store, clock, [])("firing", INCIDENT)
    async with desk_of(store, clock, hook(url=server.url)) as desk:
        await desk.settled()
    assert len(server.got) == 1


async def test_what_is_held_back_is_told_to_a_new_receiver_when_it_is_not_any_more(store: Store, clock: ManualClock, server: Hook) -> None:
    held = {HELD.id}
    for incident in (TAKEN, HELD, UNTOLD, TICKET):
        await teller(store, clock, [])("firing", incident)
    async with desk_of(store, clock, hook(url=server.url), held=lambda _now: held) as desk:
        await look_again(desk, clock)
        assert server.got == []
        held.clear()
        await look_again(desk, clock)
        await look_again(desk, clock)
    rows = await store.read(lambda c: c.execute("SELECT incident, state FROM outbox").fetchall())
    assert rows == [(HELD.id, "done")]


def test_that_somebody_has_taken_it_pages_nobody(connection: sqlite3.Connection) -> None:
    records.save_incident(connection, TAKEN, NOW, "acknowledged")
    for what in ("acknowledged", "changed"):
        outbox.enqueue(connection, Transition(what, TAKEN), [hook()], NOW)  # type: ignore[arg-type]
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_many_at_once_are_written_in_bites(connection: sqlite3.Connection) -> None:
    for number in range(outbox.BITE + 1):
        records.save_incident(connection, replace(INCIDENT, id=f"i{number:03}"), NOW, "firing")
    assert [outbox.catch_up(connection, "hook", [hook()], (), NOW) for _ in range(3)] == [outbox.BITE, 1, 0]


def test_nobody_hears_that_a_receiver_fails_which_is_gone() -> None:
    receivers = [hook("chat"), hook("mail", on=["monitor_fault"])]
    assert hearers(FAULT, receivers) == []
    assert [r.name for r in hearers(FAULT, [hook("oncall"), *receivers])] == ["chat", "mail"]


async def test_a_change_while_it_ends_is_written_down_and_starts_nothing(
    store: Store, clock: ManualClock, server: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 0.5)
    async with silent_server() as silent:
        slow, fresh = hook("slow", f"http://127.0.0.1:{silent}"), hook("fresh", server.url)
        desk = desk_of(store, clock, slow)
        await desk.__aenter__()
        await teller(store, clock, [slow, hook("gone")])("firing", INCIDENT)
        desk.wake()
        await until(lambda: bool(desk._lanes["slow"]._busy))
        with Stopwatch(store._writer._thread.native_id) as took:
            leaving = asyncio.create_task(desk.__aexit__(None, None, None))
            await until(lambda: desk._stopping)
            await desk.change([slow, fresh])
            async with asyncio.timeout(20):
                await leaving
            assert took() < dispatch.DRAIN_SECONDS + 2
    assert server.got == []
    rows = await store.read(lambda c: c.execute("SELECT receiver, state FROM outbox ORDER BY receiver").fetchall())
    assert rows == [("gone", "parked"), ("slow", "inflight")]


# ---- what waits behind another


def test_what_stands_behind_another_is_not_due_before_it(connection: sqlite3.Connection) -> None:
    records.save_incident(connection, INCIDENT, NOW, "firing")
    outbox.enqueue(connection, Transition("firing", INCIDENT), [hook()], NOW)
    (parcel,) = outbox.claim(connection, "hook", "boot", NOW, 8)
    outbox.settle(connection, parcel.row.id, DeliveryError("down", retry_after=300.0), NOW, 0.0)
    taken = replace(INCIDENT, acked_by="ann", acked_at=NOW)
    records.save_incident(connection, taken, NOW + 1, "acknowledged")
    outbox.enqueue(connection, Transition("acknowledged", taken), [hook()], NOW + 1)
    assert outbox.next_due(connection, "hook") == NOW + 300


async def test_a_lane_lies_down_behind_a_message_that_waits(store: Store, clock: ManualClock, server: Hook) -> None:
    """In real time, on a clock that stands still: it may look once more after the attempt, and not twenty times a second."""
    turns = 0

    class Counted:
        read = store.read

        async def write(self, work: Any, *, essential: bool = False) -> Any:
            nonlocal turns
            turns += 1
            return await store.write(work, essential=essential)

    server.answer = 500
    tell = teller(store, clock, [hook(url=server.url)])
    async with desk_of(Counted(), clock, hook(url=server.url)) as desk:
        await tell("firing", INCIDENT)
        await desk.settled()
        await store.write(lambda c: c.execute("UPDATE outbox SET not_before = not_before + 60").fetchall())
        await tell("acknowledged", replace(INCIDENT, acked_by="ann", acked_at=clock.at))
        desk.wake()
        await asyncio.sleep(0.1)
        turns = 0
        await asyncio.sleep(1.0)
        assert turns <= 2
