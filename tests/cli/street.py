"""The bundled shop, its daemon and the command line, as processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from processes import free_port

from monitor.demo.inbox import Inbox

CONFIG = """\
[shop]
name = "kettle-and-leaf"
url = "http://127.0.0.1:{shop}"
[web]
listen = "127.0.0.1:{daemon}"
[defaults]
interval = "250ms"
timeout = "250ms"
recheck = "100ms"
confirm = "20s"
[[probe]]
name = "home"
kind = "http"
url = "http://127.0.0.1:{shop}/"
expect = {{ status = [200], body_contains = ["sent the day it is packed"] }}
[[probe]]
name = "pay"
kind = "http"
url = "http://127.0.0.1:{shop}/checkout/payment"
critical = true
means = "customers cannot pay"
method = "POST"
headers = {{ Content-Type = "application/x-www-form-urlencoded", Accept = "application/json" }}
body = "product=sencha&card=4242424242424242&name=Till+Watch&email=till%40shop.example"
expect = {{ status = [200], json = {{ status = "paid" }} }}
[[receiver]]
name = "phone"
kind = "webhook"
url = "http://127.0.0.1:{inbox}/page"
secret = "{secret}"
[update]
warm_up = "500ms"
observe = "40s"
interval_factor = 1
margin = {{ success = 0.4, p50 = 8.0, p95 = 10.0 }}
"""
PAST = 100           # runs of each probe before the first update


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Street:
    """A shop on loopback, watched."""

    directory: Path
    shop: int
    daemon: int
    inbox: Inbox
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.directory / "config.toml"

    @property
    def address(self) -> dict[str, str]:
        """How a CI job, which has no configuration, is told of the daemon."""
        token = (self.directory / "state" / "token").read_text()
        return {"TILLWATCH_URL": f"http://127.0.0.1:{self.daemon}", "TILLWATCH_TOKEN": token}

    def till(self, *words: str, cwd: Path | None = None, **env: str) -> Done:
        """One command, run to its end."""
        (desk := self.directory / "desk").mkdir(exist_ok=True)
        return till(*words, cwd=cwd or desk, **self.address | env)

    def locally(self, *words: str) -> Done:
        """The same by way of the configuration, which takes longer to read."""
        return till("-c", str(self.config), *words, cwd=self.directory)

    def deploy(self, release: str) -> None:
        command = [sys.executable, "-m", "monitor.demo.shop", "deploy", release, "--dir", str(self.directory / "shop")]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    def api(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.daemon}/api/v1/{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def have_a_past(self) -> None:
        """Wait until there is a "before" that durations too can be judged by."""
        until(lambda: all(len(self.api(f"samples?probe={p}&limit={PAST}")["samples"]) == PAST for p in ("home", "pay")), 60)


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TILLWATCH_")}
    return kept | {"TZ": "UTC", "PYTHONWARNINGS": "default"} | more


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "monitor", *words]


def till(*words: str, cwd: Path | None = None, **env: str) -> Done:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=60, check=False, cwd=cwd, env=environment(**env))
    return Done(done.returncode, done.stdout, done.stderr)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for what other processes do in their own time."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)
    return found


@contextmanager
def process(words: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(words, stdout=out, stderr=out, env=environment(), cwd=log.parent) as running:
        try:
            yield running
        finally:
            stop(running)


def stop(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is None:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(15)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def street(directory: Path) -> Iterator[Street]:
    """Shop and daemon, which has been watching since a moment ago."""
    with ExitStack() as stack:
        inbox = stack.enter_context(Inbox.listening())
        found = Street(directory, free_port(), free_port(), inbox)
        found.config.touch(mode=0o600)
        found.config.write_text(CONFIG.format(shop=found.shop, daemon=found.daemon, inbox=inbox.port, secret=inbox.secret))
        shop = [sys.executable, "-m", "monitor.demo.shop", "--port", str(found.shop), "--release", "1.0", "--payment-failures", "1",
                "--dir", str(directory / "shop")]
        stack.enter_context(process(shop, directory / "shop.log"))
        until(lambda: answers(found.shop))
        found.process = stack.enter_context(process(command("-c", str(found.config), "run"), directory / "daemon.log"))
        until(lambda: answers(found.daemon))
        yield found


@contextmanager
def stub(status: int, body: bytes, kind: str = "application/problem+json", asked: Event | None = None) -> Iterator[str]:
    """A server that always answers so; gives its URL. `asked` is set by its first request."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked:
                asked.set()
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class names it so

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Nothing on the terminal."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
