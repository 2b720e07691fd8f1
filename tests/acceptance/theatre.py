"""A real shop, a real daemon, a real Alertmanager and a mail server, each a process of its own, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from aiosmtpd.controller import Controller
from processes import WithheldFromAll, ending, free_port, until

from monitor.demo.inbox import Inbox

CONFIG = """
[shop]
name = "kettle"
url = "http://127.0.0.1:{shop}"
environment = "test"
[web]
listen = "127.0.0.1:{daemon}"
[defaults]
interval = "{interval}"
timeout = "{interval}"
recheck = "100ms"
failures = 3
of = 5
confirm = "{confirm}"
[[probe]]
name = "category"
kind = "http"
url = "http://127.0.0.1:{shop}/category/coffee"
[[probe]]
name = "pay"
kind = "http"
url = "http://127.0.0.1:{shop}/checkout/payment"
critical = true
means = "customers cannot pay"
method = "POST"
headers = {{ Content-Type = "application/x-www-form-urlencoded", Accept = "application/json" }}
body = "product=sencha&card=4242424242424242&name=Till+Watch&email=till%40shop.example"
expect = {{ json = {{ status = "paid" }} }}
[[receiver]]
name = "am"
kind = "alertmanager"
peers = ["http://127.0.0.1:{alertmanager}"]
on = ["outage", "regression", "monitor_fault"]
urgency = "ticket"
[[receiver]]
name = "phone"
kind = "webhook"
url = "http://127.0.0.1:{inbox}/"
secret = "{secret}"
[[receiver]]
name = "mail"
kind = "email"
host = "127.0.0.1"
port = {smtp}
tls = "none"
from = "tillwatch@shop.example"
to = ["oncall@shop.example"]
[update]
warm_up = "2s"
observe = "60s"
interval_factor = 1
margin = {{ success = 0.25, p50 = 0.5, p95 = 1.0 }}
"""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Mailbox:
    """Takes every mail."""

    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:
        self.mails.append(envelope.content.decode())
        return "250 taken"


class Watch:
    """What is withheld from a process from now until this is stopped, with the time of each look: for what it tells later of its own past."""

    def __init__(self, pid: int) -> None:
        self._withheld, self._stopped = WithheldFromAll(pid), Event()
        self._looks: list[tuple[float, float, float]] = []
        self._look()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._look()

    def between(self, begun: float, ended: float) -> float:
        """So much at most between two times of the machine's clock, in s."""
        before = max(held for _, held, at in self._looks if at <= begun)
        return min(held for at, held, _ in self._looks if at >= ended) - before

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            self._look()

    def _look(self) -> None:
        self._looks.append((time.time(), self._withheld(), time.time()))


@dataclass
class Stage:
    folder: Path
    inbox: Inbox
    mailbox: Mailbox
    alertmanager: int
    shop_port: int = field(default_factory=free_port)
    daemon_port: int = field(default_factory=free_port)
    shop: subprocess.Popen[bytes] | None = None
    daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it is ready."""
        log = (self.folder / "daemon.log").open("ab")
        self.daemon = subprocess.Popen([sys.executable, "-m", "monitor", "-c", str(self.folder / "config.toml"), "run"], stderr=log)
        log.close()
        until(lambda: listens(self.daemon_port), 20, "the daemon's start")

    def open_shop(self) -> None:
        """Start the shop with the release that was deployed last."""
        command = [sys.executable, "-m", "monitor.demo.shop", "--port", str(self.shop_port), "--dir", str(self.folder / "shop")]
        self.shop = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: listens(self.shop_port), 20, "the shop's start")

    def close_shop(self) -> None:
        if self.shop:
            self.shop.terminate()
            self.shop.wait(30)

    def kill(self) -> None:
        """As the kernel would: no word of warning."""
        assert self.daemon
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()

    def watch(self) -> Watch:
        assert self.daemon
        return Watch(self.daemon.pid)

    def stop(self) -> int:
        """In order; the exit code."""
        assert self.daemon
        self.daemon.send_signal(signal.SIGTERM)
        assert ending(self.daemon, 40) < 15
        return self.daemon.wait()

    def tillwatch(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "monitor", "-c", str(self.folder / "config.toml"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.daemon_port}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def deploy(self, release: str) -> None:
        command = [sys.executable, "-m", "monitor.demo.shop", "deploy", release, "--dir", str(self.folder / "shop")]
        subprocess.run(command, check=True, capture_output=True)

    def alerts(self) -> list[dict[str, Any]]:
        """What Alertmanager holds as active."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.alertmanager}/api/v2/alerts?active=true", timeout=30) as answer:
            return list(json.loads(answer.read()))

    def runs(self) -> int:
        """Measured runs of the probe with the fewest."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.daemon_port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        counts = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("probe_all_duration_seconds_count")]
        return int(min(counts))


@contextmanager
def process(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        running = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"GOMAXPROCS": "1"})
    try:
        until(lambda: listens(port), 30, f"{command[0]} listening")
        yield running
    finally:
        running.terminate()
        running.wait(30)


@contextmanager
def stage(folder: Path, confirm: str = "60s", interval: str = "250ms") -> Iterator[Stage]:
    """Everything but the daemon is running. A probe has the whole `interval` for its answer."""
    alertmanager, smtp = free_port(), free_port()
    mailbox = Mailbox()
    (folder / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    command = ["prometheus-alertmanager", f"--config.file={folder}/am.yml", f"--storage.path={folder}/am", "--cluster.listen-address=",
               f"--web.listen-address=127.0.0.1:{alertmanager}"]
    controller = Controller(mailbox, hostname="127.0.0.1", port=smtp, ready_timeout=30)
    with Inbox.listening() as inbox, process(command, alertmanager, folder / "am.log"):
        controller.start()
        here = Stage(folder, inbox, mailbox, alertmanager)
        config = folder / "config.toml"
        config.write_text(CONFIG.format(
            shop=here.shop_port, daemon=here.daemon_port, alertmanager=alertmanager, smtp=smtp, inbox=inbox.port, secret=inbox.secret,
            confirm=confirm, interval=interval))
        config.chmod(0o600)
        try:
            here.open_shop()
            yield here
        finally:
            controller.stop()
            here.close_shop()
            if here.daemon and here.daemon.poll() is None:
                here.kill()
