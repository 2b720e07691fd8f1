"""A story of a journal that is rotated and vacuumed all the time, read by somebody who is killed, cancelled and forgets."""

import asyncio
import math
import random
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from journal_daemon import Daemon
from processes import Withheld

from probes.error_log.journal import Cursor, Journal, JournalSettings

PATIENCE = 30.0            # s for what another process does in its own time


@dataclass
class Account:
    """What was logged, what was read, and how often each thing happened."""

    logged: int = 0
    read: Counter[int] = field(default_factory=Counter)
    order: list[int] = field(default_factory=list)
    gap: int = 0
    reads: int = 0
    kills: int = 0
    cancelled: int = 0
    forgotten: int = 0
    rotations: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0                     # s that the event loop was held up, not counting what other processes took of the machine
    ours: float = 0.0                        # CPU s of reading
    theirs: float = 0.0                      # CPU s of journalctl

    def enough(self, plan: "Plan", seconds: float) -> bool:
        """Whether all has happened that should."""
        happened = self.logged >= plan.logged and self.kills >= plan.kills and self.rotations >= plan.rotations
        return seconds > plan.seconds and (happened or seconds > plan.seconds + PATIENCE)

    @property
    def lost(self) -> int:
        return self.logged - len(self.read)

    @property
    def double(self) -> int:
        return sum(self.read.values()) - len(self.read)


def settings(daemon: Daemon, **more: object) -> JournalSettings:
    return JournalSettings.model_validate({"directory": str(daemon.journal), "identifiers": ["shop"]} | more)


@dataclass(frozen=True)
class Plan:
    """How the story goes; times in s. It goes on until `logged`, `kills` and `rotations` have been reached, though not for ever."""

    seconds: float = 10.0
    rate: int = 500                          # entries/s
    rotate: float = 2.0                      # between two rotations, each followed by a vacuum
    kept: int = 2                            # archived files that a vacuum leaves
    every: float = 0.5                       # between two reads
    kill: float = 0.15                       # chance that the child is killed before a read
    cancel: float = 0.1                      # chance that a read is cancelled
    forget: float = 0.1                      # chance that what was read is not committed
    seed: int = 7
    logged: int = 0
    kills: int = 0
    rotations: int = 0


async def play(daemon: Daemon, plan: Plan, told: Callable[[str], None] = lambda _: None) -> Account:
    """Log numbered entries while they are read."""
    account, stop, chance = Account(), threading.Event(), random.Random(plan.seed)
    journal = Journal(settings(daemon))
    cursor = (await journal.read(None, time.time(), PATIENCE)).cursor
    threads = [threading.Thread(target=work, args=(daemon, plan, account, stop)) for work in (_log, _rotate)]
    watch = asyncio.create_task(_hold_ups(account))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    for thread in threads:
        thread.start()
    begun, quiet, end = time.monotonic(), 0, math.inf
    try:
        while quiet < 3:
            if not stop.is_set() and account.enough(plan, time.monotonic() - begun):
                stop.set()
                end = time.monotonic() + PATIENCE
            await asyncio.sleep(plan.every)
            cursor, got = await _read(journal, cursor, plan, account, chance)
            over = stop.is_set() and not any(thread.is_alive() for thread in threads) and not got
            quiet = quiet + 1 if over and (account.lost <= account.gap or time.monotonic() > end) else 0
            if account.reads % 20 == 0:
                told(f"{time.monotonic() - begun:.0f} s: logged {account.logged}, read {len(account.read)}, gap {account.gap}")
    finally:
        stop.set()
        watch.cancel()
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])
        await journal.close()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    account.theirs = ended.ru_utime + ended.ru_stime - children.ru_utime - children.ru_stime
    return account


async def _read(journal: Journal, cursor: Cursor, plan: Plan, account: Account, chance: random.Random) -> tuple[Cursor, bool]:
    """One run of a probe: the new cursor, and whether anything was read."""
    if journal._child and chance.random() < plan.kill:
        account.kills += 1
        journal._child._process.kill()
    reading = asyncio.ensure_future(journal.read(cursor, time.time(), PATIENCE))
    account.reads += 1
    if chance.random() < plan.cancel:
        await asyncio.sleep(chance.random() * 0.03)
        reading.cancel()
        account.cancelled += 1
        with suppress(asyncio.CancelledError):
            await reading
        return cursor, True
    begun = time.thread_time()
    batch = await reading
    account.ours += time.thread_time() - begun
    if chance.random() < plan.forget:
        account.forgotten += 1
        return cursor, True
    numbers = [int(entry.text) for entry in batch.entries]
    account.order += numbers
    account.read.update(numbers)
    account.gap += batch.gap
    account.warnings[batch.warning] += 1
    account.problems[batch.problem] += 1
    return batch.cursor, bool(batch.entries)


def _log(daemon: Daemon, plan: Plan, account: Account, stop: threading.Event) -> None:
    begun = time.monotonic()
    while not stop.is_set():
        for _ in range(int((time.monotonic() - begun) * plan.rate) - account.logged):
            daemon.say(str(account.logged))
            account.logged += 1
        time.sleep(0.005)


def _rotate(daemon: Daemon, plan: Plan, account: Account, stop: threading.Event) -> None:
    while not stop.wait(plan.rotate):
        daemon.control("--rotate", f"--vacuum-files={plan.kept}")
        account.rotations += 1


async def _hold_ups(account: Account) -> None:
    with Withheld() as withheld:
        while True:
            begun, before = time.monotonic(), withheld()
            await asyncio.sleep(0.005)
            account.slowest = max(account.slowest, time.monotonic() - begun - 0.005 - (withheld() - before))
