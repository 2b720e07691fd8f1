"""While the disk cannot be written, what is essential goes on in memory, and all of it is on the disk afterwards."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from made import NOW, count, locked, made, note, notes, settled
from story import begin, claim, deliver, end, flips, sound, states, steps

from monitor.alerts import outbox
from monitor.alerts.delivery import Delivered
from monitor.health import Health
from monitor.store import Limits, Store, StoreError, essentials, records, samples, schema
from monitor.store.schema import STEPS, migrate
from monitor.store.spare import Spare, fill

PAY = ("pay", "", "")


def on_disk(path: Path, work: object) -> object:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return work(connection)  # type: ignore[operator]


# ---- through the store


async def test_an_incident_of_a_time_without_a_disk_is_there_afterwards_and_not_told_twice(impatient: Store) -> None:
    store = impatient
    before = await begin(store, "before")
    (waiting,) = await claim(store)
    with locked(store.path):
        store.add_sample(made(checkpoint=b"7"))
        await store.write(lambda c: outbox.settle(c, waiting.row.id, Delivered(), NOW), essential=True)
        assert store.volatile
        assert store.trouble == "another program holds the database locked"
        during = await begin(store, "during")
        assert await deliver(store) == ["during"], "the page of the incident before is settled"
        await end(store, during)
        assert await deliver(store) == ["during"]
        await end(store, before)
        with pytest.raises(StoreError, match="locked"):
            await store.write(note("can wait"))
        assert on_disk(store.path, states) == [("before", "firing", "inflight")]
        seen = [("before", "firing", "done"), ("before", "resolved", "queued"), ("during", "firing", "done"), ("during", "resolved", "done")]
        assert await store.read(states) == seen, "readers see what is in memory"
        assert await store.read(records.open_incidents) == []
        assert await store.read(count) == 0, "and the samples of the disk"
    await settled(store)
    assert (store.volatile, store.trouble, store.failing_since) == (False, "", None)
    assert on_disk(store.path, states) == seen
    assert on_disk(store.path, steps) == [(1, "before", "firing"), (2, "during", "firing"), (3, "during", "resolved"), (4, "before", "resolved")]
    assert on_disk(store.path, flips) == [1, 2, 3, 4]
    assert on_disk(store.path, count) == 1
    assert on_disk(store.path, samples.checkpoints) == {("home", "", ""): b"7"}
    assert on_disk(store.path, sound)
    assert await deliver(store) == ["before"], "what was not yet told is told, and nothing else"
    assert on_disk(store.path, notes) == []


async def test_the_spare_is_taken_back_without_being_asked(impatient: Store) -> None:
    committed = asyncio.Event()
    with locked(impatient.path):
        await begin(impatient, "during")
        impatient.on_commit = lambda _seconds, _written: committed.set()
    await asyncio.wait_for(committed.wait(), 20)
    assert on_disk(impatient.path, states) == [("during", "firing", "queued")]


async def test_trouble_that_comes_again_and_again_loses_nothing(impatient: Store) -> None:
    for round_ in range(6):
        with locked(impatient.path):
            await begin(impatient, f"during {round_}")
            impatient.add_sample(made(round_))
        await begin(impatient, f"then {round_}")
    await settled(impatient)
    assert len(on_disk(impatient.path, states)) == 12  # type: ignore[arg-type]
    assert on_disk(impatient.path, flips) == list(range(1, 13))
    assert on_disk(impatient.path, count) == 6


async def test_a_newer_health_is_never_overwritten_by_one_that_waited(impatient: Store) -> None:
    with locked(impatient.path):
        impatient.add_health(PAY, Health(failing_since=NOW))
        impatient.add_sample(made())
        await impatient.write(lambda c: records.save_health(c, PAY, Health(down=True)), essential=True)
    await settled(impatient)
    assert (await impatient.read(records.load_health))[PAY].down


async def test_a_bug_in_an_essential_job_is_its_callers_and_takes_nothing_along(impatient: Store) -> None:
    def faulty(connection: sqlite3.Connection) -> None:
        note("half")(connection)
        connection.execute("INSERT INTO meta VALUES ('half', '')")
    with pytest.raises(sqlite3.IntegrityError):
        await impatient.write(faulty, essential=True)
    assert (impatient.volatile, impatient.trouble) == (False, ""), "the disk is not to blame"
    with locked(impatient.path):
        await impatient.write(note("one"), essential=True)
        with pytest.raises(sqlite3.IntegrityError):
            await impatient.write(faulty, essential=True)
        with pytest.raises(KeyError):
            await impatient.write(lambda _: {}["a bug"], essential=True)
    await settled(impatient)
    assert await impatient.read(notes) == ["one"]


async def test_what_is_deleted_on_the_spare_is_deleted_on_the_disk(impatient: Store) -> None:
    await impatient.write(lambda c: (note("goes")(c), note("stays")(c)))
    with locked(impatient.path):
        await impatient.write(lambda c: c.execute("DELETE FROM meta WHERE name = 'goes'"), essential=True)
    await settled(impatient)
    assert await impatient.read(notes) == ["stays"]


async def test_a_store_left_in_trouble_ends_soon_and_hands_what_it_knows_to_the_next(tmp_path: Path) -> None:
    async with Store(tmp_path, IMPATIENT) as store:
        await begin(store, "before")
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await begin(store, "during")
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun < 2
    other.close()
    assert on_disk(store.path, states) == [("before", "firing", "queued")]
    async with Store(tmp_path) as store:
        assert "what it lacked was taken from that" in store.repaired
        assert await store.read(states) == [("before", "firing", "queued"), ("during", "firing", "queued")]


SILENCE = {"id": "s1", "probes": ("pay",), "starts": NOW, "ends": NOW + 7200, "reason": "", "by": "ann", "ended": None, "ended_by": ""}
IMPATIENT = Limits(busy=0.03, retry=0.05)


@asynccontextmanager
async def left_in_trouble(folder: Path) -> AsyncIterator[Store]:
    """A run that ends in order while another program holds the lock: what changed in place meanwhile, no log tells of."""
    async with Store(folder, IMPATIENT) as store:
        await store.write(lambda c: records.install_id(c, "ours"))
        await begin(store, "before")
    other = sqlite3.connect(store.path, isolation_level=None)
    async with Store(folder, IMPATIENT) as store:
        other.execute("BEGIN IMMEDIATE")
        assert await deliver(store) == ["before"]
        await store.write(lambda c: records.save_silence(c, SILENCE), essential=True)
    assert on_disk(store.path, states) == [("before", "firing", "queued")]
    with closing(other):
        yield store


async def holds_all(store: Store) -> None:
    assert await store.read(states) == [("before", "firing", "done")]
    assert await store.read(lambda c: records.silences(c, NOW)) == [SILENCE]
    assert await deliver(store) == [], "nothing goes out twice"


async def test_what_changed_in_place_in_trouble_is_not_undone_by_a_stop_and_a_start(tmp_path: Path) -> None:
    async with left_in_trouble(tmp_path):
        pass
    async with Store(tmp_path) as store:
        assert "what it lacked was taken from that" in store.repaired
        await holds_all(store)
        assert on_disk(store.path, states) == [("before", "firing", "done")]
        assert not essentials.ahead(tmp_path / essentials.NAME), "a crash from now on must not bring back what is over"


async def test_a_start_that_is_still_in_trouble_goes_on_from_the_copy_that_is_ahead(tmp_path: Path) -> None:
    async with left_in_trouble(tmp_path) as left:
        async with Store(tmp_path, IMPATIENT) as store:
            assert store.trouble == "another program holds the database locked"
            await holds_all(store)
            await begin(store, "during")
        assert on_disk(left.path, states) == [("before", "firing", "queued")]
        assert essentials.ahead(tmp_path / essentials.NAME)
    async with Store(tmp_path) as store:
        assert await store.read(states) == [("before", "firing", "done"), ("during", "firing", "queued")]
        assert on_disk(store.path, sound)


async def test_a_crash_after_the_copy_was_taken_does_not_bring_it_back(tmp_path: Path) -> None:
    async with left_in_trouble(tmp_path):
        pass
    async with Store(tmp_path) as store:
        await store.write(lambda c: records.save_silence(c, SILENCE | {"ended": NOW + 1}))
        shutil.copytree(tmp_path, crashed := tmp_path / "crashed")
    async with Store(crashed) as store:
        assert store.repaired == ""
        assert await store.read(lambda c: [s["ended"] for s in records.silences(c, NOW)]) == [NOW + 1]


@pytest.mark.parametrize("twice", [False, True])
async def test_a_copy_that_is_ahead_and_of_an_older_version_is_taken_by_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twice: bool,
) -> None:
    """Also when the newer one could upgrade no more than the copy at its first start."""
    async with left_in_trouble(tmp_path) as left:
        monkeypatch.setattr(schema, "STEPS", (*STEPS, "ALTER TABLE silence ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm';"))
        if twice:
            async with Store(tmp_path, IMPATIENT) as store:
                await holds_all(store)
            assert on_disk(left.path, schema.check) < on_disk(tmp_path / essentials.NAME, schema.check)  # type: ignore[operator]
    async with Store(tmp_path) as store:
        await holds_all(store)
        assert await store.read(lambda c: c.execute("SELECT mood FROM silence").fetchall()) == [("calm",)]


async def test_a_spare_that_did_not_see_the_disk_does_not_call_its_copy_ahead(
    impatient: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    """It would put its own identifier and its first numbers in the place of those on the disk."""
    monkeypatch.setattr("monitor.store.writer.fill", lambda _path, _copy: made_blind(tmp_path))
    await impatient.write(lambda c: records.install_id(c, "ours"))
    other = sqlite3.connect(impatient.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await impatient.write(lambda c: records.install_id(c, "another"), essential=True) == "another"
    await impatient.__aexit__()
    other.close()
    async with Store(tmp_path) as store:
        assert await store.write(lambda c: records.install_id(c, "fresh")) == "ours"


async def test_a_store_that_is_locked_from_the_start_works_in_memory(tmp_path: Path) -> None:
    async with Store(tmp_path) as store:
        await begin(store, "before")
    with locked(tmp_path / "tillwatch.sqlite3"):
        async with Store(tmp_path, Limits(busy=0.03, retry=60.0)) as store:
            assert store.volatile
            assert await store.write(lambda c: records.install_id(c, "fresh"), essential=True) == "fresh"
            await begin(store, "during")
            store.add_sample(made())
            assert sorted(await deliver(store)) == ["before", "during"]
            assert await store.read(samples.newest_id) == 0


# ---- the spare itself


@pytest.fixture
def disk(tmp_path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(tmp_path / "disk", isolation_level=None)
    migrate(connection)
    return connection


def test_of_long_tables_it_takes_what_is_recent_or_open(disk: sqlite3.Connection, tmp_path: Path) -> None:
    disk.execute("BEGIN")
    disk.executemany("INSERT INTO incident VALUES (?, 'outage', ?, ?, '', '{}')", [(f"i{n}", n, n + 1 if n != 3 else None) for n in range(2000)])
    disk.executemany("INSERT INTO incident_step (incident, at, what, by, detail) VALUES (?, 0, '', '', '')", [(f"i{n}",) for n in range(2000)])
    disk.execute("INSERT INTO incident_step (incident, at, what, by, detail) VALUES ('i5', 0, 'feedback', '', '')")
    disk.executemany("INSERT INTO flip VALUES (?, '', '', '', 0, '', '', '', 0, '')", [(n,) for n in range(1, 20_001)])
    disk.executemany("INSERT INTO shop_update VALUES (?, ?, 'closed', '{}')", [(f"u{n:04}", n) for n in range(300)])
    disk.executemany("INSERT INTO baseline VALUES (?, 'home', '', '', '{}')", [(f"u{n:04}",) for n in range(300)])
    disk.execute("INSERT INTO sample VALUES (1, 1, 1, 1, 1, NULL, NULL)")
    disk.execute("COMMIT")
    disk.close()
    spare = fill(tmp_path / "disk", tmp_path / "none")
    tables = ("incident", "incident_step", "flip", "shop_update", "baseline", "sample")
    counted = spare.run(lambda c: {t: c.execute(f"SELECT count(*) FROM main.{t}").fetchone()[0] for t in tables}).result
    assert counted == {"incident": 501, "incident_step": 502, "flip": 5000, "shop_update": 100, "baseline": 10, "sample": 0}
    assert spare.run(lambda c: c.execute("SELECT max(id) FROM incident_step").fetchone()).result == (2001,)
    assert spare.complete
    spare.close()


def test_only_what_was_changed_is_merged(disk: sqlite3.Connection, tmp_path: Path) -> None:
    disk.executemany("INSERT INTO meta VALUES (?, '')", [(str(n),) for n in range(1000)])
    spare = fill(tmp_path / "disk", tmp_path / "none")
    spare.run(lambda c: c.execute("UPDATE meta SET value = 'new' WHERE name = '7'"))
    before = disk.total_changes
    spare.merge(disk)
    assert disk.total_changes - before == 1
    assert disk.execute("SELECT name FROM meta WHERE value = 'new'").fetchall() == [("7",)]
    spare.close()
    disk.close()


def made_blind(tmp_path: Path) -> Spare:
    (tmp_path / "garbage").write_bytes(b"x" * 10_000)
    return fill(tmp_path / "garbage", tmp_path / "none")


def test_what_was_made_without_sight_of_the_disk_takes_nobodys_place(disk: sqlite3.Connection, tmp_path: Path) -> None:
    records.install_id(disk, "ours")
    disk.executemany("INSERT INTO flip VALUES (?, 'old', '', '', 0, '', '', '', 0, '')", [(1,), (2,)])
    spare = made_blind(tmp_path)
    assert not spare.complete
    assert spare.run(lambda c: records.install_id(c, "another")).result == "another"
    spare.run(lambda c: c.execute("INSERT INTO flip VALUES (1, 'new', '', '', 0, '', '', '', 0, '')"))
    spare.merge(disk)
    assert disk.execute("SELECT id, probe FROM flip ORDER BY id").fetchall() == [(1, "old"), (2, "old"), (3, "new")]
    assert disk.execute("SELECT value FROM meta").fetchall() == [("ours",)]
    spare.close()
    disk.close()


def test_an_older_schema_gives_what_it_has(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "disk", isolation_level=None)) as old:
        old.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, gone TEXT)")
        old.execute("INSERT INTO meta VALUES ('install_id', 'ours', '')")
    spare = fill(tmp_path / "disk", tmp_path / "none")
    assert spare.run(lambda c: records.install_id(c, "fresh")).result == "ours"
    spare.close()


async def test_what_the_spare_does_not_know_is_asked_again_when_the_disk_is_back(
    impatient: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    """The disk could be neither written nor read: a spare of nothing. That a job fails on it is not the job's fault."""
    await begin(impatient, "before")

    def last(c: sqlite3.Connection) -> str:
        return str(c.execute("SELECT id FROM incident WHERE id = 'before'").fetchone()[0])
    monkeypatch.setattr("monitor.store.writer.fill", lambda _path, _copy: made_blind(tmp_path))
    with locked(impatient.path):
        with pytest.raises(StoreError, match="what is stored cannot be read"):
            await impatient.write(last, essential=True)
        await begin(impatient, "during")
    await settled(impatient)
    assert await impatient.write(last, essential=True) == "before"
    assert on_disk(impatient.path, states) == [("before", "firing", "queued"), ("during", "firing", "queued")]


def test_a_message_that_was_settled_since_the_last_copy_is_in_the_spare(disk: sqlite3.Connection, tmp_path: Path) -> None:
    """Whatever it told of, an update say: else it would stay unsettled in a copy that is an hour old, and go out again from there."""
    disk.executemany(
        "INSERT INTO outbox (id, receiver, incident, seq, kind, escalation, data, created, not_before, state, done) "
        "VALUES (?, 'hook', ?, 1, 'firing', 0, '{}', 0, 0, 'done', ?)", [("old", "u1", NOW - 8000), ("new", "u2", NOW - 3600), ("newest", "u3", NOW)])
    spare = fill(tmp_path / "disk", tmp_path / "none")
    assert spare.run(lambda c: c.execute("SELECT id FROM main.outbox ORDER BY id").fetchall()).result == [("new",), ("newest",)]
    spare.close()
    disk.close()
