"""The submit guard: that a checkout places an order is committed to the disk before the click, so that no restart places a second one."""

import asyncio
import sqlite3
from collections.abc import Mapping

from monitor.clock import Clock, span
from monitor.health import Target
from monitor.store.store import Store
from monitor.store.trouble import StoreError
from probes.scrub import scrub

KEPT = 100                 # submissions of one target that are remembered, the newest
LONGEST_CYCLE = 7 * 86_400.0     # s: no probe runs at a longer interval
PATIENCE = 5.0             # s for the disk; whoever asks stands before an open order form


class StoredGuard:
    """Lets a run submit once, and runs of one target no closer than half of their interval."""

    def __init__(self, store: Store, clock: Clock, patience: float = PATIENCE) -> None:
        self._store, self._clock, self._patience = store, clock, patience

    async def take(self, target: Target, run: str, cycle: float) -> str:
        """Record that this run submits now. "" when it may and the disk has it, else why not.

        It is no essential write, which would go on in memory when the disk cannot be written: what only memory knows, a crash forgets.
        """
        now = self._clock.now()
        try:
            async with asyncio.timeout(self._patience):
                return await self._store.write(lambda c: take(c, target, run, cycle, now))
        except TimeoutError:
            return f"the store did not answer within {self._patience:g} s: nothing is submitted that is not recorded first"
        except StoreError as error:
            return f"the store cannot write ({scrub(str(error), limit=200)}): nothing is submitted that is not recorded first"

    async def after(self, target: Target, run: str) -> Mapping[str, float]:
        """As a `Guard`. None while the disk cannot be read: the next run asks again."""
        try:
            return await self._store.read(lambda c: after(c, target, run), seconds=self._patience)
        except StoreError:
            return {}


def take(connection: sqlite3.Connection, target: Target, run: str, cycle: float, now: float) -> str:
    """Inside a transaction: record it, or say why not."""
    if connection.execute("SELECT 1 FROM submission WHERE (probe, device, cohort, run) = (?, ?, ?, ?)", (*target, run)).fetchone():
        return "this run has submitted already, and does so once only"
    # What is dated later than now was recorded by a clock that was ahead. How long ago it really was nobody knows: at worst just now.
    connection.execute("UPDATE submission SET at = ? WHERE (probe, device, cohort) = (?, ?, ?) AND at > ?", (now, *target, now))
    newest = connection.execute(
        "SELECT run, at FROM submission WHERE (probe, device, cohort) = (?, ?, ?) ORDER BY at DESC, run DESC LIMIT 1", target).fetchone()
    if newest and now - newest[1] < cycle / 2:
        return f"run {newest[0]} of this probe submitted {span(now - newest[1])} ago; at most once in {span(cycle / 2)}"
    connection.execute("INSERT INTO submission VALUES (?, ?, ?, ?, ?)", (*target, run, now))
    connection.execute(
        "DELETE FROM submission WHERE (probe, device, cohort) = (?, ?, ?) AND run NOT IN"
        " (SELECT run FROM submission WHERE (probe, device, cohort) = (?, ?, ?) ORDER BY at DESC LIMIT ?)", (*target, *target, KEPT))
    return ""


def after(connection: sqlite3.Connection, target: Target, run: str) -> dict[str, float]:
    """The runs of this target that were recorded later than `run`, the oldest first, and when (Unix s); all of them for "".

    None if that one is not remembered: these records are then older than what whoever asks knows, as in a spare made of the hourly copy.
    """
    return dict(connection.execute(
        "SELECT run, at FROM submission WHERE (probe, device, cohort) = (?, ?, ?) AND at >"
        " CASE ? WHEN '' THEN -1 ELSE (SELECT at FROM submission WHERE (probe, device, cohort, run) = (?, ?, ?, ?)) END ORDER BY at, run",
        (*target, run, *target, run)).fetchall())


def drop_old(connection: sqlite3.Connection, before: float) -> None:
    """Forget submissions of long before that (Unix s): also those of probes that are no longer there. None that could still refuse another."""
    connection.execute("DELETE FROM submission WHERE at < ?", (before - LONGEST_CYCLE,))
