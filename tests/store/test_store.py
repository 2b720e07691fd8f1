"""One writer, many readers: what is committed with what, and what becomes of it when something goes wrong."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from made import NOW, made

from monitor.health import Flip, Health, State
from monitor.store import Store, StoreError, records, samples
from monitor.store.schema import STEPS, migrate

PAY = ("pay", "", "")


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM sample").fetchone()[0])


def note(name: str) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute("INSERT INTO meta VALUES (?, '')", (name,))


def notes(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM meta ORDER BY name")]


async def settled(store: Store) -> None:
    """All that was handed over so far is committed."""
    await store.write(lambda _: None)


# ---- commits


async def test_a_checkpoint_is_committed_with_its_sample(store: Store) -> None:
    store.add_sample(made(checkpoint=b"offset 1"))
    store.add_sample(made(1, checkpoint=b"offset 2"))
    store.add_sample(made(2, probe="pay"))
    assert await store.read(lambda c: (count(c), samples.checkpoints(c))) == (0, {})
    await settled(store)
    assert await store.read(lambda c: (count(c), samples.checkpoints(c))) == (3, {("home", "", ""): b"offset 2"})


async def test_a_checkpoint_waits_with_its_sample_until_both_can_be_written(store: Store) -> None:
    await store.write(lambda c: c.execute("CREATE TRIGGER full BEFORE INSERT ON sample WHEN new.seconds > 9e6 BEGIN SELECT RAISE(ABORT, 'no'); END"))
    store.add_sample(made(seconds=10, reason="slow", checkpoint=b"too far"))
    with pytest.raises(StoreError):
        await settled(store)
    assert await store.read(samples.checkpoints) == {}
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER full")
    await settled(store)
    (stored,) = await store.read(lambda c: samples.after(c, 0))
    assert (stored.sample.probe, stored.sample.reason) == ("home", "slow"), "names that were rolled back with it are written again"
    assert await store.read(samples.checkpoints) == {("home", "", ""): b"too far"}


async def test_samples_handed_over_together_make_one_commit(store: Store) -> None:
    commits: list[int] = []
    done = asyncio.Event()
    store.on_commit = lambda _seconds, written: (commits.append(written), done.set())[0]
    for number in range(500):
        store.add_sample(made(number))
    await asyncio.wait_for(done.wait(), 5)
    assert commits == [500]
    assert await store.read(count) == 500


async def test_what_is_gathered_is_committed_when_the_store_is_left(tmp_path: Path) -> None:
    async with Store(tmp_path) as store:
        store.add_sample(made())
        store.add_health(PAY, Health(failing_since=NOW))
    async with Store(tmp_path) as store:
        assert await store.read(count) == 1
        assert (await store.read(records.load_health))[PAY].failing_since == NOW


async def test_a_write_sees_the_samples_that_were_handed_over_before_it(store: Store) -> None:
    store.add_sample(made())
    assert await store.write(count) == 1


async def test_a_write_is_all_or_nothing_and_costs_no_sample(store: Store) -> None:
    store.add_sample(made(reason="first ever"))
    with pytest.raises(StoreError, match="no such table"):
        await store.write(lambda c: (note("half")(c), c.execute("INSERT INTO nowhere VALUES (1)")))
    store.add_sample(made(1, reason="first ever"))
    await settled(store)
    assert await store.read(notes) == []
    assert [s.sample.reason for s in await store.read(lambda c: samples.after(c, 0))] == ["first ever", "first ever"]


async def test_an_exception_in_a_job_reaches_its_caller_and_stops_nothing(store: Store) -> None:
    def faulty(_: sqlite3.Connection) -> None:
        raise KeyError("a bug")
    jobs = [store.write(faulty), store.write(note("one")), store.write(faulty), store.write(note("two"))]
    answers = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(a) for a in answers] == [KeyError, sqlite3.Cursor, KeyError, sqlite3.Cursor]
    assert await store.read(notes) == ["one", "two"]
    assert store.failing_since is None, "a bug of a caller is no fault of the store"


async def test_a_sample_that_cannot_be_encoded_ends_the_daemon_loudly_and_not_the_store_silently(store: Store) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    store.add_sample(made(seconds=float("nan")))
    await store.write(note("after"))
    store.add_sample(made(1))
    await settled(store)
    assert "NaN" in str(told[0]["exception"])
    assert "handle" in told[0], "which is what the daemon takes as a reason to stop"
    assert await store.read(lambda c: (notes(c), count(c))) == (["after"], 1)


async def test_a_callers_cancelled_write_is_committed_and_hurts_nobody(store: Store) -> None:
    task = asyncio.create_task(store.write(note("one")))
    await asyncio.sleep(0)
    task.cancel()
    await store.write(note("two"))
    assert await store.read(notes) == ["one", "two"]


# ---- readers


async def test_readers_cannot_write(store: Store) -> None:
    for statement in ("DELETE FROM meta", "CREATE TABLE x (y)", "PRAGMA user_version = 7"):
        with pytest.raises(StoreError, match="readonly"):
            await store.read(lambda c, s=statement: c.execute(s).fetchall())


async def test_a_reader_that_takes_too_long_is_ended(store: Store) -> None:
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StoreError, match="interrupted"):
        await store.read(lambda c: c.execute(endless).fetchone(), seconds=0.05)


async def test_a_file_that_is_gone_is_a_value_for_readers(store: Store, tmp_path: Path) -> None:
    store.path.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="unable to open"):
        await store.read(count)


@pytest.mark.parametrize("name", ["state #1", "state?mode=rwc", "50%20", "ställe"])
async def test_the_state_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    async with Store(tmp_path / name) as store:
        await store.write(note("here"))
        assert await store.read(notes) == ["here"]


# ---- one daemon, one schema


async def test_a_second_store_on_the_same_directory_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another Tillwatch"):
        async with Store(tmp_path):
            pass
    await store.write(note("still ours"))


async def test_the_directory_is_free_again_after_the_store_was_left_or_could_not_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "tillwatch.sqlite3"
    path.write_bytes(b"this is no database, however long you look at it" * 100)
    with pytest.raises(StoreError, match="not a database"):
        async with Store(tmp_path):
            pass
    path.unlink()
    for _ in range(2):
        async with Store(tmp_path) as store:
            await settled(store)


@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "tillwatch.sqlite3"
    newer = sqlite3.connect(path)
    newer.executescript(f"PRAGMA journal_mode = {mode}; CREATE TABLE future (x); PRAGMA user_version = {len(STEPS) + 1};")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"schema {len(STEPS) + 1}, this version of Tillwatch knows up to {len(STEPS)}"):
        async with Store(tmp_path):
            pass
    assert path.read_bytes() == before


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    migrate(connection)
    connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    before = connection.execute("SELECT * FROM sqlite_schema").fetchall()
    migrate(connection)
    assert connection.execute("SELECT * FROM sqlite_schema").fetchall() == before
    assert notes(connection) == ["a"]
    assert connection.execute("PRAGMA user_version").fetchone()[0] == len(STEPS)
    connection.close()


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.schema.STEPS", (*STEPS, "CREATE TABLE half (x); CREATE TABLE half (x);"))
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    with pytest.raises(sqlite3.Error, match="half"):
        migrate(connection)
    connection.close()
    connection = sqlite3.connect(tmp_path / "db")
    assert connection.execute("PRAGMA user_version").fetchone()[0] == len(STEPS)
    assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'half'").fetchone()
    connection.close()


async def test_the_file_is_durable_private_and_can_shrink(store: Store) -> None:
    names = ("journal_mode", "synchronous", "auto_vacuum")
    assert await store.write(lambda c: [c.execute(f"PRAGMA {n}").fetchone()[0] for n in names]) == ["wal", 2, 2]
    assert {p.stat().st_mode & 0o077 for p in store.path.parent.iterdir()} == {0}


# ---- a store that cannot write


async def test_samples_outlast_a_lock_that_others_hold(store: Store) -> None:
    """kuma-7338: a locked database is our own trouble, never the shop's, and costs nothing."""
    failures: list[str] = []
    store.on_failure = failures.append
    await store.write(lambda c: c.execute("PRAGMA busy_timeout = 30"))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(10):
        store.add_sample(made(number, checkpoint=b"%d" % number))
    store.add_health(PAY, Health(failing_since=NOW))
    with pytest.raises(StoreError, match="locked"):
        await store.write(note("refused"))
    await asyncio.sleep(0)
    assert store.failing_since is not None
    assert failures
    other.execute("COMMIT")
    other.close()
    store.add_sample(made(10, checkpoint=b"10"))
    await settled(store)
    await asyncio.sleep(0)
    assert store.failing_since is None
    assert await store.read(notes) == []
    assert [s.sample.started for s in await store.read(lambda c: samples.after(c, 0))] == [NOW + n for n in range(11)]
    assert await store.read(samples.checkpoints) == {("home", "", ""): b"10"}
    assert PAY in await store.read(records.load_health)


