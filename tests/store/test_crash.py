"""Killed at any moment, and full: what was acknowledged is there."""

import multiprocessing
import random
import sqlite3
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import crash_writer
import pytest

from monitor.store import Store, samples

ROUNDS = 30


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["monitor.store"])
    yield context
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]  # nothing else ends it


def read(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def killed(processes: ForkServerContext, directory: Path, first: int, commits: int) -> list[int]:
    """What a writer had acknowledged when it was killed, after about `commits`."""
    ours, theirs = processes.Pipe(duplex=False)
    child = processes.Process(target=crash_writer.acknowledge, args=(str(directory), theirs, first))
    child.start()
    theirs.close()
    heard = []
    try:
        while len(heard) < commits:
            heard.append(ours.recv())
    finally:
        child.kill()
        child.join()
    return heard + list(rest(ours))


def rest(ours: Connection) -> Iterator[int]:
    with ours:
        while True:
            try:
                yield ours.recv()
            except EOFError:
                return


@pytest.mark.timeout(60)
def test_no_acknowledged_commit_is_lost_by_kill_9(processes: ForkServerContext, tmp_path: Path) -> None:
    rng, path, acknowledged = random.Random(5), tmp_path / "tillwatch.sqlite3", []
    for _ in range(ROUNDS):
        acknowledged += killed(processes, tmp_path, 1000 * len(acknowledged), rng.randint(1, 12))
        assert read(path, "PRAGMA integrity_check") == [("ok",)]
    kept = {int(str(name).split()[1]) for (name,) in read(path, "SELECT name FROM meta")}
    assert set(acknowledged) <= kept
    rows = read(path, "SELECT reason.text, count(*) FROM sample JOIN reason ON reason.id = sample.code >> 5 GROUP BY 1")
    whole = {int(str(text)): number for text, number in rows}
    assert all(whole[number] == crash_writer.SAMPLES_EACH for number in acknowledged), "its samples are committed with it, or before"
    assert len(acknowledged) >= ROUNDS


async def test_a_store_that_was_killed_is_taken_up_again(processes: ForkServerContext, tmp_path: Path) -> None:
    last = killed(processes, tmp_path, 0, 5)[-1]
    async with Store(tmp_path) as store:
        checkpoint = (await store.read(samples.checkpoints))["home", "", ""]
        assert int(checkpoint) >= last


def test_a_full_disk_keeps_samples_until_there_is_space(processes: ForkServerContext, tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes every growing write fail, as a full disk does."""
    ours, theirs = processes.Pipe(duplex=False)
    child = processes.Process(target=crash_writer.fill, args=(str(tmp_path), theirs))
    child.start()
    theirs.close()
    told = ours.recv()
    child.join()
    ours.close()
    assert told.pop("refused")
    assert told.pop("failures") >= 1
    assert told == {
        "failing": True, "read while full": 0, "failing after": False, "samples": 50, "meta": ["after", "before"], "integrity": "ok"}
    assert child.exitcode == 0
