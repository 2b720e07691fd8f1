"""Alertmanager's API v2: the alert to every peer, again every minute while it lasts, and its end said for five minutes.

Alertmanager knows an alert by its labels, so they are taken from the incident as it was when the page was written down.
An alert that is not sent again ends by itself at `endsAt`, which would be announced as a recovery.
"""

import asyncio
import base64
from collections.abc import Coroutine, Iterable
from typing import Any, ClassVar, Literal

from aiohttp import ClientSession
from pydantic import Field

from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.document import encode
from monitor.alerts.page import Page
from monitor.alerts.post import HttpUrl, post
from monitor.clock import iso
from monitor.incidents import Incident
from probes.fields import ConfigPath, SecretError, SecretField, Several, Table

LASTS = 3600.0  # s that an alert outlives the last word from us
GRACE = 2.0
DRILL_LASTS = 300.0  # a drill ends by itself if nobody ends it
Result = Delivered | DeliveryError
_NAMES = {
    "outage": "ShopOutage",
    "regression": "ShopRegression",
    "monitor_fault": "TillwatchFault",
    "update": "ShopUpdate",
    "announcement": "ShopAnnouncement",
    "drill": "TillwatchDrill",
}


class BasicAuth(Table):
    """basic_auth = { username, password }"""

    username: str = Field(description="as the Alertmanager, or the proxy before it, knows it")
    password: SecretField = Field(description="belongs to the user name")


class AlertmanagerSettings(ReceiverSettings):
    """kind = "alertmanager" """

    resends: ClassVar[bool] = True
    tells_missed: ClassVar[bool] = False  # it takes states, not messages: what is over needs no alert
    takes_notices: ClassVar[bool] = False
    reminds_itself: ClassVar[bool] = True

    kind: Literal["alertmanager"]
    peers: Several[HttpUrl] = Field(min_length=1, description="the address of every Alertmanager of the cluster, never a load balancer")
    basic_auth: BasicAuth | None = Field(default=None, description="user name and password")
    bearer_token: SecretField | None = Field(default=None, description="sent as Authorization: Bearer ...; wins over basic_auth")
    ca_file: ConfigPath | None = Field(default=None, description="trust this authority instead of the system's")


async def send(settings: AlertmanagerSettings, session: ClientSession, message: Message) -> Delivered | DeliveryError:
    """Post to all peers at once; one that has it is enough, for they tell each other and hear it again within a minute."""
    if message.what not in {"firing", "resolved"}:
        return Delivered("an Alertmanager has no use for it")  # as an alert it would last until its end, which never comes
    try:
        headers, secrets = _authorization(settings)
    except SecretError as error:
        return DeliveryError(str(error), code="secret")
    payload = encode(alerts(message))
    answers = await _told(
        post(session, f"{peer.rstrip('/')}/api/v2/alerts", payload, headers, ca_file=settings.ca_file, secrets=secrets) for peer in settings.peers
    )
    errors = [answer for answer in answers if isinstance(answer, DeliveryError)]
    if len(errors) < len(answers):
        return Delivered("; ".join(e.reason for e in errors))
    waits = [e.retry_after for e in errors if e.retry_after is not None]
    return DeliveryError(
        "; ".join(dict.fromkeys(e.reason for e in errors))[:500],
        permanent=all(e.permanent for e in errors),
        retry_after=min(waits) if waits else None,
        code=errors[0].code,
    )


async def _told(posts: Iterable[Coroutine[None, None, Result]]) -> list[Result]:
    """The peers' answers. When one has it, the others get `GRACE` s more: a dead peer must not hold up what comes next."""
    tasks = pending = {asyncio.ensure_future(post) for post in posts}
    try:
        while pending and not any(isinstance(task.result(), Delivered) for task in tasks - pending):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=GRACE)
        return [task.result() for task in tasks - pending] + [DeliveryError("a peer does not answer", code="timeout") for _ in pending]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def alerts(message: Message) -> list[dict[str, Any]]:
    """What is posted: the alert itself, and the end of those that it replaces."""
    page = message.page
    ended = [_alert(told.incident, page, min(told.replaced, page.now), minimal=message.minimal) for told in message.earlier]
    if message.what == "resolved":
        return ended or [_alert(message.opened, page, _end(page), minimal=message.minimal)]
    lasts = DRILL_LASTS if page.drill else LASTS
    return [_alert(message.opened, page, page.now + lasts, minimal=message.minimal), *ended]


def labels(opened: Incident, page: Page) -> dict[str, str]:
    """The identity of an alert: nothing in here may change while it lasts."""
    single = len(opened.members) == 1
    parts = {
        "alertname": _NAMES[opened.kind],
        "shop": page.shop.name,
        "environment": page.shop.environment,
        "incident": opened.id,
        "urgency": opened.urgency,
        "probe": opened.members[0].probe if single else "",
        "update": opened.update,
        "escalation": str(opened.escalation or ""),
        "drill": "true" if page.drill else "",
    }
    return {name: value for name, value in parts.items() if value}


def _alert(opened: Incident, page: Page, ends: float, *, minimal: bool) -> dict[str, Any]:
    notes = {"summary": page.title, "description": page.brief() if minimal else page.text(), "runbook_url": page.runbook}
    return {
        "labels": labels(opened, page),
        "annotations": {name: value for name, value in notes.items() if value},
        "startsAt": iso(min(opened.began, ends)),
        "endsAt": iso(ends),
        "generatorURL": page.link or page.shop.url,
    }


def _end(page: Page) -> float:
    return min(page.resolved if page.resolved is not None else page.now, page.now)


def _authorization(settings: AlertmanagerSettings) -> tuple[dict[str, str], tuple[str, ...]]:
    if settings.bearer_token:
        token = settings.bearer_token.reveal()
        return {"Authorization": f"Bearer {token}"}, (token,)
    if settings.basic_auth:
        password = settings.basic_auth.password.reveal()
        pair = base64.b64encode(f"{settings.basic_auth.username}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}, (password, pair)
    return {}, ()
