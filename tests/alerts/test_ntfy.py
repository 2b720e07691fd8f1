"""ntfy: within what its server takes, as loud as it is urgent, and shown once."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from desk import SHOP, make_incident, make_message, serving, settings
from fakes import Ntfy
from stands import TOKEN, TOPIC, notice, steps

from monitor.alerts import ntfy
from monitor.alerts.delivery import Delivered, DeliveryError, Message
from monitor.alerts.dispatch import attempt
from monitor.alerts.document import cut
from monitor.alerts.post import open_session


@pytest.fixture
async def server() -> AsyncIterator[Ntfy]:
    async with serving(Ntfy(TOPIC, TOKEN)) as service:  # type: ignore[type-var]
        yield service


async def publish(server: Ntfy, message: Message, **values: Any) -> Delivered | DeliveryError:
    own = settings("ntfy", **{"topic": TOPIC, "url": server.url, "token": TOKEN} | values)
    async with open_session() as session:
        return await attempt(own, session, message)


async def test_a_page_is_whole(server: Ntfy) -> None:
    assert await publish(server, make_message()) == Delivered("200")
    (shown,) = server.phone()
    assert shown["title"].startswith("[page] example-shop: Customers cannot use *pay* since")
    assert "Why you get this: 4 of 4 runs failed" in shown["message"]
    assert shown["click"] == "https://till.example/incidents/01incident"
    assert (shown["priority"], shown["tags"]) == (5, ["rotating_light", "outage", "example-shop"])


async def test_it_is_as_loud_as_it_is_urgent(server: Ntfy) -> None:
    life = steps(time.time())
    ticket = replace(life["firing"], page=replace(life["firing"].page, urgency="ticket"))
    for message in (*life.values(), ticket, notice(time.time())):
        await publish(server, message)
    assert [m["priority"] for m in server.published] == [5, 5, 2, 5, 4, 3, 2]


async def test_what_went_out_twice_is_shown_once(server: Ntfy) -> None:
    for _ in range(3):
        await publish(server, make_message())
    assert len(server.published) == 3
    assert len(server.phone()) == 1


@pytest.mark.parametrize("letter", ["x", "\N{PILE OF POO}", "é", "\ud800", '"', "\\"])
async def test_title_tags_and_text_are_cut_on_a_character(server: Ntfy, letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message = make_message()
    page = replace(message.page, shop=replace(SHOP, name=letter * 900), sentence=letter * 900, why=letter * 9000)
    monkeypatch.setattr(type(page), "title", property(lambda _self: letter * 2000))
    assert await publish(server, replace(message, page=page)) == Delivered("200")
    (shown,) = server.phone()
    assert "attachment" not in shown
    assert set(shown["title"]) <= {letter, "?", "…"}
    assert 900 <= len(shown["title"].encode()) <= 1024
    assert len(",".join(shown["tags"]).encode()) <= 512


@pytest.mark.parametrize("limit", range(3, 30))
def test_no_character_is_cut_in_half(limit: int) -> None:
    for text in ("\N{PILE OF POO}" * 20, "añb€c\N{PILE OF POO}" * 5, "plain words only, no more"):
        short = cut(text, limit)
        assert len(short.encode()) <= limit
        assert "\ufffd" not in short
        assert text.startswith(short.removesuffix("…"))
        assert (short == text) is (len(text.encode()) <= limit)


async def test_the_server_without_access_control_needs_no_token(server: Ntfy) -> None:
    server.token = ""
    assert await publish(server, make_message(), token=None) == Delivered("200")


async def test_a_wrong_token_or_topic_is_refused_for_good(server: Ntfy) -> None:
    for values, code in (({"token": "tk_wrong"}, "401"), ({"topic": "nobodys-topic"}, "403")):
        result = await publish(server, make_message(), **values)
        assert isinstance(result, DeliveryError)
        assert (result.permanent, result.code) == (True, code)
    assert server.published == []


async def test_a_topic_that_is_none_is_not_sent(server: Ntfy) -> None:
    result = await publish(server, make_message(), topic="shop/oncall secret")
    assert result == DeliveryError("a topic has 1 to 64 letters, digits, - and _", code="secret")
    assert server.history == []


async def test_a_visitor_who_sends_too_much_is_told_to_wait(server: Ntfy) -> None:
    results = [await publish(server, make_message(id_=f"m{n}")) for n in range(61)]
    assert [type(r) for r in results].count(Delivered) == 60
    assert isinstance(results[-1], DeliveryError)
    assert (results[-1].permanent, results[-1].code) == (False, "429")


def test_the_limits_hold_for_the_json_too() -> None:
    message = make_message(make_incident())
    page = replace(message.page, why='"' * 8000)
    payload = ntfy.body(replace(message, page=page), TOPIC)
    assert len(payload) <= ntfy.JSON_LIMIT
    assert len(json.loads(payload)["message"].encode()) <= 4096
