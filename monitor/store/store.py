"""The store as the event loop sees it: what is handed to the writer thread, what is read beside it, and how it fares.

Samples are gathered and committed together with their checkpoints; what must not be lost (incidents, outbox rows,
updates) is committed at once. A store that cannot write is a value: samples wait in a bounded ring and are tried again,
essential work goes on in memory.
"""

import asyncio
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from monitor.health import Health, Target
from monitor.store import essentials
from monitor.store.limits import Limits
from monitor.store.reading import READ_SECONDS, read_only
from monitor.store.transaction import T, Work
from monitor.store.trouble import StoreError
from monitor.store.waiting import Batch, Job
from monitor.store.writer import Writer, log_size
from probes.sample import Sample

STOP_SECONDS = 5.0
FIRST_COPY = 60.0          # s after the start, when there is no copy yet
LAST_COPY = 2.0            # s that it may take when the store is left


class Store:
    """An open store. Enter it as an async context manager; leaving it commits what is gathered.

    `on_commit(seconds, written)` is called in the event loop after each commit, `on_failure(text)` after a failed one.
    """

    def __init__(self, state_dir: Path, limits: Limits | None = None) -> None:
        self.path = state_dir / "tillwatch.sqlite3"
        self._limits = limits or Limits()
        self._writer = Writer(self.path, self._limits, self._call)
        self._pending = Batch()
        self._handed, self._handed_at = 0, 0.0       # items given to the writer, and when it last had none but the newest (monotonic s)
        self._kick: asyncio.TimerHandle | None = None
        self._readers = ThreadPoolExecutor(1, "store-reader")
        self._copier: asyncio.Task[None] | None = None
        self._copying = threading.Lock()
        self._lock: IO[bytes] | None = None
        self._left = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._lock = _lock(self.path.parent)
        try:
            await asyncio.to_thread(self._writer.open)
        except BaseException:
            self._lock.close()
            raise
        self._copier = asyncio.create_task(self._copy_now_and_then(), name="copy of the essentials")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._copier:
            self._copier.cancel()
        self._flush()
        self._left = True
        ended = await asyncio.to_thread(self._writer.stop, STOP_SECONDS)
        self._readers.shutdown(wait=False, cancel_futures=True)
        if ended:
            await asyncio.to_thread(self._copy, LAST_COPY)
            self._writer.close()
        if self._lock:
            self._lock.close()

    # What is asked of it

    def add_sample(self, sample: Sample) -> None:
        """Hand over a sample; it is committed within `Limits.flush`. Never blocks and never raises."""
        self._pending.samples.append(sample)
        if self._kick is None:
            self._kick = self._loop.call_later(self._limits.flush, self._flush)

    def add_health(self, target: Target, health: Health) -> None:
        """Hand over a health to be kept, with the sample that changed it."""
        self._pending.health[target] = health

    async def write(self, work: Work[T], *, essential: bool = False) -> T:
        """Run `work` in a transaction of its own, after all samples handed over so far, and commit it at once.

        Raises StoreError when the disk cannot be written, and whatever `work` raises; it is then rolled back as a whole. `essential` work
        goes on all the same: on the spare, in memory, which is merged into the disk as soon as that can be written again. It may be run
        more than once before it succeeds, sees no samples there, and of what is long over only the newest.
        """
        if self._left:
            raise StoreError("the store is closed")
        self._flush()
        future: asyncio.Future[T] = self._loop.create_future()
        self._hand_over(Job(work, essential, future))
        return await future

    async def read(self, work: Work[T], *, seconds: float = READ_SECONDS) -> T:
        """Run `work` with a connection that cannot write, in the reader thread. Raises StoreError, also after `seconds`.

        While the store is volatile the small state is the spare's, the samples are the disk's.
        """
        spare = self._writer.spare
        return await self._loop.run_in_executor(self._readers, read_only, self.path, work, seconds, spare.image if spare else None)

    # How it fares

    @property
    def on_commit(self) -> Callable[[float, int], None]:
        return self._writer.on_commit

    @on_commit.setter
    def on_commit(self, function: Callable[[float, int], None]) -> None:
        self._writer.on_commit = function

    @property
    def on_failure(self) -> Callable[[str], None]:
        return self._writer.on_failure

    @on_failure.setter
    def on_failure(self, function: Callable[[str], None]) -> None:
        self._writer.on_failure = function

    @property
    def trouble(self) -> str:
        """Why the disk cannot be written, in words for people; "" when it can."""
        return self._writer.trouble

    @property
    def failing_since(self) -> float | None:
        """Since when the disk cannot be written, monotonic s."""
        return self._writer.failing_since

    @property
    def volatile(self) -> bool:
        """Is there something essential in memory only?"""
        return self._writer.spare is not None

    @property
    def repaired(self) -> str:
        """What had to be done about a damaged database at the start, in one sentence; "" when nothing."""
        return self._writer.repaired

    @property
    def ballast(self) -> bool:
        """Is there space set aside? False when it is in use, or could not be set aside: the disk is full, or nearly."""
        return self._writer.ballast.present

    @property
    def dropped(self) -> int:
        """Samples that waited too long, or were too many, while the disk could not be written: they are lost."""
        return self._writer.ring.dropped

    @property
    def stuck(self) -> float:
        """Seconds since the writer thread took up what it works on; 0 when it is idle. A failing disk does not count: failing takes no time."""
        taken_up = self._writer.taken_up
        return time.monotonic() - taken_up if taken_up is not None else 0.0

    @property
    def behind(self) -> float:
        """Seconds for which the writer thread has had work and finished none of it, whether with success or not: also when it has died."""
        if self._writer.done >= self._handed:
            return 0.0
        return time.monotonic() - max(self._handed_at, self._writer.done_at)

    @property
    def wal_size(self) -> int:
        """Bytes of the write-ahead log; it grows for as long as another program reads in one transaction."""
        return log_size(self.path)

    def size(self) -> int:
        """Bytes of the database and its log. By `stat` alone: opening the file here would drop SQLite's locks."""
        return sum(p.stat().st_size for p in self.path.parent.glob(self.path.name + "*"))

    # Inside

    def _hand_over(self, item: Job | Batch) -> None:
        if self._writer.done >= self._handed:
            self._handed_at = time.monotonic()
        self._handed += 1
        self._writer.put(item)

    def _flush(self) -> None:
        if self._kick:
            self._kick.cancel()
            self._kick = None
        if self._pending:
            batch, self._pending = self._pending, Batch()
            self._hand_over(batch)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """From the writer thread: call `function` in the event loop."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:                         # the loop is closed: nobody is left to tell
            return

    async def _copy_now_and_then(self) -> None:
        await asyncio.sleep(self._limits.copy if self._writer.copy.exists() else min(FIRST_COPY, self._limits.copy))
        while True:
            await asyncio.to_thread(self._copy, self._limits.copy_within, lambda: self._left)
            await asyncio.sleep(self._limits.copy)

    def _copy(self, seconds: float, given_up: Callable[[], bool] = lambda: False) -> None:
        """In a thread of its own: a newer copy of the essentials, if there is something to be read; else the last one stays."""
        with self._copying, suppress(sqlite3.Error, OSError):    # the next hour, then: a disk in trouble is said by whoever has to write
            if not self._writer.trouble:
                essentials.copy(self.path, self._writer.copy, seconds, given_up)


def _lock(directory: Path) -> IO[bytes]:
    """Refuse a second daemon on the same state."""
    path = directory / "lock"
    try:
        file: IO[bytes] = path.open("ab")
    except OSError:
        if not path.exists():
            raise
        file = path.open("rb")                       # a read-only file system: an old lock can be taken all the same
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StoreError(f"{directory}: another Tillwatch (or backup) is using this state directory") from None
    with suppress(OSError):
        os.chmod(file.fileno(), 0o600)  # noqa: PTH101 - by descriptor
    return file
