"""Rotated, truncated, compressed, replaced: each line is read once. Names of tests tell which follower once lost or doubled lines so."""

import bz2
import gzip
import lzma
import os
import shutil
import time
from pathlib import Path

import pytest
from tail_scene import Follower, append, as_bytes, numbered, zstd_compress

from probes.error_log.positions import Positions, encode


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def _rotate(log: Path, keep: int = 5) -> None:
    """As logrotate renames."""
    for number in range(keep, 0, -1):
        old = Path(f"{log}.{number}")
        if old.exists():
            old.rename(f"{log}.{number + 1}")
    log.rename(f"{log}.1")


def _copytruncate(log: Path) -> None:
    for number in range(5, 0, -1):
        old = Path(f"{log}.{number}")
        if old.exists():
            old.rename(f"{log}.{number + 1}")
    shutil.copyfile(log, f"{log}.1")
    os.truncate(log, 0)


def _pack(path: Path, kind: str = "gz") -> Path:
    data, times = path.read_bytes(), path.stat()
    packed = Path(f"{path}.{kind}")
    packed.write_bytes({"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstd_compress}[kind](data))
    os.utime(packed, ns=(times.st_atime_ns, times.st_mtime_ns))
    path.unlink()
    return packed


def _reused(path: Path, inode: int) -> None:
    """Create a file until it has got this inode."""
    for attempt in range(2000):
        path.touch()
        if path.stat().st_ino == inode:
            return
        path.rename(f"{path.parent}/other-{attempt}")
    pytest.skip("this file system does not give an inode out again")


def test_begins_at_the_end_and_reads_what_appears_later_from_its_beginning(log: Path) -> None:
    append(log, "old")
    follower = Follower(log.parent / "*.log", begin="end")
    assert follower.read() == []
    append(log, "new")
    append(log.parent / "later.log", "first", "second")
    follower.ahead = 6
    assert sorted(follower.read()) == [b"first", b"new", b"second"]


def test_a_pattern_that_is_added_later_begins_at_the_end_too(log: Path) -> None:
    other = log.parent / "other.txt"
    append(log, "old")
    append(other, "old")
    follower = Follower(log, begin="end")
    follower.read()
    wider = Follower(log, log.parent / "*.txt", begin="end")
    wider.checkpoint = follower.checkpoint
    assert wider.read() == []
    append(other, "new")
    assert wider.read() == [b"new"]


def test_a_path_that_is_no_longer_wanted_is_forgotten(log: Path) -> None:
    other = log.parent / "other.log"
    append(log, "a")
    append(other, "b")
    follower = Follower(log, other)
    follower.read()
    narrower = Follower(log)
    narrower.checkpoint = follower.checkpoint
    append(other, "c")
    assert narrower.read() == []
    assert {one.path for one in narrower.positions.files} == {str(log)}


@pytest.mark.parametrize("restarts", [False, True])
def test_renamed_the_rest_is_read_before_the_new_file(log: Path, restarts: bool) -> None:
    follower = Follower(log)
    append(log, "1", "2")
    assert follower.read() == [b"1", b"2"]
    append(log, "3")
    _rotate(log)
    append(Path(f"{log}.1"), "4")
    append(log, "5")
    if restarts:
        follower.restart()
    assert follower.read() == [b"3", b"4", b"5"]
    append(Path(f"{log}.1"), "late")
    append(log, "6")
    assert follower.read() == [b"late", b"6"]
    assert follower.settle() == []
    assert follower.gaps == []


def test_what_is_written_to_the_old_file_while_the_new_one_is_read_stays_in_order(log: Path) -> None:
    follower = Follower(log)
    append(log, "1")
    follower.read()
    old = log.open("ab", buffering=0)
    _rotate(log)
    log.touch()
    old.write(b"2\n")

    def more() -> bool:                                 # the writer moves on between the end of the old file and the new one
        if old.closed:
            return True
        old.write(b"3\n")
        old.close()
        append(log, "4")
        return True

    found = follower.read(more=more) + follower.read()
    assert found == [b"2", b"3", b"4"]


def test_deleted_while_open_is_read_to_its_end(log: Path) -> None:
    follower = Follower(log)
    append(log, "1")
    follower.read()
    append(log, "2")
    old = log.open("ab")
    log.unlink()
    append(log, "4")
    old.write(b"3\nunended")
    old.close()
    assert follower.read() == [b"2", b"3", b"4"]
    assert follower.settle() == [b"unended"]
    assert follower.partial == 1
    assert len(follower.tail._memory.descriptors) == 1


def test_deleted_and_never_seen_again_is_a_gap(log: Path) -> None:
    follower = Follower(log)
    append(log, "1")
    follower.read()
    follower.restart()
    append(log, "2")
    log.unlink()
    append(log.with_suffix(".new"), "3")
    log.with_suffix(".new").rename(log)
    assert follower.settle() == [b"3"]
    assert [path for path, _why in follower.gaps] == [str(log)]


@pytest.mark.parametrize("kinds", [("", "", ""), ("gz", "gz", ""), ("xz", "zst", ""), ("bz2", "gz", "xz")])
@pytest.mark.parametrize("restarts", [False, True])
def test_three_generations_missed_are_read_once_oldest_first(log: Path, kinds: tuple[str, ...], restarts: bool) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 100))
    follower.read()
    if restarts:
        follower.restart()
    append(log, *numbered(100, 200))
    for first in (200, 300, 400):
        time.sleep(0.01)                                # times of files are that coarse
        _rotate(log)
        append(log, *numbered(first, first + 100))
    for number, kind in zip((3, 2, 1), kinds, strict=True):
        if kind:
            _pack(Path(f"{log}.{number}"), kind)
    assert follower.read() == as_bytes(numbered(100, 500))
    follower.restart()
    assert follower.settle() == []
    append(log, "next")
    assert follower.read() == [b"next"]
    assert follower.gaps == []


