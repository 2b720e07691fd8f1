"""PagerDuty's Events API v2: an alert that opens, is taken and ends, and a change event for news that is no alarm.

PagerDuty knows an alert by its `dedup_key`, and drops what ends an alert that it does not know. A trigger after the end
opens a *new* incident: what has got through is therefore settled event by event, and not sent a second time.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

from aiohttp import ClientSession
from pydantic import Field
from yarl import URL

from monitor.alerts import words
from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.document import encode, shortened
from monitor.alerts.page import Page
from monitor.alerts.post import HttpUrl, post
from monitor.clock import iso
from monitor.incidents import Incident
from probes.fields import ConfigPath, SecretError, SecretField

EVENT_LIMIT = 500_000  # bytes; PagerDuty takes 512 KB
SUMMARY_LIMIT = 1024  # characters
THROTTLED = 30.0  # s to leave it alone after a 429 that names no time, as its documentation asks
# What goes first when an event would be larger than that.
_DROPPED = ("members", "evidence", "works", "told", "update", "do_first", "why", "culprit", "acknowledged_by", "sentence")
_SEVERITY = {"page": "critical", "ticket": "warning"}
Event = dict[str, Any]


class PagerDutySettings(ReceiverSettings):
    """kind = "pagerduty" """

    tells_missed: ClassVar[bool] = False  # what is over needs nobody out of bed
    hears_acks: ClassVar[bool] = True
    reminds_itself: ClassVar[bool] = True  # by its escalation policies
    per_minute: ClassVar[float] = 60.0  # it takes about 120 events; getting worse is two of them

    kind: Literal["pagerduty"]
    routing_key: SecretField = Field(description="the integration key of a service, 32 characters")
    url: HttpUrl = Field(default="https://events.pagerduty.com", description='in Europe "https://events.eu.pagerduty.com"; or a relay')
    ca_file: ConfigPath | None = Field(default=None, description="trust this authority instead of the system's")


async def send(settings: PagerDutySettings, session: ClientSession, message: Message) -> Delivered | DeliveryError:
    """Send the events of this message, one after the other: PagerDuty takes one in a request."""
    try:
        key = settings.routing_key.reveal()
    except SecretError as error:
        return DeliveryError(str(error), code="secret")
    settled = list(message.settled)
    result: Delivered | DeliveryError = Delivered("it has it all")
    for name, path, event in events(message):
        if name in settled:
            continue
        url = f"{settings.url.rstrip('/')}{path}"
        result = await post(session, url, _encoded(event | {"routing_key": key}), ca_file=settings.ca_file, secrets=(key,))
        if isinstance(result, DeliveryError):
            wait = THROTTLED if result.code == "429" and result.retry_after is None else result.retry_after
            return replace(result, retry_after=wait, settled=tuple(settled))
        settled.append(name)
    return result


def events(message: Message) -> Iterator[tuple[str, str, Event]]:
    """(name within the message, path, event) of all that is to be sent, in this order.

    What got worse is a new alert, and it comes before the end of the old one: never is there none.
    """
    told = [t.incident for t in message.earlier]
    newest = told[-1] if told else message.opened
    if message.what == "notice":
        yield "change", "/v2/change/enqueue", _change(message)
        return
    if message.what == "acknowledged":
        yield _alert("acknowledge", newest, message.page)
        return
    if message.what != "resolved":
        yield _alert("trigger", newest if message.what == "reminder" else message.opened, message.page, _payload(message))
    for incident in _ended(message, told):
        yield _alert("resolve", incident, message.page)


def dedup_key(page: Page, told: Incident) -> str:
    """What one escalation of one incident is called: the same from here for ever, and no other installation's."""
    parts = (page.install, page.shop.name, told.id, str(told.escalation))
    return hashlib.sha256("\0".join(parts).encode("utf-8", errors="replace")).hexdigest()


def _ended(message: Message, told: list[Incident]) -> list[Incident]:
    """The alerts that this message ends."""
    if message.what == "firing":
        return [incident for incident in told if incident.escalation != message.opened.escalation]
    return (told or [message.opened]) if message.what == "resolved" else []


def _alert(action: str, told: Incident, page: Page, more: Event | None = None) -> tuple[str, str, Event]:
    event = {"event_action": action, "dedup_key": dedup_key(page, told), **(more or {})}
    return f"{action} {told.escalation}", "/v2/enqueue", event


def _payload(message: Message) -> Event:
    page = message.page
    payload = {
        "summary": page.title[:SUMMARY_LIMIT],
        "source": URL(page.shop.url).host or page.shop.name,
        "severity": "info" if page.drill else _SEVERITY[page.urgency],
        "timestamp": iso(page.began),
        "group": page.shop.name,
        "class": page.kind,
    }
    if message.minimal:
        return {"payload": payload}
    client = {"client": "Tillwatch", "client_url": page.link} if page.link else {"client": "Tillwatch"}
    return {"payload": payload | {"custom_details": page.data()}, "links": _links(page), **client}


def _change(message: Message) -> Event:
    page = message.page
    payload = {"summary": page.title[:SUMMARY_LIMIT], "source": URL(page.shop.url).host or page.shop.name, "timestamp": iso(page.began)}
    if message.minimal:
        return {"payload": payload}
    return {"payload": payload | {"custom_details": page.data()}, "links": _links(page)}


def _links(page: Page) -> list[dict[str, str]]:
    kept = ((address, words.artifact(what)) for what, address in page.kept.items())
    links = ((page.link, "Details"), (page.update_link, "Update"), (page.runbook, "Runbook"), *kept)
    return [{"href": href, "text": text} for href, text in links if href.startswith(("https://", "http://"))]


def _encoded(event: Event) -> bytes:
    """The event, at most `EVENT_LIMIT` bytes: what helps least is left out first, and at last all details."""
    details = event.get("payload", {}).get("custom_details")
    payload = encode(event)
    for less in [*shortened(details, _DROPPED), {"shortened": True}] if details else ():
        payload = encode(event | {"payload": event["payload"] | {"custom_details": less}})
        if len(payload) <= EVENT_LIMIT:
            break
    return payload
