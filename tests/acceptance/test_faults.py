"""Faults of our own host: the daemon goes on, says so, and is well again by itself."""

import asyncio
import sqlite3
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from processes import until
from theatre import Stage, stage

from monitor.store import Store
from probes.sample import Outcome, Sample

pytestmark = pytest.mark.timeout(120)


async def _old_samples(state: Path) -> None:
    """As after a month: there is always something to delete."""
    async with Store(state) as store:
        for number in range(20_000):
            store.add_sample(Sample(probe="pay", outcome=Outcome.OK, started=time.time() - 40 * 86400 + number, seconds=0.1, spacing=30.0))
        await store.write(lambda connection: connection.execute("SELECT 1").fetchone())


def _starts(here: Stage) -> list[float]:
    return [sample["started"] for sample in here.get("/api/v1/samples?probe=pay&limit=400")["samples"]]


def _healthy(here: Stage) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{here.daemon_port}/-/healthy", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_database_that_somebody_locks_does_not_end_the_daemon_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    asyncio.run(_old_samples(tmp_path / "state"))
    with stage(tmp_path) as here:
        here.start()
        until(lambda: here.runs() > 5, 30, "the first runs")
        other = sqlite3.connect(tmp_path / "state" / "tillwatch.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        until(lambda: _healthy(here) == 503, 30, "the daemon saying that it cannot write")
        assert here.daemon is not None
        assert here.daemon.poll() is None
        assert here.inbox.messages == []
        locked_at, runs = time.time(), here.runs()
        until(lambda: here.runs() > runs + 10, 20, "probing going on")
        other.execute("ROLLBACK")
        other.close()
        until(lambda: _healthy(here) == 200, 30, "the daemon being well again")
        until(lambda: any(locked_at - 1 <= started <= locked_at + 2 for started in _starts(here)), 20, "what was measured meanwhile being written")
        assert here.stop() == 0