def test_compressed_between_two_reads_of_a_long_rest(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 50_000))
    follower.read(more=lambda: False)
    assert 0 < len(follower.lines) < 50_000
    time.sleep(0.01)
    _rotate(log)
    append(log, "new")
    follower.read(more=lambda: False)
    _pack(Path(f"{log}.1"))
    follower.restart()
    while len(follower.read(more=lambda: False)):
        follower.restart()
    assert follower.lines == [*as_bytes(numbered(0, 50_000)), b"new"]


def test_rotated_files_that_match_the_pattern_too(log: Path) -> None:
    """loki-2353: the rotated file was read again when the pattern stood for it."""
    follower = Follower(f"{log}*")
    wanted = []
    for turn in range(8):
        lines = numbered(turn * 10, turn * 10 + 10)
        wanted += as_bytes(lines)
        append(log, *lines[:5])
        follower.read()
        append(log, *lines[5:])
        time.sleep(0.01)
        _rotate(log)
        if turn % 3 == 1:
            follower.restart()
        if turn % 2 and Path(f"{log}.3").exists():
            _pack(Path(f"{log}.3"))
        follower.ahead += 20
        follower.read()
    follower.settle()
    assert sorted(follower.lines) == wanted
    assert follower.gaps == []


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("pattern", ["", "*"])
def test_filebeat_39731_copytruncate_does_not_duplicate_the_log(log: Path, restarts: bool, pattern: str) -> None:
    follower = Follower(f"{log}{pattern}")
    wanted = []
    for turn in range(6):
        lines = numbered(turn * 100, turn * 100 + 100)
        wanted += as_bytes(lines)
        append(log, *lines[:60])
        follower.read()
        append(log, *lines[60:])                        # not read before it is copied: read in the copy
        time.sleep(0.01)
        _copytruncate(log)
        if restarts:
            follower.restart()
        follower.ahead += 6
        assert follower.read() == as_bytes(lines[60:])
    follower.settle()
    assert follower.lines == wanted
    assert follower.gaps == []


def test_a_copy_that_is_seen_before_the_truncation_is_not_read(log: Path) -> None:
    follower = Follower(f"{log}*")
    append(log, *numbered(0, 100))
    follower.read()
    copy = Path(f"{log}.1")
    whole = log.read_bytes()
    for size in (0, 10, 500, 2000, len(whole)):         # as it is being made
        copy.write_bytes(whole[:size])
        follower.ahead += 6
        assert follower.read() == []
    append(log, *numbered(100, 110))
    append(copy, *numbered(100, 105))
    assert follower.read() == as_bytes(numbered(100, 110))
    os.truncate(log, 0)
    append(log, "after")
    assert follower.read() == [b"after"]
    time.sleep(0.01)
    follower.ahead += 6
    copy.rename(f"{log}.2")
    assert follower.settle() == []


