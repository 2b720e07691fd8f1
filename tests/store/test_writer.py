"""The writer thread is never stuck on a job's fault, says when it is stuck on something else, and keeps its log short."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from made import count, made, note, notes, settled
from processes import ending
from story import sound

from monitor.store import Limits, Store, StoreError

FAULTS: tuple[BaseException, ...] = (
    KeyError("a bug"), ZeroDivisionError(), RecursionError(), MemoryError(), StopIteration(), GeneratorExit(), SystemExit(3), KeyboardInterrupt(),
    asyncio.CancelledError(), OSError(28, "No space left on device"), sqlite3.OperationalError("database is locked"), StoreError("nested"),
    TimeoutError())


class Faulty:
    """A closure that writes something, raises at some point, and may leave the transaction in disorder."""

    def __init__(self, rng: random.Random, name: str) -> None:
        self._fault, self._name, self._way = rng.choice(FAULTS), name, rng.randrange(6)

    def __call__(self, connection: sqlite3.Connection) -> None:
        note(f"wrong {self._name}")(connection)
        match self._way:
            case 0:
                connection.execute("ROLLBACK")
            case 1:
                connection.execute("INSERT INTO nowhere VALUES (1)")
            case 2:
                connection.execute("SELECT ?", ("\ud800",))
            case 3:
                connection.execute("INSERT INTO meta VALUES (?, NULL)", (self._name,))
            case 4:
                connection.execute("SAVEPOINT a")
        raise self._fault


async def eventually(true: Callable[[], bool]) -> None:
    """The writer has settled what it was asked for before it puts its things away."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def asked(store: Store, work: object, essential: bool) -> BaseException | None:
    try:
        await store.write(work, essential=essential)  # type: ignore[arg-type]
    except BaseException as error:  # noqa: BLE001 - which is what is tried
        return error
    return None


@pytest.mark.parametrize("volatile", [False, True])
async def test_whatever_a_job_raises_is_rolled_back_and_stops_nothing(impatient: Store, volatile: bool) -> None:
    rng, store = random.Random(7), impatient
    other = sqlite3.connect(store.path, isolation_level=None)
    if volatile:
        other.execute("BEGIN IMMEDIATE")
    for number in range(150):
        store.add_sample(made(number, reason=f"reason {number % 10}"))
        assert await asked(store, Faulty(rng, str(number)), essential=True)
        await store.write(note(f"right {number:03}"), essential=True)
    assert store.volatile is volatile
    other.close()
    await settled(store)
    assert await store.read(notes) == [f"right {number:03}" for number in range(150)]
    assert await store.read(count) == 150
    assert await store.read(sound)
    await eventually(lambda: store.behind == 0.0)


def test_a_process_ends_in_time_though_its_writer_hangs(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, time\nfrom pathlib import Path\nfrom monitor.store import Store\n"
        "async def main():\n"
        "    async with Store(Path(sys.argv[1])) as store:\n"
        "        asyncio.ensure_future(store.write(lambda _: time.sleep(60)))\n"
        "        asyncio.ensure_future(store.write(lambda c: None))\n"
        "        await asyncio.sleep(0.1)\n"
        "        print('leaving', flush=True)\n"
        "asyncio.run(main())\n")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "leaving\n"
            assert ending(process, 30) < 10
            assert process.wait(1) == 0
        finally:
            process.kill()


async def test_a_statement_without_end_is_interrupted_when_the_store_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.store.STOP_SECONDS", 0.2)
    endless = "WITH RECURSIVE n (i) AS (SELECT begun() UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    begun = threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        connection.create_function("begun", 0, begun.set)              # by the statement itself: before it nothing is there to be interrupted
        connection.execute(endless).fetchone()
    async with Store(tmp_path) as store:
        task = asyncio.ensure_future(store.write(work))
        assert await asyncio.to_thread(begun.wait, 20)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await task
    with pytest.raises(StoreError, match="closed"):
        await store.write(note("too late"))


async def test_a_thread_that_hangs_is_seen(store: Store) -> None:
    assert (store.stuck, store.behind) == (0.0, 0.0)
    begun, taken_up, go = time.monotonic(), threading.Event(), threading.Event()
    task = asyncio.ensure_future(store.write(lambda _: (taken_up.set(), go.wait(30))))
    assert await asyncio.to_thread(taken_up.wait, 20)
    await asyncio.sleep(0.1)
    assert 0.05 < store.stuck <= time.monotonic() - begun
    assert 0.05 < store.behind <= time.monotonic() - begun
    assert (store.trouble, store.failing_since) == ("", None), "that is another matter"
    go.set()
    await task
    await settled(store)
    await eventually(lambda: (store.stuck, store.behind) == (0.0, 0.0))


async def test_a_thread_that_has_died_is_seen(store: Store) -> None:
    store._writer.stop(5.0)
    store.add_sample(made())
    store._flush()
    await asyncio.sleep(0.02)
    assert store.behind > 0.01


async def test_a_reader_that_does_not_end_makes_the_log_long_and_nothing_slow(tmp_path: Path) -> None:
    """The log is cut when the reader is gone, and its size is told meanwhile."""
    limits = replace(Limits(), wal=8 << 20, wal_wait=0.02)
    async with Store(tmp_path, limits) as store:
        await store.write(note("first"))
        with closing(sqlite3.connect(f"file:{store.path}?mode=ro", uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM meta").fetchall()
            times = []
            for number in range(120):
                begun = time.monotonic()
                await store.write(lambda c, n=number: c.execute("INSERT INTO meta VALUES (?, ?)", (str(n), "x" * 100_000)))
                times.append(time.monotonic() - begun)
            assert store.wal_size > 10 << 20
            assert sorted(times)[len(times) // 2] < 0.1
            assert store.trouble == ""
        await asyncio.sleep(0.03)
        await store.write(note("last"))
        assert store.wal_size < 1 << 20
        assert await store.read(lambda c: c.execute("SELECT count(*) FROM meta").fetchone()[0]) == 122


async def test_a_log_that_cannot_be_cut_does_not_cost_patience(tmp_path: Path) -> None:
    """The lock of another program is waited for as before."""
    async with Store(tmp_path, Limits(wal=0, wal_wait=0.0)) as store:
        await store.write(note("one"))
        assert await store.write(lambda c: c.execute("PRAGMA busy_timeout").fetchone()[0]) == 5000
