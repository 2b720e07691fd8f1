"""A stand for every kind of receiver: its settings, a truthful fake on loopback behind them, and what people see there.

A further kind of receiver needs a stand here, or the suite over RECEIVERS fails.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import AuthResult
from desk import SECRET, Mailbox, mail_server, make_incident, make_message, serving, settings, silent_server
from fake_pagerduty import KEY, PagerDuty
from fakes import Fault, Ntfy, Service, Slack
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from monitor.alerts.delivery import Message, ReceiverSettings, Told
from monitor.alerts.table import RECEIVERS
from monitor.incidents import Incident

TOKEN = "a-very-secret-token"
TOPIC = "shop-oncall-Zx81"
MAIL = {"from": "till@shop.example", "to": ["a@shop.example"]}
HTTP = ("alertmanager", "webhook", "pagerduty", "ntfy", "slack")


@dataclass
class Stand:
    """A receiver. `seen()` is what its people or programs have before them, oldest first; `ids()` what tells messages apart."""

    settings: ReceiverSettings
    seen: Callable[[], list[str]]
    ids: Callable[[], list[str]]
    service: Any = None


class Webhook(Service):
    """Somebody's program behind a webhook, with the reference library at its door."""

    def __init__(self) -> None:
        super().__init__(10_000, 1.0)
        self.got: list[tuple[str, str]] = []

    def answer(self, request: web.Request, body: bytes) -> web.Response:
        try:
            Verifier(SECRET).verify(body, dict(request.headers))
        except WebhookVerificationError as error:
            return web.Response(status=401, text=str(error))
        assert len(body) <= 20_000
        self.got.append((request.headers["webhook-id"], body.decode()))
        return web.Response(status=204)


class Peer(Service):
    """An Alertmanager: alerts by their labels, firing until their end."""

    def __init__(self) -> None:
        super().__init__(10_000, 1.0)
        self.alerts: dict[str, dict[str, Any]] = {}

    def answer(self, request: web.Request, body: bytes) -> web.Response:
        assert request.path == "/api/v2/alerts"
        for alert in json.loads(body.decode()):
            self.alerts[json.dumps(alert["labels"], sort_keys=True)] = alert
        return web.Response(status=200)

    def firing(self) -> list[dict[str, Any]]:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return [alert for alert in self.alerts.values() if alert["endsAt"] > now]


@asynccontextmanager
async def http_stand(kind: str, fault: Fault | None = None) -> AsyncIterator[Stand]:
    service: Any = {"webhook": Webhook, "alertmanager": Peer, "pagerduty": PagerDuty, "ntfy": lambda: Ntfy(TOPIC, TOKEN), "slack": _slack}[kind]()
    if fault:
        service.faults.append(fault)
    async with serving(service):
        seen, ids = {
            "webhook": (lambda: [body for _, body in service.got], lambda: [id_ for id_, _ in service.got]),
            "alertmanager": (lambda: [json.dumps(a, ensure_ascii=False) for a in service.alerts.values()], lambda: list(service.alerts)),
            "pagerduty": (
                lambda: [json.dumps(e["payload"], ensure_ascii=False) for e in service.history if "payload" in e],
                lambda: [e["dedup_key"] for e in service.history if "dedup_key" in e],
            ),
            "ntfy": (
                lambda: [f"{m['title']}\n{m['message']}" for m in service.published],
                lambda: [m["sequence_id"] for m in service.published],
            ),
            "slack": (lambda: list(service.shown), list),
        }[kind]
        yield Stand(settings(kind, **keys(kind, service.url)), seen, ids, service)


def _slack() -> Slack:
    return Slack(f"/services/T0/B0/{TOKEN}", most=1000)


def keys(kind: str, url: str = "http://127.0.0.1:9", secret: Any = None) -> dict[str, Any]:
    """The settings of a kind that speaks HTTP, with `secret` in place of all its secrets."""
    return {
        "webhook": {"secret": secret or SECRET, "url": f"{url}/hook?key={TOKEN}"},
        "alertmanager": {"peers": [url], "bearer_token": secret or TOKEN},
        "pagerduty": {"routing_key": secret or KEY, "url": url},
        "ntfy": {"topic": secret or TOPIC, "url": url, "token": secret or TOKEN},
        "slack": {"url": secret or f"{url}/services/T0/B0/{TOKEN}"},
    }[kind]