def test_truncated_without_a_copy_is_a_gap(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 10))
    follower.read()
    log.write_text("anew\n")
    assert follower.read() == [b"anew"]
    assert [path for path, _why in follower.gaps] == [str(log)]


def test_loki_924_truncated_while_stopped_and_grown_past_the_offset(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 10))
    follower.read()
    follower.restart()
    os.truncate(log, 0)
    append(log, *numbered(500, 600))
    assert follower.read() == as_bytes(numbered(500, 600))


def test_mtail_truncated_file_that_outgrew_the_offset(log: Path) -> None:
    follower = Follower(log)
    append(log, "always the same first line", *numbered(0, 10))
    follower.read()
    os.truncate(log, 0)
    append(log, "always the same first line", *numbered(500, 600))
    assert follower.read() == [b"always the same first line", *as_bytes(numbered(500, 600))]


def test_fluent_bit_11455_offset_beyond_the_file(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 10))
    follower.read()
    follower.restart()
    log.write_text("short\n")
    assert follower.read() == [b"short"]


def test_fluent_bit_4895_reused_inode_is_read_from_its_beginning(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 10))
    follower.read()
    follower.restart()
    inode = log.stat().st_ino
    log.unlink()
    _reused(log, inode)
    append(log, *numbered(500, 600))
    assert follower.read() == as_bytes(numbered(500, 600))


def test_vector_25079_an_inode_given_out_again_under_another_path(log: Path) -> None:
    follower = Follower(log.parent / "*.log")
    append(log, *numbered(0, 10))
    follower.read()
    follower.restart()
    inode = log.stat().st_ino
    log.unlink()
    other = log.with_name("other.log")
    _reused(other, inode)
    append(other, *numbered(500, 520))
    assert follower.settle() == as_bytes(numbered(500, 520))
    append(log, "back again")
    assert follower.settle() == [b"back again"]


def test_vector_25079_an_injected_identity_is_not_believed(log: Path) -> None:
    """The same without waiting for the file system: positions of another file with this file's inode."""
    follower = Follower(log)
    append(log, *numbered(0, 50))
    follower.read()
    fresh = log.with_name("fresh.log")
    append(fresh, *numbered(900, 999))
    elsewhere = Follower(fresh)
    found = fresh.stat()
    at = next(one for one in follower.positions.files)
    elsewhere.checkpoint = encode(Positions((at._replace(path=str(fresh), device=found.st_dev, inode=found.st_ino),), (str(fresh),)))
    assert elsewhere.read() == as_bytes(numbered(900, 999))


def test_vector_25079_equal_beginnings_are_two_files(log: Path) -> None:
    other = log.with_name("other.log")
    banner = [f"banner {number}" for number in range(200)]
    follower = Follower(log.parent / "*.log")
    for path, what in ((log, "a"), (other, "b")):
        append(path, *banner, f"{what} 1")
    assert len(follower.read()) == 402
    append(log, "a 2")
    append(other, "b 2")
    assert sorted(follower.read()) == [b"a 2", b"b 2"]
    _rotate(log)
    append(log, *banner, "a 3")
    assert follower.settle() == [*as_bytes(banner), b"a 3"]


def test_filebeat_small_files_are_read(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "*.log")
    for size in (0, 1, 2, 50, 1023, 1024, 1025):
        (tmp_path / f"{size}.log").write_bytes(b"x" * (size - 1) + b"\n" if size else b"")
    assert sorted(map(len, follower.read())) == [0, 1, 49, 1022, 1023, 1024]
    for size in (0, 1, 2, 50, 1023, 1024, 1025):
        append(tmp_path / f"{size}.log", f"more {size}")
    assert sorted(follower.read()) == sorted(f"more {size}".encode() for size in (0, 1, 2, 50, 1023, 1024, 1025))


def test_vector_643_empty_files_are_not_one_and_the_same(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "*.log")
    for name in "abc":
        (tmp_path / f"{name}.log").touch()
    follower.read()
    for name in "abc":
        append(tmp_path / f"{name}.log", name)
    assert sorted(follower.read()) == [b"a", b"b", b"c"]


