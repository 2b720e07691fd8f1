"""Receivers that are away, slow, busy or refuse, over minutes and days: who is told when, and by whom."""

import asyncio
import json
import re
import resource
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from desk import FACTS, NIGHT, Hook, hook, make_incident, patience_of, serving, silent_server, teller, until
from processes import Stopwatch, free_port

from monitor.alerts import dispatch, lane, outbox
from monitor.alerts.budget import Budget
from monitor.alerts.delivery import DeliveryError, ReceiverSettings
from monitor.alerts.dispatch import Dispatch
from monitor.clock import Clock, ManualClock
from monitor.incidents import Transition
from monitor.store import Store, StoreError, records

INCIDENT = make_incident()
DOWN = "http://127.0.0.1:9"  # nobody listens on the port of the discard service


def desk_of(store: Any, clock: Clock, *receivers: ReceiverSettings, **more: Any) -> Dispatch:
    return Dispatch(store, receivers, clock, lambda _incident: FACTS, **more)


async def wait(desk: Dispatch, clock: ManualClock, seconds: float, step: float = 1.0, look: Callable[[], bool] = lambda: False) -> float:
    """Let time pass, and all happen that is due, until `look` is true; how long it took."""
    begun = clock.at
    await desk.settled()
    while clock.at < begun + seconds and not look():
        clock.at += step
        await desk.settled()
    return clock.at - begun


@pytest.fixture(autouse=True)
def short_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 0.2)


def told(server: Hook) -> list[dict[str, Any]]:
    return [json.loads(post.body)["data"] for post in server.got]


def kinds(server: Hook) -> list[str]:
    return [json.loads(post.body)["type"] for post in server.got]


# ---- T4: away


@pytest.mark.parametrize(("away", "within", "step", "lasting"), [(600, 60, 1.0, r"for 1[12] min"), (86_400, 300, 20.0, r"for 24 h")])
async def test_a_receiver_that_was_away_hears_soon_after_it_is_back(
    store: Store, clock: ManualClock, away: float, within: float, step: float, lasting: str
) -> None:
    port = free_port()
    receiver = hook(url=f"http://127.0.0.1:{port}")
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await tell("firing", INCIDENT)
        await wait(desk, clock, away / 2, step)
        await tell("firing", replace(INCIDENT, id="02short", began=clock.at, opened=clock.at))
        await wait(desk, clock, 60, step)
        await tell("resolved", replace(INCIDENT, id="02short", began=clock.at - 60, resolved=clock.at, resolution="recovered"))
        await wait(desk, clock, away / 2 - 60, step)
        async with serving(Hook(), port) as server:
            assert await wait(desk, clock, 400, step, lambda: len(server.got) == 2) <= within + step
            long = next(data for data in told(server) if data["state"] == "firing")
            short = next(data for data in told(server) if data["state"] == "resolved")
            assert re.search(lasting, long["text"])
            assert "could not be told before" in short["sentence"]
            assert "lasted 60 s" in short["sentence"]
            await tell("resolved", replace(INCIDENT, resolved=clock.at, resolution="recovered"))
            await desk.settled()
            assert [k for k, data in zip(kinds(server), told(server), strict=True) if data["incident"] == INCIDENT.id] == [
                "incident.firing", "incident.resolved"]


# ---- T5: without an answer in time


