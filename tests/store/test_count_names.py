"""Counts in a row of a sample: small, whole, and readable for as long as the row is there."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import NOW, made

from monitor.store import Store, counts, samples
from monitor.store.counts import DAY, Names, Texts
from monitor.store.samples import Encoder
from monitor.store.schema import STEPS, migrate

LOGGED = {"lines": 412, "events/critical": 0, "events/error": 7, "events/warning": 3, "new_signatures": 0}
SIGNED = {f"signature/error:KeyError number {letter} at payment_gateway.py _reference [payment_gateway]": 2 for letter in "abc"}


@pytest.fixture
def memory() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


def names(connection: sqlite3.Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM count_name ORDER BY text")]


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-1, 1 << 66), max_size=300))
def test_every_number_comes_back(numbers: dict[str, int]) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        packed, rest = Names(connection).pack(numbers, NOW)
        assert (Texts(connection).unpack(packed) if packed else {}) | rest == numbers
        assert set(rest) == {name for name, number in numbers.items() if not 0 <= number < 1 << 64}


@pytest.mark.parametrize("most", [0, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
@pytest.mark.parametrize("id_", [1, 255, 256, 65_535, 65_536])
def test_identifiers_and_numbers_are_as_wide_as_they_must_be(memory: sqlite3.Connection, id_: int, most: int) -> None:
    memory.execute("INSERT INTO count_name VALUES (?, 'far', 0)", (id_,))
    packed, rest = Names(memory).pack({"far": most}, NOW)
    assert (Texts(memory).unpack(packed), rest) == ({"far": most}, {})
    assert len(packed) == 1 + (1 if id_ < 256 else 2 if id_ < 65_536 else 4) + next(w for w in (1, 2, 4, 8) if most < 1 << 8 * w)


def test_a_row_holds_no_text(memory: sqlite3.Connection) -> None:
    Encoder(memory).write([made(counts=LOGGED | SIGNED, values={"read": 0.25})])
    amounts, extra = memory.execute("SELECT amounts, extra FROM sample").fetchone()
    assert extra is None
    assert len(amounts) == 4 + 1 + 8 * 1 + 8 * 2, "a float, the widths, eight names of a byte, eight numbers of two"
    (stored,) = samples.after(memory, 0)
    assert (stored.sample.counts, stored.sample.values) == (LOGGED | SIGNED, {"read": 0.25})
    assert names(memory) == sorted(LOGGED | SIGNED)


async def test_a_day_of_a_log_takes_less_than_a_megabyte(store: Store) -> None:
    given_ = [made(n * 5, probe="app", spacing=5.0, counts=LOGGED | (SIGNED if n % 3 == 0 else {})) for n in range(17_280)]
    empty = await store.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    for sample in given_:
        store.add_sample(sample)
    await store.write(lambda _: None)
    assert (await store.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0]) - empty) * 4096 < 1_000_000
    found = await store.read(lambda c: samples.after(c, 0))
    assert [s.sample.counts for s in found] == [s.counts for s in given_]


def test_rows_of_the_schema_before_are_read_as_they_were_written() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as old:
        old.executescript("".join(STEPS[:2]) + "PRAGMA user_version = 2;")
        old.execute("INSERT INTO series VALUES (1, 'app', '', '', 5.0, '[\"read\"]')")
        old.execute("INSERT INTO reason VALUES (1, '')")
        old.execute("INSERT INTO sample VALUES (1, 1, 1790000000000, 1000, 32, ?, ?)", (b"\0\0\0\x3f", '{"counts": {"lines": 7}}'))
        migrate(old)
        Encoder(old).write([made(counts={"lines": 8})])
        assert [(s.sample.counts, dict(s.sample.values)) for s in samples.after(old, 0)] == [({"lines": 7}, {"read": 0.5}), ({"lines": 8}, {})]


def test_names_beyond_the_limit_stand_in_the_row(memory: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MOST_NAMES", 3)
    encoder, wanted = Encoder(memory), {letter: number for number, letter in enumerate("abcdef")}
    encoder.write([made(counts=wanted)])
    encoder.write([made(1, counts=wanted | {"g": 9})])
    assert names(memory) == ["a", "b", "c"]
    assert memory.execute("SELECT extra FROM sample").fetchall() == [
        ('{"counts": {"d": 3, "e": 4, "f": 5}}',), ('{"counts": {"d": 3, "e": 4, "f": 5, "g": 9}}',)]
    assert [s.sample.counts for s in samples.after(memory, 0)] == [wanted, wanted | {"g": 9}]
    memory.execute("DELETE FROM count_name WHERE text = 'a'")
    encoder.write([made(DAY, counts={"d": 1})])
    assert names(memory) == ["b", "c", "d"], "the next day it is looked whether there is room again"


def test_names_that_no_sample_has_any_more_are_forgotten_and_come_back(memory: sqlite3.Connection) -> None:
    encoder = Encoder(memory)
    encoder.write([made(0, counts={"old": 1, "both": 1})])
    encoder.write([made(9 * DAY, counts={"both": 2}), made(10 * DAY, counts={"young": 1})])
    assert samples.drop_old(memory, NOW + 8 * DAY) == 1
    assert names(memory) == ["both", "young"]
    encoder.write([made(11 * DAY, counts={"old": 4})])
    assert [s.sample.counts for s in samples.after(memory, 0)] == [{"both": 2}, {"young": 1}, {"old": 4}]


def test_a_name_that_a_wrong_clock_has_lost_spoils_no_row(memory: sqlite3.Connection) -> None:
    Encoder(memory).write([made(counts={"gone": 5, "lines": 6})])
    memory.execute("DELETE FROM count_name WHERE text = 'gone'")
    assert samples.after(memory, 0)[0].sample.counts == {"#1": 5, "lines": 6}


def test_what_was_rolled_back_is_interned_again(memory: sqlite3.Connection) -> None:
    encoder = Encoder(memory)
    memory.execute("BEGIN")
    encoder.write([made(counts=LOGGED)])
    memory.execute("ROLLBACK")
    encoder.forget()
    encoder.write([made(counts={"other": 1})])
    encoder.write([made(counts=LOGGED)])
    assert [s.sample.counts for s in samples.after(memory, 0)] == [{"other": 1}, LOGGED]
