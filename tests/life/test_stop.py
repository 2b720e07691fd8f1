"""The end: in order, within ten seconds, and nothing that we ended ourselves counts against the shop."""

import signal
import sqlite3
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest
from homestead import ended, house
from processes import until

from monitor.jobs import SLOT_SECONDS, Job, phase

pytestmark = pytest.mark.timeout(60)
INTERVAL, SOON = 45.0, 2.0         # s: all begin within SOON of the start, and the first of them times out an interval later
SLOW = f'interval = "{INTERVAL:.0f}s"\ntimeout = "{INTERVAL:.0f}s"'


def soon(number: int) -> list[str]:
    """So many names of probes that begin soon after the start."""
    def begins(name: str) -> float:
        return phase(Job((name, "", ""), "http", INTERVAL, INTERVAL, INTERVAL, INTERVAL), SLOT_SECONDS)
    return list(islice((name for name in (f"slow-{n}" for n in count()) if begins(name) < SOON), number))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_hundred_probes_under_way_end_at_once_and_none_is_recorded_failed(tmp_path: Path, number: signal.Signals) -> None:
    """T41"""
    with house(tmp_path) as home:
        home.write("".join(home.probe(name, f"/slow/{name}", SLOW) for name in soon(200)))
        home.start()
        until(lambda: home.village.under_way == 200, 20, "all probes being under way")
        assert home.process is not None
        code, seconds = ended(home.process, lambda: home.kill(number))
        assert (code, seconds < 5) == (0, True), seconds
        with sqlite3.connect(tmp_path / "state" / "tillwatch.sqlite3") as store:
            assert store.execute("SELECT count(*) FROM sample").fetchone() == (0,)
            assert store.execute("SELECT count(*) FROM incident").fetchone() == (0,)
        assert home.village.messages == []
        assert [e["why"] for e in home.events("stopping")] == [number.name]


# Leaves a file when a room begins to be left.
LEAVING = """
import pathlib, sys
from monitor import life
folder, timed = pathlib.Path(sys.argv.pop(1)), life.Life._timed
def told(self, name, leave):
    async def left(*error):
        (folder / ("leaving " + name)).touch()
        return await leave(*error)
    return timed(self, name, left)
life.Life._timed = told
from monitor.cli import main
main()
"""


def test_a_receiver_that_does_not_answer_cannot_hold_up_the_end_and_a_second_signal_hastens_it(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.write(home.probe("bad", "/bad"))
        home.config.write_text(home.config.read_text().replace("/hook", "/slow"))
        home.start(LEAVING, str(tmp_path))
        until(lambda: "/slow" in [visit.path for visit in home.village.visits], 20, "a message under way")
        assert home.process is not None

        def twice() -> None:
            home.kill(signal.SIGTERM)
            until((tmp_path / "leaving receivers").exists, 20, "the receivers' turn to be left")
            home.kill(signal.SIGTERM)
        code, seconds = ended(home.process, twice)
        assert (code, seconds < 5) == (0, True), seconds
        assert [e["left_alone"] for e in home.events("hastened")] == ["receivers"]


LIVES = """
import asyncio, sys, time
from monitor import life
from monitor.life import Life
from contextlib import asynccontextmanager
life.LAST_RESORT_SECONDS = 0.5

@asynccontextmanager
async def stubborn():
    yield
    {leaving}

async def main():
    here = Life()
    here.hear(hangup=lambda: None)
    async def rooms():
        await here.enter("stubborn", stubborn())
    await here.serve(rooms, lambda: print("ready", flush=True))
{run}
"""


def live(leaving: str, run: str = "asyncio.run(main())") -> tuple[int, str, float]:
    """Exit code and last words of a life whose one room is left like that, and how long it took in s after SIGTERM."""
    code = LIVES.format(leaving=leaving, run=run)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        code, seconds = ended(process, lambda: process.send_signal(signal.SIGTERM))
        out, err = process.communicate(timeout=20)
    return code, out + err, seconds


@pytest.mark.parametrize("leaving", ["await asyncio.sleep(1e6)", "time.sleep(1e6)"])
def test_what_does_not_stop_is_named_and_the_process_ends_all_the_same(leaving: str) -> None:
    code, words, seconds = live(leaving)
    assert (code, seconds < 5) == (70, True)
    assert "did not stop in time" in words
    assert "stubborn" in words
    assert "most recent call first" in words, "all stacks"


def test_a_thread_of_no_importance_does_not_turn_an_end_in_order_into_a_failure() -> None:
    code, words, seconds = live("asyncio.get_running_loop().run_in_executor(None, time.sleep, 100)")
    assert (code, seconds < 5) == (0, True), words


def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.write(home.probe("home"))
        with (tmp_path / "daemon.log").open("ab") as log:
            home.process = subprocess.Popen([sys.executable, "-c", """
import asyncio, sys
from monitor import app, logs
from monitor.store import Store
entered = Store.__aenter__
async def slowly(self):
    print("entering", flush=True)
    await asyncio.sleep(30)
    return await entered(self)
Store.__aenter__ = slowly
from monitor.cli import main
sys.argv = ["tillwatch", "-c", sys.argv[1], "run"]
main()
""", str(home.config)], stderr=log, stdout=subprocess.PIPE)
        assert home.process.stdout is not None
        assert home.process.stdout.readline() == b"entering\n"
        code, seconds = ended(home.process, lambda: home.kill(signal.SIGTERM))
        assert (code, seconds < 5) == (0, True), seconds
        home.process.stdout.close()
