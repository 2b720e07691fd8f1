"""Samples as rows: nothing is lost, a row is small, and the newest are found without an index."""

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import NOW, made, typical

from monitor.store import Store, samples
from monitor.store.samples import Encoder
from monitor.store.schema import migrate
from probes.sample import Outcome, Sample, Step, Trigger

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.floats(0, 600, allow_nan=False)
steps = st.builds(Step, name=texts, outcome=st.sampled_from(Outcome), seconds=times, reason=texts)
runs = st.builds(
    Sample, probe=texts, device=texts, cohort=texts, outcome=st.sampled_from(Outcome), reason=texts, seconds=times,
    steps=st.lists(steps, max_size=3).map(tuple), values=st.dictionaries(texts, times, max_size=5),
    counts=st.dictionaries(texts, st.integers(0, 10**6)),
    evidence=texts, started=st.floats(1.7e9, 4e9), trigger=st.sampled_from(Trigger), spacing=st.floats(0.25, 604800), overloaded=st.booleans())


@pytest.fixture(scope="module")
def memory() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    yield connection
    connection.close()


def write(connection: sqlite3.Connection, *given: Sample) -> None:
    Encoder(connection).write(given)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=st.lists(runs, min_size=1, max_size=4))
def test_a_sample_comes_back_as_it_went(memory: sqlite3.Connection, given: list[Sample]) -> None:
    newest = samples.newest_id(memory)
    write(memory, *given)
    found = samples.after(memory, newest)
    assert [s.id for s in found] == list(range(newest + 1, newest + 1 + len(given)))
    for stored, wanted in zip((s.sample for s in found), given, strict=True):
        same = ("probe", "device", "cohort", "outcome", "reason", "steps", "counts", "evidence", "trigger", "spacing", "overloaded")
        assert {n: getattr(stored, n) for n in same} == {n: getattr(wanted, n) for n in same}
        assert stored.started == pytest.approx(wanted.started, abs=0.0011)
        assert stored.seconds == pytest.approx(wanted.seconds, abs=1.1e-6)
        assert stored.ended == pytest.approx(stored.started + stored.seconds)
        assert list(stored.values) == list(wanted.values)
        assert list(stored.values.values()) == pytest.approx(list(wanted.values.values()), rel=1e-6, abs=1e-12)


def test_facts_are_not_stored(memory: sqlite3.Connection) -> None:
    newest = samples.newest_id(memory)
    write(memory, made(facts={"status_code": 200.0}))
    assert samples.after(memory, newest)[0].sample.facts == {}


async def test_a_row_takes_no_more_than_fifty_bytes_and_rows_stand_in_their_order(store: Store) -> None:
    given = [typical(number) for number in range(20_000)]
    for sample in given:
        store.add_sample(sample)
    await store.write(lambda _: None)
    await store.write(lambda c: c.execute("SELECT 1"))
    pages = "SELECT sum(pgsize) FROM dbstat WHERE name = 'sample'"
    try:
        size = await store.read(lambda c: c.execute(pages).fetchone()[0])
    except Exception as error:  # noqa: BLE001 - dbstat is a compile-time option of SQLite
        pytest.skip(f"this SQLite has no dbstat: {error}")
    assert size / len(given) <= 50
    found = await store.read(lambda c: samples.after(c, 0))
    assert [(s.id, s.sample.probe) for s in found] == [(n + 1, g.probe) for n, g in enumerate(given)]
    assert [s.id for s in await store.read(lambda c: samples.after(c, 19_990))] == list(range(19_991, 20_001))


# ---- reading without an index, against a list


@st.composite
def histories(draw: st.DrawFn) -> list[Sample]:
    """Runs in the order of their end, each at most 90 s long."""
    ends = sorted(draw(st.lists(st.integers(0, 400), max_size=40)))
    return [made(end - seconds, seconds=float(seconds)) for end in ends for seconds in [draw(st.integers(0, 90))]]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), dropped=st.integers(0, 10), since=st.integers(-200, 450), length=st.integers(0, 650), page=st.integers(1, 50))
def test_the_newest_and_the_latest_are_found_as_by_looking_at_all(
    monkeypatch: pytest.MonkeyPatch, history: list[Sample], dropped: int, since: int, length: int, page: int,
) -> None:
    monkeypatch.setattr(samples, "_PAGE", page)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    write(connection, *history)
    connection.execute("DELETE FROM sample WHERE id <= ?", (dropped,))
    left = list(enumerate(history, 1))[dropped:]
    begin, end = NOW + since, NOW + since + length
    wanted = [number for number, sample in reversed(left) if begin <= sample.started < end]
    assert [s.id for s in samples.backwards(connection, end, begin)] == wanted
    first = samples.first_id(connection, begin)
    assert all(number >= first for number, sample in left if sample.started >= begin)
    assert not [n for n, s in left if n >= first and s.started < begin - 240], "shortly before, not long before"
    assert [s.id for s in samples.after(connection, first - 1)] == [number for number, _ in left if number >= first]
    assert [s.id for s in samples.after(connection, first - 1, 3)] == [number for number, _ in left if number >= first][:3]
    connection.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    probes=st.lists(st.sampled_from("abc"), max_size=40), wanted=st.sets(st.sampled_from("abc")),
    enough=st.integers(1, 10), page=st.integers(1, 50))
