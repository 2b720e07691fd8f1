"""Signed webhooks, verified by the reference library."""

import base64
import json
import os
import time
from dataclasses import replace

import pytest
from desk import SECRET, Hook, hook, make_incident, make_member, make_message
from standardwebhooks import Webhook, WebhookVerificationError

from monitor.alerts import webhook
from monitor.alerts.delivery import Delivered, DeliveryError, Message
from monitor.alerts.post import open_session

OTHER = "whsec_" + base64.b64encode(os.urandom(32)).decode()


async def send(server: Hook, message: Message, **values: object) -> Delivered | DeliveryError:
    async with open_session() as session:
        return await webhook.send(hook(url=f"{server.url}/hook", **values), session, message)  # type: ignore[arg-type]


async def test_the_reference_library_verifies_it(server: Hook) -> None:
    assert isinstance(await send(server, make_message()), Delivered)
    (post,) = server.got
    body = Webhook(SECRET).verify(post.body, post.headers)
    assert body["type"] == "incident.firing"
    assert body["data"]["sentence"].startswith("Customers cannot use *pay* since ")
    assert body["data"]["incident"] == "01incident"
    assert body["data"]["text"].startswith(body["data"]["sentence"])
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(post.body, post.headers)


async def test_while_rotating_every_secret_verifies(server: Hook) -> None:
    values = {"secret": [SECRET, OTHER]}
    await send(server, make_message(), **values)
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(server.got[0].body, server.got[0].headers)


async def test_the_id_stays_and_the_timestamp_is_of_the_attempt(server: Hook) -> None:
    now = time.time()
    for at in (now - 100, now):
        await send(server, make_message(now=at))
    first, second = (post.headers for post in server.got)
    assert first["webhook-id"] == second["webhook-id"] == "01message"
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 100


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "plain words"])
async def test_a_secret_that_cannot_sign_is_told_without_it(server: Hook, secret: str) -> None:
    result = await send(server, make_message(), secret=secret)
    assert result == DeliveryError('a signing secret must be "whsec_" and base64', code="secret")
    assert server.got == []


def test_a_body_is_at_most_20_kb_and_valid_utf_8() -> None:
    members = tuple(make_member("\N{PILE OF POO}" * 200 + str(n), evidence="\ud800\x00" * 5000) for n in range(50))
    for message in (make_message(make_incident(members=members)), make_message(make_incident(members=members), minimal=True)):
        body = webhook.body(message)
        assert len(body) <= 20_000
        assert json.loads(body)["data"]["incident"] == "01incident"
    assert len(webhook.body(make_message(minimal=True))) <= 1_000


def test_an_end_and_a_drill_have_types_of_their_own() -> None:
    over = make_incident(resolved=time.time())
    assert json.loads(webhook.body(make_message(over)))["type"] == "incident.resolved"
    drill = make_message(replace(make_incident(), kind="drill"))
    assert json.loads(webhook.body(drill))["type"] == "test"
    assert json.loads(webhook.body(drill))["data"]["drill"] is True
