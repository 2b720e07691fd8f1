"""Which bytes are handed out as lines, and when: unended, endless, encoded otherwise, behind holes, events of several lines."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tail_scene import Follower, append, as_bytes, numbered

from probes.error_log.tail import Tail

GIANT = """
import resource, sys, time
from probes.error_log.tail import Tail
lines = []
def reader(data, final):
    lines.append((len(data), data[-9:]))
    return len(data)
tail, size = Tail([sys.argv[1]], "beginning"), 0
reading = tail.read(None, lambda file: reader, time.time(), lambda: False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reading = tail.read(reading.positions, lambda file: reader, time.time(), lambda: True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, reading.behind, reading.partial, lines)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def now() -> float:
    """When the test began: where a clock stands still that must not count what the machine takes for itself."""
    return time.time()


def write(log: Path, now: float, *lines: str) -> None:
    """Write these lines, just now."""
    append(log, *lines)
    os.utime(log, (now, now))


def test_an_unended_line_waits_and_is_whole_in_the_end(log: Path) -> None:
    follower = Follower(log)
    for char in b"a slow line":
        append(log, bytes([char]))
        assert follower.read() == []
        follower.ahead += 0.1
    append(log, b"\nnext\n")
    assert follower.read() == [b"a slow line", b"next"]
    assert follower.partial == 0


@pytest.mark.parametrize("restarts", [False, True])
def test_an_unended_line_is_handed_out_after_30_s_and_its_rest_is_skipped(log: Path, restarts: bool, now: float) -> None:
    follower = Follower(log, now=now)
    append(log, b"done\nunended")
    assert follower.read() == [b"done"]
    for _ in range(5):
        follower.ahead += 5.9
        assert follower.read() == []
        if restarts:
            follower.restart()
    follower.ahead += 1
    assert follower.read() == [b"unended"]
    assert follower.partial == 1
    append(log, b" rest of it")
    assert follower.read() == []
    append(log, b", and more\nnext\n")
    assert follower.read() == [b"next"]


def test_a_line_that_grows_for_ever_does_not_wait_longer(log: Path, now: float) -> None:
    follower = Follower(log, now=now)
    found = []
    for _ in range(40):
        append(log, b".")
        found += follower.read()
        follower.ahead += 1
    assert [len(line) for line in found] == [31]


def test_a_giant_line_is_cut_and_the_next_one_is_whole(log: Path) -> None:
    follower = Follower(log)
    append(log, "before", b"x" * 3_000_000, b"\n", "after")
    lines = follower.read()
    assert [line[:10] for line in lines] == [b"before", b"x" * 10, b"after"]
    assert len(lines[1]) == 16 * 1024
    assert follower.partial == 1


def test_a_giant_line_piece_by_piece(log: Path) -> None:
    follower = Follower(log)
    lines = []
    for _ in range(30):
        append(log, b"x" * 20_000)
        lines += follower.read()
        follower.restart()
    append(log, b"\nafter\n")
    lines += follower.read()
    assert [len(line) for line in lines] == [16 * 1024, 5]


@pytest.mark.timeout(180)
def test_200_mb_without_a_newline_take_no_memory(log: Path) -> None:
    with log.open("wb") as file:
        file.write(b"first\n")
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b"\nthe next\n")
    answer = subprocess.run([sys.executable, "-c", GIANT, str(log)], capture_output=True, text=True, check=True, timeout=120)
    grown, behind, partial, lines = answer.stdout.split(maxsplit=3)
    assert int(grown) <= 5 * 1024, f"{grown} KiB"
    assert (behind, partial) == ("0", "1")
    assert "(9, b'the next\\n')" in lines


def test_events_of_several_lines_are_held_until_they_have_ended(log: Path, now: float) -> None:
    follower = Follower(log, events=True, now=now)
    write(log, now, "first", "  more")
    assert follower.read() == []
    write(log, now, "  still more")
    assert follower.read() == []
    write(log, now, "second")
    assert follower.read() == [b"first\n  more\n  still more\n"]
    follower.restart()
    follower.ahead += 1.1
    assert follower.read() == [b"second\n"]
    assert follower.read() == []


def test_idle_is_noticed_though_nothing_is_written(log: Path, now: float) -> None:
    follower = Follower(log, events=True, now=now)
    write(log, now, "only")
    assert follower.read() == []
    follower.ahead = 1.5
    assert follower.read() == [b"only\n"]


def test_a_clock_that_is_behind_does_not_hold_events_for_ever(log: Path) -> None:
    follower = Follower(log, events=True)
    follower.ahead = -3600
    append(log, "from the future")
    assert follower.read() == []
    follower.ahead += 2
    assert follower.read() == [b"from the future\n"]


def test_an_event_without_an_end_is_cut(log: Path) -> None:
    follower = Follower(log, events=True)
    append(log, "many lines", *["  at somewhere"] * 600)
    assert [piece.count(b"\n") for piece in follower.read()] == [601]
    append(log, "long lines", *["  " + "x" * 10_000] * 60)
    pieces = follower.read()
    assert pieces
    assert all(len(piece) <= 256 * 1024 for piece in pieces)


