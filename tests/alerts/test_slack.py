"""Slack: the page as it is, and nobody woken by what stands in it."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from desk import FACTS, Hook, make_incident, make_member, make_message, serving, settings, teller
from fakes import Fault, Slack
from stands import notice, steps

from monitor.alerts.delivery import Delivered, DeliveryError, Message
from monitor.alerts.dispatch import Dispatch, attempt
from monitor.alerts.post import open_session
from monitor.alerts.slack import text
from monitor.clock import ManualClock
from monitor.store import Store


@pytest.fixture
async def channel() -> AsyncIterator[Slack]:
    async with serving(Slack(most=1000)) as service:  # type: ignore[type-var]
        yield service


def own(channel: Slack, **values: Any) -> Any:
    return settings("slack", **{"url": f"{channel.url}{channel.path}"} | values)


async def write(channel: Slack, message: Message, **values: Any) -> Delivered | DeliveryError:
    async with open_session() as session:
        return await attempt(own(channel, **values), session, message)


async def test_a_page_is_whole_and_says_its_sentence_once(channel: Slack) -> None:
    assert await write(channel, make_message()) == Delivered("200")
    (shown,) = channel.shown
    assert shown.startswith("🔴 [page] example-shop: Customers cannot use *pay* since")
    assert shown.count("Customers cannot use *pay*") == 1
    assert "\nDetails: https://till.example/incidents/01incident\n" in shown


async def test_a_sentence_too_long_for_the_title_is_there_all_the_same(channel: Slack) -> None:
    message = make_message()
    await write(channel, replace(message, page=replace(message.page, sentence="word " * 90)))
    assert channel.shown[0].count("word") > 90


async def test_that_somebody_has_taken_it_is_said_in_two_lines(channel: Slack) -> None:
    await write(channel, steps(time.time())["acknowledged"])
    first, *rest = channel.shown[0].splitlines()
    assert first.startswith("👀 ")
    assert rest == ["Acknowledged by: ada", "https://till.example/incidents/01incident"]


async def test_nobody_is_woken_by_what_a_shop_says(channel: Slack) -> None:
    evil = "<!channel> <!here|x> <@U123> @channel @everyone <https://evil.example|click> & &lt;!channel&gt;"
    await write(channel, make_message(make_incident(members=(make_member(evidence=evil),))))
    assert channel.pings == []
    assert "<!channel> <!here|x> <@U123> @channel" in channel.shown[0]
    assert "[link]" not in channel.shown[0]
    assert "& &lt;!channel&gt;" in channel.shown[0]  # to the letter


@pytest.mark.parametrize(
    ("answer", "permanent", "code"),
    [
        (Fault(200, body="<html>signed out</html>"), True, "answer"),
        (Fault(200, body=""), True, "answer"),
        (Fault(200, body="okay"), True, "answer"),
        (Fault(400, body="invalid_payload"), True, "400"),
        (Fault(403, body="action_prohibited"), True, "403"),
        (Fault(404, body="no_service"), True, "404"),
        (Fault(410, body="channel_is_archived"), True, "410"),
        (Fault(500, body="rollup_error"), False, "500"),
    ],
)
async def test_only_ok_is_delivered(channel: Slack, answer: Fault, permanent: bool, code: str) -> None:
    channel.faults.append(answer)
    result = await write(channel, make_message())
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (permanent, code)
    assert answer.body.replace("<html>signed out</html>", "signed out") in result.reason


@pytest.mark.parametrize(("pieces", "taken"), [((b"o", b"k"), True), ((b"o", b"k", b"ay"), False), ((b"ok " * 1000,) * 3, False)])
async def test_an_answer_in_pieces_is_read_to_its_end(pieces: tuple[bytes, ...], taken: bool) -> None:
    hook = Hook()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.01)
        return response

    hook.take = answer  # type: ignore[method-assign]
    async with serving(hook), open_session() as session:
        result = await attempt(settings("slack", url=f"{hook.url}/services/x"), session, make_message())
    assert isinstance(result, Delivered) is taken


async def test_a_channel_that_is_archived_or_closed_is_told(channel: Slack) -> None:
    channel.archived = True
    assert "channel_is_archived" in getattr(await write(channel, make_message()), "reason", "")
    channel.archived, channel.prohibited = False, True
    assert "action_prohibited" in getattr(await write(channel, make_message()), "reason", "")


async def test_an_address_that_is_none_is_not_told(channel: Slack) -> None:
    result = await write(channel, make_message(), url="hooks.slack.com/services/T0/B0/very-secret-part")
    assert result == DeliveryError("the address of a Slack webhook begins with https://", code="secret")
    result = await write(channel, make_message(), url=f"{channel.url}/services/T0/B0/another-secret-part")
    assert isinstance(result, DeliveryError)
    assert "secret" not in result.reason


def test_each_step_has_its_sign() -> None:
    signs = [text(message)[0] for message in (*steps(time.time()).values(), notice(time.time()))]
    assert signs == ["🔴", "🔴", "👀", "🔴", "✅", "ℹ"]
    assert text(make_message(make_incident(urgency="ticket")))[0] == "🟠"
    assert text(make_message(make_incident(kind="drill")))[0] == "🧪"


async def test_fifty_pages_at_one_a_second_all_come_through(store: Store, clock: ManualClock) -> None:
    """T17. The channel's second passes when the lane's does."""
    service = Slack(most=1, window=1.0)
    service._clock = clock.now
    async with serving(service) as channel:  # type: ignore[type-var]
        receiver = own(channel, name="chat")
        say = teller(store, clock, [receiver])
        for number in range(50):
            await say("firing", make_incident(f"01i{number}", members=(make_member(f"p{number}"),)))
        async with Dispatch(store, [receiver], clock, lambda _incident: FACTS) as desk:
            for _ in range(3_000):
                await desk.settled()
                if len(channel.shown) == 50:
                    break
                clock.at += 1
    shown = [next(word for word in line.split() if word.startswith("*p")) for line in channel.shown]
    assert sorted(shown) == sorted(f"*p{number}*" for number in range(50))
