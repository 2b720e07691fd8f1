"""What is wrong with Tillwatch itself: looked at every few seconds, told as incidents of kind *monitor_fault* while it lasts.

Level-triggered: each look says what is wrong now, and the open incidents are made to agree with that. So a restart doubles nothing,
and what was mended while the daemon was away ends at the first looks after it.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from monitor.alerts import outbox
from monitor.alerts.delivery import RECEIVER_FAULT
from monitor.alerts.outbox import AILING_AFTER, Ailing
from monitor.casebook import Casebook
from monitor.clock import Clock, clock_time, new_id, span
from monitor.incidents import OURS, Fault, on_faults
from monitor.store import Store, StoreError

log = structlog.get_logger()

LOOK_SECONDS = 5.0
MENDED_SECONDS = 15.0              # a fault that was not seen for so long is over
STORE_SECONDS = 30.0               # s that a fault must have lasted before it is told; with the look before it, all within a minute
BUSY_SECONDS = 50.0
OVERDUE_SECONDS = 10.0             # by which the next run is late: as for /-/healthy
TOLD_SECONDS = 3600.0              # for which something that is over, but that somebody should know of, stays open
LITTLE_DISK, SHARE_OF_DISK, ENOUGH_DISK = 256 << 20, 0.05, 10 << 30      # bytes
LARGE_LOG = 256 << 20              # bytes of the write-ahead log


@dataclass(frozen=True, slots=True)
class Facts:
    """How Tillwatch is at one moment. Times in Unix s, sizes in bytes, all 0 or "" when nothing is known to be wrong."""

    now: float
    trouble: str = ""              # why the disk cannot be written, in words
    failing_at: float = 0.0        # since when
    stuck: float = 0.0             # s for which the writer has been at one piece of work
    repaired: str = ""             # what was done to a damaged database at the start
    log_size: int = 0
    free: int = 0
    size: int = 0                  # of the file system that holds the store
    overdue: float = 0.0           # s by which the next run is late
    overloaded: bool = False       # the event loop comes round late: durations cannot be trusted
    refused: str = ""              # why the configuration on disk was not taken
    started: float = 0.0           # when this daemon began
    stepped: float = 0.0           # s by which the wall clock was last set, and when
    stepped_at: float = 0.0
    lost: bool = False             # this monitor has no network: no receiver is to blame
    blamable: float = 0.0          # since when one is: since the start, or since the network is back
    ailing: Mapping[str, Ailing] = field(default_factory=dict)      # receivers that cannot be reached


@dataclass
class Views:
    """What only the composition root can see; handed in by it."""

    overdue: Callable[[], float] = lambda: 0.0               # s by which the next run is late
    overloaded: Callable[[], bool] = lambda: False           # the event loop comes round late
    refused: Callable[[], str] = lambda: ""                  # why the newest configuration was not taken, "" when it was
    lost: Callable[[], bool] = lambda: False                 # this monitor has lost its network


def faults(facts: Facts) -> dict[str, Fault]:
    """What is wrong, by cause."""
    found = {
        f"{OURS}store": _store(facts), f"{OURS}disk": _disk(facts), f"{OURS}log": _log(facts), f"{OURS}repaired": _repaired(facts),
        f"{OURS}busy": _busy(facts), f"{OURS}reload": _reload(facts), f"{OURS}clock": _clock(facts),
    } | {f"{RECEIVER_FAULT}{name}": _receiver(name, ailing) for name, ailing in facts.ailing.items() if _to_blame(ailing, facts)}
    return {cause: fault for cause, fault in found.items() if fault}


def _store(facts: Facts) -> Fault | None:
    """A ticket: probing and paging go on."""
    if facts.trouble:
        return Fault(f"Tillwatch cannot write to its database since {clock_time(facts.failing_at)} ({facts.trouble}): it goes on in "
                     "memory, and what happens meanwhile is lost if it stops", after=STORE_SECONDS)
    if facts.stuck >= OVERDUE_SECONDS:
        return Fault("Tillwatch waits for its disk, which does not answer: pages may be late", after=STORE_SECONDS)
    return None


def _disk(facts: Facts) -> Fault | None:
    """Little in itself, or a small share of a disk that is not large."""
    little = facts.free < LITTLE_DISK or (facts.free < facts.size * SHARE_OF_DISK and facts.free < ENOUGH_DISK)
    return Fault("The disk that Tillwatch writes to is nearly full: soon it can keep nothing any more", after=STORE_SECONDS) \
        if facts.size and little else None


def _log(facts: Facts) -> Fault | None:
    return Fault("Another program has been reading Tillwatch's database in one go for so long that its log cannot be cut and grows: end that "
                 "program", after=STORE_SECONDS) if facts.log_size > LARGE_LOG else None


def _repaired(facts: Facts) -> Fault | None:
    return Fault(f"Tillwatch found its database damaged when it started: {facts.repaired}") \
        if facts.repaired and facts.now - facts.started < TOLD_SECONDS else None


def _busy(facts: Facts) -> Fault | None:
    return Fault("This machine is too busy for Tillwatch: runs start late, or their durations cannot be trusted, so that slow pages may go "
                 "unnoticed", after=BUSY_SECONDS) if facts.overloaded or facts.overdue >= OVERDUE_SECONDS else None


def _reload(facts: Facts) -> Fault | None:
    return Fault(f"The newest configuration was not taken, Tillwatch goes on with the one before: {facts.refused}") if facts.refused else None


def _clock(facts: Facts) -> Fault | None:
    if not facts.stepped or facts.now - facts.stepped_at >= TOLD_SECONDS:
        return None
    way = "forward" if facts.stepped > 0 else "back"
    return Fault(f"The clock of this machine was put {way} by {span(abs(facts.stepped))}: no duration suffers from it")


def uncertain(facts: Facts, cause: str) -> bool:
    """Is this the fault of a receiver that may be over or not? Without a network nobody knows; after that it is tried first."""
    return cause.startswith(RECEIVER_FAULT) and (facts.lost or cause.removeprefix(RECEIVER_FAULT) in facts.ailing)


def _to_blame(ailing: Ailing, facts: Facts) -> bool:
    """Has it failed for long enough while this monitor ran and had a network?"""
    return not facts.lost and (ailing.refused or facts.now - max(ailing.since, facts.blamable) >= AILING_AFTER)


def _receiver(name: str, ailing: Ailing) -> Fault:
    """A page that reaches nobody is worth a page to the others."""
    what = f"refuses what it is sent ({ailing.reason})" if ailing.refused else "cannot be reached"
    pages = ": pages do not arrive there" if ailing.pages else ""
    return Fault(f"The receiver {name} {what} since {clock_time(ailing.since)}{pages}", "page" if ailing.pages else "ticket")


@dataclass(frozen=True, slots=True)
class Seen:
    """A fault in the eyes of the looks so far: since when, and when it was last seen (Unix s)."""

    since: float
    last: float


def looked(seen: Mapping[str, Seen], found: Mapping[str, Fault], now: float) -> dict[str, Seen]:
    """What is known after one more look. A fault that was away for less than `MENDED_SECONDS` was never away."""
    kept = {cause: one for cause, one in seen.items() if now - one.last < MENDED_SECONDS}
    return kept | {cause: Seen(kept[cause].since if cause in kept else now, now) for cause in found}


class SelfWatch:
    """Looks at the store, the receivers, the clock and `views`, and keeps the incidents about them."""

    def __init__(self, store: Store, casebook: Casebook, clock: Clock, views: Views | None = None) -> None:
        self._store, self._casebook, self._clock, self._views = store, casebook, clock, views or Views()
        self._started = self._blamable = clock.now()
        self._seen: dict[str, Seen] = {}
        self._shift, self._stepped, self._stepped_at = clock.shift, 0.0, 0.0
        self._failing_at: float | None = None
        self._ailing: Mapping[str, Ailing] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """One look, and what it changes."""
        now = self._clock.now()
        facts = await self._facts(now)
        found = faults(facts)
        self._seen = looked(self._seen, found, now)
        open_ = {i.cause for i in self._casebook.open if i.cause.startswith(OURS)}
        told = {cause: fault for cause, fault in found.items() if cause in open_ or now - self._seen[cause].since >= fault.after}
        since = {cause: self._seen[cause].since for cause in told}
        gone = {cause for cause in open_ - self._seen.keys() if not uncertain(facts, cause)}
        ended = gone if now - self._started >= MENDED_SECONDS else set()
        self._casebook.apply(on_faults(self._casebook.open, told, ended, now, since, lambda: new_id(now)))

    async def _facts(self, now: float) -> Facts:
        store, views, state = self._store, self._views, _file_system(self._store)
        lost = views.lost()
        self._follow(now)
        if lost:
            self._blamable = now
        return Facts(
            now=now, trouble=store.trouble, failing_at=self._failing_at or now, stuck=store.stuck, repaired=store.repaired, log_size=store.wal_size,
            free=state[0], size=state[1], overdue=views.overdue(), overloaded=views.overloaded(), refused=views.refused(),
            lost=lost, blamable=self._blamable, started=self._started, stepped=self._stepped, stepped_at=self._stepped_at,
            ailing=await self._receivers(now))

    def _follow(self, now: float) -> None:
        """Keep what each look must say in the same words: when the disk began to fail, and when the wall clock was set."""
        begun, shift = self._store.failing_since, self._clock.shift
        self._failing_at = None if begun is None else self._failing_at or now - (time.monotonic() - begun)
        if shift != self._shift:
            self._stepped, self._stepped_at, self._shift = shift - self._shift, now, shift

    async def _receivers(self, now: float) -> Mapping[str, Ailing]:
        """Those that cannot be reached; as they were before, where that cannot be read now."""
        def work(connection: sqlite3.Connection) -> Mapping[str, Ailing]:
            return outbox.ailing(connection, now)
        try:
            self._ailing = await self._store.read(work)
        except StoreError as error:
            log.debug("outbox cannot be read", error=str(error))
        return self._ailing


def _file_system(store: Store) -> tuple[int, int]:
    """Bytes that are free for us, and in all, where the store is; 0 and 0 when that cannot be asked."""
    try:
        state = os.statvfs(store.path.parent)
    except OSError:
        return 0, 0
    return state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