def test_vector_13193_a_rotated_archive_is_the_same_log(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 10))
    follower.read()
    append(log, *numbered(10, 20))
    _rotate(log)
    _pack(Path(f"{log}.1"))
    follower.restart()
    assert follower.read() == as_bytes(numbered(10, 20))        # though the writer has not yet begun a new one
    append(log, "new")
    assert follower.settle() == [b"new"]


def test_filebeat_36541_a_finished_file_is_not_sent_again(log: Path) -> None:
    """Given up, then compressed by something that does not keep its time, then rotated on."""
    follower = Follower(log)
    append(log, *numbered(0, 50))
    follower.read()
    _rotate(log)
    append(log, *numbered(50, 60))
    follower.settle()
    time.sleep(0.01)
    packed = _pack(Path(f"{log}.1"))
    os.utime(packed)
    follower.restart()
    _rotate(log)
    append(log, "last")
    assert follower.settle() == [b"last"]


def test_an_archive_that_is_being_written_is_left_alone(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 10))
    follower.read()
    follower.restart()
    append(log, *numbered(10, 20))
    time.sleep(0.01)
    _rotate(log)
    append(log, *numbered(20, 30))
    time.sleep(0.01)
    _rotate(log)
    append(log, *numbered(30, 40))
    for number in (1, 2):
        whole = gzip.compress(Path(f"{log}.{number}").read_bytes())
        Path(f"{log}.{number}.gz").write_bytes(whole[: len(whole) // 2])
    assert follower.read() == as_bytes(numbered(10, 40))
    assert follower.settle() == []


def test_a_damaged_archive_is_said(log: Path) -> None:
    follower = Follower(log)
    append(log, *numbered(0, 10))
    follower.read()
    append(log, *numbered(10, 4000))
    _rotate(log)
    packed = _pack(Path(f"{log}.1"), "xz")
    whole = bytearray(packed.read_bytes())
    whole[len(whole) // 2 :] = b"\xa5" * (len(whole) - len(whole) // 2)
    packed.write_bytes(whole)
    follower.restart()
    append(log, "new")
    assert follower.read()[-1:] == [b"new"]
    follower.ahead += 40
    follower.read()
    assert follower.gaps


def test_dated_names_and_names_that_keep_their_ending(log: Path) -> None:
    follower = Follower(log)
    append(log, "1")
    follower.read()
    append(log, "2")
    log.rename(log.with_name("app-20240131.log"))
    time.sleep(0.01)
    append(log, "3")
    log.rename(log.with_name("app.log-20240201"))
    time.sleep(0.01)
    append(log, "4")
    append(log.with_name("app-2.log"), "of another program")
    follower.restart()
    assert follower.read() == [b"2", b"3", b"4"]


def test_mounted_anew_under_another_device_number(log: Path) -> None:
    follower = Follower(log)
    append(log, "1")
    follower.read()
    at, = follower.positions.files
    follower.restart()
    follower.checkpoint = encode(Positions((at._replace(device=at.device + 7),), follower.positions.scanned))
    append(log, "2")
    assert follower.read() == [b"2"]


def test_a_run_that_is_not_kept_is_repeated(log: Path) -> None:
    follower = Follower(log)
    append(log, "1")
    assert follower.read(keep=False) == [b"1"]
    assert follower.read(keep=False) == [b"1"]
    assert follower.read() == [b"1"]
    append(log, "2")
    _rotate(log)
    append(log, "3")
    for _ in range(3):
        assert follower.read(keep=False) == [b"2", b"3"]
        follower.restart()
    assert follower.read() == [b"2", b"3"]
    append(log, "4")
    _copytruncate(log)
    append(log, "5")
    for _ in range(3):
        assert follower.read(keep=False) == [b"4", b"5"]
    assert follower.read() == [b"4", b"5"]


def test_vanished_files_are_forgotten_in_the_end(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "*.log")
    for number in range(50):
        append(tmp_path / f"{number}.log", "x")
    follower.read()
    for number in range(50):
        (tmp_path / f"{number}.log").unlink()
    follower.settle()
    follower.ahead += 60
    follower.read()
    assert follower.positions.files == ()
    assert len(follower.tail._memory.descriptors) == 0
