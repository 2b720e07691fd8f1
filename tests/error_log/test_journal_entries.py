"""Lines of journalctl become entries, and entries become texts, whatever is in them."""

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.error_log.event import LONGEST
from probes.error_log.journal import Entry, texts
from probes.error_log.journal_entries import FIELDS, KEPT, Cut, Lines, Placed, decode

PLACE = {"__CURSOR": "s=a;i=1", "__REALTIME_TIMESTAMP": "1700000000500000"}


def line(**fields: Any) -> bytes:
    return json.dumps(PLACE | fields, separators=(",", ":")).encode()


def decoded(**fields: Any) -> Entry:
    placed = decode(line(**fields))
    assert placed
    return placed.entry


def test_an_entry_is_read() -> None:
    fields = {"MESSAGE": "cart broken", "PRIORITY": "3", "_SYSTEMD_UNIT": "shop.service", "SYSLOG_IDENTIFIER": "php", "_PID": "42", "_UID": "33"}
    assert decode(line(**fields)) == Placed("s=a;i=1", 1700000000500000, Entry(b"cart broken", 3, "shop.service", "php", 42, 1700000000.5))


@pytest.mark.parametrize(("message", "text"), [
    ([255, 254, 10, 98], b"\xff\xfe\nb"),                     # not UTF-8
    ([[255, 254], "again"], b"\xff\xfe\nagain"),              # a repeated field
    (["one", "two"], b"one\ntwo"),
    (None, b""),                                              # what journalctl gives for long ones without --all
    ("\udc80", b"?"),
    ("x" * (LONGEST + 1), b"x" * LONGEST),
    ({"no": "text"}, b""),
    (7, b""),
    ([], b""),
])
def test_a_message_comes_in_many_forms(message: object, text: bytes) -> None:
    assert decoded(MESSAGE=message).text == text


def test_an_entry_without_a_message_or_anything_else_is_one_too() -> None:
    assert decoded() == Entry(b"", 6, "", "", 0, 1700000000.5)


@pytest.mark.parametrize("priority", ["", "8", "-1", "9" * 5000, "²", None, 3, ["x"]])
def test_a_priority_that_is_none_is_that_of_an_information(priority: object) -> None:
    assert decoded(PRIORITY=priority).priority == 6


@pytest.mark.parametrize(("fields", "unit"), [
    ({"_PID": "1", "UNIT": "shop.service", "_SYSTEMD_UNIT": "init.scope"}, "shop.service"),
    ({"_PID": "77", "_UID": "0", "COREDUMP_UNIT": "shop.service", "_SYSTEMD_UNIT": "systemd-coredump@1.service"}, "shop.service"),
    ({"_PID": "77", "_UID": "0", "OBJECT_SYSTEMD_UNIT": "shop.service", "_SYSTEMD_UNIT": "x.service"}, "shop.service"),
    ({"_PID": "77", "_UID": "33", "UNIT": "shop.service", "OBJECT_SYSTEMD_UNIT": "shop.service", "_SYSTEMD_UNIT": "evil.service"}, "evil.service"),
])
def test_whom_an_entry_is_about_is_believed_of_systemd_and_root_only(fields: dict[str, str], unit: str) -> None:
    assert decoded(**fields).unit == unit


@pytest.mark.parametrize("garbage", [
    b"", b"-- No entries --", b"null", b"[1]", b"{}", b"[" * 100_000, b'{"__CURSOR":"s=a","__REALTIME_TIMESTAMP":1e400}',
    b'{"__CURSOR":"s=a","__REALTIME_TIMESTAMP":"-1"}', b'{"__CURSOR":"with space","__REALTIME_TIMESTAMP":"1"}',
    b'{"__CURSOR":"x","__REALTIME_TIMESTAMP":"' + b"9" * 5000 + b'"}', b'{"__CURSOR":["s=a"],"__REALTIME_TIMESTAMP":"1"}',
    line(MESSAGE=[256]), line(MESSAGE=[1, "x"]), line(MESSAGE="cut off")[:-9],
])
def test_what_is_no_entry_is_none(garbage: bytes) -> None:
    assert decode(garbage) is None


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    assert decode(data) is None
    assert decode(Cut(data, data)) is None


_ONE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_ANY = st.recursive(_ONE, lambda inner: st.lists(inner, max_size=4), max_leaves=8)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([*FIELDS, *PLACE]), _ANY, max_size=6), st.booleans())
def test_no_fields_raise(fields: dict[str, Any], placed: bool) -> None:
    data = json.dumps((PLACE if placed else {}) | fields, separators=(",", ":")).encode()
    for form in (data, Cut(data, b""), Cut(data[:20], data[20:])):
        if found := decode(form):
            assert len(found.entry.text) <= LONGEST
            assert 0 <= found.entry.priority <= 7


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], sizes: list[int]) -> None:
    assert split(b"".join(one + b"\n" for one in lines), sizes) == lines


