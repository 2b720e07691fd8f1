"""All messages to one receiver: what is due goes out, within its budget, and again until it has them.

A lane works from stored state alone, so a restart repeats nothing and forgets nothing. Beside what is written down for its
receiver it writes more: a message to another in its place, and reminders.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from sqlite3 import Connection
from typing import Protocol, TypeVar

import structlog
from aiohttp import ClientSession

from monitor.alerts import outbox
from monitor.alerts.budget import Budget
from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.outbox import Parcel, Result
from monitor.alerts.page import Facts
from monitor.alerts.post import open_session
from monitor.clock import Clock
from monitor.incidents import Incident
from monitor.store import StoreError

log = structlog.get_logger()
T = TypeVar("T")

AT_ONCE = 8  # deliveries under way per receiver
REPEAT_SECONDS = 60.0  # a forgetful receiver is told again this often
REPEATS_AT_ONCE = 32
SHORTEST_PAUSE = 0.05
IDLE_SECONDS = 5.0  # a lane looks at the outbox at least this often
TURN_SECONDS = 1.0  # a turn may take so long
LOOK_SECONDS = 20.0  # and this often at who else must be told, and who reminded: a minute of failing and this are below 90 s
STORE_RETRY_SECONDS = 1.0
LEAVE_ALONE = frozenset({"429", "503"})  # answers whose Retry-After means all messages, not only the one


class Shelf(Protocol):
    """The two things that are asked of the store."""

    async def write(self, work: Callable[[Connection], T], *, essential: bool = False) -> T: ...
    async def read(self, work: Callable[[Connection], T]) -> T: ...


@dataclass(frozen=True)
class Ways:
    """What all lanes share.

    `facts(incident)` gives what a page needs beside the incident and its update. `receivers()`: the settings of all. `held(now)`: ids of
    incidents on which paging is held back just now: nobody else is told of them and nobody is reminded. `lost()`: this monitor has no
    network, so that no receiver is to blame. `attempt` is one delivery; it does not raise. `attempted(receiver,
    outcome, seconds)` hears of each, `wrote()` when there may be something for other lanes.
    """

    store: Shelf
    clock: Clock
    boot: str
    facts: Callable[[Incident], Facts]
    receivers: Callable[[], Sequence[ReceiverSettings]]
    held: Callable[[float], Collection[str]]
    lost: Callable[[], bool]
    attempt: Callable[[ReceiverSettings, ClientSession, Message], Awaitable[Result]]
    attempted: Callable[[str, str, float], None]
    wrote: Callable[[], None]


class Lane:
    """The way to one receiver. `settings` may be changed at any time (`change`): they hold from the next attempt on."""

    def __init__(self, settings: ReceiverSettings, ways: Ways) -> None:
        self.name, self.settings, self._ways = settings.name, settings, ways
        self._since = ways.clock.now()  # what was failed before that is not its fault
        self._cut_off = False  # from the network, at the last turn
        self._behind = True  # there may be something open of which it never heard
        self._budget = Budget(settings.per_minute, self._since)
        self._busy: dict[str, asyncio.Task[None]] = {}  # by incident: one message at a time, so that order holds
        self._sending = 0  # of these, how many deliveries have no answer yet
        self._repeated: dict[str, float] = {}  # by row: when it was last said
        self._next_repeat = self._next_look = 0.0
        self._due: float | None = None  # when the next message may be tried
        self._news, self._stopping = asyncio.Event(), asyncio.Event()
        self._leaving = False
        self._turn, self._turn_by = asyncio.Lock(), time.monotonic()
        self._refused: set[str] = set()  # rows of which it was said that nothing helps
        self._failing = self._blind = False

    # Life

    def wake(self) -> None:
        """There may be something to do."""
        self._news.set()

    def change(self, settings: ReceiverSettings) -> None:
        """Use these settings from the next attempt on."""
        self._since = self._ways.clock.now()
        self.settings, self._budget = settings, Budget(settings.per_minute, self._since)
        self.catch_up()

    def catch_up(self) -> None:
        """Who hears of what may have changed: look at once whether there is something open of which it never heard."""
        self._behind, self._next_look = True, 0.0
        self.wake()

    def stop(self, *, leaving: bool = False) -> None:
        """End, when what is due by now is delivered; a lane that is `leaving` only finishes what is under way."""
        self._leaving = leaving
        self._stopping.set()
        self.wake()

    @property
    def stuck(self) -> float:
        """Seconds for which the lane has been late with its next turn: 0 while it waits, for its time or for a slow receiver."""
        return 0.0 if self._stopping.is_set() else max(0.0, time.monotonic() - self._turn_by - TURN_SECONDS)

    async def run(self) -> None:
        """Deliver until told to stop."""
        self._turn_by = time.monotonic()
        async with open_session() as self._session, asyncio.TaskGroup() as self._group:
            while not self._stopping.is_set():
                self._news.clear()
                await self._begin()
                await self._pause()
            if not self._leaving:
                await self.settled()

    async def settled(self) -> None:
        """Deliver until nothing is under way and nothing may go now."""
        while await self._begin() or self._busy:
            if self._busy:
                await asyncio.wait(self._busy.values(), return_when=asyncio.FIRST_COMPLETED)

    async def _pause(self) -> None:
        """Wait until something is due, or there is news."""
        wait = IDLE_SECONDS if self._due is None else self._due - self._ways.clock.now()
        wait = min(max(wait, SHORTEST_PAUSE), IDLE_SECONDS)
        self._turn_by = time.monotonic() + wait
        try:
            async with asyncio.timeout(wait):
                await self._news.wait()
        except TimeoutError:
            pass
        self._turn_by = time.monotonic()

    # One turn

    async def _begin(self) -> bool:
        """Start what is due now; is there any?"""
        async with self._turn:
            now = self._ways.clock.now()
            parcels = await self._claim(now)
            self._budget.spend(len(parcels))
            for parcel in parcels:
                self._sending += 1
                self._spawn(parcel.row.incident, self._deliver(parcel))
            repeats = await self._to_repeat(now) if self.settings.resends and now >= self._budget.paused else []
            for id_, incident in repeats:
                self._repeated[id_] = now
                self._spawn(incident, self._repeat(id_))
            return bool(parcels or repeats)

    async def _claim(self, now: float) -> list[Parcel]:
        """What is due. While the store cannot write, pages go out all the same: `_busy` alone keeps them from going twice."""
        busy, limit = list(self._busy), self._budget.free(now, AT_ONCE - self._sending)
        back, lost = self._follow_network(now)
        held = self._ways.held(now) if now >= self._next_look else None

        def claim(connection: Connection) -> tuple[int, list[Parcel], float | None]:
            if back:
                outbox.retry_now(connection, [self.name], now)
            written = self._write_more(connection, held, now) if held is not None else 0
            parcels = outbox.claim(connection, self.name, self._ways.boot, now, limit, busy)
            return written, parcels, outbox.next_due(connection, self.name, [*busy, *(p.row.incident for p in parcels)])

        if limit <= 0 and held is None and not back:
            self._due = self._room(now, now)
            return []
        try:
            written, parcels, due = await self._ways.store.write(claim, essential=True)
        except StoreError as error:
            if not self._blind:
                log.error("outbox cannot be written", receiver=self.name, error=str(error))  # noqa: TRY400 - expected: no trace
            self._blind, self._due = True, now + STORE_RETRY_SECONDS
            return await self._read(lambda c: outbox.due(c, self.name, now, limit, busy)) or []
        self._blind, self._cut_off = False, lost
        self._due = self._room(due, now) if due is not None else None
        if held is not None:
            self._next_look = now if written >= outbox.BITE else now + LOOK_SECONDS
            self._behind = self._behind and bool(held or written >= outbox.BITE)
        if written:
            self._ways.wrote()
        return parcels

    def _follow_network(self, now: float) -> tuple[bool, bool]:
        """Is it back since the last turn, is it lost? A receiver is to blame only for what fails with a network."""
        lost = self._ways.lost()
        if lost:
            self._since, self._cut_off = now, True
        return self._cut_off and not lost, lost

    def _room(self, due: float, now: float) -> float | None:
        """When something that is due at `due` can go. None while all places are taken: a delivery that ends is news."""
        return None if self._sending >= AT_ONCE else max(due, self._budget.ready(now))

    def _write_more(self, connection: Connection, held: Collection[str], now: float) -> int:
        """What it never heard of, who else must be told, and who reminded; the most that was written of one of them."""
        caught_up = stood_in = reminded = 0
        if self._behind:
            caught_up = outbox.catch_up(connection, self.name, self._ways.receivers(), held, now)
        if self.settings.fallback:
            stood_in = outbox.stand_in(connection, self.name, self.settings.fallback, self._since, held, now)
        if self.settings.reminds:
            reminded = outbox.remind(connection, self.name, self.settings.reminds, held, now)
        return max(caught_up, stood_in, reminded)

    # One message

    async def _deliver(self, parcel: Parcel) -> None:
        begun = time.monotonic()
        try:
            result = await self._ways.attempt(self.settings, self._session, self._message(parcel))
        finally:
            self._sending -= 1
        self._heed(result)
        state = await self._settle(parcel, result)
        if isinstance(result, DeliveryError) and result.permanent:
            self._next_look = 0.0  # it may be the last word: then another must be told now
        if state == "done" and self.settings.resends:
            self._repeated[parcel.row.id] = self._ways.clock.now()
        outcome = {"done": "delivered", "dead": "dead"}.get(state, "failed")
        self._ways.attempted(self.name, outcome, time.monotonic() - begun)
        self._tell(parcel, result, outcome, time.monotonic() - begun)

    async def _settle(self, parcel: Parcel, result: Result) -> str:
        """Write down how it ended. Until that is written the incident stays busy, so the message cannot go out again."""
        now = self._ways.clock.now()
        while True:
            try:
                state = await self._ways.store.write(lambda c: outbox.settle(c, parcel.row.id, result, now), essential=True)
            except StoreError:
                state = ""
            if state:
                return state
            await asyncio.sleep(STORE_RETRY_SECONDS)

    def _heed(self, result: Result) -> None:
        """A receiver that asks to be left alone means all messages."""
        if isinstance(result, DeliveryError) and result.retry_after and result.code in LEAVE_ALONE:
            self._budget.pause(self._ways.clock.now() + min(result.retry_after, outbox.RETRY_AFTER_CAP))

    def _message(self, parcel: Parcel) -> Message:
        facts, now = self._ways.facts(parcel.current), self._ways.clock.now()
        try:
            return parcel.message(facts, now, self.settings.runbook)
        except Exception as error:  # noqa: BLE001 - the door: no fault in our words may cost a page
            log.error("page could not be worded", incident=parcel.row.incident, receiver=self.name, error=place(error))  # noqa: TRY400
            return parcel.bare_message(facts, now)

    # What a forgetful receiver hears again

    async def _to_repeat(self, now: float) -> list[tuple[str, str]]:
        """(row, incident) of what it has not heard for a minute."""
        if now < self._next_repeat:
            return []
        rows = await self._read(lambda c: outbox.to_repeat(c, self.name, now)) or []
        self._repeated = {id_: self._repeated[id_] for id_, _ in rows if id_ in self._repeated}
        late = [(id_, incident) for id_, incident in rows if now >= self._repeated.get(id_, 0.0) + REPEAT_SECONDS]
        chosen = [(id_, incident) for id_, incident in late if incident not in self._busy][:REPEATS_AT_ONCE]
        fresh = [at + REPEAT_SECONDS for at in self._repeated.values() if at + REPEAT_SECONDS > now]
        self._next_repeat = now + STORE_RETRY_SECONDS if len(chosen) < len(late) else min(fresh, default=now + REPEAT_SECONDS)
        return chosen

    async def _repeat(self, id_: str) -> None:
        """Say it again, if it is still true now that nothing else on this incident can be under way."""
        begun, now = time.monotonic(), self._ways.clock.now()
        parcel = await self._read(lambda c: outbox.again(c, self.name, id_, now))
        if parcel is None:
            return
        result = await self._ways.attempt(self.settings, self._session, self._message(parcel))
        self._heed(result)
        outcome = "repeated" if isinstance(result, Delivered) else "repeat_failed"
        self._ways.attempted(self.name, outcome, time.monotonic() - begun)
        self._tell(parcel, result, outcome, time.monotonic() - begun)

    async def _read(self, work: Callable[[Connection], T]) -> T | None:
        """Read through the writer: its turns are short, while the reader may be at a long history just now."""
        try:
            return await self._ways.store.write(work, essential=True)
        except StoreError:
            pass
        try:
            return await self._ways.store.read(work)
        except StoreError:
            return None

    # Log and tasks

    def _tell(self, parcel: Parcel, result: Result, outcome: str, seconds: float) -> None:
        """One line per page; failing is told when it begins, when it ends, and once when a message is refused for good."""
        about = {
            "receiver": self.name,
            "incident": parcel.row.incident,
            "what": parcel.row.kind,
            "message": parcel.row.id,
            "attempt": parcel.row.attempts + 1,
            "seconds": round(seconds, 3),
            "outcome": outcome,
        }
        if isinstance(result, Delivered):
            level = log.debug if outcome == "repeated" and not self._failing else log.info
            level("page delivered", detail=result.detail or None, **about)
            self._failing = False
            return
        level = log.error if outcome == "dead" or self._hopeless(parcel, result) else log.debug if self._failing else log.warning
        level("page not delivered", reason=result.reason, code=result.code or None, **about)
        self._failing = True

    def _hopeless(self, parcel: Parcel, error: DeliveryError) -> bool:
        """Is even the least that helps refused, for the first time? It is tried on, but somebody should look."""
        if not (error.permanent and parcel.row.minimal) or parcel.row.id in self._refused:
            return False
        self._refused.add(parcel.row.id)
        return True

    def _spawn(self, incident: str, work: Coroutine[None, None, None]) -> None:
        task = self._group.create_task(work, name=f"tell {self.name} of {incident}")
        self._busy[incident] = task
        task.add_done_callback(partial(self._freed, incident))

    def _freed(self, incident: str, _task: asyncio.Task[None]) -> None:
        self._busy.pop(incident, None)
        self.wake()


def place(error: Exception) -> str:
    """The kind of an error and its place in the code. Not its text and no traceback: both can hold a secret."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
