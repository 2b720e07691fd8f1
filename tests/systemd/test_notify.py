"""What is sent to systemd, received by a real socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of the socket, under a path or under an abstract name."""
    shown = f"@tillwatch-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", shown)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as endpoint:
        endpoint.bind(shown.replace("@", "\0"))
        endpoint.setblocking(False)
        yield endpoint


def test_each_message_is_one_datagram(manager: socket.socket) -> None:
    for told, expected in (
        (systemd.ready("probing 3 targets"), "READY=1\nSTATUS=probing 3 targets"), (systemd.status("hm"), "STATUS=hm"),
        (systemd.stopping(), "STOPPING=1"), (systemd.watchdog(), "WATCHDOG=1"), (systemd.extend(1.5), "EXTEND_TIMEOUT_USEC=1500000"),
    ):
        assert (told, manager.recv(4096).decode()) == (True, expected)


def test_a_reload_carries_the_time_of_the_monotonic_clock(manager: socket.socket) -> None:
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert systemd.reloading()
    first, second = manager.recv(4096).decode().split("\n")
    name, _, at = second.partition("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert begun - 1e-3 <= int(at) / 1e6 <= time.clock_gettime(time.CLOCK_MONOTONIC)


def test_a_line_break_cannot_smuggle_a_field_in(manager: socket.socket) -> None:
    systemd.status("a shop\nMAINPID=1")
    assert manager.recv(4096) == b"STATUS=a shop MAINPID=1"


def test_a_full_socket_neither_blocks_nor_raises(manager: socket.socket) -> None:
    told = [systemd.watchdog() for _ in range(2000)]
    assert told[0]
    assert not told[-1]


@pytest.mark.parametrize("path", ["", "/nobody/is/here", "@nobody-is-here", "vsock:2:1", "/" + "x" * 300, "relative"])
def test_without_a_listener_nothing_happens(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert not systemd.ready()


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.ready()


@pytest.mark.parametrize(("given", "pid", "interval"), [
    ("30000000", str(os.getpid()), 30.0), ("30000000", "", 30.0), ("30000000", "1", None), ("", "", None), ("0", "", None), ("-5", "", None),
    ("soon", "", None), ("²", "", None),
])
def test_the_watchdog_looks_only_at_the_process_it_names(given: str, pid: str, interval: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", given)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert systemd.watchdog_interval() == interval
