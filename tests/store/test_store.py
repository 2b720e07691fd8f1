"""One writer, many readers: what is committed with what, and what becomes of it when something goes wrong."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from made import NOW, count, locked, made, note, notes, settled

from monitor.health import Flip, Health, State
from monitor.store import Limits, Store, StoreError, records, samples
from monitor.store.schema import STEPS, migrate
from monitor.store.waiting import Ring

PAY = ("pay", "", "")


# ---- commits


async def test_a_checkpoint_is_committed_with_its_sample(store: Store) -> None:
    store.add_sample(made(checkpoint=b"offset 1"))
    store.add_sample(made(1, checkpoint=b"offset 2"))
    store.add_sample(made(2, probe="pay"))
    assert await store.read(lambda c: (count(c), samples.checkpoints(c))) == (0, {})
    await settled(store)
    assert await store.read(lambda c: (count(c), samples.checkpoints(c))) == (3, {("home", "", ""): b"offset 2"})


async def test_a_checkpoint_waits_with_its_sample_until_both_can_be_written(impatient: Store) -> None:
    store = impatient
    with locked(store.path):
        store.add_sample(made(seconds=10, reason="slow", checkpoint=b"too far"))
        with pytest.raises(StoreError):
            await settled(store)
        assert await store.read(samples.checkpoints) == {}
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
    await asyncio.wait_for(done.wait(), 20)
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
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
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
    path.mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        async with Store(tmp_path):
            pass
    path.rmdir()
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


async def test_samples_outlast_a_lock_that_others_hold(impatient: Store) -> None:
    """kuma-7338: a locked database is our own trouble, never the shop's, and costs nothing."""
    store, failures = impatient, []
    store.on_failure = failures.append
    with locked(store.path):
        for number in range(10):
            store.add_sample(made(number, checkpoint=b"%d" % number))
        store.add_health(PAY, Health(failing_since=NOW))
        with pytest.raises(StoreError, match="another program holds the database locked"):
            await store.write(note("refused"))
        await asyncio.sleep(0)
        assert store.failing_since is not None
        assert store.trouble == "another program holds the database locked"
        assert failures
    store.add_sample(made(10, checkpoint=b"10"))
    await settled(store)
    assert (store.failing_since, store.trouble) == (None, "")
    assert await store.read(notes) == []
    assert [s.sample.started for s in await store.read(lambda c: samples.after(c, 0))] == [NOW + n for n in range(11)]
    assert await store.read(samples.checkpoints) == {("home", "", ""): b"10"}
    assert PAY in await store.read(records.load_health)


async def test_what_could_not_be_written_is_tried_again_without_being_asked(impatient: Store) -> None:
    store, failed, committed = impatient, asyncio.Event(), asyncio.Event()
    store.on_failure = lambda _: failed.set()
    with locked(store.path):
        store.add_sample(made())
        await asyncio.wait_for(failed.wait(), 20)
        store.on_commit = lambda _seconds, _written: committed.set()
    await asyncio.wait_for(committed.wait(), 20)
    assert await store.read(count) == 1


async def test_memory_is_bounded_while_nothing_can_be_written(tmp_path: Path) -> None:
    async with Store(tmp_path, Limits(busy=0.01, retry=0.05, ring=100)) as store:
        with locked(store.path):
            for number in range(250):
                store.add_sample(made(number))
                if number % 50 == 49:
                    with pytest.raises(StoreError):
                        await settled(store)
        await settled(store)
        kept = [s.sample.started - NOW for s in await store.read(lambda c: samples.after(c, 0))]
        assert kept == list(range(150, 250)), "the newest are kept"
        assert store.dropped == 150


def test_samples_do_not_wait_for_ever() -> None:
    ring = Ring(100, 3600.0)
    for minute in range(70):
        ring.add([made(60 * minute), made(60 * minute + 1)], 60.0 * minute)
    assert ring.dropped == 2 * 20, "fifty batches have room"
    ring.add([], 60.0 * 69 + 3600.0)
    assert ring.bite(1)[1] == [made(60 * 69), made(60 * 69 + 1)]
    ring.add([], 60.0 * 69 + 3600.1)
    assert not ring
    assert ring.dropped == 140


def test_samples_that_waited_are_taken_in_bites_of_whole_batches() -> None:
    ring = Ring(1000, 3600.0)
    for number in range(10):
        ring.add([made(number)] * 30, 0.0)
    batches, bite = ring.bite(100)
    assert (batches, len(bite)) == (3, 90)
    ring.committed(batches)
    assert ring.bite(10)[1] == [made(3)] * 30, "one batch at least"
    assert len(ring.bite(1000)[1]) == 210


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
