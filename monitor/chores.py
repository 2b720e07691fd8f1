"""What the daemon does now and then: old things are deleted, slow gauges kept fresh, bursts run, the wall clock looked at."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

import structlog

from monitor.alerts import outbox
from monitor.alerts.table import ReceiverSettings
from monitor.clock import Clock, true_time
from monitor.exporter import Exporter
from monitor.store import Store, StoreError, guard, samples

log = structlog.get_logger()

BURST_SECONDS = 300.0
GAUGE_SECONDS = 5.0
SWEEP_SECONDS = 3600.0
CLOCK_SECONDS = 1.0
BURSTS_LOOK_SECONDS = 60.0


async def keep_house(store: Store, exporter: Exporter, clock: Clock, receivers: Callable[[], Sequence[ReceiverSettings]],
                     retention: Callable[[], float], sweep: Callable[[float], object] = lambda _now: None) -> None:
    """Delete what is too old (`retention` in s) in small bites, and keep the slow gauges fresh, for ever.

    `sweep(now)` takes away evidence that is too old; it is called in a thread, once an hour, with what the wall clock says (Unix s).
    """
    swept = float("-inf")
    while True:
        await asyncio.sleep(GAUGE_SECONDS)
        now, names = clock.now(), [receiver.name for receiver in receivers()]
        exporter.own.store_volatile.set(store.volatile)
        with suppress(StoreError):               # locked or full: said by whoever had to write; chores can wait
            exporter.own.waiting(await store.read(lambda c, now=now, names=names: outbox.waiting(c, names, now)))  # type: ignore[misc]
            before = now - retention()
            if await store.read(lambda c, before=before: samples.oldest(c) < before):  # type: ignore[misc]
                await store.write(lambda c, before=before: _drop_old(c, before))  # type: ignore[misc]
        if monotonic() - swept >= SWEEP_SECONDS:
            swept = monotonic()
            await asyncio.to_thread(sweep, true_time(now))       # files are dated by the wall clock


def _drop_old(connection: sqlite3.Connection, before: float) -> None:
    samples.drop_old(connection, before)
    outbox.drop_old(connection, before)
    guard.drop_old(connection, before)
    connection.execute("PRAGMA incremental_vacuum(500)").fetchall()      # pages; the file shrinks in small bites too


async def run_bursts(clock: Clock, per_day: Callable[[], int], hurry: Callable[[float], None]) -> None:
    """A few times a day the faster spacing of an update for a while, so that there is a "before" at that spacing. For ever."""
    while True:
        wait = 86400 / count if (count := per_day()) else BURSTS_LOOK_SECONDS
        left = wait - clock.now() % wait                                  # by the clock: a restart costs no burst
        await asyncio.sleep(min(left, BURSTS_LOOK_SECONDS))               # a reload may change their number
        if count and left <= BURSTS_LOOK_SECONDS:
            hurry(BURST_SECONDS)


async def follow_clock(clock: Clock, exporter: Exporter) -> None:
    """Look whether the wall clock was stepped, for ever: what goes out has true times, and nothing inside is late or early for it."""
    while True:
        if step := clock.follow():
            log.warning("the wall clock was stepped", seconds=round(step, 1), shift=round(clock.shift, 1))
        exporter.own.clock_shift.set(clock.shift)
        await asyncio.sleep(CLOCK_SECONDS)
