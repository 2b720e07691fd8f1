"""Journals as they are found: several units and boots, foreign and lost cursors, huge entries, no permission. Real files, the real journalctl."""

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from journal_daemon import REMOTE, entry, gathered, write

from probes.error_log.event import LONGEST
from probes.error_log.journal import Batch, Cursor, Journal, JournalSettings

pytestmark = [
    pytest.mark.skipif(not shutil.which("journalctl"), reason="NOT RUN, there is no journalctl (Debian: systemd)"),
    pytest.mark.skipif(not REMOTE.exists(), reason="NOT RUN, there is no systemd-journal-remote (Debian: systemd-journal-remote)"),
]
T0 = 1_700_000_000.0       # when the first entries were logged
NOW = T0 + 3600
SHOP = {"_SYSTEMD_UNIT": "shop.service", "SYSLOG_IDENTIFIER": "php", "_PID": "42"}
Follow = Callable[..., Journal]


@pytest.fixture
async def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Follow]:
    """Follows the journal in tmp_path/j; with patience, as journalctl takes long to start on a machine with other work."""
    monkeypatch.setattr("probes.error_log.journal.FIRST", 2.0)          # spent in full where nothing comes: `read` asks again
    journals = []

    def start(**keys: Any) -> Journal:
        journals.append(Journal(JournalSettings.model_validate({"units": ["shop"], "directory": str(tmp_path / "j")} | keys)))
        return journals[-1]
    yield start
    for journal in journals:
        await journal.close()


def said(batch: Batch) -> list[str]:
    return [one.text.decode() for one in batch.entries]


async def read(journal: Journal, cursor: Cursor, count: int) -> Batch:
    """So many entries, and no more."""
    return await gathered(journal, cursor, lambda: NOW, count)


def since(at: float) -> Cursor:
    return Cursor(realtime=round(at * 1e6))


def log(folder: Path, *messages: str, at: float = T0, file: str = "one", **fields: str) -> None:
    write(folder / f"j/{file}.journal", [entry(message, at + number * 0.001, **(SHOP | fields)) for number, message in enumerate(messages)])


async def place(follow: Follow) -> Cursor:
    """Where the journal ends."""
    return (await follow().read(None, NOW, 30)).cursor


async def test_the_very_first_read_gives_nothing_but_the_end(tmp_path: Path, follow: Follow) -> None:
    log(tmp_path, "a", "b")
    journal = follow()
    batch = await journal.read(None, NOW, 30)
    assert (batch.entries, batch.problem, batch.warning, batch.gap) == ((), "", "", 0)
    log(tmp_path, "c", "d", at=T0 + 1)
    batch = await read(journal, batch.cursor, 2)
    assert (said(batch), batch.problem, batch.warning, batch.gap) == (["c", "d"], "", "", 0)


async def test_vector_1106_the_first_entry_is_given_although_the_one_before_is_not_followed(tmp_path: Path, follow: Follow) -> None:
    """--after-cursor passes over it."""
    log(tmp_path, "other", _SYSTEMD_UNIT="other.service")
    cursor = await place(follow)
    log(tmp_path, "first", "second", at=T0 + 1)
    assert said(await read(follow(), cursor, 2)) == ["first", "second"]


async def test_a_cursor_that_was_not_committed_is_read_from_again(tmp_path: Path, follow: Follow) -> None:
    journal = follow()
    log(tmp_path, "a", "b", "c")
    first = await read(journal, since(T0), 3)
    assert said(first) == ["a", "b", "c"]
    assert said(await read(journal, since(T0), 3)) == ["a", "b", "c"]
    log(tmp_path, "d", at=T0 + 9)
    assert said(await read(journal, first.cursor, 1)) == ["d"]


