"""Takes messages from the outbox to their receivers: one lane each, with a session and a task of its own, so that a dead
receiver delays no other.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from sqlite3 import Connection
from types import TracebackType
from typing import Self

import structlog
from aiohttp import ClientSession

from monitor.alerts import outbox
from monitor.alerts.delivery import TIMEOUT, Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.lane import Lane, Shelf, Ways, place
from monitor.alerts.page import Delivery, Facts, compose
from monitor.alerts.post import open_session
from monitor.alerts.table import RECEIVERS
from monitor.clock import Clock, new_id
from monitor.incidents import Incident
from monitor.store import StoreError

log = structlog.get_logger()
Result = Delivered | DeliveryError
FactsOf = Callable[[Incident], Facts]
Held = Callable[[float], Collection[str]]

DRAIN_SECONDS = 3.0
DRILL_HOLD = 45.0  # s between a drill and its end: longer than Alertmanager's usual group_wait


@dataclass
class Reports:
    """Whom the dispatch tells of attempts. `outcome` is delivered | failed | dead | repeated | repeat_failed."""

    attempted: Callable[[str, str, float], None] = lambda _receiver, _outcome, _seconds: None


class Dispatch:
    """All lanes. Enter it as an async context manager; leaving it gives what is due `DRAIN_SECONDS` to get out.

    `facts(incident)` gives what a page needs beside the incident and its update; it is asked at every attempt. `held(now)` gives the
    ids of open incidents on which paging is held back just now; `lost()` says that this monitor has no network.
    """

    def __init__(
        self, store: Shelf, receivers: Sequence[ReceiverSettings], clock: Clock, facts: FactsOf, reports: Reports | None = None,
        held: Held = lambda _now: (), lost: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._clock, self._boot = store, clock, new_id(clock.now())
        self._ways = Ways(store, clock, self._boot, facts, self._settings, held, lost, attempt, (reports or Reports()).attempted, self.wake)
        self._lanes = {settings.name: Lane(settings, self._ways) for settings in receivers}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fresh: set[str] = set()  # receivers whose new settings have not been tried yet
        self._stopping, self._stack = False, AsyncExitStack()

    def wake(self) -> None:
        """There may be something to deliver: look at once."""
        for lane in self._lanes.values():
            lane.wake()

    async def settled(self) -> None:
        """Wait until nothing is under way and nothing may go now."""
        await asyncio.gather(*(lane.settled() for lane in self._lanes.values()))

    @property
    def stuck(self) -> float:
        """Seconds for which a lane has been late with its turn, the latest of all; 0 when all are well, however slow their receivers are."""
        return max((lane.stuck for lane in self._lanes.values()), default=0.0)

    async def change(self, receivers: Sequence[ReceiverSettings]) -> None:
        """Tell these receivers from now on. Nothing is lost or said twice by it; who is new hears of what is open and not acknowledged.

        Settings that were changed hold from the next attempt on, and what had failed is tried at once. A receiver that is gone gets what
        is under way; the rest is parked until it comes back. Raises StoreError, and can then be called again. While the dispatch ends,
        the change is written down and holds from the next start on.
        """
        wanted = {settings.name: settings for settings in receivers}
        changed = [name for name, lane in self._lanes.items() if name in wanted and wanted[name] != lane.settings]
        for name in changed:
            self._lanes[name].change(wanted[name])
        self._fresh.update(changed)
        now = self._clock.now()

        def sort(connection: Connection) -> None:
            outbox.requeue(connection, self._boot, wanted, now)
            outbox.retry_now(connection, self._fresh, now)

        await self._store.write(sort, essential=True)
        self._fresh.clear()
        if self._stopping:
            return
        for name in self._lanes.keys() - wanted:
            self._lanes.pop(name).stop(leaving=True)
        for name in wanted.keys() - self._lanes:
            self._lanes[name] = Lane(wanted[name], self._ways)
            self._start(self._lanes[name])
        for lane in self._lanes.values():
            lane.catch_up()

    async def __aenter__(self) -> Self:
        names, now = list(self._lanes), self._clock.now()
        orphans = await self._store.write(lambda c: outbox.requeue(c, self._boot, names, now), essential=True)
        if orphans:
            log.warning("pages were under way when the last run ended, and go out again", pages=orphans)
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        for lane in self._lanes.values():
            self._start(lane)
        self._stack.push_async_callback(self._drain)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def _settings(self) -> list[ReceiverSettings]:
        return [lane.settings for lane in self._lanes.values()]

    def _start(self, lane: Lane) -> None:
        task = self._group.create_task(self._run(lane), name=f"receiver {lane.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, lane: Lane) -> None:
        await lane.run()
        if not self._stopping:  # its receiver is gone: what came back from its last attempts is parked too
            names, now = list(self._lanes), self._clock.now()
            with suppress(StoreError):  # the next start or change does it as well
                await self._store.write(lambda c: outbox.requeue(c, self._boot, names, now), essential=True)

    async def _drain(self) -> None:
        self._stopping = True
        for lane in self._lanes.values():
            lane.stop()
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
        log.error("receiver failed unexpectedly", receiver=settings.name, message=message.id, error=place(error))  # noqa: TRY400
        return DeliveryError(f"unexpected: {type(error).__name__}", code="internal")


async def test_alert(settings: ReceiverSettings, facts: Facts, clock: Clock, hold: float = DRILL_HOLD) -> Result:  # noqa: PT028 - no test
    """A marked drill through one receiver, without an incident. One that keeps states is told of its end after `hold` s."""
    now = clock.now()
    drill = Incident(id=new_id(now), kind="drill", cause="drill", urgency="page", opened=now, began=now)
    async with open_session() as session:
        result = await attempt(settings, session, _drill(drill, settings, facts, now))
        if isinstance(result, DeliveryError) or settings.tells_missed:
            return result
        await asyncio.sleep(hold)
        now = clock.now()
        over = replace(drill, resolved=now, resolution="end of the test")
        end = await attempt(settings, session, _drill(over, settings, facts, now))
    return result if isinstance(end, Delivered) else replace(end, reason=f"the test was taken, its end was not: {end.reason}")


def _drill(incident: Incident, settings: ReceiverSettings, facts: Facts, now: float) -> Message:
    page = compose(incident, facts, Delivery(settings.name, settings.runbook), now)
    return Message(incident.id, "firing" if incident.open else "resolved", incident, page)
