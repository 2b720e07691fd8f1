"""Incidents, settings and receivers on loopback, for the tests of this room."""

import asyncio
import inspect
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope

from monitor.alerts import outbox
from monitor.alerts.delivery import Message, ReceiverSettings
from monitor.alerts.page import Delivery, Facts, ShopFacts, compose
from monitor.alerts.table import RECEIVERS
from monitor.clock import Clock
from monitor.incidents import Incident, Member, Transition
from monitor.store import Store, records

NIGHT = 1_790_043_240.0  # 2026-09-22 02:14:00 UTC
SHOP = ShopFacts("example-shop", "https://shop.example", "production", "EUR")
FACTS = Facts(SHOP, base="https://till.example", works=("home", "search"))
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def make_member(probe: str = "pay", **changes: Any) -> Member:
    values: dict[str, Any] = {
        "device": "",
        "cohort": "",
        "reason": "connect_refused",
        "since": NIGHT,
        "failed": 4,
        "of": 4,
        "urgency": "page",
        "critical": True,
    }
    return Member(probe=probe, **values | changes)


def make_incident(id_: str = "01incident", **changes: Any) -> Incident:
    values: dict[str, Any] = {
        "kind": "outage",
        "cause": "unreachable@shop.example",
        "urgency": "page",
        "opened": NIGHT + 60,
        "began": NIGHT,
        "members": (make_member(),),
        "told": True,
    }
    return Incident(id=id_, **values | changes)


def settings(kind: str, **values: Any) -> ReceiverSettings:
    return RECEIVERS[kind].settings.model_validate({"name": kind, "kind": kind} | values, context={"base": Path("/")})


def hook(name: str = "hook", url: str = "http://127.0.0.1:9/", **values: Any) -> ReceiverSettings:
    return settings("webhook", **{"name": name, "url": url, "secret": SECRET} | values)


Tell = Callable[..., Awaitable[None]]


def teller(store: Store, clock: Clock, receivers: list[ReceiverSettings]) -> Tell:
    """Commits a transition as the casebook does."""

    async def tell(what: Any, incident: Incident) -> None:
        now = clock.now()

        def work(connection: sqlite3.Connection) -> None:
            records.save_incident(connection, incident, now, what)
            outbox.enqueue(connection, Transition(what, incident), receivers, now)

        await store.write(work)

    return tell


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hook:
    """A receiver over HTTP: what it got, and how it answers (a status, or a status with headers)."""

    url: str = ""
    got: list[Post] = field(default_factory=list)
    answer: Callable[[], Awaitable[web.StreamResponse]] | int = 200

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.got.append(Post(request.path, dict(request.headers), await request.read()))
        return web.Response(status=self.answer) if isinstance(self.answer, int) else await self.answer()


@asynccontextmanager
async def serving(hook: Hook, port: int = 0) -> AsyncIterator[Hook]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hook.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hook
    finally:
        await runner.cleanup()


def make_message(incident: Incident | None = None, *, now: float | None = None, id_: str = "01message", **values: Any) -> Message:
    incident = incident or make_incident()
    now = time.time() if now is None else now
    page = compose(incident, FACTS, Delivery("oncall", "https://wiki.example/pay"), now)
    return Message(id_, "firing" if incident.open else "resolved", incident, page, **values)


class Mailbox:
    """A mail server's memory. `refuse` answers recipients, `after_data` the mail itself; both by SMTP reply."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.refuse: dict[str, str] = {}
        self.after_data = "250 taken"
        self.dropped = False

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]) -> str:
        answer = self.refuse.get(address) or self.refuse.get("*")
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.after_data.startswith("250"):
            self.mails.append(envelope)
        return self.after_data


@asynccontextmanager
async def mail_server(box: Mailbox, port: int = 0, **values: Any) -> AsyncIterator[int]:
    loop, sessions = asyncio.get_running_loop(), []

    def session() -> SMTP:
        sessions.append(SMTP(box, loop=loop, ident="mx", **values))
        return sessions[-1]

    server = await loop.create_server(session, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await _gone(s.transport for s in sessions)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Takes connections and never says a word."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _r, w: writers.append(w), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await _gone(w.transport for w in writers)


async def _gone(transports: Iterable[Any]) -> None:
    """Drop what is still connected; a transport needs some turns of the loop to close."""
    for transport in transports:
        if transport:
            transport.abort()
    for _ in range(10):
        await asyncio.sleep(0)


def patience_of(room: ModuleType, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call what is given: then the time-outs of `room` that run are over, and not before. Each must have been begun for `seconds`.

    How soon the other side has what it was sent, or a program stands, is the machine's doing.
    """
    limits: list[asyncio.Timeout] = []

    def timeout(wanted: float) -> asyncio.Timeout:
        assert wanted == seconds
        limits.append(asyncio.timeout(None))
        return limits[-1]

    def end() -> None:
        while limits:
            limits.pop().reschedule(asyncio.get_running_loop().time())

    monkeypatch.setattr(room, "asyncio", SimpleNamespace(**vars(asyncio) | {"timeout": timeout}))
    return end


async def until(true: Callable[[], bool | Awaitable[bool]], seconds: float = 15.0) -> None:
    """Wait for what a server outside does in its own time; it tells nobody when."""
    async with asyncio.timeout(seconds):
        while True:
            answer = true()
            if (await answer) if inspect.isawaitable(answer) else answer:
                return
            await asyncio.sleep(0.01)
