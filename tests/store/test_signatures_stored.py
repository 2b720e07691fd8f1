"""Every signature that was ever logged: since when, until when, how often, and how it read; as lasting as incidents."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from made import NOW, locked, made, note, settled

from monitor.store import Limits, Store, signatures
from monitor.store.samples import Encoder
from monitor.store.schema import migrate
from monitor.store.signatures import Signature
from probes.sample import Outcome, Sample, Trigger

KEY = "error:KeyError at payment_gateway.py _reference [payment_gateway]"
DISK = "critical:disk full"


def logged(at: float, probe: str = "app", trigger: Trigger = Trigger.SCHEDULED, example: str = "", **events: int) -> Sample:
    """A run that found `key` and `disk` so often."""
    found = {{"key": KEY, "disk": DISK}.get(name, name): count for name, count in events.items()}
    return made(at, probe=probe, trigger=trigger, counts={"lines": 99, **{f"signature/{name}": count for name, count in found.items()}},
                examples=dict.fromkeys(found, example) if example else {})


@pytest.fixture
def memory() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


def test_a_signature_has_its_first_and_last_run_its_events_and_the_first_example(memory: sqlite3.Connection) -> None:
    encoder = Encoder(memory)
    encoder.write([logged(0, key=2, example="first"), logged(5, key=1, example="second"), logged(5, "other", key=7)])
    encoder.write([logged(60, key=3, disk=1, example="third"), logged(65)])
    assert signatures.found(memory) == [
        Signature("app", DISK, NOW + 60, NOW + 60, 1, "third"),
        Signature("other", KEY, NOW + 5, NOW + 5, 7, ""),
        Signature("app", KEY, NOW, NOW + 60, 6, "first"),
    ]


def test_an_example_that_comes_later_is_better_than_none(memory: sqlite3.Connection) -> None:
    Encoder(memory).write([logged(0, key=1)])
    Encoder(memory).write([logged(5, key=1, example="x" * 500)])
    assert signatures.found(memory)[0].example == "x" * 400


def test_runs_that_somebody_asked_for_do_not_count(memory: sqlite3.Connection) -> None:
    Encoder(memory).write([logged(0, trigger=Trigger.MANUAL, key=1), logged(5, key=0)])
    assert signatures.found(memory) == []
    Encoder(memory).write([logged(5, trigger=Trigger.RECHECK, key=1), logged(6, trigger=Trigger.BURST, key=1)])
    Encoder(memory).write([made(7, probe="app", outcome=Outcome.BROKEN, reason="uplink", counts={f"signature/{KEY}": 1})])
    assert signatures.found(memory) == [Signature("app", KEY, NOW + 5, NOW + 7, 3, "")]


def test_they_are_read_by_probe_and_by_time_the_newest_first(memory: sqlite3.Connection) -> None:
    for number in range(10):
        Encoder(memory).write([logged(number, f"app-{number % 2}", **{f"error:{number}": 1})])
    assert [s.name for s in signatures.found(memory)] == [f"error:{n}" for n in range(9, -1, -1)]
    assert [s.name for s in signatures.found(memory, "app-1", NOW + 2, NOW + 9)] == ["error:7", "error:5", "error:3"]
    assert [s.name for s in signatures.found(memory, limit=2)] == ["error:9", "error:8"]
    assert signatures.found(memory, "none") == []


def test_of_too_many_those_go_that_were_not_seen_for_longest(memory: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "MOST", 4)
    Encoder(memory).write([logged(n, **{f"error:{n}": 1}) for n in range(4)] + [logged(n, "other", **{f"error:{n}": 1}) for n in range(3)])
    Encoder(memory).write([logged(10, **{"error:0": 1})])
    assert len(signatures.found(memory, "app")) == 4
    Encoder(memory).write([logged(11, **{"error:new": 1, "error:newer": 1})])
    assert {s.name for s in signatures.found(memory, "app")} == {"error:0", "error:3", "error:new", "error:newer"}
    assert len(signatures.found(memory, "other")) == 3


def test_a_flood_of_signatures_keeps_within_bounds(memory: sqlite3.Connection) -> None:
    encoder = Encoder(memory)
    for run in range(40):
        encoder.write([logged(run * 5, **{f"error:{run} {n}": 1 for n in range(200)})])
    assert len(signatures.found(memory, limit=10_000)) == signatures.MOST


async def test_they_are_committed_with_their_sample_or_not_at_all(store: Store) -> None:
    store.add_sample(logged(0, key=1))
    await settled(store)
    with pytest.raises(KeyError):
        await store.write(lambda c: (Encoder(c).write([logged(5, key=1)]), {}["a bug"]))
    assert [s.events for s in await store.read(signatures.found)] == [1]


async def test_they_can_be_read_while_the_disk_cannot_be_written_and_are_whole_afterwards(impatient: Store) -> None:
    impatient.add_sample(logged(0, key=1, example="first"))
    await settled(impatient)
    with locked(impatient.path):
        impatient.add_sample(logged(5, key=1, disk=1))
        await impatient.write(note("essential"), essential=True)
        assert impatient.volatile
        assert [s.events for s in await impatient.read(signatures.found)] == [1], "samples wait, and theirs with them"
    await settled(impatient)
    assert not impatient.volatile
    both = [Signature("app", DISK, NOW + 5, NOW + 5, 1, ""), Signature("app", KEY, NOW, NOW + 5, 2, "first")]
    assert await impatient.read(signatures.found) == both


async def test_a_store_left_in_trouble_loses_none(tmp_path: Path) -> None:
    async with Store(tmp_path, Limits(busy=0.03, retry=0.05)) as store:
        store.add_sample(logged(0, key=1, example="first"))
        await settled(store)
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await store.write(note("essential"), essential=True)
    other.close()
    async with Store(tmp_path) as store:
        assert "taken from that" in store.repaired
        assert await store.read(signatures.found) == [Signature("app", KEY, NOW, NOW, 1, "first")]


async def test_a_damaged_database_does_not_make_all_errors_new(tmp_path: Path) -> None:
    async with Store(tmp_path) as store:
        store.add_sample(logged(0, key=1, example="first"))
    (tmp_path / "tillwatch.sqlite3").write_bytes(b"garbage" * 9999)
    async with Store(tmp_path) as store:
        assert "the copy of the essentials" in store.repaired
        store.add_sample(logged(60, key=1))
        await settled(store)
        assert await store.read(signatures.found) == [Signature("app", KEY, NOW, NOW + 60, 2, "first")]
