"""A database that is damaged ends nobody: it is moved aside, and the last copy of the essentials takes its place."""

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from made import NOW, count, locked, made, note, notes, settled
from processes import Stopwatch
from story import begin, deliver, end, flips, sound, states

from monitor.alerts import outbox
from monitor.health import Health
from monitor.store import Limits, Store, StoreError, essentials, records
from monitor.store.repair import mend
from monitor.store.schema import STEPS

QUICK = Limits(busy=0.05, retry=0.05, flush=0.02)
PAY = ("pay", "", "")


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """The folder of a daemon that has run, with a copy of the essentials, made at its stop."""
    async with Store(tmp_path) as store:
        await store.write(lambda c: records.install_id(c, "ours"))
        await store.write(lambda c: records.save_health(c, PAY, Health(down=True)))
        for number in range(3000):
            store.add_sample(made(number, evidence="x" * 100, checkpoint=b"%d" % number))
        await end(store, await begin(store, "past"))
        await begin(store, "now")
        await deliver(store)
        await deliver(store)
    assert (tmp_path / essentials.NAME).stat().st_mode & 0o077 == 0
    return tmp_path


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(100_000))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 // 4096 * 4096])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def header(path: Path) -> None:
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])


def number(path: Path) -> None:
    """The number of the schema alone: not a newer version, but chance."""
    path.write_bytes(path.read_bytes()[:60] + b"\xde\xad\xbe\xef" + path.read_bytes()[64:])


def no_number(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60] + bytes(4) + path.read_bytes()[64:])


def middle(path: Path) -> None:
    """A page of the outbox."""
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'outbox'").fetchone()[0]
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = random.Random(2).randbytes(4096)
    path.write_bytes(data)


def no_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE outbox")


def missing(path: Path) -> None:
    path.unlink()


def no_text(path: Path) -> None:
    """SQLite quotes the broken schema in its error, and Python cannot read that as text."""
    whole = path.read_bytes()
    assert b"CREATE TABLE outbox (" in whole
    path.write_bytes(whole.replace(b"CREATE TABLE outbox (", b"CREATE TABLE\xff\xfeutbox ("))


@pytest.mark.parametrize("damage", [garbage, truncated, empty, header, number, no_number, middle, no_table, no_text, missing])
async def test_a_damaged_database_is_replaced(state: Path, damage: Callable[[Path], None]) -> None:
    path = state / "tillwatch.sqlite3"
    damage(path)
    was = path.read_bytes() if path.exists() else b""
    begun = time.monotonic()
    async with Store(state) as store:
        assert time.monotonic() - begun < 5
        assert store.repaired.startswith("the database was ")
        assert "the copy of the essentials of 20" in store.repaired
        assert (store.trouble, store.volatile) == ("", False)
        assert await store.write(lambda c: records.install_id(c, "fresh")) == "ours"
        assert [i.id for i in await store.read(records.open_incidents)] == ["now"]
        assert {i.id for i in await store.read(records.incidents)} == {"past", "now"}
        assert (await store.read(records.load_health))[PAY].down
        assert [state_ for *_, state_ in await store.read(states)] == ["done", "superseded", "done"]
        store.add_sample(made())
        await begin(store, "later")
        assert await store.read(count) == 1
    assert contents(state, "damaged-*.sqlite3") == ([was] if damage is not missing else [])
    async with Store(state) as store:
        assert store.repaired == "", "once is enough"
        assert await store.read(sound)
        assert await store.read(flips) == [1, 2, 3, 4]
        assert await store.write(lambda c: [c.execute(f"PRAGMA {n}").fetchone()[0] for n in ("journal_mode", "auto_vacuum")]) == ["wal", 2]


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_damaged_the_daemon_starts(state: Path, seed: int) -> None:
    rng, path = random.Random(seed), state / "tillwatch.sqlite3"
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 3, 30))):
        at, length = rng.randrange(len(data)), rng.choice((1, 16, 4096))
        data[at : at + length] = rng.randbytes(length)
    path.write_bytes(data)
    try:
        async with Store(state, QUICK) as store:
            assert await store.write(lambda c: records.install_id(c, "fresh"), essential=True) == "ours"
            store.add_sample(made())
            await begin(store, "later")
            assert "later" in await deliver(store)
    except StoreError as error:
        assert "this version of Tillwatch knows up to" in str(error), "a small number in the place of the schema's"  # noqa: PT017