@asynccontextmanager
async def mail_stand(answer: str = "", *, silent: bool = False) -> AsyncIterator[Stand]:
    box = Mailbox()
    if answer:
        box.refuse["*"] = answer
    login = {"authenticator": lambda *_: AuthResult(success=True), "auth_require_tls": False}
    async with mail_server(box, **login) as port, silent_server() as deaf:
        own = settings("email", host="127.0.0.1", port=deaf if silent else port, tls="none", username="till", password=TOKEN, **MAIL)
        texts = lambda: [bytes(mail.content).decode() for mail in box.mails]  # noqa: E731
        yield Stand(own, texts, lambda: [re.findall(r"Message-ID: (\S+)", text)[0] for text in texts()], box)


@dataclass
class Folder:
    """Where a program of the suite puts what it was handed."""

    path: Path
    script: str = ""
    got: list[str] = field(default_factory=list)

    def lines(self, name: str) -> list[str]:
        file = self.path / name
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


@asynccontextmanager
async def command_stand(path: Path, then: str = "exit 0") -> AsyncIterator[Stand]:
    """A shell script that keeps what it is handed, and then does as it is told."""
    program = path / "page-me"
    program.write_text(f'#!/bin/sh\ncat >> {path}/seen; echo >> {path}/seen; echo "$TILLWATCH_ID" >> {path}/ids\n{then}\n')
    program.chmod(0o700)
    folder = Folder(path)
    yield Stand(settings("command", command=[str(program)]), lambda: folder.lines("seen"), lambda: folder.lines("ids"), folder)


def stand(kind: str, mode: str, path: Path) -> AbstractAsyncContextManager[Stand]:
    """A stand that does as `mode` says: ok, error, permanent, hang, echo (it refuses, and tells our secrets back)."""
    if kind == "email":
        answers = {"error": "451 try later", "permanent": "550 no such user", "echo": f"550 bad token {TOKEN}"}
        return mail_stand(answers.get(mode, ""), silent=mode == "hang")
    if kind == "command":
        ends = {"ok": "exit 0", "error": "exit 75", "permanent": "exit 64", "hang": "sleep 600", "echo": "env; exit 1"}
        return command_stand(path, ends[mode])
    echoed = f"bad token {TOKEN} {SECRET} {KEY} {TOPIC}"
    faults = {"error": Fault(500), "permanent": Fault(400), "hang": Fault(-1), "echo": Fault(400, body=echoed)}
    return http_stand(kind, faults.get(mode))


def steps(now: float) -> dict[str, Message]:
    """An incident's life, as the outbox words it: it begins, is said again, taken, gets worse, and ends."""
    incident = make_incident(opened=now - 600, began=now - 660)
    worse, over = replace(incident, escalation=1), replace(incident, escalation=1, resolved=now, resolution="recovered")
    first, second = Told(incident, now - 60), Told(worse, now)
    return {
        "firing": step("firing", incident, now),
        "reminder": step("reminder", incident, now, first),
        "acknowledged": step("acknowledged", replace(incident, acked_by="ada", acked_at=now), now, first),
        "worse": step("firing", worse, now, first),
        "resolved": step("resolved", over, now, first, second),
    }


def step(what: Any, incident: Incident, now: float, *earlier: Told) -> Message:
    name = f"01{what}{incident.escalation}"
    message = make_message(incident, now=now, id_=name, earlier=earlier)
    return replace(message, what=what, page=replace(message.page, install="01install"))


def notice(now: float) -> Message:
    """News that is no alarm, as the outbox words it."""
    said = "Update 8.4.1 has started: woocommerce 8.4.1"
    news = Incident("notice-01", "update", "update", "ticket", now, now, update="2026-09-22-1", version="8.4.1", said=said, told=True)
    message = step("notice", news, now)
    return replace(message, page=replace(message.page, sentence=said))


def every_kind() -> list[str]:
    return list(RECEIVERS)
