"""What every receiver must do: one suite over the whole table. A further kind needs a stand (stands.py), or these tests fail."""

import asyncio
import json
import ssl
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from desk import FACTS, SECRET, make_incident, make_member, make_message, settings
from fake_pagerduty import KEY
from fakes import Fault
from processes import Stopwatch, free_port
from pydantic import ValidationError
from stands import HTTP, MAIL, TOKEN, TOPIC, Stand, http_stand, keys, mail_stand, notice, stand, steps

from monitor.alerts import delivery, dispatch
from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.dispatch import attempt
from monitor.alerts.post import open_session
from monitor.alerts.table import RECEIVERS
from monitor.clock import ManualClock

every = pytest.mark.parametrize("kind", RECEIVERS)
over_http = pytest.mark.parametrize("kind", HTTP)
CODES = {"error": {"500", "451", "exit 75"}, "permanent": {"400", "550", "exit 64"}}


async def deliver(receiver: ReceiverSettings, message: Message | None = None) -> Delivered | DeliveryError:
    async with open_session() as session:
        return await attempt(receiver, session, message or make_message())


def test_every_kind_has_a_stand() -> None:
    assert {*HTTP, "email", "command"} == RECEIVERS.keys()


@every
async def test_a_message_is_delivered(kind: str, tmp_path: Path) -> None:
    async with stand(kind, "ok", tmp_path) as receiver:
        assert isinstance(await deliver(receiver.settings), Delivered)
        assert len(receiver.seen()) == 1


@every
async def test_a_fault_of_the_other_side_is_tried_again(kind: str, tmp_path: Path) -> None:
    async with stand(kind, "error", tmp_path) as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert not result.permanent
    assert result.code in CODES["error"]


@every
async def test_a_refusal_is_permanent(kind: str, tmp_path: Path) -> None:
    async with stand(kind, "permanent", tmp_path) as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert result.permanent
    assert result.code in CODES["permanent"]


@over_http
@pytest.mark.parametrize("status", [301, 302, 307, 408, 429, 500, 502, 503, 504, 507])
async def test_what_may_pass_is_tried_again(kind: str, status: int) -> None:
    async with http_stand(kind, Fault(status, {"Location": "/elsewhere"})) as receiver:
        result = await deliver(receiver.settings)
        assert receiver.seen() == []  # a redirect is not followed
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, str(status))


@over_http
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413])
async def test_what_would_be_refused_again_is_permanent(kind: str, status: int) -> None:
    async with http_stand(kind, Fault(status)) as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (True, str(status))


@over_http
@pytest.mark.parametrize("header", ["30", "date"])
async def test_a_busy_server_says_when(kind: str, header: str) -> None:
    then = time.time()
    after = formatdate(then + 30, usegmt=True) if header == "date" else header
    async with http_stand(kind, Fault(429, {"Retry-After": after})) as receiver:
        result = await deliver(receiver.settings)
    since = time.time() - then if header == "date" else 0.0
    assert isinstance(result, DeliveryError)
    assert not result.permanent
    assert result.retry_after is not None
    assert 28 - since <= result.retry_after <= 30


async def test_a_busy_mail_server_is_left_alone_for_a_minute() -> None:
    async with mail_stand("450 greylisted") as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.retry_after) == (False, 60.0)


@every
async def test_a_silent_one_ends_in_time(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivery.TIMEOUT <= 15
    monkeypatch.setattr(dispatch, "TIMEOUT", 0.3)
    async with stand(kind, "hang", tmp_path) as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "timeout")


@every
async def test_one_that_is_away_is_tried_again(kind: str, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    own = {
        "email": lambda: {"host": "127.0.0.1", "port": free_port(), "tls": "none", **MAIL},
        "command": lambda: {"command": [f"{tmp_path}/no-such-program"]},
    }.get(kind, lambda: keys(kind, nobody))()
    result = await deliver(settings(kind, **own))
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "start" if kind == "command" else "connect")


@over_http
async def test_a_broken_connection_is_tried_again(kind: str) -> None:
    async with http_stand(kind, Fault(0)) as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "connect")


