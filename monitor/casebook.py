"""The open incidents, and the only way to change them: the transition and its outbox rows in one transaction."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import structlog

from monitor.alerts import outbox
from monitor.alerts.table import ReceiverSettings
from monitor.clock import Clock
from monitor.health import Flip, Health, Target
from monitor.incidents import STORM_OPENED, Incident, Transition
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
    """Open incidents in memory, as the store has them. `muted(incident, now)` says that nobody is to be told of it just now."""

    def __init__(self, store: Store, receivers: Sequence[ReceiverSettings], clock: Clock, reports: Reports) -> None:
        self._store, self._receivers, self._clock, self._reports = store, receivers, clock, reports
        self._open: dict[str, Incident] = {}
        self._turns: asyncio.Queue[_Turn] = asyncio.Queue()
        self.opened: deque[float] = deque(maxlen=STORM_OPENED)      # when the newest incidents were opened (Unix s)
        self.muted: Callable[[Incident, float], bool] = lambda _incident, _now: False

    @property
    def open(self) -> list[Incident]:
        return list(self._open.values())

    async def load(self) -> None:
        """Take up what was open when the daemon last stopped."""
        self._open = {incident.id: incident for incident in await self._store.read(records.open_incidents)}
        self.opened.extend(incident.opened for incident in self._open.values())
        self._reports.changed(self.open)

    def change(self, receivers: Sequence[ReceiverSettings]) -> None:
        """Go on with other receivers, after a reload: what changes from now on is told to them."""
        self._receivers = receivers

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
        held = [i for i in self._open.values() if not (i.told or i.acked_by or self.muted(i, now))]
        if held:
            self.apply([Transition("firing", incident) for incident in held], detail="no longer muted")

    async def settled(self) -> None:
        """Wait until all that was applied is committed."""
        await self._turns.join()

    async def run(self) -> None:
        """Commit turns in order, for ever. Where neither the disk nor memory takes them they are tried again; nothing is dropped."""
        while True:
            turns = [await self._turns.get()]
            if not any(turn.urgent for turn in turns):
                await asyncio.sleep(GATHER_SECONDS)          # a storm of flips joins one incident: one commit for many
            while not self._turns.empty():
                turns.append(self._turns.get_nowait())
            while not await self._committed(turns):  # noqa: ASYNC110 - nothing tells when there is space again
                await asyncio.sleep(RETRY_SECONDS)
            for _ in turns:
                self._turns.task_done()

    def _entered(self, transition: Transition, now: float) -> Transition:
        """As it is from now on. What was held back is told as soon as somebody joins it whose failing is not."""
        what, incident = transition.what, transition.incident
        if what == "changed" and incident.open and not (incident.told or incident.acked_by or self.muted(incident, now)):
            what = "firing"
        if what in _TOLD:
            incident = replace(incident, told=not self.muted(incident, now))
        if what == "firing" and incident.id not in self._open:
            self.opened.append(incident.opened)
        if incident.open:
            self._open[incident.id] = incident
        else:
            self._open.pop(incident.id, None)
        return Transition(what, incident)

    async def _committed(self, turns: Sequence[_Turn]) -> bool:
        stale = _overtaken(turns)
        try:
            await self._store.write(lambda connection: self._write_all(connection, turns, stale), essential=True)
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
        fresh = [transition for transition in turn.transitions if id(transition) not in stale]
        for transition in fresh:
            records.save_incident(connection, transition.incident, turn.at, transition.what, turn.by, turn.detail)
        for transition in fresh:                     # who is told of a receiver that fails depends on what else fails
            to_tell = transition.incident.told or not transition.incident.open      # the end is told to whoever heard of the beginning
            if to_tell and transition.what != "feedback":
                outbox.enqueue(connection, transition, self._receivers, turn.at)

    def _told(self, turn: _Turn, stale: set[int]) -> None:
        for transition in turn.transitions:
            if id(transition) in stale:
                continue
            incident = transition.incident
            log.info("incident", what=transition.what, incident=incident.id,
                     kind=incident.kind, cause=incident.cause.replace("@", " at "), urgency=incident.urgency,
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