def split(data: bytes, sizes: list[int]) -> list[bytes | Cut]:
    splitter, found, start = Lines(), [], 0
    while start < len(data):
        size = sizes[start % len(sizes)]
        found += splitter.feed(data[start:start + size])
        start += size
    return found


def test_of_a_line_that_is_too_long_the_ends_are_kept() -> None:
    message = 'Zürich \\ "__CURSOR":"fake" ' + '"PRIORITY":"0",' * 100_000
    for first, last in (({"PRIORITY": "3"}, {}), ({}, {"PRIORITY": "3"})):
        data = json.dumps(first | {"MESSAGE": message} | PLACE | last, separators=(",", ":")).encode() + b"\n" + line(MESSAGE="next") + b"\n"
        cut, behind = split(data, [65536])
        assert isinstance(cut, Cut)
        assert (len(cut.head), len(cut.tail)) == (KEPT, KEPT)
        placed = decode(cut)
        assert placed
        assert (placed.cursor, placed.realtime, placed.entry.priority) == ("s=a;i=1", 1700000000500000, 3)
        assert placed.entry.text == message.encode()[:LONGEST]
        assert decode(behind)


@pytest.mark.parametrize("cut", range(KEPT - 8, KEPT))
def test_a_text_may_be_cut_anywhere_in_a_sign(cut: int) -> None:
    for sign in ("\\u00fc", "\\ud83d\\ude00", "\\\\", "\\\\u00e", '\\"', "é"):
        head = b'{"MESSAGE":"' + (sign * KEPT).encode()[:cut]
        placed = decode(Cut(head[:LONGEST - cut % 8], b'x","__CURSOR":"a","__REALTIME_TIMESTAMP":"1"}'))
        assert placed
        assert len(placed.entry.text) > 1000


def test_a_long_message_of_bytes_is_cut_too() -> None:
    cut, = split(b'{"MESSAGE":[' + b"255,254," * 200_000 + b'1],"__CURSOR":"a","__REALTIME_TIMESTAMP":"1"}\n', [65536])
    placed = decode(cut)
    assert placed
    assert placed.entry.text == b"\xff\xfe" * (LONGEST // 2)


def test_an_entry_of_50_mb_costs_little_memory_and_time() -> None:
    lines, chunk = Lines(), b"x" * 65536
    tracemalloc.start()
    begun = time.process_time()
    assert list(lines.feed(b'{"MESSAGE":"')) == []
    for _ in range(800):
        assert list(lines.feed(chunk)) == []
    seconds, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    cut, = lines.feed(b'","__CURSOR":"a","__REALTIME_TIMESTAMP":"1"}\n')
    placed = decode(cut)
    assert placed
    assert placed.entry.text == b"x" * LONGEST
    assert peak < 2_000_000
    assert seconds < 2


def said(text: str, priority: int = 6, pid: int = 1, at: float = 0.0) -> Entry:
    return Entry(text.encode(), priority, "shop.service", "php", pid, at)


def test_a_traceback_on_stderr_is_one_text() -> None:
    assert texts([said("Traceback:"), said("  File x"), said("KeyError")]) == [(b"Traceback:\n  File x\nKeyError\n", None)]


def test_entries_with_a_level_stand_alone() -> None:
    levels = {0: "critical", 1: "critical", 2: "critical", 3: "error", 4: "warning"}
    assert texts([said("same", level) for level in (0, 1, 2, 3, 3, 4)]) == [(b"same", levels[level]) for level in (0, 1, 2, 3, 3, 4)]


def test_processes_that_speak_at_once_do_not_mix() -> None:
    entries = [said("a1", pid=1), said("b1", pid=2), said("a2", pid=1), said("b2", pid=2)]
    assert texts(entries) == [(b"a1\na2\n", None), (b"b1\nb2\n", None)]


def test_what_is_said_later_or_otherwise_is_another_text() -> None:
    assert texts([said("a", at=1), said("b", at=1.5), said("c", at=3)]) == [(b"a\nb\n", None), (b"c\n", None)]
    assert texts([said("a", 6), said("b", 5), said("c", 5)]) == [(b"a\n", None), (b"b\nc\n", None)]
    assert texts([said("a"), said("bad", 3), said("b")]) == [(b"a\n", None), (b"bad", "error"), (b"b\n", None)]
    assert texts([]) == []


def test_a_text_is_bounded() -> None:
    found = texts([said("x" * 1000)] * 1000)
    assert max(len(text) for text, _ in found) <= 257 * 1024
    assert sum(text.count(b"\n") for text, _ in found) == 1000
