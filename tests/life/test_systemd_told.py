"""What systemd is told of the daemon, at a socket of the test."""

import asyncio
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from homestead import house
from processes import until

from monitor import life, systemd

pytestmark = pytest.mark.timeout(60)


class Listener:
    """systemd's end of `$NOTIFY_SOCKET`."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.heard: list[dict[str, str]] = []

    def hear(self) -> list[dict[str, str]]:
        while True:
            try:
                text = self.socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.splitlines()))

    def has(self, key: str, pattern: str = "") -> list[str]:
        return [found[key] for found in self.hear() if re.search(pattern, found.get(key, "")) and key in found]


def test_ready_status_watchdog_reload_and_end_are_told_in_their_order(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "notify")
    with house(tmp_path) as home:
        home.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        home.write(home.probe("home"))
        home.start()
        until(lambda: listener.has("READY"), 20, "READY")
        until(lambda: len(listener.has("WATCHDOG")) > 3, 20, "the watchdog being fed")
        assert listener.has("STATUS")[0] == "watching 1 probe; 0 incidents"
        home.village.down = True
        until(lambda: listener.has("STATUS", "1 incident$"), 20, "the incident in the status")
        assert home.post("/api/v1/updates", body={"version": "8.4.1"})[0] == 201
        until(lambda: listener.has("STATUS", "update 8.4.1 open"), 20, "the update in the status")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        home.kill(signal.SIGHUP)
        until(lambda: len(listener.has("READY")) == 2, 20, "READY after the reload")
        reloading = next(found for found in listener.hear() if "RELOADING" in found)
        assert before < int(reloading["MONOTONIC_USEC"]) < time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert home.stop()[0] == 0
        keys = [key for found in listener.hear() for key in found if key in {"READY", "RELOADING", "STOPPING"}]
        assert keys == ["READY", "RELOADING", "READY", "STOPPING"]
        assert "WATCHDOG" not in listener.hear()[-1], "nothing of life after the end"
    listener.socket.close()


LOOP_HANGS = """
import asyncio, pathlib, signal, sys, time
from monitor import life
hears, file = life.Life.hear, pathlib.Path(sys.argv.pop(1))
def hear(self, hangup):
    hears(self, hangup)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: (file.touch(), time.sleep(1e6)))
life.Life.hear = hear
from monitor.cli import main
main()
"""


def test_a_hanging_loop_feeds_no_watchdog_and_its_end_leaves_all_stacks(tmp_path: Path) -> None:
    """The machinery of T96 without systemd: what it would send is sent by the test."""
    listener = Listener(tmp_path / "notify")
    with house(tmp_path) as home:
        home.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        home.write(home.probe("home"))
        home.start(LOOP_HANGS, str(tmp_path / "hangs"))
        until(lambda: len(listener.has("WATCHDOG")) > 1, 20, "the watchdog being fed")
        home.kill(signal.SIGUSR1)
        until((tmp_path / "hangs").exists, 20, "the loop hanging")
        fed = len(listener.has("WATCHDOG"))
        time.sleep(2.5)
        assert len(listener.has("WATCHDOG")) == fed
        home.kill(signal.SIGABRT)
        assert home.process is not None
        assert home.process.wait(20) == -signal.SIGABRT
        text = (tmp_path / "daemon.log").read_text()
        assert "Fatal Python error: Aborted" in text
        assert text.count("most recent call first") > 1, "every thread's"
    listener.socket.close()


WRITER_HANGS = """
import asyncio, signal, time
from monitor.store import Store
made = Store.__init__
def init(self, *about, **more):
    made(self, *about, **more)
    hang = lambda: asyncio.ensure_future(self.write(lambda connection: time.sleep(1e6)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, hang)
Store.__init__ = init
from monitor.cli import main
main()
"""


def test_a_hanging_writer_is_named_feeds_no_watchdog_and_cannot_keep_the_daemon_from_ending(tmp_path: Path) -> None:
    """Probing and answering go on meanwhile."""
    listener = Listener(tmp_path / "notify")
    with house(tmp_path) as home:
        home.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        home.write(home.probe("home"))
        home.start(WRITER_HANGS)
        until(lambda: listener.has("WATCHDOG"), 20, "the watchdog being fed")
        home.kill(signal.SIGUSR1)
        until(lambda: listener.has("STATUS", "^stands still: .*store"), 20, "the part being named")
        fed, runs = len(listener.has("WATCHDOG")), home.metric("tillwatch_probe_runs_total", outcome="ok")
        time.sleep(2.0)
        assert len(listener.has("WATCHDOG")) == fed
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > runs, 20, "runs")
        code, seconds = home.stop()
        assert seconds < 10.5
        assert code in {0, 70}
        assert home.events("slow to stop") or home.events("did not stop in time"), "what was left alone is named"
    listener.socket.close()


async def test_a_part_that_stands_still_is_named_and_keeps_the_watchdog_hungry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener, stuck = Listener(tmp_path / "notify"), {"scheduler": 0.0, "store": 0.0}
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    telling = asyncio.create_task(life.tell_systemd(lambda: stuck, lambda: "all is well"))
    await asyncio.to_thread(until, lambda: len(listener.has("WATCHDOG")) >= 2, 20, "the watchdog being fed")
    stuck["store"] = 3.0
    await asyncio.to_thread(until, lambda: len(listener.has("STATUS")) == 2, 20, "the part being named")
    fed = len(listener.has("WATCHDOG"))
    await asyncio.sleep(0.4)
    assert len(listener.has("WATCHDOG")) == fed
    assert listener.has("STATUS") == ["all is well", "stands still: store"]
    stuck["store"] = 0.0
    await asyncio.to_thread(until, lambda: len(listener.has("WATCHDOG")) > fed, 20, "the watchdog being fed again")
    telling.cancel()
    await asyncio.wait([telling])
    listener.socket.close()


def test_a_long_start_asks_for_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setattr(life, "START_SECONDS", 0.3)
    with life.starting():
        until(lambda: len(listener.has("EXTEND_TIMEOUT_USEC")) >= 3, 20, "being asked")
    asked: list[Any] = list(listener.has("EXTEND_TIMEOUT_USEC"))
    assert set(asked) == {"300000"}
    time.sleep(0.3)
    assert len(listener.has("EXTEND_TIMEOUT_USEC")) <= len(asked) + 1, "and no more when it is over"
    listener.socket.close()


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.ready()
    assert os.environ.get("NOTIFY_SOCKET") is None
