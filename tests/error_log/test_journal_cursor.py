"""The journal's cursor in the checkpoint, and entries that arrive more than once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.error_log.journal import Cursor, Entry
from probes.error_log.journal_cursor import MOST, OVERLAP, RECENT, Arrivals, just_after, sequence
from probes.error_log.journal_entries import LONGEST_CURSOR, Placed

TIMES = st.integers(0, 2**63 - 1)


def placed(number: int, micros: int | None = None, text: bytes = b"x") -> Placed:
    micros = number * 1000 if micros is None else micros
    return Placed(f"s=a;i={number:x}", micros, Entry(text, realtime=micros / 1e6))


def arrived(cursor: Cursor, *entries: Placed) -> Arrivals:
    arrivals = Arrivals(cursor, lambda _: True)
    for one in entries:
        arrivals.add(one)
    return arrivals


def after(*entries: Placed) -> Cursor:
    arrivals = arrived(Cursor(realtime=1), *entries)
    arrivals.take(lambda _: False)
    return arrivals.cursor


@given(st.builds(Cursor, st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=LONGEST_CURSOR), TIMES,
                 st.lists(st.tuples(TIMES, st.binary(min_size=8, max_size=8)), max_size=RECENT).map(tuple), TIMES))
def test_a_cursor_comes_back(cursor: Cursor) -> None:
    assert Cursor.decode(cursor.encode()) == cursor


@given(st.binary(max_size=200))
def test_garbage_is_a_cursor_that_says_nothing(garbage: bytes) -> None:
    assert Cursor.decode(garbage) == Cursor()
    assert not Cursor().known


@given(st.binary(min_size=20, max_size=200))
def test_what_looks_like_a_cursor_can_be_given_to_journalctl(garbage: bytes) -> None:
    cursor = Cursor.decode(b"jrn1" + garbage)
    assert cursor
    assert cursor.at.isprintable()
    assert cursor == Cursor() or cursor.encode() == b"jrn1" + garbage


@pytest.mark.parametrize("cut", [1, 8, 17, 40])
def test_a_cursor_cut_off_or_too_long_says_nothing(cut: int) -> None:
    whole = after(*(placed(number) for number in range(1, 5))).encode()
    assert Cursor.decode(whole[:-cut]) == Cursor()
    assert Cursor.decode(whole + b"x" * cut) == Cursor()


def test_nothing_is_no_cursor() -> None:
    assert Cursor.decode(None) is None


def test_a_cursor_is_small() -> None:
    assert len(after(*(placed(number) for number in range(1, 5000))).encode()) < 2500


def test_the_number_of_an_entry() -> None:
    assert sequence("s=abc;i=1f;b=d;m=1") == ("abc", 31)
    assert sequence("") == sequence("s=abc;i=xyz") == sequence("garbage") == ("", 0)


def test_systemd_29016_an_entry_repeated_across_files_is_given_once() -> None:
    arrivals = arrived(Cursor(realtime=1), placed(1), placed(2), placed(2), placed(3))
    assert len(arrivals.take(lambda _: False)) == 3
    arrivals.add(placed(3))
    assert arrivals.take(lambda _: False) == ()
    again = arrived(arrivals.cursor, placed(1), placed(2), placed(3), placed(4))       # after a restart
    assert again.take(lambda _: False) == (placed(4).entry,)


def test_equal_lines_of_one_moment_are_different_entries() -> None:
    """journald stamps all that it reads at once with one time."""
    arrivals = arrived(Cursor(realtime=1), placed(1, 5), placed(2, 5), placed(3, 5))
    assert len(arrivals.take(lambda _: False)) == 3


def test_the_young_at_the_end_wait() -> None:
    arrivals = arrived(Cursor(realtime=1), placed(1), placed(900), placed(2), placed(1000))
    assert len(arrivals.take(lambda entry: entry.realtime > 0.5)) == 3
    assert arrivals.cursor.at == placed(2).cursor
    assert arrivals.end().at == placed(1000).cursor
    assert len(arrivals.take(lambda _: False)) == 1


def test_what_is_not_wanted_is_passed() -> None:
    arrivals = Arrivals(Cursor(realtime=1), lambda entry: entry.text == b"yes")
    for one in (placed(1, text=b"yes"), placed(2, text=b"no")):
        arrivals.add(one)
    assert [entry.text for entry in arrivals.take(lambda _: False)] == [b"yes"]
    assert arrivals.cursor.at == placed(2).cursor


def test_the_waiting_are_bounded() -> None:
    arrivals = Arrivals(Cursor(realtime=1), lambda _: True)
    number = 0
    while not arrivals.full:
        number += 1
        arrivals.add(placed(number, text=b"x" * 16384))
    assert number < 500
    arrivals.take(lambda _: False)
    assert not arrivals.full
    assert arrived(Cursor(realtime=1), *(placed(number) for number in range(MOST))).full


def test_of_a_moment_all_entries_are_known_or_none() -> None:
    """Going on by time begins with all of a time: one of them that was forgotten would be given twice."""
    cursor = after(*(placed(number, number // 3 * 1000) for number in range(1, 1000)))
    assert len(cursor.recent) <= RECENT
    times = [time for time, _ in cursor.recent]
    assert times.count(cursor.since) == 3


def test_only_the_last_seconds_are_known() -> None:
    cursor = after(placed(1), placed(2, OVERLAP + 1500), placed(3, OVERLAP + 3000))
    assert cursor.since == OVERLAP + 1500
    assert after(placed(1)).since == 1000
    assert Cursor(realtime=7).since == 7


def test_a_clock_that_was_set_back_goes_on() -> None:
    cursor = after(placed(1, 10**9), placed(2, 1000))
    assert (cursor.realtime, cursor.since, len(cursor.recent)) == (1000, 1000, 1)
    assert arrived(cursor, placed(3, 1000)).take(lambda _: False)


def test_what_one_begins_behind_is_not_given() -> None:
    assert arrived(just_after(placed(7)), placed(7), placed(8)).take(lambda _: False) == (placed(8).entry,)


def test_until_when_all_was_read_never_goes_back() -> None:
    arrivals = arrived(Cursor(realtime=1), placed(5))
    arrivals.all_read_until(9000)
    arrivals.all_read_until(10)
    arrivals.take(lambda _: False)
    assert arrivals.cursor.clear == 9000