async def test_units_and_identifiers_and_nothing_else(tmp_path: Path, follow: Follow) -> None:
    log(tmp_path, "shop")
    log(tmp_path, "failed", _PID="1", UNIT="shop.service", _SYSTEMD_UNIT="init.scope", at=T0 + 1)
    log(tmp_path, "forged", UNIT="shop.service", _SYSTEMD_UNIT="evil.service", at=T0 + 2)
    log(tmp_path, "cron", _SYSTEMD_UNIT="cron.service", SYSLOG_IDENTIFIER="cron", at=T0 + 3)
    log(tmp_path, "kernel", _SYSTEMD_UNIT="", SYSLOG_IDENTIFIER="kernel", at=T0 + 4)
    log(tmp_path, "dumped core", _UID="0", MESSAGE_ID="fc2e22bc6ee647b6b90729ab34a250b1", COREDUMP_UNIT="shop.service",
        _SYSTEMD_UNIT="systemd-coredump@1.service", SYSLOG_IDENTIFIER="systemd-coredump", at=T0 + 5)
    begin = since(T0)
    assert said(await read(follow(), begin, 3)) == ["shop", "failed", "dumped core"]
    assert said(await read(follow(units=["sh*p"]), begin, 3)) == ["shop", "failed", "dumped core"]
    assert said(await read(follow(units=[], identifiers=["cron"]), begin, 1)) == ["cron"]
    assert said(await read(follow(identifiers=["kernel"]), begin, 4)) == ["shop", "failed", "kernel", "dumped core"]
    assert said(await read(follow(units=["none*"], identifiers=["kernel"]), begin, 1)) == ["kernel"]
    everything = await read(follow(units=[], everything=True), begin, 6)
    assert said(everything) == ["shop", "failed", "forged", "cron", "kernel", "dumped core"]
    assert [one.unit for one in everything.entries] == ["shop.service"] * 2 + ["evil.service", "cron.service", "", "shop.service"]


async def test_a_pattern_takes_units_that_come_later(tmp_path: Path, follow: Follow) -> None:
    """journalctl --unit=PATTERN looks once, and ends when there is none."""
    log(tmp_path, "cron", _SYSTEMD_UNIT="cron.service")
    journal = follow(units=["php*-fpm"])
    batch = await journal.read(await place(follow), NOW, 30)
    assert (said(batch), batch.problem) == ([], "")
    log(tmp_path, "new", _SYSTEMD_UNIT="php8.4-fpm.service", at=T0 + 1)
    assert said(await read(journal, batch.cursor, 1)) == ["new"]


async def test_what_was_logged_before_a_reboot_is_read(tmp_path: Path, follow: Follow) -> None:
    """vector-18068: --follow gives only the present boot."""
    log(tmp_path, "read")
    cursor = await place(follow)
    log(tmp_path, "last words", at=T0 + 1)
    log(tmp_path, "booted", at=T0 + 60, _BOOT_ID="1" * 32)
    assert said(await read(follow(), cursor, 2)) == ["last words", "booted"]


async def test_what_there_is_no_time_for_is_given_the_next_time(tmp_path: Path, follow: Follow) -> None:
    log(tmp_path, *map(str, range(3000)))
    journal, cursor, found, reads = follow(), since(T0), list[str](), 0
    end = time.monotonic() + 30
    while len(found) < 3000:
        batch = await journal.read(cursor, NOW, 0.01)
        cursor, reads = batch.cursor, reads + 1
        found += said(batch)
        assert time.monotonic() < end, f"only {len(found)} entries come"
    assert found == list(map(str, range(3000)))
    assert reads > 2


async def test_an_entry_of_20_mb_is_cut_and_the_next_is_whole(tmp_path: Path, follow: Follow) -> None:
    entries = [entry("x" * 20_000_000, T0, **SHOP), entry("next", T0 + 1, **SHOP), entry(b"\xff" * 3_000_000, T0 + 2, **SHOP)]
    write(tmp_path / "j/one.journal", entries)
    journal, cursor, found = follow(), since(T0), list[bytes]()
    end = time.monotonic() + 40
    while len(found) < 3 and time.monotonic() < end:             # journalctl needs its time for them
        batch = await journal.read(cursor, NOW, 2)
        cursor = batch.cursor
        assert (batch.problem, batch.warning) == ("", "")
        found += [one.text for one in batch.entries]
        await asyncio.sleep(0.05)
    assert found == [b"x" * LONGEST, b"next", b"\xff" * LONGEST]


