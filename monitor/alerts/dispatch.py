"""Takes messages from the outbox to their receivers, and again until they have them.

One lane per receiver, with a session and a task of its own: a dead receiver delays no other. A lane works from stored
state alone, so a restart repeats nothing and forgets nothing.
"""

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from sqlite3 import Connection
from types import TracebackType
from typing import Protocol, Self, TypeVar

import structlog
from aiohttp import ClientSession

from monitor.alerts import outbox
from monitor.alerts.delivery import TIMEOUT, Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.outbox import Parcel
from monitor.alerts.page import Delivery, Facts, compose
from monitor.alerts.post import open_session
from monitor.alerts.table import RECEIVERS
from monitor.clock import Clock, new_id
from monitor.incidents import Incident
from monitor.store import StoreError

log = structlog.get_logger()
T = TypeVar("T")
Result = Delivered | DeliveryError
FactsOf = Callable[[Incident], Facts]

AT_ONCE = 8  # deliveries under way per receiver
REPEAT_SECONDS = 60.0  # a forgetful receiver is told again this often
REPEATS_AT_ONCE = 32
SHORTEST_PAUSE = 0.05
IDLE_SECONDS = 5.0  # a lane looks at the outbox at least this often
STORE_RETRY_SECONDS = 1.0
DRAIN_SECONDS = 3.0
DRILL_HOLD = 45.0  # s between a drill and its end: longer than Alertmanager's usual group_wait


class Shelf(Protocol):
    """The two things that are asked of the store."""

    async def write(self, work: Callable[[Connection], T]) -> T: ...
    async def read(self, work: Callable[[Connection], T]) -> T: ...


@dataclass
class Reports:
    """Whom the dispatch tells of attempts. `outcome` is delivered | failed | dead | repeated | repeat_failed."""

    attempted: Callable[[str, str, float], None] = lambda _receiver, _outcome, _seconds: None