@over_http
async def test_a_certificate_that_nobody_trusts_is_told_and_tried_again(kind: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    runner = web.AppRunner(web.Application(), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        result = await deliver(settings(kind, **keys(kind, f"https://127.0.0.1:{runner.addresses[0][1]}")))
    finally:
        await runner.cleanup()
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "connect")
    assert "certificate is not trusted" in result.reason


@every
async def test_no_secret_is_told(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLWATCH_CI_TOKEN", TOKEN)
    async with stand(kind, "echo", tmp_path) as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    secrets = {"webhook": (SECRET, TOKEN), "pagerduty": (KEY,), "ntfy": (TOPIC, TOKEN)}.get(kind, (TOKEN,))
    for secret in secrets:
        assert secret not in repr(result)
    for secret in secrets:
        assert secret not in repr(receiver.settings.model_dump(exclude={"url"} if kind == "webhook" else set()))


@pytest.mark.parametrize("kind", [*HTTP, "email"])
async def test_a_secret_that_cannot_be_read_is_tried_again(kind: str) -> None:
    missing = {"env": "TILLWATCH_NO_SUCH_SECRET"}
    mail = {"host": "127.0.0.1", "tls": "none", "username": "u", "password": missing, **MAIL}
    result = await deliver(settings(kind, **(mail if kind == "email" else keys(kind, secret=missing))))
    assert result == DeliveryError("the environment variable TILLWATCH_NO_SUCH_SECRET is not set, or empty", code="secret")


@every
async def test_a_drill_comes_through_marked(kind: str, tmp_path: Path) -> None:
    async with stand(kind, "ok", tmp_path) as receiver:
        result = await dispatch.test_alert(receiver.settings, FACTS, ManualClock(time.time()), hold=0.0)
        assert isinstance(result, Delivered)
        assert "TEST" in receiver.seen()[0]
        # One that keeps states is told of the end too: no drill stays open.
        assert ended(receiver) if kind in {"alertmanager", "pagerduty"} else len(receiver.seen()) == 1


def ended(receiver: Stand) -> bool:
    return receiver.service.open() == [] if receiver.settings.kind == "pagerduty" else receiver.service.firing() == []


@every
async def test_an_unexpected_error_becomes_a_value(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Delivered:
        raise ZeroDivisionError

    monkeypatch.setitem(RECEIVERS, kind, type(RECEIVERS[kind])(RECEIVERS[kind].settings, broken))
    async with stand(kind, "ok", tmp_path) as receiver:
        assert await deliver(receiver.settings) == DeliveryError("unexpected: ZeroDivisionError", code="internal")


# ---- what is said ----------------------------------------------------------------------------------------------------


@every
async def test_the_same_message_twice_is_recognised(kind: str, tmp_path: Path) -> None:
    async with stand(kind, "ok", tmp_path) as receiver:
        await deliver(receiver.settings)
        await deliver(receiver.settings)
        if kind == "slack":  # a webhook of Slack has nothing by which it could tell
            assert len(receiver.seen()) == 2
        else:
            assert len(set(receiver.ids())) == 1


@every
async def test_a_whole_life_is_told_and_ends(kind: str, tmp_path: Path) -> None:
    async with stand(kind, "ok", tmp_path) as receiver:
        for message in steps(time.time()).values():
            assert isinstance(await deliver(receiver.settings, message), Delivered), message.what
        if kind in {"alertmanager", "pagerduty"}:
            assert ended(receiver)
        else:
            assert len(receiver.seen()) == 5
            assert "Over: " in receiver.seen()[-1]


@every
async def test_news_that_is_no_alarm_opens_none(kind: str, tmp_path: Path) -> None:
    async with stand(kind, "ok", tmp_path) as receiver:
        assert isinstance(await deliver(receiver.settings, notice(time.time())), Delivered)
        if kind in {"alertmanager", "pagerduty"}:
            assert ended(receiver)
        assert len(receiver.seen()) == (0 if kind == "alertmanager" else 1)
        assert RECEIVERS[kind].settings.takes_notices is (kind != "alertmanager")


HOSTILE = "\x1b[31mred\x1b[0m <!channel> @here <script>alert(1)</script> *bold* `rm` \r\nBcc: evil@x.example\r\n &amp; \u202e\u2028"


@every
async def test_nothing_from_the_shop_acts_on_whoever_reads_it(kind: str, tmp_path: Path) -> None:
    incident = make_incident(members=(make_member(evidence=HOSTILE),), version=HOSTILE, update="2026-1", resolved=None)
    async with stand(kind, "ok", tmp_path) as receiver:
        assert isinstance(await deliver(receiver.settings, make_message(incident)), Delivered)
        (seen,) = receiver.seen()
        for character in ("\x1b", "\u202e", "\u2028", "evil@x.example"):
            assert character not in seen
        if kind == "slack":
            assert receiver.service.pings == []
        if kind in {"slack", "ntfy"}:
            assert "\\x1b[31mred" in seen
            assert "<!channel>" in seen  # as text


def huge() -> Message:
    """Larger than anything that our own words come to, for whatever a later version puts into a page."""
    message = make_message(make_incident(members=tuple(make_member(f"p{n}", evidence='\N{PILE OF POO}\ud800\x00"' * 999) for n in range(50))))
    nasty = '\N{PILE OF POO}\ud800\x00"\n' * 100_000
    members = tuple(dict(m) | {"evidence": nasty} for m in message.page.members)
    page = replace(message.page, sentence=nasty[:5000], evidence=(nasty,) * 3, why=nasty, first=nasty[:900], members=members, culprit=nasty)
    return replace(message, page=page)


@every
@pytest.mark.parametrize("minimal", [False, True])
async def test_no_size_and_no_character_costs_a_page(kind: str, minimal: bool, tmp_path: Path) -> None:
    message = replace(huge(), minimal=minimal)
    assert len(repr(message.page)) > 2_000_000
    async with stand(kind, "ok", tmp_path) as receiver:
        assert await deliver(receiver.settings, message) == Delivered(WORDS.get(kind, ""))
        (seen,) = receiver.seen()
        assert "example-shop" in seen or (minimal and kind in {"email", "ntfy", "slack"})
        if minimal:
            assert len(seen.encode()) <= 6_500  # 900 characters of 4 bytes, twice when they stand in mail's base64 or JSON


WORDS = {"webhook": "204", "pagerduty": "202", "ntfy": "200", "slack": "200"}


@every
async def test_the_least_is_small(kind: str, tmp_path: Path) -> None:
    async with stand(kind, "ok", tmp_path) as receiver:
        assert isinstance(await deliver(receiver.settings, make_message(make_incident(cause="x" * 9999), minimal=True)), Delivered)
        assert len(receiver.seen()[0].encode()) <= 1_500


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("webhook", {"url": "ftp://x", "secret": SECRET}, "begins with http"),
        ("webhook", {"url": "http://x", "secret": []}, "at least 1 item"),
        ("webhook", {"url": "http://x", "secret": SECRET, "urll": 1}, "Extra inputs"),
        ("alertmanager", {"peers": []}, "at least 1 item"),
        ("email", {"host": "mx.example", "tls": "none", **MAIL}, "readable to mx.example"),
        ("email", {"host": "mx.example", **MAIL, "to": ["a@x.example\r\nBcc: b@x.example"]}, "write one mail address"),
        ("email", {"host": "mx.example", **MAIL, "from": "Till\nX: y <a@x.example>"}, "write one mail address"),
        ("email", {"host": "mx.example", **MAIL, "username": "u"}, "belong together"),
        ("email", {"host": "mx.example\r\n", **MAIL}, "pattern"),
        ("pagerduty", {}, "routing_key"),
        ("pagerduty", {"routing_key": KEY, "url": "events.pagerduty.com"}, "begins with http"),
        ("ntfy", {"topic": "t", "url": "ntfy.sh"}, "begins with http"),
        ("slack", {}, "url"),
        ("command", {"command": []}, "at least 1 item"),
        ("command", {"command": "/bin/true"}, "tuple"),
        ("command", {"command": ["page-me"]}, "whole path"),
        ("command", {"command": ["/bin/echo", "a\0b"]}, "NUL"),
    ],
)
def test_impossible_settings_are_refused(kind: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(kind, **values)


def test_what_each_kind_wants_to_be_told() -> None:
    """Whoever reads the docs relies on it."""
    def those(wanted: str) -> set[str]:
        return {kind for kind in RECEIVERS if getattr(RECEIVERS[kind].settings, wanted)}

    assert those("resends") == {"alertmanager"}
    assert those("reminds_itself") == {"alertmanager", "pagerduty"}
    assert those("hears_acks") == {"pagerduty", "webhook", "slack", "command"}
    assert those("tells_missed") == {"webhook", "email", "ntfy", "slack", "command"}
    assert json.dumps({kind: RECEIVERS[kind].settings.per_minute for kind in ("pagerduty", "slack", "ntfy")}) == (
        '{"pagerduty": 60.0, "slack": 60.0, "ntfy": 12.0}'
    )


async def test_two_of_a_kind_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A program that hangs holds nothing up but its own page."""
    async with stand("command", "hang", tmp_path) as slow, http_stand("ntfy") as quick:
        waiting = asyncio.create_task(deliver(slow.settings))
        with Stopwatch() as took:
            assert isinstance(await deliver(quick.settings), Delivered)
            assert took() < 5
        waiting.cancel()
        await asyncio.wait({waiting})
