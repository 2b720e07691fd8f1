"""The one thread that writes: to the disk, and while that cannot be, what is essential to a spare in memory.

Each turn first catches up: the spare is merged into the disk, then the samples that wait are committed, then comes the turn's own job.
So the disk gets everything in the order in which it was handed over.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from monitor.health import Health, Target
from monitor.store import essentials, records, repair, samples
from monitor.store.ballast import Ballast
from monitor.store.limits import Limits
from monitor.store.schema import NewerSchemaError, check, migrate
from monitor.store.spare import Spare, fill
from monitor.store.transaction import Outcome, T, Work, transaction
from monitor.store.trouble import DAMAGED, FULL, READ_ONLY, UNOPENED, DiskError, StoreError, words
from monitor.store.waiting import Batch, Job, Ring
from probes.sample import Sample

BITE = 20_000              # samples in one commit of what waited
BUSY_AGAIN = 0.1           # s that a lock is waited for once it has been waited for in vain


class Writer:
    """`tell(function, *arguments)` calls a function in the event loop. Attributes without underscore may be read by any thread."""

    def __init__(self, path: Path, limits: Limits, tell: Callable[..., None]) -> None:
        self.path, self.copy = path, path.with_name(essentials.NAME)
        self.trouble, self.repaired = "", ""
        self.failing_since: float | None = None      # monotonic s
        self.taken_up: float | None = None           # monotonic s: when the item was taken up that is worked on
        self.done, self.done_at = 0, 0.0             # items, and when the last was (monotonic s)
        self.spare: Spare | None = None
        self.ballast = Ballast(path.parent, limits)
        self.ring = Ring(limits.ring, limits.ring_seconds)
        self.on_commit: Callable[[float, int], None] = lambda _seconds, _written: None
        self.on_failure: Callable[[str], None] = lambda _text: None
        self._limits, self._tell = limits, tell
        self._health: dict[Target, Health] = {}      # handed over, and in no commit yet
        self._connection: sqlite3.Connection | None = None
        self._mended = False                         # looked through, and repaired if need be
        self._next_try = self._next_cut = 0.0        # monotonic s
        self._items: queue.SimpleQueue[Job | Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    # Called by others

    def open(self) -> None:
        """Open the database, mended if it must be. Raises StoreError when it is not ours to write; a disk in trouble is no error."""
        self.ballast.start()
        outcome = self._on_disk(lambda _connection: None)
        if outcome.error and self.trouble in ("", UNOPENED):     # not ours to write: a daemon that is set up wrongly must not start
            raise StoreError(f"{self.path}: {outcome.error}") from outcome.error
        if outcome.error:
            self.spare = self._filled()
        self._thread.start()

    def put(self, item: Job | Batch) -> None:
        self._items.put(item)

    def stop(self, seconds: float) -> bool:
        """Commit all that was handed over, and end; whether it did within `seconds`. What hangs is interrupted."""
        self._items.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive() and (connection := self._connection):
            with suppress(sqlite3.Error):
                connection.interrupt()
            self._thread.join(0.5)
        return not self._thread.is_alive()

    def close(self) -> None:
        """After `stop`."""
        if self._connection:
            self._connection.close()
        if self.spare:
            self.spare.close()

    # The thread

    def _run(self) -> None:
        while True:
            try:
                item = self._items.get(timeout=self._limits.retry if self.trouble else self._limits.ballast_wait)
            except queue.Empty:
                self._turn(Batch())                  # try again what could not be written
                continue
            if item is None:
                break
            self._turn(item)
            self.done_at, self.done = time.monotonic(), self.done + 1
        self._next_try = 0.0
        self._turn(Batch())
        if self.spare and self.trouble != DAMAGED:   # the database may be all that cannot be written: the next start looks at the copy
            self.spare.hold_all()
            self._keep(self.spare)

    def _turn(self, item: Job | Batch) -> None:
        self.taken_up = now = time.monotonic()
        job = item if isinstance(item, Job) else None
        if isinstance(item, Batch):
            self.ring.add(item.samples, now)
            self._health |= item.health
        if not self.trouble or now >= self._next_try or (job and not job.essential):
            self._catch_up()
        if job:
            self._do(job)
        self.ballast.tend()
        self.taken_up = None

    def _catch_up(self) -> None:
        """Bring to the disk what it lacks, oldest first."""
        if not (self.trouble or self.ring or self._health) or not self._merged():
            return
        while True:
            batches, bite = self.ring.bite(BITE)
            outcome = self._on_disk(partial(self._write, bite), len(bite))
            if isinstance(outcome.error, DiskError):
                return
            if outcome.error:                        # it would fail for ever, and hold up all that comes after
                self._tell(_raise, outcome.error)
            self.ring.committed(batches)
            self._health.clear()
            if not self.ring:
                break
        self._recovered()

    def _merged(self) -> bool:
        """Take the spare back, if there is one; False when it is still needed."""
        if self.spare is None:
            return True
        error = self._on_disk(self.spare.merge).error
        if error is None:
            self.spare.close()
            self.spare = None
        elif not isinstance(error, DiskError):
            self._tell(_raise, error)                # a fault of ours: it must not be passed over
        return error is None

    def _do(self, job: Job) -> None:
        def work(connection: sqlite3.Connection) -> object:
            self._write_health(connection)           # handed over before the job, which may know a newer one
            return job.work(connection)
        outcome: Outcome[object] = Outcome(error=DiskError(self.trouble)) if self.spare else self._on_disk(work)
        if isinstance(outcome.error, DiskError) and job.essential:
            outcome = self._on_spare(work)
        if outcome.error:
            self._tell(_settle_error, job.future, outcome.error)
            return
        self._health.clear()
        self._tell(_settle, job.future, outcome.result)

    def _write(self, bite: list[Sample], connection: sqlite3.Connection) -> None:
        self._encoder.write(bite)
        self._write_health(connection)

    def _write_health(self, connection: sqlite3.Connection) -> None:
        for target, health in self._health.items():
            records.save_health(connection, target, health)

    # The disk

    def _on_disk(self, work: Work[T], written: int = 0) -> Outcome[T]:
        """One commit; tried once more without the ballast. The error is a DiskError when it is the disk's."""
        if self.trouble == DAMAGED:
            return Outcome(error=DiskError(DAMAGED))
        begun = time.monotonic()
        outcome, said = self._attempt(work)
        if said == FULL and self.ballast.release():
            outcome, said = self._attempt(work)
        if said and outcome.error:
            self._failed(said, outcome.error)
            return Outcome(error=DiskError(f"{said} ({outcome.error})"))
        if outcome.error is None:
            self._tell(self._committed, time.monotonic() - begun, written)
            self._cut_log()
        return outcome

    def _attempt(self, work: Work[T]) -> tuple[Outcome[T], str]:
        """One transaction, and what its error says about the disk."""
        try:
            connection = self._opened()
        except (sqlite3.Error, OSError, NewerSchemaError) as error:
            return Outcome(error=error), words(error, self.path.parent)
        outcome = transaction(connection, work)
        if outcome.error is None:
            return outcome, ""
        self._encoder.forget()
        said = words(outcome.error, self.path.parent) if isinstance(outcome.error, sqlite3.Error) else ""
        if said in (READ_ONLY, UNOPENED) or connection.in_transaction:       # this connection will never write (again): the next try opens another
            self._connection = None
            with suppress(sqlite3.Error):
                connection.close()
        return outcome, said

    def _opened(self) -> sqlite3.Connection:
        if not self._mended:
            self.repaired = repair.mend(self.path, self.copy, self._limits.check, time.time())
            self._mended = True
        if self._connection is None:
            self._connection = _open(self.path, self._patience)
            self._encoder = samples.Encoder(self._connection)
        return self._connection

    @property
    def _patience(self) -> float:
        """How long a lock is waited for, s. Waiting in vain once is enough: others wait behind it."""
        return min(self._limits.busy, BUSY_AGAIN) if self.trouble else self._limits.busy

    def _set_patience(self) -> None:
        if self._connection:
            self._connection.execute(f"PRAGMA busy_timeout = {int(self._patience * 1000)}")

    def _cut_log(self) -> None:
        """Empty the write-ahead log when it has become large; not while somebody reads, who would be waited for."""
        now = time.monotonic()
        if now < self._next_cut or log_size(self.path) <= self._limits.wal or not self._connection:
            return
        self._next_cut = now + self._limits.wal_wait
        with suppress(sqlite3.Error):                # the next commit will say what is wrong
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._set_patience()

    def _failed(self, said: str, error: BaseException) -> None:
        now = time.monotonic()
        self.failing_since = self.failing_since or now
        self.trouble, self._next_try = said, now + self._limits.retry
        self._set_patience()
        if said == DAMAGED:
            with suppress(OSError):
                repair.marker(self.path).touch(mode=0o600)
            if self.spare:
                self.spare.hold_all()
        self._tell(self._told, f"{said} ({error})")

    def _recovered(self) -> None:
        self.trouble, self.failing_since = "", None
        self._set_patience()

    def _committed(self, seconds: float, written: int) -> None:
        """In the event loop, as `_told`."""
        self.on_commit(seconds, written)

    def _told(self, text: str) -> None:
        self.on_failure(text)

    # The spare

    def _filled(self) -> Spare:
        first, then = (self.copy, self.path) if essentials.ahead(self.copy) else (self.path, self.copy)
        spare = fill(first, then)
        if self.trouble == DAMAGED:
            spare.hold_all()
        return spare

    def _on_spare(self, work: Work[T]) -> Outcome[T]:
        self.spare = spare = self.spare or self._filled()
        outcome = spare.run(work)
        if isinstance(outcome.error, Exception) and not spare.complete:
            return Outcome(error=StoreError(f"{self.trouble}, and what is stored cannot be read ({outcome.error})"))
        if self.trouble == DAMAGED and not outcome.error:        # no disk will take it back: the next start builds on the copy
            self._keep(spare)
        return outcome

    def _keep(self, spare: Spare) -> None:
        with suppress(sqlite3.Error, OSError):
            essentials.keep(spare, self.copy)


def log_size(path: Path) -> int:
    """Bytes of the write-ahead log. By `stat` alone: opening the file would drop SQLite's locks."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except OSError:
        return 0


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _settle_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, StopIteration) or not isinstance(error, Exception):     # no future can hold it, or it would mean something else there
        error = RuntimeError(f"the work raised {error!r}")
    if not future.done():
        future.set_exception(error)


def _raise(error: BaseException) -> None:
    """In the event loop: nobody waits for this error, and it must not be passed over."""
    raise error


def _open(path: Path, patience: float) -> sqlite3.Connection:
    """The only connection that writes. synchronous=FULL: what was committed survives a power cut."""
    if not path.exists():
        path.touch(mode=0o600)
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=patience, cached_statements=256)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    check(connection)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")      # heard only while the file is empty, which it is not in WAL mode
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise sqlite3.OperationalError("the file system cannot keep a write-ahead log")
    connection.executescript("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;")
    migrate(connection)