class Lane:
    """All messages to one receiver."""

    def __init__(self, settings: ReceiverSettings, store: Shelf, clock: Clock, facts: FactsOf, boot: str, reports: Reports) -> None:
        self.name, self._settings, self._store, self._clock = settings.name, settings, store, clock
        self._facts, self._boot, self._reports = facts, boot, reports
        self._busy: dict[str, asyncio.Task[None]] = {}  # by incident: one message at a time, so that order holds
        self._repeated: dict[str, float] = {}  # by row: when it was last said
        self._next_repeat = 0.0
        self._due: float | None = None  # when the next message may be tried
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        self._refused: set[str] = set()  # rows of which it was said that nothing helps
        self._failing = self._blind = False

    def wake(self) -> None:
        """There may be something to do."""
        self._news.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until told to stop; what is due by then is still delivered."""
        async with open_session() as self._session, asyncio.TaskGroup() as self._group:
            while not stopping.is_set():
                self._news.clear()
                await self._begin()
                await self._pause()
            await self.settled()

    async def settled(self) -> None:
        """Deliver until nothing is under way and nothing is due."""
        while await self._begin() or self._busy:
            if self._busy:
                await asyncio.wait(self._busy.values(), return_when=asyncio.FIRST_COMPLETED)

    async def _begin(self) -> bool:
        """Start what is due now; is there any?"""
        async with self._turn:
            now = self._clock.now()
            parcels = await self._claim(now)
            for parcel in parcels:
                self._spawn(parcel.row.incident, self._deliver(parcel))
            repeats = await self._to_repeat(now) if self._settings.resends else []
            for id_, incident in repeats:
                self._repeated[id_] = now
                self._spawn(incident, self._repeat(id_))
            return bool(parcels or repeats)

    async def _pause(self) -> None:
        """Wait until something is due, or there is news."""
        wait = IDLE_SECONDS if self._due is None else self._due - self._clock.now()
        try:
            async with asyncio.timeout(min(max(wait, SHORTEST_PAUSE), IDLE_SECONDS)):
                await self._news.wait()
        except TimeoutError:
            return

    async def _claim(self, now: float) -> list[Parcel]:
        """What is due. While the store cannot write, pages go out all the same: `_busy` alone keeps them from going twice."""
        busy, limit = list(self._busy), AT_ONCE - len(self._busy)
        if limit <= 0:
            self._due = None  # a delivery that ends is news
            return []

        def claim(connection: Connection) -> tuple[list[Parcel], float | None]:
            parcels = outbox.claim(connection, self.name, self._boot, now, limit, busy)
            return parcels, outbox.next_due(connection, self.name, [*busy, *(p.row.incident for p in parcels)])

        try:
            parcels, self._due = await self._store.write(claim)
        except StoreError as error:
            if not self._blind:
                log.error("outbox cannot be written", receiver=self.name, error=str(error))  # noqa: TRY400 - expected: no trace
            self._blind, self._due = True, now + STORE_RETRY_SECONDS
            return await self._read(lambda c: outbox.due(c, self.name, now, limit, busy)) or []
        self._blind = False
        return parcels

    async def _deliver(self, parcel: Parcel) -> None:
        begun = time.monotonic()
        result = await attempt(self._settings, self._session, self._message(parcel))
        state = await self._settle(parcel, result)
        if state == "done" and self._settings.resends:
            self._repeated[parcel.row.id] = self._clock.now()
        outcome = {"done": "delivered", "dead": "dead"}.get(state, "failed")
        self._reports.attempted(self.name, outcome, time.monotonic() - begun)
        self._tell(parcel, result, outcome, time.monotonic() - begun)

    async def _settle(self, parcel: Parcel, result: Result) -> str:
        """Write down how it ended. Until that is written the incident stays busy, so the message cannot go out again."""
        now = self._clock.now()
        while True:
            try:
                return await self._store.write(lambda c: outbox.settle(c, parcel.row.id, result, now))
            except StoreError:
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _to_repeat(self, now: float) -> list[tuple[str, str]]:
        """(row, incident) of what a forgetful receiver has not heard for a minute."""
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
        begun, now = time.monotonic(), self._clock.now()
        parcel = await self._read(lambda c: outbox.again(c, self.name, id_, now))
        if parcel is None:
            return
        result = await attempt(self._settings, self._session, self._message(parcel))
        outcome = "repeated" if isinstance(result, Delivered) else "repeat_failed"
        self._reports.attempted(self.name, outcome, time.monotonic() - begun)
        self._tell(parcel, result, outcome, time.monotonic() - begun)

    def _message(self, parcel: Parcel) -> Message:
        facts, now = self._facts(parcel.current), self._clock.now()
        try:
            return parcel.message(facts, now, self._settings.runbook)
        except Exception as error:  # noqa: BLE001 - the door: no fault in our words may cost a page
            log.error("page could not be worded", incident=parcel.row.incident, receiver=self.name, error=_where(error))  # noqa: TRY400
            return parcel.bare_message(facts, now)

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

    async def _read(self, work: Callable[[Connection], T]) -> T | None:
        """Read through the writer: its turns are short, while the reader may be at a long history just now."""
        for ask in (self._store.write, self._store.read):
            try:
                return await ask(work)
            except StoreError:
                continue
        return None

    def _spawn(self, incident: str, work: Coroutine[None, None, None]) -> None:
        task = self._group.create_task(work, name=f"tell {self.name} of {incident}")
        self._busy[incident] = task
        task.add_done_callback(partial(self._freed, incident))

    def _freed(self, incident: str, _task: asyncio.Task[None]) -> None:
        self._busy.pop(incident, None)
        self.wake()


class Dispatch:
    """All lanes. Enter it as an async context manager; leaving it gives what is due `DRAIN_SECONDS` to get out.

    `facts(incident)` gives what a page needs beside the incident and its update; it is asked at every attempt.
    """

    def __init__(self, store: Shelf, receivers: Sequence[ReceiverSettings], clock: Clock, facts: FactsOf, reports: Reports | None = None) -> None:
        self._store, self._clock = store, clock
        self._boot = new_id(clock.now())
        self._lanes = [Lane(settings, store, clock, facts, self._boot, reports or Reports()) for settings in receivers]
        self._stopping, self._stack = asyncio.Event(), AsyncExitStack()

    def wake(self) -> None:
        """There may be something to deliver: look at once."""
        for lane in self._lanes:
            lane.wake()

    async def settled(self) -> None:
        """Wait until nothing is under way and nothing is due."""
        await asyncio.gather(*(lane.settled() for lane in self._lanes))

    async def __aenter__(self) -> Self:
        names, now = [lane.name for lane in self._lanes], self._clock.now()
        orphans = await self._store.write(lambda c: outbox.requeue(c, self._boot, names, now))
        if orphans:
            log.warning("pages were under way when the last run ended, and go out again", pages=orphans)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._tasks = [group.create_task(lane.run(self._stopping), name=f"receiver {lane.name}") for lane in self._lanes]
        self._stack.push_async_callback(self._drain)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def _drain(self) -> None:
        self._stopping.set()
        self.wake()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
        for task in late:
            log.warning("did not stop in time; what is left goes out after the next start", task=task.get_name())
            task.cancel()


async def attempt(settings: ReceiverSettings, session: ClientSession, message: Message) -> Result:
    """One delivery within its time. The door: whatever goes wrong inside becomes a value."""
    try:
        async with asyncio.timeout(TIMEOUT):
            return await RECEIVERS[settings.kind].send(settings, session, message)
    except TimeoutError:
        return DeliveryError(f"no answer within {TIMEOUT:.0f} s", code="timeout")
    except Exception as error:  # noqa: BLE001 - the door around a delivery (house rule 14)
        log.error("receiver failed unexpectedly", receiver=settings.name, message=message.id, error=_where(error))  # noqa: TRY400
        return DeliveryError(f"unexpected: {type(error).__name__}", code="internal")


def _where(error: Exception) -> str:
    """The kind of an error and its place in the code. Not its text and no traceback: both can hold a secret."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {frame.filename}:{frame.lineno}"


async def test_alert(settings: ReceiverSettings, facts: Facts, clock: Clock, hold: float = DRILL_HOLD) -> Result:  # noqa: PT028 - no test
    """A marked drill through one receiver, without an incident. One that keeps states is told of its end after `hold` s."""
    now = clock.now()
    drill = Incident(id=new_id(now), kind="drill", cause="drill", urgency="page", opened=now, began=now)
    async with open_session() as session:
        result = await attempt(settings, session, _drill(drill, settings, facts, now))
        if isinstance(result, DeliveryError) or not settings.resends:
            return result
        await asyncio.sleep(hold)
        now = clock.now()
        over = replace(drill, resolved=now, resolution="end of the test")
        end = await attempt(settings, session, _drill(over, settings, facts, now))
    return result if isinstance(end, Delivered) else replace(end, reason=f"the test was taken, its end was not: {end.reason}")


def _drill(incident: Incident, settings: ReceiverSettings, facts: Facts, now: float) -> Message:
    page = compose(incident, facts, Delivery(settings.name, settings.runbook), now)
    return Message(incident.id, "firing" if incident.open else "resolved", incident, page)
