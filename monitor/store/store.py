"""The one writer thread, and the readers beside it.

Samples are gathered and committed together with their checkpoints; what must not be lost (incidents, outbox rows,
updates) is committed at once. A store that cannot write is a value: samples wait in a bounded ring and are tried again.
"""

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self, TypeVar
from urllib.parse import quote

from monitor.health import Health, Target
from monitor.store import records, samples
from monitor.store.schema import NewerSchemaError, check, migrate
from probes.sample import Sample

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

FLUSH_SECONDS = 0.2
RING = 200_000             # samples kept in memory while the store cannot write
READ_SECONDS = 5.0         # a reader that holds a transaction longer would keep the WAL from shrinking


class StoreError(Exception):
    """The store could not do it; nothing of it was written."""


def read_only(path: Path, work: Work[T], seconds: float = READ_SECONDS) -> T:
    """Run `work` with a connection that cannot write. Raises StoreError, also when it takes longer than `seconds`."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5.0)) as connection:
            connection.execute("PRAGMA query_only = 1")
            end = time.monotonic() + seconds
            connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
            return work(connection)
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error


@dataclass
class _Batch:
    """What is gathered until the next commit: samples in order, and the newest health of targets that are not well."""

    samples: list[Sample] = field(default_factory=list)
    health: dict[Target, Health] = field(default_factory=dict)

    def take(self, later: "_Batch") -> None:
        self.samples = (self.samples + later.samples)[-RING:]
        self.health |= later.health

    def __bool__(self) -> bool:
        return bool(self.samples or self.health)


@dataclass
class _Job:
    work: Callable[[sqlite3.Connection], object]
    future: asyncio.Future[object]


class Store:
    """An open store. Enter it as an async context manager; leaving it commits what is gathered.

    `on_commit(seconds, written)` is called in the event loop after each commit, `on_failure(text)` after a failed one.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "tillwatch.sqlite3"
        self.on_commit: Callable[[float, int], None] = lambda _seconds, _written: None
        self.on_failure: Callable[[str], None] = lambda _text: None
        self.failing_since: float | None = None      # monotonic s
        self._waiting_since: float | None = None     # monotonic s
        self._pending = _Batch()
        self._jobs: queue.SimpleQueue[_Job | _Batch | None] = queue.SimpleQueue()
        self._kick: asyncio.TimerHandle | None = None
        self._readers = ThreadPoolExecutor(1, "store-reader")
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._lock: IO[bytes] | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._lock = _lock(self.path.parent)
        try:
            self._connection = _open(self.path)
        except BaseException:
            self._lock.close()
            raise
        self._encoder = samples.Encoder(self._connection)
        self._waiting = _Batch()                     # the writer thread's own: not yet committed
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._flush()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, 5.0)
        self._readers.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self._connection.close()
        if self._lock:
            self._lock.close()

    def add_sample(self, sample: Sample) -> None:
        """Hand over a sample; it is committed within `FLUSH_SECONDS`. Never blocks and never raises."""
        self._pending.samples.append(sample)
        if self._kick is None:
            self._kick = self._loop.call_later(FLUSH_SECONDS, self._flush)

    def add_health(self, target: Target, health: Health) -> None:
        """Hand over a health to be kept, with the sample that changed it."""
        self._pending.health[target] = health

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction of its own, after all samples handed over so far, and commit it at once.

        Raises StoreError when it could not be committed; the transaction is then rolled back as a whole.
        """
        self._flush()
        future: asyncio.Future[object] = self._loop.create_future()
        self._hand_over(_Job(work, future))
        return await future  # type: ignore[return-value]  # the result of `work` itself

    async def read(self, work: Work[T], *, seconds: float = READ_SECONDS) -> T:
        """Run `work` with a connection that cannot write, in the reader thread. Raises StoreError, also after `seconds`."""
        return await self._loop.run_in_executor(self._readers, read_only, self.path, work, seconds)

    @property
    def behind(self) -> float:
        """Seconds for which the writer has had work and committed none of it."""
        return time.monotonic() - self._waiting_since if self._waiting_since is not None else 0.0

    def size(self) -> int:
        """Bytes of the database and its log. By `stat` alone: opening the file here would drop SQLite's locks."""
        return sum(p.stat().st_size for p in self.path.parent.glob(self.path.name + "*"))

    def _hand_over(self, work: _Job | _Batch) -> None:
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        self._jobs.put(work)

    def _flush(self) -> None:
        if self._kick:
            self._kick.cancel()
            self._kick = None
        if self._pending:
            batch, self._pending = self._pending, _Batch()
            self._hand_over(batch)

    def _write_loop(self) -> None:
        while (item := self._next()) is not None:
            if isinstance(item, _Job):
                self._commit_job(item)
                continue
            self._waiting.take(item)
            self._commit_samples()
        self._commit_samples()

    def _next(self) -> _Job | _Batch | None:
        while True:
            try:
                return self._jobs.get(timeout=1.0 if self._waiting else None)
            except queue.Empty:
                return _Batch()                      # try again what could not be written

    def _commit_samples(self) -> None:
        error = self._transaction(None) if self._waiting else None
        if error and not isinstance(error, sqlite3.Error):
            self._waiting = _Batch()                 # it would fail for ever, and hold up all that comes after
            self._call(_raise, error)

    def _commit_job(self, job: _Job) -> None:
        error = self._transaction(job)
        if error and self._waiting:                  # the job's fault must not cost the samples
            self._commit_samples()

    def _transaction(self, job: _Job | None) -> BaseException | None:
        """One commit of all waiting samples and, if given, a job. The error, if it was rolled back."""
        begun, result, written = time.monotonic(), None, len(self._waiting.samples)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._encoder.write(self._waiting.samples)
            for target, health in self._waiting.health.items():
                records.save_health(self._connection, target, health)
            result = job.work(self._connection) if job else None
            self._connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the job
            self._rolled_back(job, error)
            return error
        self._waiting = _Batch()
        self._tell(job, result, time.monotonic() - begun, written)
        return None

    def _rolled_back(self, job: _Job | None, error: BaseException) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()
        self._encoder.forget()
        ours = isinstance(error, sqlite3.Error)
        if ours:
            self._call(self._failed, str(error))
        if job:
            self._call(_settle_error, job.future, StoreError(str(error)) if ours else error)

    def _tell(self, job: _Job | None, result: object, seconds: float, written: int) -> None:
        self._call(self._committed, seconds, written)
        if job:
            self._call(_settle, job.future, result)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:                         # the loop is closed: nobody is left to tell
            return

    def _committed(self, seconds: float, written: int) -> None:
        self.failing_since = None
        self._waiting_since = None if self._jobs.empty() else time.monotonic()
        self.on_commit(seconds, written)

    def _failed(self, text: str) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        self.on_failure(text)


def _settle(future: asyncio.Future[object], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _settle_error(future: asyncio.Future[object], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _raise(error: BaseException) -> None:
    """In the event loop: nobody waits for this error, and it must not be passed over."""
    raise error


def _open(path: Path) -> sqlite3.Connection:
    """The only connection that writes. synchronous=FULL: what was committed survives a power cut."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=256)
    try:
        _prepare(connection)
    except (sqlite3.Error, NewerSchemaError) as error:
        connection.close()
        raise StoreError(f"{path}: {error}") from error
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    check(connection)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")      # heard only while the file is empty, which it is not in WAL mode
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise sqlite3.OperationalError("the file system cannot keep a write-ahead log")
    connection.executescript("PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA journal_size_limit = 67108864;")
    migrate(connection)


def _lock(directory: Path) -> IO[bytes]:
    """Refuse a second daemon on the same state."""
    file = (directory / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StoreError(f"{directory}: another Tillwatch (or backup) is using this state directory") from None
    os.chmod(file.fileno(), 0o600)  # noqa: PTH101 - by descriptor
    return file
