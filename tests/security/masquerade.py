"""A shop whose pages tell secrets, receivers that refuse every message and repeat all that they were sent, and a real daemon between them."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

from aiohttp import web
from canaries import SHAPES, secret
from processes import until

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Town:
    """Everything that the daemon talks to, served by a thread."""

    port: int = 0
    thread: int = 0
    loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # set before it is handed out
    told: dict[str, list[bytes]] = field(default_factory=dict)       # by receiver: every message as it came

    async def fine(self, _request: web.Request) -> web.Response:
        return web.Response(text="Add to basket")

    async def shape(self, request: web.Request) -> web.Response:
        says = SHAPES[int(request.match_info["number"])].says
        return web.Response(status=500, text=f"<title>{escape(says, quote=False)}</title>", content_type="text/html")

    async def header(self, request: web.Request) -> web.Response:
        says = SHAPES[int(request.match_info["number"])].says.replace("\n", " ")
        return web.Response(text="page", headers={"X-Said": says})

    async def other(self, request: web.Request) -> web.Response:
        """Somebody else's secret, which this probe has never been told."""
        return web.Response(status=500, text=f"<title>found {secret(int(request.match_info['number']))} here</title>", content_type="text/html")

    async def echo(self, request: web.Request) -> web.Response:
        """An error page that shows what it was asked with, in many spellings: as careless frameworks do."""
        sent = [value for name in ("Authorization", "Cookie", "X-Key") for value in request.headers.getall(name, [])]
        sent += [base64.b64decode(value[6:]).decode() for value in sent if value.startswith("Basic ")]
        words = [value.rpartition(" ")[2].rpartition(":")[2].rpartition("=")[2] for value in sent]
        how = {"plain": str, "json": json.dumps, "url": lambda word: quote(word, safe=""), "half": lambda word: word[: len(word) * 3 // 4],
               "base64": lambda word: base64.b64encode(f"x:{word}".encode()).decode(), "repr": repr}[request.match_info["how"]]
        return web.Response(status=500, text=f"<title>you said {' and '.join(map(how, words))}</title>", content_type="text/html")

    async def away(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/nowhere?" + request.query_string)

    async def receiver(self, request: web.Request) -> web.Response:
        body = await request.read()
        heads = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        self.told.setdefault(request.match_info["name"], []).append(f"{request.path_qs}\n{heads}\n".encode() + body)
        said = json.loads(body) if body[:1] == b"{" else {}
        key = said.get("routing_key", said.get("topic", "")) if isinstance(said, dict) else ""
        auth = request.headers.get("Authorization", "").rpartition(" ")[2]
        return web.Response(status=503, text=f"no: {request.path_qs} {key} {auth} {quote(key)} {base64.b64encode(key.encode()).decode()}")


@contextmanager
def town() -> Iterator[Town]:
    here, started, over = Town(), threading.Event(), asyncio.Event()

    async def live() -> None:
        application = web.Application()
        application.add_routes([
            web.get("/shape/{number}", here.shape), web.get("/header/{number}", here.header), web.get("/echo/{how}", here.echo),
            web.get("/other/{number}", here.other),
            web.get("/fine", here.fine), web.get("/away", here.away), web.post("/to/{name}{rest:.*}", here.receiver)])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        here.port, here.thread = runner.addresses[0][1], threading.get_native_id()
        here.loop = asyncio.get_running_loop()
        started.set()
        await over.wait()
        await runner.cleanup()
    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert started.wait(30)
    try:
        yield here
    finally:
        here.loop.call_soon_threadsafe(over.set)
        thread.join(10)


@dataclass
class Guest:
    """The daemon: its files, its process, its API."""

    folder: Path
    port: int
    environment: dict[str, str]
    debug: bool = True
    shop: int | None = None                                          # the thread that serves what it probes
    process: subprocess.Popen[bytes] | None = None

    @property
    def token(self) -> str:
        return (self.folder / "state" / "token").read_text().strip()

    def start(self) -> None:
        chatty, verb = (["-X", "dev", "-W", "default"], ["--debug"]) if self.debug else ([], [])
        command = [sys.executable, *chatty, "-m", "monitor", "-c", str(self.folder / "config.toml"), "run", *verb]
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=os.environ | self.environment, cwd=ROOT)
        until(self.ready, 60, "the daemon's start")

    def ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "daemon.log").read_text()[-3000:]
        try:
            return b'"ready": true' in self.get("/-/ready")
        except OSError:
            return False

    def get(self, path: str, token: str = "") -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return bytes(error.read())

    def post(self, path: str, body: object, token: str | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=json.dumps(body).encode(), method="POST",
                                         headers={"Authorization": f"Bearer {token or self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return bytes(error.read())

    def says(self, *words: str) -> bytes:
        """What the command line prints, on both ways."""
        done = subprocess.run([sys.executable, "-m", "monitor", "-c", str(self.folder / "config.toml"), *words], capture_output=True, timeout=120,
                              check=False, env=os.environ | self.environment, cwd=ROOT)
        return done.stdout + done.stderr

    def stop(self) -> None:
        assert self.process
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