async def test_without_a_copy_all_is_begun_anew(state: Path) -> None:
    (state / essentials.NAME).unlink()
    garbage(state / "tillwatch.sqlite3")
    async with Store(state) as store:
        assert "not a database" in store.repaired
        assert store.repaired.endswith("there was no copy of the essentials to put in its place, so all is begun anew")
        assert await store.write(lambda c: records.install_id(c, "fresh")) == "fresh"


@pytest.mark.parametrize("damage", [garbage, no_text])
async def test_a_damaged_copy_is_not_put_in_place(state: Path, damage: Callable[[Path], None]) -> None:
    garbage(state / "tillwatch.sqlite3")
    damage(state / essentials.NAME)
    async with Store(state) as store:
        assert store.repaired.endswith("all is begun anew")
        await begin(store, "later")


async def test_a_first_start_is_no_repair(tmp_path: Path) -> None:
    async with Store(tmp_path) as store:
        assert (store.repaired, store.trouble) == ("", "")


async def test_a_newer_version_is_refused_and_nothing_is_moved(state: Path) -> None:
    path = state / "tillwatch.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"schema {len(STEPS) + 1}, this version of Tillwatch knows up to {len(STEPS)}"):
        async with Store(state):
            pass
    assert path.read_bytes() == before
    assert not contents(state, "damaged*")


async def test_a_database_that_lost_its_log_takes_from_the_copy_what_it_lacks(tmp_path: Path) -> None:
    """The -wal was deleted while the daemon was down after a crash."""
    live, crashed = tmp_path / "live", tmp_path / "crashed"
    live.mkdir()
    async with Store(live, Limits(copy=0.05)) as store:
        await store.write(lambda c: records.install_id(c, "ours"))
        for number_ in range(2000):
            store.add_sample(made(number_, evidence="x" * 100))
        await settled(store)
        await store.write(lambda c: c.execute("SELECT 1"))
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await begin(store, "told")
        assert await deliver(store) == ["told"]
        copy = live / essentials.NAME
        async with asyncio.timeout(20):
            while not (copy.exists() and closing_states(copy) == [("told", "firing", "done")]):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        shutil.copytree(live, crashed, ignore=shutil.ignore_patterns("*-wal", "*-shm", "*.new"))
    async with Store(crashed) as store:
        assert store.repaired.startswith("the database was older than the copy of its essentials")
        assert await store.read(states) == [("told", "firing", "done")]
        assert await store.read(count) == 2000, "its samples are its own"
        assert await deliver(store) == []


