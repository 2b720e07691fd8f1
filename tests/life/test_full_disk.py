"""The daemon itself on a disk that is full, and on one that is read-only: it starts, probes, pages, says what is wrong, and stops in time."""

import json
import sqlite3
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from homestead import House, house
from processes import until

sys.path.insert(0, str(Path(__file__).parent.parent / "store"))
from disks import fill, needs_root, remount, tmpfs

pytestmark = [pytest.mark.timeout(120), needs_root]


def healthy(home: House) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{home.port}/-/healthy", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def heard(home: House) -> list[str]:
    """What the receiver heard of outages."""
    return [m["type"] for m in home.village.messages if m["data"]["kind"] == "outage"]


def stored(state: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(state / "tillwatch.sqlite3")) as database:
        return database.execute(question).fetchall()


def test_a_daemon_on_a_full_disk_does_its_work_and_brings_all_of_it_to_the_disk_afterwards(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "state", "size=4m,mode=0700") as state, house(tmp_path) as home:
        home.write(home.probe("home"), interval="1s")
        home.start()
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > 1, 20, "runs")
        assert home.stop()[0] == 0
        install = stored(state, "SELECT value FROM meta WHERE name = 'install_id'")
        (before,), = stored(state, "SELECT count(*) FROM sample")
        filler = fill(state)
        home.write(home.probe("home") + home.probe("bad", "/bad"), interval="1s")
        home.start()
        until(lambda: heard(home) == ["incident.firing"], 20, "the page")
        runs = home.metric("tillwatch_probe_runs_total")
        until(lambda: home.metric("tillwatch_probe_runs_total") > runs + 5, 20, "runs")
        until(lambda: healthy(home)[0] == 503, 20, "the word that something is wrong")
        assert healthy(home)[1]["store"].startswith("cannot write")
        assert home.metric("tillwatch_store_volatile") == 1
        until(lambda: home.metric("tillwatch_store_failures_total") > 5, 20, "more failures")
        failures = home.events("the store cannot write")
        assert ["the disk is full" in failure["error"] for failure in failures] == [True], "said once, not every second"
        runs = home.metric("tillwatch_probe_runs_total")
        filler.unlink()
        until(lambda: healthy(home)[0] == 200, 20, "health")
        until(lambda: home.events("the store can write again"), 20, "the word of it")
        until(lambda: home.metric("tillwatch_store_volatile") == 0, 20, "the gauge")
        until(lambda: stored(state, "SELECT count(*) FROM sample") >= [(before + runs,)], 20, "all samples")
        until(lambda: stored(state, "SELECT kind, state FROM outbox WHERE kind = 'firing'") == [("firing", "done")], 20, "the page being noted")
        assert stored(state, "SELECT count(*) FROM incident WHERE kind = 'outage' AND resolved IS NULL") == [(1,)]
        assert stored(state, "SELECT value FROM meta WHERE name = 'install_id'") == install
        fill(state)
        until(lambda: len(home.events("the store cannot write")) == 2, 20, "trouble again")
        code, seconds = home.stop()
        assert (code, seconds < 10) == (0, True)
        assert heard(home) == ["incident.firing"], "once"


def test_a_daemon_starts_on_a_read_only_disk(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "state", "size=16m,mode=0700") as state, house(tmp_path) as home:
        home.write(home.probe("home"), interval="1s")
        home.start()
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > 1, 20, "runs")
        assert home.stop()[0] == 0
        remount(state, "ro")
        home.write(home.probe("home") + home.probe("bad", "/bad"), interval="1s")
        home.start()
        until(lambda: heard(home) == ["incident.firing"], 20, "the page")
        remount(state, "rw")
        until(lambda: home.metric("tillwatch_store_volatile") == 0, 20, "the disk")
        code, seconds = home.stop()
        assert (code, seconds < 10) == (0, True)
        assert stored(state, "SELECT kind, state FROM outbox WHERE kind = 'firing'") == [("firing", "done")]