async def test_hostile_entries_are_entries(tmp_path: Path, follow: Follow) -> None:
    """T35, as far as a journal can hold it."""
    messages: list[str | bytes] = ['{"__CURSOR":"fake"}', "[" * 10_000, "1e400", "\x1b[31m\0\r\n\n", b"\xff\xfe\x00", "", "\u2028", '"\\u0000\\ud800']
    write(tmp_path / "j/one.journal", [entry(message, T0 + number, **SHOP) for number, message in enumerate(messages)])
    batch = await read(follow(), since(T0), len(messages))
    assert [one.text for one in batch.entries] == [message.encode() if isinstance(message, str) else message for message in messages]
    assert (batch.warning, batch.problem) == ("", "")


# T34: cursors that say nothing, or nothing here.

async def test_garbage_is_a_first_start_with_a_warning(tmp_path: Path, follow: Follow) -> None:
    log(tmp_path, "a")
    journal = follow()
    batch = await journal.read(Cursor.decode(b"garbage"), NOW, 30)
    assert batch.entries == ()
    assert batch.warning == "what was remembered of the journal cannot be read: followed from now on"
    log(tmp_path, "b", at=T0 + 1)
    batch = await read(journal, batch.cursor, 1)
    assert (said(batch), batch.warning) == (["b"], "")


@pytest.mark.parametrize("at", ["garbage", "s=0;i=1", "--file=/etc/passwd", f"s={'0' * 32};i=2;b={'9' * 32};m=1;t=1;x=1", "x" * 500])
async def test_a_cursor_of_another_journal_goes_on_by_time(tmp_path: Path, follow: Follow, at: str) -> None:
    journal = follow()
    log(tmp_path, *map(str, range(10)))
    cursor = (await read(journal, since(T0), 10)).cursor
    log(tmp_path, "new", "newer", at=T0 + 1)
    batch = await read(follow(), Cursor(at, cursor.realtime, cursor.recent, cursor.clear), 2)
    assert said(batch) == ["new", "newer"]
    assert batch.warning == "the journal does not know the entry that was read last: followed by time, from just before it"
    assert batch.problem == ""


async def test_a_journal_that_was_replaced_by_another_machines_goes_on_by_time(tmp_path: Path, follow: Follow) -> None:
    log(tmp_path, "a", "b")
    cursor = (await read(follow(), since(T0), 2)).cursor
    (tmp_path / "j/one.journal").unlink()
    log(tmp_path, "old", at=T0 - 100, file="two", _BOOT_ID="2" * 32, _MACHINE_ID="2" * 32)
    log(tmp_path, "new", at=T0 + 1, file="two", _BOOT_ID="2" * 32, _MACHINE_ID="2" * 32)
    batch = await read(follow(), cursor, 1)
    assert said(batch) == ["new"]
    assert "followed by time" in batch.warning


async def test_a_cursor_from_the_future_goes_on_now(tmp_path: Path, follow: Follow) -> None:
    log(tmp_path, "old")
    log(tmp_path, "new", at=NOW + 1)
    assert said(await read(follow(), Cursor("garbage", round((NOW + 10**6) * 1e6)), 1)) == ["new"]


# Journals that are not there, or not for us.

async def test_an_empty_journal_is_told_and_then_read_from_its_beginning(tmp_path: Path, follow: Follow) -> None:
    (tmp_path / "j").mkdir()
    journal = follow()
    batch = await journal.read(None, T0, 30)
    assert batch.warning == "the journal is empty: nothing was ever logged, or systemd-journald does not run"
    batch = await journal.read(batch.cursor, T0, 30)
    assert (batch.entries, batch.problem) == ((), "")
    log(tmp_path, "first", at=T0 + 1)
    assert said(await read(journal, batch.cursor, 1)) == ["first"]