async def test_what_could_not_be_written_is_tried_again_without_being_asked(store: Store) -> None:
    committed = asyncio.Event()
    await store.write(lambda c: c.execute("PRAGMA busy_timeout = 30"))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    failed = asyncio.Event()
    store.on_failure = lambda _: failed.set()
    store.add_sample(made())
    await asyncio.wait_for(failed.wait(), 5)
    store.on_commit = lambda _seconds, _written: committed.set()
    other.execute("COMMIT")
    other.close()
    await asyncio.wait_for(committed.wait(), 5)
    assert await store.read(count) == 1


async def test_memory_is_bounded_while_nothing_can_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.store.RING", 100)
    await store.write(lambda c: c.execute("PRAGMA busy_timeout = 10"))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(250):
        store.add_sample(made(number))
        if number % 50 == 49:
            with pytest.raises(StoreError):
                await settled(store)
    other.execute("COMMIT")
    other.close()
    await settled(store)
    kept = [s.sample.started - NOW for s in await store.read(lambda c: samples.after(c, 0))]
    assert kept == list(range(150, 250)), "the newest are kept"


# ---- what else is remembered


async def test_health_survives(tmp_path: Path) -> None:
    health = Health(down=True, window=(True, False, True), failing_since=NOW, fine=0, broken=True, unmeasured=(True,), unmeasured_since=NOW + 1)
    async with Store(tmp_path) as store:
        await store.write(lambda c: records.save_health(c, PAY, Health()))
        store.add_health(PAY, health)
        store.add_sample(made())
    async with Store(tmp_path) as store:
        assert await store.read(records.load_health) == {PAY: health}


async def test_flips_are_kept_in_their_order(store: Store) -> None:
    for number, new in enumerate((State.DOWN, State.UP, State.DOWN)):
        flip = Flip("pay", "", "", State.UP, new, "status", NOW + number, NOW, evidence="HTTP 500")
        await store.write(lambda c, f=flip: records.add_flip(c, f))
    found = await store.read(lambda c: records.flips(c, NOW + 1, NOW + 2))
    assert [(f["new"], f["evidence"]) for f in found] == [("up", "HTTP 500"), ("down", "HTTP 500")]


async def test_the_installation_keeps_its_identifier(tmp_path: Path) -> None:
    for fresh in ("first", "second"):
        async with Store(tmp_path) as store:
            assert await store.write(lambda c, f=fresh: records.install_id(c, f)) == "first"
