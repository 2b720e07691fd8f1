"""A daemon in a process of its own, with a shop and a receiver that live in a thread of the test: everything on loopback."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from processes import Stopwatch, Withheld, free_port, gone, until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PROBE = """
[[probe]]
name = "{name}"
kind = "http"
url = "{url}"
{more}
"""


class Visit(NamedTuple):
    """When a page was asked for (monotonic s), which (with its query), and what had been withheld by then (s), see `Village.withheld`."""

    at: float
    path: str
    withheld: float


@dataclass
class Village:
    """A shop (/ok, /bad, /slow) and a receiver (/hook), served by a thread."""

    port: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    under_way: int = 0
    visits: list[Visit] = field(default_factory=list)
    down: bool = False
    watched: list[Withheld] = field(default_factory=list)              # the thread of the test, the one that serves, then each daemon

    def withheld(self) -> float:
        """For how long the machine kept the shop and the newest daemon from the processor, in s so far: take the difference of two calls.

        The test's own thread is part of the shop: it may be stopped while it holds the interpreter, for which the other waits.
        """
        kept = 0.0
        for one in {*self.watched[:2], *self.watched[-1:]}:
            with contextlib.suppress(ProcessLookupError):              # the daemon has ended
                kept += one()
        return kept

    async def page(self, request: web.Request) -> web.Response:
        self.visits.append(Visit(time.monotonic(), request.path_qs, self.withheld()))
        self.under_way += 1
        try:
            if request.path.startswith("/slow"):
                await asyncio.sleep(60)
        finally:
            self.under_way -= 1
        bad = self.down or request.path.startswith("/bad")
        return web.Response(status=500 if bad else 200, text="Add to basket")

    async def hook(self, request: web.Request) -> web.Response:
        self.messages.append(json.loads(await request.text()))
        self.ids.append(request.headers["webhook-id"])
        return web.Response(status=204)

    def url(self, path: str = "/ok") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def longest(visits: Sequence[Visit]) -> float:
    """The longest time between two visits, s, without what the machine withheld during it."""
    return max(b.at - a.at - (b.withheld - a.withheld) for a, b in pairwise(visits))


def shortest(visits: Sequence[Visit]) -> float:
    """The shortest, s, with what it withheld: the first of the two may have come late, for what was withheld since the one before it."""
    return min(c.at - b.at + (c.withheld - a.withheld) for a, b, c in zip(visits, visits[1:], visits[2:], strict=False))


@contextmanager
def village() -> Iterator[Village]:
    here, started, loops, stop = Village(watched=[Withheld()]), threading.Event(), [], asyncio.Event()

    async def live() -> None:
        application = web.Application()
        application.add_routes([web.post("/hook", here.hook), web.post("/slow", here.page), web.get("/{path:.*}", here.page)])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        here.port = runner.addresses[0][1]
        here.watched.append(Withheld())
        loops.append(asyncio.get_running_loop())
        started.set()
        await stop.wait()
        await runner.cleanup()
    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert started.wait(10)
    try:
        yield here
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)
        for one in here.watched:
            one.close()


def threads_withheld(pid: int) -> float:
    """From all threads together that a process has now, in s."""
    kept = 0.0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):                             # it has just ended
            kept += int(path.read_text().split()[1]) / 1e9
    return kept


def ended(process: subprocess.Popen[Any], act: Callable[[], object]) -> tuple[int, float]:
    """Do what ends the process: its exit code, and how long its end took in s, without what the machine withheld from it and from us."""
    with Stopwatch() as watch:
        first = most = threads_withheld(process.pid)
        act()
        end = time.monotonic() + 20
        while not gone(process.pid):
            most = max(most, threads_withheld(process.pid))            # a thread that ends takes its figure with it
            assert time.monotonic() < end, "it does not end"
            time.sleep(0.02)
        return process.wait(), watch() - (most - first)


@dataclass
class House:
    """A daemon: its configuration, its process, its API."""

    folder: Path
    village: Village
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def write(self, probes: str, *, top: str = "", interval: str = "250ms", confirm: str = "1s", receiver: str = f'secret = "{SECRET}"',
              path: Path | None = None) -> None:
        """Write the configuration at one stroke, as an editor does. A run may take as long as the interval."""
        text = f"""
[shop]
name = "kettle"
url = "{self.village.url()}"
[web]
listen = "127.0.0.1:{self.port}"
{top}
[defaults]
interval = "{interval}"
timeout = "{interval}"
recheck = "100ms"
failures = 3
of = 5
confirm = "{confirm}"
[[receiver]]
name = "phone"
kind = "webhook"
url = "{self.village.url('/hook')}"
on = ["outage", "regression", "update"]
urgency = "ticket"
{receiver}
{probes}
"""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(path or self.config)

    def probe(self, name: str, path: str = "/ok", more: str = "") -> str:
        return PROBE.format(name=name, url=self.village.url(path), more=more)

    def start(self, *launcher: str) -> None:
        """As `python -m monitor run`; or by the code of a launcher of its own, and its arguments."""
        begin = ["-c", *launcher] if launcher else ["-m", "monitor"]
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *begin, "-c", str(self.config), "run"], stderr=log,
                                            env=os.environ | self.environment)
        self.village.watched.append(Withheld(self.process.pid))
        until(self.ready, 20, "the daemon's start")

    def ready(self) -> bool:
        try:
            return bool(self.get("/-/ready")["ready"])
        except OSError:
            return False

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.process
        self.process.send_signal(number)

    def stop(self) -> tuple[int, float]:
        """By SIGTERM: the exit code, and how long it took in s, as `ended` counts them."""
        assert self.process
        return ended(self.process, lambda: self.kill(signal.SIGTERM))

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def post(self, path: str, token: str | None = None, body: object = None) -> tuple[int, Any]:
        token = (self.folder / "state" / "token").read_text().strip() if token is None else token
        data = json.dumps(body).encode() if body is not None else b""
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method="POST", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series of that name with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith((name + "{", name + " ")) and all(w in line for w in wanted)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = (self.folder / "daemon.log").read_text().splitlines()
        return [found for line in lines if line.startswith("{") and (found := json.loads(line))["event"] == event]


@contextmanager
def house(folder: Path) -> Iterator[House]:
    with village() as here:
        home = House(folder, here)
        try:
            yield home
        finally:
            if home.process and home.process.poll() is None:
                home.kill(signal.SIGCONT)
                home.kill()
                home.process.wait()
