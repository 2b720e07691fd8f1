"""When a receiver is to blame for what it did not get: not while there was no network, nor while Tillwatch did not run."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from desk import FACTS, Hook, hook, make_incident, serving, teller

from monitor import selfwatch
from monitor.alerts import dispatch, lane, outbox
from monitor.alerts.delivery import Delivered, DeliveryError, ReceiverSettings, hearers
from monitor.alerts.dispatch import Dispatch
from monitor.alerts.outbox import AILING_AFTER, Ailing
from monitor.casebook import Casebook, Reports
from monitor.clock import Clock, ManualClock
from monitor.incidents import Transition
from monitor.selfwatch import Facts, SelfWatch, Views, faults
from monitor.store import Store

DOWN = "http://127.0.0.1:9"  # nobody listens on the port of the discard service
INCIDENT = make_incident()
FAILED = DeliveryError("no route to host", code="connect")
FAULT = make_incident("01fault", kind="monitor_fault", cause="self:receiver:oncall", urgency="ticket", members=(), said="oncall cannot be told")


@pytest.mark.parametrize(
    ("others", "names"),
    [
        ([hook("pager"), hook("chat", urgency="ticket"), hook("mail", on=["monitor_fault"])], ["chat", "mail"]),
        ([hook("pager"), hook("siren")], ["pager", "siren"]),
    ],
)
def test_for_tickets_that_do_not_arrive_nobody_is_woken_who_need_not_be(others: list[ReceiverSettings], names: list[str]) -> None:
    receivers = [hook("oncall", urgency="ticket"), *others]
    assert [r.name for r in hearers(FAULT, receivers, {"oncall"})] == names


def test_a_receiver_is_to_blame_after_five_minutes_with_a_network() -> None:
    def blamed(**changes: Any) -> bool:
        values: dict[str, Any] = {"now": 1000.0, "blamable": 700.0, "ailing": {"sms": Ailing(100.0, "down", refused=False, pages=1)}}
        return bool(faults(Facts(**values | changes)))

    assert blamed()
    assert not blamed(blamable=701.0)
    assert not blamed(lost=True)
    assert blamed(blamable=999.0, ailing={"sms": Ailing(100.0, "401", refused=True, pages=1)}), "who answers has a network"


class Watched:
    """A self-watch and a receiver *oncall* whose attempts end as `fate` says, once a minute."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.receivers = [hook("oncall"), hook("mail", on=["monitor_fault"])]
        self.lost = False
        self.fate: outbox.Result = FAILED
        self.casebook = Casebook(store, self.receivers, clock, Reports())
        self.start()

    def start(self) -> None:
        self.watch = SelfWatch(self.store, self.casebook, self.clock, Views(lost=lambda: self.lost))

    async def minutes(self, count: float, *, tried: bool = True) -> list[str]:
        """The faults that are open after so many."""
        for step in range(int(count * 12)):
            if tried and step % 12 == 0:
                await self.store.write(self._try)
            await self.watch.look()
            self.clock.at += 5
        await self.casebook.settled()
        return [i.cause for i in self.casebook.open if i.kind == "monitor_fault"]

    def _try(self, connection: Any) -> None:
        outbox.retry_now(connection, ["oncall"], self.clock.at)
        for parcel in outbox.claim(connection, "oncall", "boot", self.clock.at, 8):
            outbox.settle(connection, parcel.row.id, self.fate, self.clock.at)


