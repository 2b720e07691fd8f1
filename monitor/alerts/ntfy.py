"""ntfy (https://ntfy.sh, or a server of one's own): a push message to a phone."""

import re
from typing import Any, ClassVar, Literal

from aiohttp import ClientSession
from pydantic import Field

from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.document import cut, encode
from monitor.alerts.post import HttpUrl, post
from probes.fields import ConfigPath, SecretError, SecretField

TITLE_LIMIT, TAGS_LIMIT = 1_000, 500  # bytes; the server takes 1024 and 512, and refuses what is longer
# Bytes of the text: the server turns what is longer than 4096 into an attachment, and refuses JSON longer than twice that.
# Text full of quotes and line ends doubles in JSON, so there is a shorter try.
TEXT_LIMITS, JSON_LIMIT = (3_900, 1_900, 500), 8_000
_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
_URGENT, _HIGH, _NORMAL, _LOW = 5, 4, 3, 2


class NtfySettings(ReceiverSettings):
    """kind = "ntfy" """

    per_minute: ClassVar[float] = 12.0  # what a server allows a visitor in the long run, unless told otherwise

    kind: Literal["ntfy"]
    topic: SecretField = Field(description="the topic; on a server without access control whoever knows it can read along")
    url: HttpUrl = Field(default="https://ntfy.sh", description="the server")
    token: SecretField | None = Field(default=None, description='an access token, "tk_…"')
    ca_file: ConfigPath | None = Field(default=None, description="trust this authority instead of the system's")


async def send(settings: NtfySettings, session: ClientSession, message: Message) -> Delivered | DeliveryError:
    """Publish the message."""
    try:
        topic = settings.topic.reveal()
        token = settings.token.reveal() if settings.token else ""
    except SecretError as error:
        return DeliveryError(str(error), code="secret")
    if not _TOPIC.fullmatch(topic):
        return DeliveryError("a topic has 1 to 64 letters, digits, - and _", code="secret")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await post(session, settings.url, body(message, topic), headers, ca_file=settings.ca_file, secrets=(topic, token))


def body(message: Message, topic: str) -> bytes:
    """The message as JSON, within what the server takes. `sequence_id`: sent twice, it replaces itself on the phone."""
    page = message.page
    text = page.brief() if message.minimal else page.text()
    priority, sign = _rank(message)
    parts: dict[str, Any] = {
        "topic": topic,
        "title": cut(page.title, TITLE_LIMIT),
        "priority": priority,
        "tags": [sign, page.kind, cut(page.shop.name, TAGS_LIMIT - 100)],
        "sequence_id": message.id,
    }
    if page.link:
        parts["click"] = page.link
    for limit in TEXT_LIMITS:
        payload = encode(parts | {"message": cut(text, limit)})
        if len(payload) <= JSON_LIMIT:
            break
    return payload


def _rank(message: Message) -> tuple[int, str]:
    """How loud it is, from 1 to 5, and the sign before its title. Only a page rings through."""
    if message.page.drill:
        return _URGENT, "test_tube"
    if message.what in {"firing", "reminder"}:
        return (_URGENT, "rotating_light") if message.page.urgency == "page" else (_NORMAL, "warning")
    signs = {"resolved": (_HIGH, "white_check_mark"), "acknowledged": (_LOW, "eyes"), "notice": (_LOW, "information_source")}
    return signs[message.what]