def test_of_some_series_the_newest_are_read_until_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, probes: list[str], wanted: set[str], enough: int, page: int,
) -> None:
    monkeypatch.setattr(samples, "_PAGE", page)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    write(connection, *(made(n, probe=probe, spacing=30.0 + n % 2) for n, probe in enumerate(probes)))
    series = samples.series_of(connection, {(probe, "", "") for probe in wanted})
    lacking, found = set(series), []
    for stored in samples.backwards(connection, NOW + 100, NOW, lacking):
        found.append(stored.id)
        if [probes[id_ - 1] for id_ in found].count(stored.sample.probe) == enough:
            lacking.difference_update(id_ for id_, target in series.items() if target[0] == stored.sample.probe)
    newest = (n for n in range(len(probes), 0, -1) if probes[n - 1] in wanted)
    assert found == [n for n in newest if probes[n:].count(probes[n - 1]) < enough]
    connection.close()


def test_reading_backwards_ends_when_its_time_is_over_with_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_PAGE", 10)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    write(connection, *(made(n) for n in range(35)))
    found = [s.id for s in samples.backwards(connection, NOW + 100, NOW, seconds=0.0)]
    assert found == list(range(35, 25, -1)), "a page is read in any case"
    assert len(list(samples.backwards(connection, NOW + 100, NOW))) == 35
    connection.close()


@pytest.mark.parametrize("page", [7, 20_000])
def test_scattered_runs_are_of_all_the_time_and_of_every_probe_that_takes_turns(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(samples, "_PAGE", page)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    write(connection, *(made(n, probe="abcd"[n % 4]) for n in range(2000)))
    among = set(samples.series_of(connection, {("a", "", ""), ("b", "", "")}))
    read = list(samples.scattered(connection, NOW + 1800, NOW + 400, among, 200))
    ids = sorted(stored.id for stored in read)
    assert len(set(ids)) == len(ids)
    assert all(400 < id_ <= 1800 for id_ in ids)
    assert {stored.sample.probe for stored in read} == {"a", "b"}
    assert all(25 <= sum(stored.sample.probe == name for stored in read) <= 75 for name in "ab"), "about a quarter each"
    assert max(later - earlier for earlier, later in pairwise(ids)) < 80
    assert [s.id for s in samples.scattered(connection, NOW + 1800, NOW + 400, among, 200)] == [s.id for s in read], "always the same"
    assert {s.id for s in samples.scattered(connection, NOW + 2000, NOW, among, 9999)} == {n + 1 for n in range(2000) if n % 4 < 2}
    connection.close()


def test_scattered_runs_that_were_read_in_time_are_of_all_the_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_PAGE", 10)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    write(connection, *(made(n) for n in range(100)))
    found = [s.id for s in samples.scattered(connection, NOW + 100, NOW, {1}, 100, seconds=0.0)]
    assert found == list(range(1, 101, 11))
    connection.close()


async def test_the_end_of_an_empty_store_is_found_too(store: Store) -> None:
    assert await store.read(lambda c: (samples.after(c, 0), list(samples.backwards(c, NOW, 0)), samples.newest_id(c))) == ([], [], 0)
    assert await store.read(samples.oldest) == float("inf")
    assert await store.read(lambda c: list(samples.scattered(c, NOW, 0, set(), 10))) == []
    assert await store.read(lambda c: samples.first_id(c, NOW)) == 1


# ---- retention


async def test_retention_takes_bites_and_spares_the_young(store: Store) -> None:
    for number in range(250):
        store.add_sample(made(number))
    before = NOW + 200
    gone = [await store.write(lambda c: samples.drop_old(c, before, bite=90)) for _ in range(4)]
    assert gone == [90, 90, 20, 0]
    left = await store.read(lambda c: samples.after(c, 0))
    assert [s.sample.started for s in left] == [NOW + n for n in range(200, 250)]
    assert left[0].id == 201, "identifiers stay what they were"
    assert await store.read(samples.oldest) == before


async def test_identifiers_go_on_after_everything_was_dropped(tmp_path: Path) -> None:
    """A cursor that waits at the last row must not miss the next ones."""
    async with Store(tmp_path) as store:
        for number in range(10):
            store.add_sample(made(number))
        await store.write(lambda c: samples.drop_old(c, NOW + 1000))
        store.add_sample(made(2000))
        await store.write(lambda _: None)
        assert [s.sample.started for s in await store.read(lambda c: samples.after(c, 10))] == [NOW + 2000]
