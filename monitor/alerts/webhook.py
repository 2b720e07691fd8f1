"""A signed webhook, as Standard Webhooks 1.0.0 says (https://www.standardwebhooks.com).

The body is {"type": "incident.firing" | "incident.resolved" | "test", "timestamp": …, "data": {…}}; docs/alerts.md has
every field of `data`. `webhook-id` stays the same over all attempts.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from aiohttp import ClientSession
from pydantic import BeforeValidator, Field

from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.post import HttpUrl, encode, post
from monitor.clock import iso
from probes.fields import ConfigPath, SecretError, SecretField, Several

BODY_LIMIT = 20_000  # bytes, as the standard recommends
# What goes first when a body would be larger than that.
_DROPPED = ("text", "members", "evidence", "works", "told", "update", "do_first", "why")


def _one_or_several(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


class WebhookSettings(ReceiverSettings):
    """kind = "webhook" """

    keeps: ClassVar[float] = 72 * 3600.0

    kind: Literal["webhook"]
    url: HttpUrl = Field(description="where the message is posted")
    secret: Annotated[
        Several[SecretField], BeforeValidator(_one_or_several, json_schema_input_type=SecretField | Several[SecretField]), Field(min_length=1),
    ] = Field(
        description='the signing secret, "whsec_…"; a list while it is being rotated, and every one of them signs'
    )
    ca_file: ConfigPath | None = Field(default=None, description="trust this authority instead of the system's")


async def send(settings: WebhookSettings, session: ClientSession, message: Message) -> Delivered | DeliveryError:
    """Post the message, signed with every secret."""
    try:
        secrets = tuple(secret.reveal() for secret in settings.secret)
        keys = [_key(secret) for secret in secrets]
    except SecretError as error:
        return DeliveryError(str(error), code="secret")
    payload = body(message)
    at = str(int(message.page.now))
    signed = b".".join((message.id.encode(), at.encode(), payload))
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    headers = {"webhook-id": message.id, "webhook-timestamp": at, "webhook-signature": " ".join(f"v1,{s}" for s in signatures)}
    return await post(session, settings.url, payload, headers, ca_file=settings.ca_file, secrets=secrets)


def body(message: Message) -> bytes:
    """The JSON body, at most 20 kB: what helps least is left out first."""
    for data in _smaller(message):
        payload = encode({"type": "test" if message.page.drill else f"incident.{message.what}", "timestamp": iso(message.page.now), "data": data})
        if len(payload) <= BODY_LIMIT:
            break
    return payload


def _smaller(message: Message) -> Iterator[dict[str, Any]]:
    page = message.page
    data = page.data() | {"title": page.title, "text": page.text(), "drill": page.drill}
    if not message.minimal:
        yield data
        for number in range(1, len(_DROPPED) + 1):
            yield {name: part for name, part in data.items() if name not in _DROPPED[:number]} | {"shortened": True}
    yield {"incident": page.incident, "state": page.state, "kind": page.kind, "text": page.brief(), "drill": page.drill, "shortened": True}


def _key(secret: str) -> bytes:
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise SecretError('a signing secret must be "whsec_" and base64')
    return key