def closing_states(path: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return states(connection)


async def test_a_database_that_was_all_in_its_log_is_replaced(state: Path) -> None:
    """Its log was deleted before anything had been moved from it: what is left is a sound file without content."""
    path = state / "tillwatch.sqlite3"
    (state / "fresh").mkdir()
    async with Store(state / "fresh") as store:
        await settled(store)
    shutil.copy(store.path, path)
    async with Store(state) as store:
        assert store.repaired.startswith("the database had lost what this installation is")
        assert await store.write(lambda c: records.install_id(c, "fresh")) == "ours"


async def test_damage_that_is_met_while_running_is_survived_and_mended_at_the_next_start(state: Path) -> None:
    path = state / "tillwatch.sqlite3"
    async with Store(state, QUICK) as store:
        (state / essentials.NAME).unlink()
        damaged_pages(path, "incident_step")
        await begin(store, "during")
        assert (store.trouble, store.volatile) == ("the database file is damaged", True)
        store.add_sample(made())
        assert await deliver(store) == ["during"]
        with pytest.raises(StoreError, match="damaged"):
            await store.write(note("refused"))
        assert {i.id for i in await store.read(records.open_incidents)} >= {"during"}
    async with Store(state) as store:
        assert store.repaired.startswith("the database was found damaged by the last run")
        assert (store.trouble, await store.read(notes)) == ("", ["install_id"])
        assert ("during", "firing", "done") in await store.read(states), "even what was only in memory"
        assert await store.read(sound)


def damaged_pages(path: Path, table: str) -> None:
    """Spoil a table's root on the disk. Done by another process: opening the file here would drop our locks."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
    code = f"f = open({str(path)!r}, 'r+b'); f.seek({(page - 1) * 4096}); f.write(b'\\xff' * 4096)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_looking_through_takes_bounded_time(state: Path) -> None:
    """Whatever the size of the file: the time is a limit, and what was not looked at is taken for sound."""
    path = state / "tillwatch.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 10000 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) "
            "INSERT INTO sample SELECT i, 1, i, 1, 1, randomblob(60), NULL FROM n")
        connection.execute("COMMIT")
    begun = time.thread_time()
    assert mend(path, state / essentials.NAME, 0.01, NOW) == ""
    assert time.thread_time() - begun < 0.5


def contents(folder: Path, pattern: str) -> list[bytes]:
    return [file.read_bytes() for file in folder.glob(pattern)]


# ---- the copy


def reader(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True))


async def test_the_copy_is_made_in_time_and_holds_all_but_the_samples(state: Path) -> None:
    copy = state / essentials.NAME
    async with Store(state, Limits(copy=0.05)) as store:
        await begin(store, "new")
        async with asyncio.timeout(20):
            while len(closing_states(copy)) < 4:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        with reader(copy) as connection, reader(store.path) as live:
            for (table,) in live.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"):
                rows = [c.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for c in (connection, live)]
                assert rows[0] == ([] if table in {"sample", "series", "reason"} else rows[1]), table
            assert sound(connection)
            assert connection.execute("PRAGMA user_version").fetchone()[0] == len(STEPS)
    assert not contents(state, "*.new")


async def test_a_copy_that_cannot_be_finished_leaves_the_last_one(state: Path) -> None:
    copy = state / essentials.NAME
    before = copy.read_bytes()
    with closing(sqlite3.connect(state / "tillwatch.sqlite3", isolation_level=None)) as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) INSERT INTO meta SELECT 'x' || i, i FROM n")
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        essentials.copy(state / "tillwatch.sqlite3", copy, 0.0)
    assert copy.read_bytes() == before
    assert not contents(state, "*.new")


async def test_commits_do_not_wait_for_the_copy(state: Path) -> None:
    with closing(sqlite3.connect(state / "tillwatch.sqlite3", isolation_level=None)) as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) "
            "INSERT INTO baseline SELECT 'u', i, '', '', hex(randomblob(500)) FROM n")
    slowest = 0.0
    async with Store(state, Limits(copy=0.01)) as store:
        (state / essentials.NAME).unlink()
        begun = time.monotonic()
        with Stopwatch(store._writer._thread.native_id) as watch:
            while not (state / essentials.NAME).exists() and time.monotonic() - begun < 30:
                watch.again()
                await store.write(lambda c: outbox.requeue(c, "boot", ["hook"], NOW))
                slowest = max(slowest, watch())
                await asyncio.sleep(0.001)
    assert (state / essentials.NAME).exists()
    assert slowest < 1.0, "usually 10 ms"


async def test_a_copy_under_way_is_given_up_for_the_last_one(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.store.LAST_COPY", 20.0)       # s: a busy machine may take longer over it than a daemon should
    with closing(sqlite3.connect(state / "tillwatch.sqlite3", isolation_level=None)) as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
            "INSERT INTO baseline SELECT 'u', i, '', '', hex(randomblob(200)) FROM n")
    async with Store(state, Limits(copy=0.01)) as store:
        await begin(store, "new")
        await asyncio.sleep(0.1)
    assert ("new", "firing", "queued") in closing_states(state / essentials.NAME)
    assert not contents(state, "*.new")


async def test_a_locked_database_is_not_taken_for_a_damaged_one(state: Path) -> None:
    with locked(state / "tillwatch.sqlite3"):
        async with Store(state, QUICK) as store:
            assert (store.repaired, store.trouble) == ("", "another program holds the database locked")
    assert not contents(state, "damaged*")
