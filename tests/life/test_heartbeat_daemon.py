"""T15, told from outside: a real daemon whose database another program locks calls /fail, and is well again afterwards."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

CONFIG = """\
[shop]
name = "till"
url = "http://127.0.0.1:{port}/"
[web]
listen = "127.0.0.1:0"
[heartbeat]
url = "http://127.0.0.1:{port}/ping/key"
interval = "15s"
[[probe]]
name = "home"
kind = "http"
url = "http://127.0.0.1:{port}/"
interval = "1s"
timeout = "500ms"
"""


class Service(BaseHTTPRequestHandler):
    """The shop and the service in one; `heard` is (seconds, path, body) of each ping."""

    heard: list[tuple[float, str, str]]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.heard.append((time.monotonic(), self.path, body))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Nothing on the terminal."""


def until(true: Callable[[], Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


@pytest.mark.timeout(150)
def test_t15_a_daemon_that_cannot_write_calls_fail_within_90_s_and_says_when_it_can(tmp_path: Path) -> None:
    Service.heard = heard = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    Thread(target=server.serve_forever, daemon=True).start()
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=server.server_address[1]))
    log = tmp_path / "daemon.log"
    with log.open("wb") as out, subprocess.Popen([sys.executable, "-m", "monitor", "-c", str(config), "run"], stdout=out, stderr=out) as daemon:
        try:
            until(lambda: heard, 30)
            assert heard[0][1:] == ("/ping/key", "ok")
            with sqlite3.connect(tmp_path / "state" / "tillwatch.sqlite3", isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                begun = time.monotonic()
                until(lambda: heard[-1][1] == "/ping/key/fail", 90)
                assert "locked" in heard[-1][2]
                pings_of_success = [at for at, path, _ in heard if path == "/ping/key"]
                assert max(pings_of_success) - begun < 90
                other.execute("ROLLBACK")
            other.close()
            until(lambda: heard[-1][1:] == ("/ping/key", "ok"), 40)
        finally:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(15) == 0
            server.shutdown()
            server.server_close()
    assert max(sum(at <= other < at + 60 for other, *_ in heard) for at, *_ in heard) <= 5
    assert "ping/key" not in log.read_text()