@pytest.fixture
async def watched(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(selfwatch, "_file_system", lambda _store: (0, 0))
    async with Store(tmp_path) as store:
        watched = Watched(store, clock)
        running = asyncio.create_task(watched.casebook.run())
        watched.casebook.apply([Transition("firing", INCIDENT)])
        await watched.casebook.settled()
        yield watched
        running.cancel()


BLAMED = ["self:receiver:oncall"]


async def test_after_a_loss_of_the_network_a_receiver_has_five_minutes(watched: Watched) -> None:
    watched.lost = True
    assert await watched.minutes(10) == []
    watched.lost = False
    assert await watched.minutes(AILING_AFTER / 60 - 0.25) == []
    assert await watched.minutes(1) == BLAMED
    watched.fate = Delivered()
    assert await watched.minutes(0.5) == []


async def test_a_receiver_that_is_well_when_the_network_is_back_is_never_blamed(watched: Watched) -> None:
    watched.lost = True
    await watched.minutes(10)
    watched.lost, watched.fate = False, Delivered()
    assert await watched.minutes(10) == []
    assert await watched.store.read(lambda c: c.execute("SELECT DISTINCT receiver FROM outbox").fetchall()) == [("oncall",)]


async def test_a_fault_that_is_open_is_neither_ended_nor_told_anew_by_a_loss_of_the_network(watched: Watched) -> None:
    assert await watched.minutes(6) == BLAMED
    watched.lost = True
    assert await watched.minutes(10) == BLAMED
    watched.lost = False
    assert await watched.minutes(10) == BLAMED
    rows = await watched.store.read(lambda c: c.execute("SELECT kind FROM outbox WHERE receiver = 'mail'").fetchall())
    assert rows == [("firing",)]


async def test_after_a_stop_the_receiver_is_tried_first_and_what_was_known_stays(watched: Watched, clock: ManualClock) -> None:
    await watched.minutes(1)
    clock.at += 3600
    watched.start()
    assert await watched.minutes(2, tried=False) == []
    assert await watched.minutes(4) == BLAMED
    clock.at += 3600
    watched.start()
    assert await watched.minutes(2, tried=False) == BLAMED


# ---- the fallback


@pytest.fixture(autouse=True)
def short_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 0.2)


async def wait(desk: Dispatch, clock: ManualClock, seconds: float) -> None:
    await desk.settled()
    for _ in range(int(seconds)):
        clock.at += 1
        await desk.settled()


def pair(server: Hook, oncall: str = DOWN) -> list[ReceiverSettings]:
    return [hook("oncall", oncall, fallback="chat"), hook("chat", f"{server.url}/chat", on=["regression"])]


def desk_of(store: Any, clock: Clock, receivers: list[ReceiverSettings], **more: Any) -> Dispatch:
    return Dispatch(store, receivers, clock, lambda _incident: FACTS, **more)


async def test_after_a_stop_the_fallback_is_not_woken_before_the_receiver_had_its_minute(store: Store, clock: ManualClock, server: Hook) -> None:
    async with desk_of(store, clock, pair(server)) as desk:
        await teller(store, clock, pair(server))("firing", INCIDENT)
        await wait(desk, clock, 10)
    clock.at += 3600
    async with desk_of(store, clock, pair(server)) as desk:
        await wait(desk, clock, 59)
        assert server.got == []
        await wait(desk, clock, 31)
        assert len(server.got) == 1


@pytest.mark.parametrize("works", [True, False])
async def test_when_the_network_is_back_the_receiver_is_tried_at_once_and_only_then_the_fallback(
    store: Store, clock: ManualClock, server: Hook, works: bool
) -> None:
    lost = True
    async with serving(Hook()) as oncall:
        oncall.answer = 500
        receivers = pair(server, oncall.url)
        async with desk_of(store, clock, receivers, lost=lambda: lost) as desk:
            await teller(store, clock, receivers)("firing", INCIDENT)
            await wait(desk, clock, 7200)
            assert server.got == [], "what fails without a network is nobody's fault"
            await store.write(lambda c: c.execute("UPDATE outbox SET not_before = ? + 250", (clock.at,)).fetchall())
            oncall.got.clear()
            lost, oncall.answer = False, 200 if works else 500
            await desk.settled()
            assert len(oncall.got) == 1, "at once"
            await wait(desk, clock, 58)
            assert server.got == []
            await wait(desk, clock, 2 + lane.LOOK_SECONDS)
            assert len(server.got) == (0 if works else 1)
