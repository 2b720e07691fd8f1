"""The open incidents, and the only way to change them: the transition and its outbox rows in one transaction."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import structlog

from monitor.alerts import outbox
from monitor.alerts.table import ReceiverSettings
from monitor.clock import Clock
from monitor.health import Flip, Health, Target
from monitor.incidents import Incident, Transition
from monitor.store import Store, StoreError, records

log = structlog.get_logger()

RETRY_SECONDS = 1.0
GATHER_SECONDS = 0.2
_TOLD = frozenset({"firing", "escalated"})


@dataclass
class _Turn:
    """What is committed together."""

    transitions: Sequence[Transition]
    at: float
    by: str = ""
    detail: str = ""
    flip: Flip | None = None
    health: tuple[Target, Health] | None = None
    also: Callable[[sqlite3.Connection], object] | None = None

    @property
    def urgent(self) -> bool:
        """Somebody waits for it: a page, its end, or an update's step."""
        return self.also is not None or any(transition.what != "changed" for transition in self.transitions)


@dataclass
class Reports:
    """Whom the casebook tells of a committed turn; handed in by the composition root."""

    committed: Callable[[], None] = lambda: None                     # there may be something to deliver
    changed: Callable[[Sequence[Incident]], None] = lambda _open: None
    paged: Callable[[str], None] = lambda _kind: None


class Casebook:
    """Open incidents in memory, as the store has them. `muted(now)` says that paging is held back just now."""

    def __init__(self, store: Store, receivers: Sequence[ReceiverSettings], clock: Clock, reports: Reports) -> None:
        self._store, self._receivers, self._clock, self._reports = store, receivers, clock, reports
        self._open: dict[str, Incident] = {}
        self._turns: asyncio.Queue[_Turn] = asyncio.Queue()
        self.muted: Callable[[float], bool] = lambda _now: False

    @property
    def open(self) -> list[Incident]:
        return list(self._open.values())

    async def load(self) -> None:
        """Take up what was open when the daemon last stopped."""
        self._open = {incident.id: incident for incident in await self._store.read(records.open_incidents)}
        self._reports.changed(self.open)

    def apply(self, transitions: Iterable[Transition], *, by: str = "", detail: str = "", flip: Flip | None = None,
              health: tuple[Target, Health] | None = None, also: Callable[[sqlite3.Connection], object] | None = None) -> None:
        """Change the incidents now, and commit it in order with what belongs to it (`also` runs in the same transaction)."""
        now = self._clock.now()
        transitions = [self._entered(transition, now) for transition in transitions]
        if not (transitions or flip or health or also):
            return                                   # an empty commit would wake the watch, which would ask for the next
        self._turns.put_nowait(_Turn(transitions, now, by, detail, flip, health, also))
        if transitions:
            self._reports.changed(self.open)

    def release(self) -> None:
        """Page what was held back and is still wrong."""
        now = self._clock.now()
        if not self.muted(now):
            held = [i for i in self._open.values() if not i.told]
            if held:
                self.apply([Transition("firing", incident) for incident in held], detail="no longer muted")

    async def settled(self) -> None:
        """Wait until all that was applied is committed."""
        await self._turns.join()

    async def run(self) -> None:
        """Commit turns in order, for ever. A store that cannot write is tried again; nothing is dropped."""
        while True:
            turns = [await self._turns.get()]
            if not any(turn.urgent for turn in turns):
                await asyncio.sleep(GATHER_SECONDS)          # a storm of flips joins one incident: one commit for many
            while not self._turns.empty():
                turns.append(self._turns.get_nowait())
            while not await self._committed(turns):  # noqa: ASYNC110 - nothing tells when a disk has space again
                await asyncio.sleep(RETRY_SECONDS)
            for _ in turns:
                self._turns.task_done()

    def _entered(self, transition: Transition, now: float) -> Transition:
        incident = transition.incident
        if transition.what in _TOLD:
            incident = replace(incident, told=not self.muted(now))
        if incident.open:
            self._open[incident.id] = incident
        else:
            self._open.pop(incident.id, None)
        return replace(transition, incident=incident)

    async def _committed(self, turns: Sequence[_Turn]) -> bool:
        stale = _overtaken(turns)
        try:
            await self._store.write(lambda connection: self._write_all(connection, turns, stale))
        except StoreError as error:
            log.error("cannot commit", error=str(error), turns=len(turns))  # noqa: TRY400 - expected, and said without a trace
            return False
        for turn in turns:
            self._told(turn, stale)
        return True

    def _write_all(self, connection: sqlite3.Connection, turns: Sequence[_Turn], stale: set[int]) -> None:
        for turn in turns:
            self._write(connection, turn, stale)

    def _write(self, connection: sqlite3.Connection, turn: _Turn, stale: set[int]) -> None:
        if turn.flip:
            records.add_flip(connection, turn.flip)
        if turn.health:
            records.save_health(connection, *turn.health)
        if turn.also:
            turn.also(connection)
        for transition in turn.transitions:
            if id(transition) in stale:
                continue
            records.save_incident(connection, transition.incident, turn.at, transition.what, turn.by, turn.detail)
            if transition.incident.told or not transition.incident.open:     # the end is told to whoever heard of the beginning
                outbox.enqueue(connection, transition, self._receivers, turn.at)

    def _told(self, turn: _Turn, stale: set[int]) -> None:
        for transition in turn.transitions:
            if id(transition) in stale:
                continue
            incident = transition.incident
            log.info("incident", what=transition.what, incident=incident.id,
                     kind=incident.kind, cause=incident.cause, urgency=incident.urgency,
                     update=incident.update or None, probes=len(incident.members), first=[m.probe for m in incident.members[:5]],
                     muted=not incident.told)
            if transition.what in _TOLD and incident.told:
                self._reports.paged(incident.kind)
        if turn.transitions:
            self._reports.committed()


def _overtaken(turns: Sequence[_Turn]) -> set[int]:
    """Ids of `changed` transitions whose incident changes again in the same commit: only the last is worth writing."""
    last: dict[str, Transition] = {t.incident.id: t for turn in turns for t in turn.transitions}
    return {id(t) for turn in turns for t in turn.transitions if t.what == "changed" and last[t.incident.id] is not t}