def test_an_event_at_the_end_of_a_rotated_file_has_ended(log: Path, now: float) -> None:
    follower = Follower(log, events=True, now=now)
    write(log, now, "last", "  of the old")
    assert follower.read() == []
    log.rename(f"{log}.1")
    write(log, now, "first of the new")
    assert follower.read() == [b"last\n  of the old\n"]
    follower.ahead += 1.5
    assert follower.read() == [b"first of the new\n"]


@pytest.mark.parametrize(("codec", "bom"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("utf-8", b"\xef\xbb\xbf"), ("utf-8", b"")])
def test_encodings(log: Path, codec: str, bom: bytes) -> None:
    texts = ["eins", "Größe €", "𝄞 mit Ersatzzeichen", "", "\u0a0a\u0d0a tückisch", *numbered(0, 20_000)]
    whole = bom + "".join(f"{text}\r\n" for text in texts).encode(codec)
    follower = Follower(log)
    step = 4801 if codec == "utf-16-le" else 65_521
    for start in range(0, len(whole), step):
        append(log, whole[start : start + step])
        follower.read()
        if start % 3 == 0:
            follower.restart()
    assert [line.decode() for line in follower.lines] == texts
    assert follower.positions.files[0].offset == len(whole)
    assert not follower.files[0].head.startswith(b"\xef\xbb\xbf")


def test_utf_16_that_is_broken_and_never_ends(log: Path) -> None:
    follower = Follower(log)
    append(log, b"\xff\xfe", "ok\n".encode("utf-16-le"), b"\x00\xd8x\x00\n\x00", b"\x00\xdc" * 300_000, "\nnext\n".encode("utf-16-le"), b"\x41")
    lines = follower.read()
    assert lines[0] == b"ok"
    assert lines[-1] == b"next"
    assert len(lines) == 4
    follower.ahead += 31
    follower.read()
    append(log, b"\x00\n\x00")
    assert follower.settle() == [b"A"]


def test_utf_16_begins_at_its_end(log: Path) -> None:
    append(log, b"\xff\xfe", "old\n".encode("utf-16-le"))
    follower = Follower(log, begin="end")
    follower.read()
    append(log, "new\n".encode("utf-16-le"))
    assert follower.read() == [b"new"]


def test_what_is_no_text_comes_through(log: Path) -> None:
    follower = Follower(log)
    lines = [b"\xff\xfa\x80 latin", b"\x1b[31mred\x1b[0m", b"in\0side", b"crlf\r", b"\xc3"]
    append(log, b"".join(line + b"\n" for line in lines))
    assert follower.read() == [b"\xff\xfa\x80 latin", b"\x1b[31mred\x1b[0m", b"in\0side", b"crlf", b"\xc3"]


@pytest.mark.parametrize("size", [100, 300_000, 5 << 30])
def test_a_hole_left_by_a_writer_that_does_not_append(log: Path, size: int) -> None:
    follower = Follower(log)
    with log.open("wb", buffering=0) as file:
        file.write(b"before\n")
        follower.read()
        os.truncate(log, 0)
        file.seek(size)
        assert follower.read() == []
        file.write(b"after the hole\n")
        assert follower.read() == [b"after the hole"]
        file.seek(1000, os.SEEK_CUR)
        file.write(b"after another\n")
        assert follower.read() == [b"after another"]
    follower.restart()
    assert follower.settle() == []


def test_nuls_at_the_end_are_waited_for(log: Path) -> None:
    """A log for which room was made beforehand."""
    follower = Follower(log)
    with log.open("wb", buffering=0) as file:
        file.write(b"one\n" + bytes(1000))
        assert follower.settle() == [b"one"]
        file.seek(4)
        file.write(b"two\n")
    assert follower.settle() == [b"two"]
    assert follower.partial == 0


def test_begins_inside_a_line(log: Path) -> None:
    append(log, b"old\nhalf a l")
    follower = Follower(log, begin="end")
    follower.read()
    append(log, b"ine\nnew\n")
    assert follower.read() == [b"new"]


def test_readers_get_the_head(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 1000))
    follower.read()
    file = follower.files[0]
    found = log.stat()
    assert (file.path, file.device, file.inode) == (str(log), found.st_dev, found.st_ino)
    assert file.head == log.read_bytes()[: 16 * 1024]


def test_slices_are_fair_and_the_first_is_always_read(tmp_path: Path) -> None:
    big, small = tmp_path / "a.log", tmp_path / "b.log"
    append(big, *numbered(0, 60_000))
    append(small, "small")
    follower = Follower(tmp_path / "*.log")
    reads = 0
    while b"small" not in follower.read(more=lambda: False):
        reads += 1
        assert reads < 3
    assert follower.last is not None
    assert follower.last.behind > 1_000_000
    follower.read()
    assert len(follower.lines) == 60_001
    assert follower.last.behind == 0


def test_a_reader_that_fails_is_heard(log: Path) -> None:
    append(log, "x")

    def reader(_data: bytes, _final: bool) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Tail([str(log)], "beginning").read(None, lambda _file: reader, 1e10, lambda: True)


def test_lines_are_counted_in_bytes(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 100))
    follower.read()
    assert follower.last is not None
    assert follower.last.read_bytes == log.stat().st_size
    assert follower.last.files == 1
    assert follower.lines == as_bytes(numbered(0, 100))
