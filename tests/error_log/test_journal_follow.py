"""Following a real systemd-journald while it rotates and vacuums, and while children and readers are killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from journal_daemon import MACHINE, REMOTE, ROOT, CannotLogError, Daemon, entry, gathered, write
from journal_rotations import Plan, play, settings
from processes import gone, until

from probes.error_log.event import LONGEST
from probes.error_log.journal import Batch, Cursor, Journal, texts
from probes.error_log.journal_cursor import MOST_BYTES

LATER = 60.0               # s: as if the read were so much later, so that nothing is too young
JOURNAL = "probes.error_log.journal"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    try:
        started = Daemon()
    except CannotLogError as error:
        pytest.skip(f"NOT RUN, no journald: {error}")
    yield started
    started.stop()


@pytest.fixture
async def follow(daemon: Daemon) -> AsyncIterator[Callable[[], Journal]]:
    """Makes followers, who are told at the end to go."""
    followers: list[Journal] = []

    def start() -> Journal:
        followers.append(Journal(settings(daemon)))
        return followers[-1]
    yield start
    for follower in followers:
        await follower.close()


@pytest.fixture
def journal(follow: Callable[[], Journal]) -> Journal:
    return follow()


async def begun(daemon: Daemon, journal: Journal) -> Cursor:
    """The end of the journal, with a child that follows from there."""
    daemon.control("--sync")
    cursor = (await journal.read(None, time.time(), 30)).cursor
    return (await journal.read(cursor, time.time(), 30)).cursor


async def read(daemon: Daemon, journal: Journal, cursor: Cursor, count: int) -> Batch:
    """So many entries, and no more, none of them too young."""
    daemon.control("--sync")
    return await gathered(journal, cursor, lambda: time.time() + LATER, count)


def said(batch: Batch) -> list[str]:
    return [one.text.decode() for one in batch.entries]


def children() -> list[str]:
    """The journalctls that run below us: by the parent each process names, since a thread's own list of children goes with the thread."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):                           # one that ended meanwhile
            comm, _, state = (process / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
            if comm == "journalctl" and int(state.split()[1]) == os.getpid():
                found.append(process.name)
    return found


@pytest.mark.timeout(180)
async def test_t33_rotated_and_vacuumed_under_load_with_children_killed(daemon: Daemon) -> None:
    account = await play(daemon, Plan(seconds=7, kept=3, every=0.25, kills=2, rotations=3, logged=3001))
    assert account.kills > 1
    assert account.rotations > 2
    assert account.logged > 3000
    assert account.double == 0
    assert account.lost <= account.gap                # removed before it was read, which the warnings count
    assert account.order == sorted(account.order)
    assert account.problems.keys() <= {""}
    assert account.slowest < 1
    until(lambda: not children(), 30, "the end of the last journalctl")


@pytest.mark.parametrize("killed", [False, True])
async def test_much_is_given_in_several_batches(daemon: Daemon, journal: Journal, killed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the child is killed in the middle of a line.

    The second batch ends with the only entry that is newer than `now`, not with a pause: journalctl may make one of a second at any line.
    """
    cursor = await begun(daemon, journal)
    await journal.close()
    for name, seconds in {"FIRST": 30.0, "NEXT": 30.0, "YOUNG": 0.0}.items():
        monkeypatch.setattr(f"{JOURNAL}.{name}", seconds)
    said_so = [f"{number} {'x' * LONGEST}"[:LONGEST] for number in range(700)]
    for text in said_so[:-1]:
        daemon.say(text)
    daemon.control("--sync")
    now = time.time()
    daemon.say(said_so[-1])
    daemon.control("--sync")
    first = await journal.read(cursor, now, 40)
    assert first.behind
    assert sum(len(one.text) for one in first.entries) < MOST_BYTES + 300_000
    if killed:
        assert journal._child
        journal._child._process.kill()
    second = await journal.read(first.cursor, now, 40)                      # at once, when journalctl has not caught its breath
    assert not second.behind
    assert second.warning == ("journalctl was started again: journalctl was ended by signal 9" if killed else "")
    assert said(first) + said(second) == said_so


async def test_equal_lines_written_at_once_are_all_given(daemon: Daemon, journal: Journal, follow: Callable[[], Journal]) -> None:
    cursor = await begun(daemon, journal)
    daemon.print("retry\nretry\nretry\n")
    batch = await read(daemon, journal, cursor, 3)
    assert said(batch) == ["retry"] * 3
    assert len({one.realtime for one in batch.entries}) == 1
    assert said(await read(daemon, follow(), cursor, 3)) == ["retry"] * 3


async def test_a_rotation_neither_loses_nor_repeats(daemon: Daemon, journal: Journal) -> None:
    """systemd-29016 and rsyslog-5477."""
    cursor, found = await begun(daemon, journal), list[str]()
    for number in range(6):
        daemon.say(f"{number} before")
        daemon.control("--rotate")
        daemon.say(f"{number} after")
        batch = await read(daemon, journal, cursor, 2)
        cursor, found = batch.cursor, found + said(batch)
    assert found == [f"{number} {when}" for number in range(6) for when in ("before", "after")]


@pytest.fixture
def long_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was logged is young for 20 s, and one text for as long: the machine may take its time. It is less than LATER still."""
    monkeypatch.setattr(f"{JOURNAL}.YOUNG", 20.0)
    monkeypatch.setattr("probes.error_log.journal_entries._PAUSE", 20.0)


@pytest.mark.usefixtures("long_young")
async def test_a_traceback_is_held_back_until_it_is_whole(daemon: Daemon, journal: Journal) -> None:
    cursor, said_at = await begun(daemon, journal), time.time()
    daemon.print('Traceback (most recent call last):\n  File "shop.py", line 1\n')
    cursor = await held_back(daemon, journal, cursor, said_at, 2)
    daemon.print("KeyError: 'cart'\n")
    cursor = await held_back(daemon, journal, cursor, said_at, 3)
    batch = await journal.read(cursor, said_at + LATER, 30)
    assert texts(batch.entries) == [(b"""Traceback (most recent call last):\n  File "shop.py", line 1\nKeyError: 'cart'\n""", None)]


async def held_back(daemon: Daemon, journal: Journal, cursor: Cursor, now: float, count: int) -> Cursor:
    """Read as if it were still `now`, until so many entries have arrived: none is given."""
    daemon.control("--sync")
    end = time.monotonic() + 30
    while len(journal._arrivals) < count:
        batch = await journal.read(cursor, now, 30)
        assert (batch.entries, batch.cursor.at) == ((), cursor.at)
        cursor = batch.cursor
        assert time.monotonic() < end, "the entries do not come"
        await asyncio.sleep(0.02)
    return cursor


@pytest.mark.usefixtures("long_young")
async def test_what_was_held_back_is_not_lost_with_the_child(daemon: Daemon, journal: Journal) -> None:
    cursor, said_at = await begun(daemon, journal), time.time()
    daemon.say("young")
    cursor = await held_back(daemon, journal, cursor, said_at, 1)
    assert journal._child
    journal._child._process.kill()
    daemon.say("younger")
    batch = await read(daemon, journal, cursor, 2)
    assert said(batch) == ["young", "younger"]
    assert batch.warning == "journalctl was started again: journalctl was ended by signal 9"
    assert batch.problem == ""


async def test_what_is_vacuumed_before_it_is_read_is_counted(daemon: Daemon, journal: Journal) -> None:
    cursor = await begun(daemon, journal)
    await journal.close()
    for number in range(100):
        daemon.say(f"lost {number}")
    daemon.control("--sync")
    daemon.control("--rotate", "--vacuum-files=1")
    daemon.say("left")
    batch = await read(daemon, journal, cursor, 1)
    assert said(batch) == ["left"]
    assert 100 <= batch.gap <= 110                    # journald says something of its own when it rotates
    assert batch.warning == f"up to {batch.gap} entries were removed from the journal before they were read"
    assert (await read(daemon, journal, batch.cursor, 0)).gap == 0


async def test_nothing_was_lost_of_a_quiet_unit(daemon: Daemon, journal: Journal, follow: Callable[[], Journal]) -> None:
    """The entry that was read last is gone, and so is much that nobody followed: no gap, for it was followed all the time."""
    cursor = await begun(daemon, journal)
    for _ in range(50):
        daemon.say("chatter", "other")
    daemon.control("--rotate")
    await asyncio.sleep(0.3)
    batch = await journal.read(cursor, time.time() + LATER, 30)
    daemon.control("--vacuum-files=1")
    await journal.close()
    daemon.say("left")
    batch = await read(daemon, follow(), batch.cursor, 1)
    assert (said(batch), batch.gap, batch.warning) == (["left"], 0, "")


async def test_a_reader_that_is_cancelled_at_any_moment_loses_nothing(daemon: Daemon, journal: Journal) -> None:
    cursor, found, sent = await begun(daemon, journal), list[str](), 0
    for step in range(60):
        if step % 6 == 0:
            await journal.close()                     # so that starting is cancelled too
        daemon.say(str(sent))
        sent += 1
        reading = asyncio.ensure_future(journal.read(cursor, time.time() + LATER, 30))
        await asyncio.sleep(step * 0.001 % 0.025)
        if reading.done():
            cursor, found = reading.result().cursor, found + said(reading.result())
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    found += said(await read(daemon, journal, cursor, sent - len(found)))
    assert found == list(map(str, range(sent)))
    until(lambda: len(children()) == 1, 30, "the end of all journalctls but the last")      # a killed one counts until it is buried
    await journal.close()
    until(lambda: not children(), 30, "the end of the last one")


async def test_a_closing_that_is_cancelled_leaves_nothing_over(daemon: Daemon, journal: Journal) -> None:
    await begun(daemon, journal)
    closing = asyncio.ensure_future(journal.close())
    await asyncio.sleep(0)
    closing.cancel()
    with suppress(asyncio.CancelledError):
        await closing
    end = time.monotonic() + 30
    while children():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_no_descriptor_is_left_open(daemon: Daemon) -> None:
    before = descriptors()
    for _ in range(5):
        journal = Journal(settings(daemon))
        await begun(daemon, journal)
        await journal.close()
        await journal.close()
    assert descriptors() == before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


LOCAL = """
import asyncio, sys, time
from probes.error_log import journal as product
from probes.error_log.journal import Cursor, Journal, JournalSettings

product.FIRST = 20.0           # a journalctl that nothing of is in memory yet may take its time

async def main():
    journal = Journal(JournalSettings.model_validate({"identifiers": ["shop"]}))
    batch = await journal.read(Cursor(realtime=int(float(sys.argv[1]) * 1e6)), time.time() + 60, 30)
    print(*(entry.text.decode() for entry in batch.entries), batch.problem, batch.warning, sep="|")
    await journal.close()

asyncio.run(main())
"""


@pytest.mark.skipif(not REMOTE.exists(), reason="NOT RUN, there is no systemd-journal-remote (Debian: systemd-journal-remote)")
def test_of_this_hosts_journal_what_other_machines_logged_is_left_out(daemon: Daemon) -> None:
    """--merge, which makes older boots be read, brings it too."""
    begun_at = time.time()
    write(daemon.journal / MACHINE / "other.journal", [entry("other machine", begun_at + 1, SYSLOG_IDENTIFIER="shop")])
    daemon.say("this machine")
    daemon.control("--sync")
    assert daemon.inside(sys.executable, "-c", LOCAL, str(begun_at)) == "this machine||\n"


READER = """
import asyncio, sys, time
from pathlib import Path
from probes.error_log.journal import Journal, JournalSettings

async def main():
    journal = Journal(JournalSettings.model_validate({"directory": sys.argv[1], "identifiers": ["shop"]}))
    cursor = (await journal.read(None, time.time(), 30)).cursor
    await journal.read(cursor, time.time(), 30)
    print(journal._child._process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_kill_9_of_the_daemon_leaves_no_journalctl(daemon: Daemon) -> None:
    """Although nothing is logged any more: it watches its output."""
    reader = subprocess.Popen([sys.executable, "-c", READER, str(daemon.journal)], stdout=subprocess.PIPE, cwd=ROOT)
    assert reader.stdout
    child = int(reader.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    reader.stdout.close()
    until(lambda: gone(child), 30, "the end of journalctl")
