"""A signed webhook, as Standard Webhooks 1.0.0 says (https://www.standardwebhooks.com).

The body is the document of monitor/alerts/document.py. `webhook-id` stays the same over all attempts.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Annotated, ClassVar, Literal

from aiohttp import ClientSession
from pydantic import BeforeValidator, Field

from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.document import body
from monitor.alerts.post import HttpUrl, post
from monitor.clock import true_time
from probes.fields import ConfigPath, SecretError, SecretField, Several


def _one_or_several(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


class WebhookSettings(ReceiverSettings):
    """kind = "webhook" """

    hears_acks: ClassVar[bool] = True
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
    at = str(int(true_time(message.page.now)))
    signed = b".".join((message.id.encode(), at.encode(), payload))
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    headers = {"webhook-id": message.id, "webhook-timestamp": at, "webhook-signature": " ".join(f"v1,{s}" for s in signatures)}
    return await post(session, settings.url, payload, headers, ca_file=settings.ca_file, secrets=secrets)


def _key(secret: str) -> bytes:
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise SecretError('a signing secret must be "whsec_" and base64')
    return key