async def test_an_end_never_overtakes_a_beginning_that_arrives_late(
    store: Store, clock: ManualClock, server: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver works on what it was sent for longer than we wait for its answer."""
    time_is_up = patience_of(dispatch, dispatch.TIMEOUT, monkeypatch)
    states: list[str] = []
    worked = asyncio.Event()

    async def slow() -> web.StreamResponse:
        what = json.loads(server.got[-1].body)["type"]
        if what == "incident.firing":
            await asyncio.shield(worked.wait())
        states.append(what)
        return web.Response()

    server.answer = slow
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await tell("firing", INCIDENT)
        desk.wake()
        await until(lambda: len(server.got) == 1)
        await tell("resolved", replace(INCIDENT, resolved=clock.at))
        time_is_up()
        await desk.settled()
        assert (states, len(server.got)) == ([], 1), "the end has not left yet"
        worked.set()
        await until(lambda: len(states) == 1)
        await wait(desk, clock, 31)
    assert states == ["incident.firing", "incident.resolved"]


# ---- T7: left alone


async def test_a_receiver_that_asks_to_be_left_alone_is_left_alone_by_all_messages(store: Store, clock: ManualClock, server: Hook) -> None:
    at: list[float] = []
    answers = [web.Response(status=429, headers={"Retry-After": "30"}), web.Response(status=429), web.Response(status=503)]

    async def answer() -> web.StreamResponse:
        at.append(clock.at)
        return answers.pop(0) if answers else web.Response()

    server.answer = answer
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await tell("firing", INCIDENT)
        await desk.settled()
        for number in range(5):
            await tell("firing", replace(INCIDENT, id=f"i{number}"))
        await wait(desk, clock, 29)
        assert at == [NIGHT + 60]
        await wait(desk, clock, 60, look=lambda: len(at) >= 9)
    assert at[1] == NIGHT + 90
    assert len(at) == 9, "three refusals, six messages"


async def test_who_answers_503_with_a_time_is_left_alone_but_greylisting_is_one_recipients_matter(store: Store, clock: ManualClock) -> None:
    way = desk_of(store, clock, hook())._lanes["hook"]
    for code, paused in (("450", False), ("503", True)):
        way._heed(DeliveryError("later", retry_after=60.0, code=code))
        assert (way._budget.free(clock.at, 8) == 0) is paused


# ---- budget


def test_a_budget_is_a_burst_and_then_a_rate() -> None:
    budget, sent = Budget(60.0, 0.0), []
    for tick in range(6000):
        now = tick / 10
        free = budget.free(now, 8)
        budget.spend(free)
        sent += [now] * free
        assert budget.ready(now) <= now + 1.01
    assert len([at for at in sent if at < 1]) == 20
    assert max(len([at for at in sent if start <= at < start + 60]) for start in range(540)) <= 80
    assert 600 <= len(sent) <= 620
    budget.pause(700.0)
    assert (budget.free(699.9, 8), budget.ready(650.0), budget.free(700.0, 8)) == (0, 700.0, 8)


def test_a_budget_without_end_stops_nothing() -> None:
    budget = Budget(float("inf"), 0.0)
    for _ in range(1000):
        assert budget.free(0.0, 8) == 8
        budget.spend(8)


class Twelve(type(hook())):  # type: ignore[misc]
    """As a hosted service that takes little."""

    per_minute = 12.0


async def test_more_than_a_receiver_takes_waits_and_is_not_lost(store: Store, clock: ManualClock, server: Hook) -> None:
    receiver = Twelve.model_validate(hook(url=server.url).model_dump() | {"secret": hook().secret})
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        for number in range(40):
            await tell("firing", replace(INCIDENT, id=f"i{number:02}"))
        await desk.settled()
        assert len(server.got) == 10
        await wait(desk, clock, 60)
        assert len(server.got) == 22
        await wait(desk, clock, 100)
        assert len(server.got) == 40


# ---- T6 and T8: how soon


async def test_a_page_leaves_within_a_second_and_a_dead_receiver_with_a_long_queue_delays_nobody(store: Store) -> None:
    """Four receivers that are well, and one that swallows connections with 10,000 messages to it: in real time."""
    clock = Clock()
    async with silent_server() as silent, serving(Hook()) as server:
        dead = hook("dead", f"http://127.0.0.1:{silent}", on=["update"])
        well = [hook(f"well{number}", f"{server.url}/{number}") for number in range(4)]
        now, before = clock.now(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def fill(connection: Any) -> None:
            for number in range(10_000):
                update = make_incident(f"n{number}", kind="update", cause="update", update=f"u{number}", members=(), said="Update")
                outbox.notify(connection, update, [dead], now)

        await store.write(fill)
        tell = teller(store, clock, [dead, *well])
        with Stopwatch(store._writer._thread.native_id) as took:
            async with desk_of(store, clock, dead, *well) as desk:
                delays = []
                for number in range(40):
                    begun = clock.now()
                    took.again()
                    await tell("firing", make_incident(f"i{number}", began=begun, opened=begun))
                    desk.wake()
                    await until(lambda: len(server.got) == 4 * (number + 1))  # noqa: B023 - waited for in the same turn
                    delays.append(took())
                    assert desk.stuck <= took.kept
        assert max(delays) < 1.0
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000, "kB"


# ---- T9: somebody else is told


async def refused_at(server: Hook) -> str:
    return DOWN


async def tls_error_at(server: Hook) -> str:
    return server.url.replace("http:", "https:") + "/tls"


async def error_at(server: Hook) -> str:
    return f"{server.url}/broken"


@pytest.mark.parametrize("where", [refused_at, tls_error_at, error_at])
async def test_the_fallback_is_told_within_90_s_once_and_of_the_end(
    store: Store, clock: ManualClock, server: Hook, where: Callable[[Hook], Awaitable[str]]
) -> None:
    async def by_path() -> web.StreamResponse:
        return web.Response(status=500 if server.got[-1].path == "/broken" else 200)

    server.answer = by_path
    receivers = [hook("oncall", await where(server), fallback="chat"), hook("chat", f"{server.url}/chat", on=["monitor_fault"])]
    tell = teller(store, clock, receivers)

    def chat() -> list[dict[str, Any]]:
        return [json.loads(post.body)["data"] for post in server.got if post.path == "/chat"]

    async with desk_of(store, clock, *receivers) as desk:
        await tell("firing", INCIDENT)
        assert 60 <= await wait(desk, clock, 200, look=lambda: bool(chat())) <= 90
        assert chat()[0]["why"].startswith("instead of oncall, which could not be reached since 02:15")
        await wait(desk, clock, 300)
    async with desk_of(store, clock, *receivers) as desk:
        await wait(desk, clock, 300)
        assert len(chat()) == 1, "once per incident, also over a restart"
        await tell("resolved", replace(INCIDENT, resolved=clock.at, resolution="recovered"))
        await desk.settled()
    assert [data["state"] for data in chat()] == ["firing", "resolved"]


async def test_a_receiver_without_a_free_place_does_not_hold_up_the_fallback(store: Store, clock: ManualClock, server: Hook) -> None:
    """All eight places wait for answers when the ninth page comes."""
    async with silent_server() as silent:
        receivers = [hook("oncall", f"http://127.0.0.1:{silent}", fallback="chat"), hook("chat", server.url, on=["regression"])]
        tell = teller(store, clock, receivers)
        async with desk_of(store, clock, *receivers) as desk:
            for number in range(9):
                await tell("firing", replace(INCIDENT, id=f"i{number}"))
            desk.wake()
            await until(lambda: len(desk._lanes["oncall"]._busy) == 8)
            busy = set(desk._lanes["oncall"]._busy)
            clock.at += 90
            desk.wake()
            await until(lambda: len(server.got) == 1)
    assert told(server)[0]["incident"] not in busy, "those are under way and may still get through"


async def test_nobody_is_told_in_place_of_another_while_paging_is_held_back(store: Store, clock: ManualClock, server: Hook) -> None:
    held = {INCIDENT.id}
    receivers = [hook("oncall", DOWN, fallback="chat"), hook("chat", server.url, on=["regression"])]
    tell = teller(store, clock, receivers)
    async with desk_of(store, clock, *receivers, held=lambda _now: held) as desk:
        await tell("firing", INCIDENT)
        await wait(desk, clock, 300)
        assert server.got == []
        held.clear()
        assert await wait(desk, clock, 60, look=lambda: bool(server.got)) <= lane.LOOK_SECONDS + 1


# ---- T10: refused


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413])
async def test_a_refusal_is_tried_once_with_the_least_and_then_reported_and_told_elsewhere(
    store: Store, clock: ManualClock, server: Hook, status: int
) -> None:
    async def by_path() -> web.StreamResponse:
        return web.Response(status=status if server.got[-1].path == "/bad" else 200)

    server.answer = by_path
    receivers = [hook("oncall", f"{server.url}/bad", fallback="chat"), hook("chat", f"{server.url}/chat", on=["regression"])]
    tell = teller(store, clock, receivers)
    async with desk_of(store, clock, *receivers) as desk:
        await tell("firing", INCIDENT)
        await wait(desk, clock, 3)
        paths = [post.path for post in server.got]
        assert paths == ["/bad", "/bad", "/chat"], "refused for good: the other is told at once"
        found = (await store.read(lambda c: outbox.ailing(c, clock.at)))["oncall"]
        assert (found.refused, found.pages, str(status) in found.reason) == (True, 1, True)
        await wait(desk, clock, 200)
        assert len(server.got) == 3


# ---- T12: flapping


async def test_200_flips_in_ten_minutes_end_with_the_last_state(store: Store, clock: ManualClock, server: Hook) -> None:
    receiver = hook(url=server.url)
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        for number in range(100):
            incident = make_incident(f"i{number:03}", began=clock.at, opened=clock.at)
            await tell("firing", incident)
            await wait(desk, clock, 3)
            if number < 99:
                await tell("resolved", replace(incident, resolved=clock.at, resolution="recovered"))
                await wait(desk, clock, 3)
    story = [(data["incident"], data["state"]) for data in told(server)]
    assert story[-1] == ("i099", "firing")
    assert story == [(f"i{n:03}", state) for n in range(100) for state in ("firing", "resolved")][:-1]


# ---- reminders and acknowledgements


async def test_a_page_is_said_again_until_somebody_takes_it(store: Store, clock: ManualClock, server: Hook) -> None:
    receiver = hook(url=server.url, remind="30m")
    tell = teller(store, clock, [receiver])
    async with desk_of(store, clock, receiver) as desk:
        await tell("firing", INCIDENT)
        await wait(desk, clock, 3700, 5.0)
        assert kinds(server) == ["incident.firing", "incident.reminder", "incident.reminder"]
        assert told(server)[-1]["why"] == "still wrong after 1 h 1 min, and nobody acknowledged it"
        taken = replace(INCIDENT, acked_by="ann", acked_at=clock.at)
        await tell("acknowledged", taken)
        await wait(desk, clock, 7200, 60.0)
        assert kinds(server)[3:] == ["incident.acknowledged"]
        await tell("resolved", replace(taken, resolved=clock.at))
        await desk.settled()
    assert kinds(server)[4:] == ["incident.resolved"]


# ---- a change of receivers


async def test_a_change_loses_nothing_and_repeats_nothing(store: Store, clock: ManualClock, server: Hook) -> None:
    stays, old = hook("stays", f"{server.url}/stays"), hook("old", DOWN)
    tell = teller(store, clock, [stays, old])
    async with desk_of(store, clock, stays, old) as desk:
        await tell("firing", INCIDENT)
        await wait(desk, clock, 10)
        new = hook("new", f"{server.url}/new")
        await desk.change([stays, new])
        assert sorted(desk._lanes) == ["new", "stays"]
        await teller(store, clock, [stays, new])("firing", replace(INCIDENT, id="02next"))
        await wait(desk, clock, 400)
        paths = [post.path for post in server.got]
        assert sorted(paths) == ["/new", "/new", "/stays", "/stays"]
        assert await store.read(lambda c: outbox.ailing(c, clock.at)) == {}, "who is gone is not ill"
        await desk.change([stays, new, hook("old", f"{server.url}/old")])
        await desk.settled()
    back = [data["incident"] for data in told(server)[4:]]
    assert sorted(back) == [INCIDENT.id, "02next"], "what was kept for it goes out when it is back, and what began meanwhile"


async def test_new_settings_hold_from_the_next_attempt_which_comes_at_once(store: Store, clock: ManualClock, server: Hook) -> None:
    server.answer = 401
    tell = teller(store, clock, [hook(url=f"{server.url}/stale")])
    async with desk_of(store, clock, hook(url=f"{server.url}/stale")) as desk:
        await tell("firing", INCIDENT)
        await wait(desk, clock, 10)
        assert len(server.got) == 2
        server.answer = 200
        await desk.change([hook(url=f"{server.url}/fresh")])
        await desk.settled()
        await desk.change([hook(url=f"{server.url}/fresh")])
        await wait(desk, clock, 400)
    assert [post.path for post in server.got[2:]] == ["/fresh"]
    assert "text" in told(server)[-1], "and the whole page again"


async def test_what_is_under_way_to_a_receiver_that_goes_is_finished(store: Store, clock: ManualClock, server: Hook) -> None:
    gate = asyncio.Event()

    async def slow() -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    server.answer = slow
    tell = teller(store, clock, [hook(url=server.url)])
    async with desk_of(store, clock, hook(url=server.url)) as desk:
        await tell("firing", INCIDENT)
        desk.wake()
        await until(lambda: len(server.got) == 1)
        await desk.change([])
        await desk.change([hook(url=server.url)])  # back before its old lane has ended
        gate.set()
        await until(lambda: len(desk._tasks) == 1)
        await wait(desk, clock, 60)
    assert len(server.got) == 1
    assert await store.read(lambda c: c.execute("SELECT state FROM outbox").fetchall()) == [("done",)]


# ---- the watchdog, and a store that knows nothing


async def test_a_lane_that_does_not_turn_is_stuck_and_one_that_waits_is_not(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "TURN_SECONDS", 0.3)
    going = asyncio.Event()
    going.set()

    class Hanging:
        read = store.read

        async def write(self, work: Any, *, essential: bool = False) -> Any:
            await going.wait()
            return await store.write(work, essential=essential)

    async with silent_server() as silent:
        receiver = hook(url=f"http://127.0.0.1:{silent}")
        async with desk_of(Hanging(), clock, receiver) as desk:
            await teller(store, clock, [receiver])("firing", INCIDENT)
            desk.wake()
            await until(lambda: bool(desk._lanes["hook"]._busy))
            await asyncio.sleep(0.1)
            assert desk.stuck == 0.0
            going.clear()
            desk.wake()
            await until(lambda: desk.stuck > 0.1)
            going.set()
            await until(lambda: desk.stuck == 0.0)


async def test_more_than_eight_pages_go_out_while_nothing_at_all_can_be_written(
    store: Store, clock: ManualClock, server: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "STORE_RETRY_SECONDS", 0.01)
    broken = False

    class Broken:
        read = store.read

        async def write(self, work: Any, *, essential: bool = False) -> Any:
            if broken:
                raise StoreError("no spare either")
            return await store.write(work, essential=essential)

    receiver = hook(url=server.url)
    async with desk_of(Broken(), clock, receiver) as desk:
        await desk.settled()
        broken = True

        def work(connection: Any) -> None:
            for number in range(12):
                incident = replace(INCIDENT, id=f"i{number}")
                records.save_incident(connection, incident, clock.at, "firing")
                outbox.enqueue(connection, Transition("firing", incident), [receiver], clock.at)

        await store.write(work)
        desk.wake()
        await until(lambda: len(server.got) == 12)
        await asyncio.sleep(0.1)
        broken = False
        await desk.settled()
    assert len(server.got) == 12
    assert {state for (state,) in await store.read(lambda c: c.execute("SELECT state FROM outbox").fetchall())} == {"done"}