async def test_a_folder_that_is_not_there_is_a_problem_until_it_is(tmp_path: Path, follow: Follow) -> None:
    journal = follow()
    batch = await journal.read(None, T0, 30)
    assert batch.problem == f"Failed to open {tmp_path}/j: No such file or directory"
    for _ in range(2):
        batch = await journal.read(batch.cursor, T0, 30)
        assert batch.problem == f"Failed to open {tmp_path}/j: No such file or directory"
    log(tmp_path, "first", at=T0 + 1)
    batch = await read(journal, batch.cursor, 1)
    assert (said(batch), batch.problem) == (["first"], "")


async def test_without_journalctl_there_is_a_problem(tmp_path: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    log(tmp_path, "a")
    cursor = await place(follow)
    monkeypatch.setenv("PATH", str(tmp_path))
    for known in (None, cursor, since(T0)):
        assert (await follow().read(known, NOW, 30)).problem == "journalctl: not found"


@contextmanager
def nobody() -> Iterator[None]:
    """What is started meanwhile may do no more than the user nobody."""
    group, groups = os.getgid(), os.getgroups()
    os.setgroups([])
    os.setresgid(65534, 65534, group)
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(group, group, group)
        os.setgroups(groups)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that every user can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN, this needs root")
async def test_without_permission_there_is_a_problem_that_says_what_to_do(open_folder: Path, follow: Follow) -> None:
    log(open_folder, "a")
    (open_folder / "j").chmod(0o755)
    (open_folder / "j/one.journal").chmod(0o600)
    journal = follow(directory=str(open_folder / "j"))
    cursor = (await journal.read(None, NOW, 30)).cursor
    with nobody():
        problems = [(await follow(directory=str(open_folder / "j")).read(known, NOW, 30)).problem for known in (None, cursor, since(T0))]
    assert problems == ["no permission to read the journal: add the user to group systemd-journal"] * 3
    log(open_folder, "b", at=T0 + 1)
    assert said(await read(journal, cursor, 1)) == ["b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN, this needs root")
async def test_permission_to_read_only_a_part_is_a_problem_too(open_folder: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users may read what they have logged themselves: the shop would seem to be silent."""
    monkeypatch.setattr("probes.error_log.journal.FIRST", 20.0)      # there is always something to come
    log(open_folder, "own", file="user-65534")
    log(open_folder, "shop", file="system", at=T0 + 1)
    (open_folder / "j").chmod(0o755)
    (open_folder / "j/user-65534.journal").chmod(0o644)
    (open_folder / "j/system.journal").chmod(0o600)
    journal = follow(directory=str(open_folder / "j"))
    with nobody():
        first = await journal.read(None, NOW, 30)
        second = await journal.read(since(T0), NOW, 30)
        third = await journal.read(second.cursor, NOW, 30)
    assert said(second) == ["own"]
    assert {first.problem, second.problem, third.problem} == {"no permission to read the journal: add the user to group systemd-journal"}


async def test_a_damaged_file_is_survived(tmp_path: Path, follow: Follow) -> None:
    log(tmp_path, *map(str, range(2000)), file="one")
    log(tmp_path, "good", at=T0 + 100, file="two")
    with (tmp_path / "j/one.journal").open("r+b") as file:
        file.seek(300_000)
        file.write(random.Random(1).randbytes(100_000))
    journal, cursor, found, problem = follow(), since(T0), list[str](), ""
    end = time.monotonic() + 30
    while not ("good" in found or problem):
        assert time.monotonic() < end, "neither what is behind the damage nor that there is any is told"
        batch = await journal.read(cursor, NOW, 30)
        cursor, problem = batch.cursor, batch.problem
        found += said(batch)
        await asyncio.sleep(0.02)
    for _ in range(3):                                # nor does anything come again afterwards
        batch = await journal.read(cursor, NOW, 30)
        cursor, found = batch.cursor, found + said(batch)
    assert len(found) == len(set(found))
