"""What every receiver must do: one suite over the whole table. A further kind needs a stand here, or these tests fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiosmtpd.smtp import AuthResult
from desk import FACTS, SECRET, Hook, Mailbox, free_port, mail_server, make_incident, make_message, serving, settings, silent_server
from pydantic import ValidationError

from monitor.alerts import delivery, dispatch
from monitor.alerts.delivery import Delivered, DeliveryError, ReceiverSettings
from monitor.alerts.dispatch import attempt
from monitor.alerts.post import open_session
from monitor.alerts.table import RECEIVERS
from monitor.clock import ManualClock

TOKEN = "a-very-secret-token"


@dataclass
class Stand:
    """A receiver on loopback: its settings, and how many messages it took."""

    settings: ReceiverSettings
    taken: Callable[[], int]


@asynccontextmanager
async def http_stand(kind: str, mode: str) -> AsyncIterator[Stand]:
    hook = Hook()

    async def hang() -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def redirect() -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"{hook.url}/elsewhere"})

    async def busy() -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "30"})

    async def echo() -> web.StreamResponse:
        return web.Response(status=400, text=f"bad token {TOKEN} {SECRET if kind == 'webhook' else ''}")

    hook.answer = {"ok": 200, "error": 500, "permanent": 400, "hang": hang, "redirect": redirect, "busy": busy, "echo": echo}[mode]
    async with serving(hook):
        own = {"secret": SECRET, "url": f"{hook.url}/hook?key={TOKEN}"} if kind == "webhook" else {"peers": [hook.url], "bearer_token": TOKEN}
        yield Stand(
            settings(kind, **own),
            lambda: len([p for p in hook.got if p.path != "/elsewhere"]) if mode == "ok" else len([p for p in hook.got if p.path == "/elsewhere"]),
        )


@asynccontextmanager
async def mail_stand(mode: str) -> AsyncIterator[Stand]:
    box = Mailbox()
    answers = {
        "error": "451 try later",
        "permanent": "550 no such user",
        "redirect": "551 user not local; try <b@elsewhere.example>",
        "busy": "450 greylisted",
        "echo": f"550 bad token {TOKEN}",
    }
    if mode in answers:
        box.refuse["*"] = answers[mode]
    login = {"authenticator": lambda *_: AuthResult(success=True), "auth_require_tls": False}
    async with mail_server(box, **login) as port, silent_server() as silent:
        yield Stand(
            settings("email", host="127.0.0.1", port=silent if mode == "hang" else port, tls="none", username="till", password=TOKEN, **MAIL),
            lambda: len(box.mails),
        )


MAIL = {"from": "till@shop.example", "to": ["a@shop.example"]}


def stand(kind: str, mode: str) -> AbstractAsyncContextManager[Stand]:
    return mail_stand(mode) if kind == "email" else http_stand(kind, mode)


async def deliver(receiver: ReceiverSettings) -> Delivered | DeliveryError:
    async with open_session() as session:
        return await attempt(receiver, session, make_message())


every = pytest.mark.parametrize("kind", RECEIVERS)


@every
async def test_a_message_is_delivered(kind: str) -> None:
    async with stand(kind, "ok") as receiver:
        assert isinstance(await deliver(receiver.settings), Delivered)
        assert receiver.taken() == 1


@every
async def test_a_fault_of_the_server_is_tried_again(kind: str) -> None:
    async with stand(kind, "error") as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert not result.permanent
    assert result.code in {"500", "451"}


@every
async def test_a_refusal_is_permanent(kind: str) -> None:
    async with stand(kind, "permanent") as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert result.permanent


@every
async def test_a_redirect_is_not_followed(kind: str) -> None:
    async with stand(kind, "redirect") as receiver:
        assert isinstance(await deliver(receiver.settings), DeliveryError)
        assert receiver.taken() == 0


@every
async def test_a_busy_server_says_when(kind: str) -> None:
    async with stand(kind, "busy") as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert not result.permanent
    assert result.retry_after in {30.0, 60.0}


@every
async def test_a_silent_server_ends_in_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivery.TIMEOUT <= 15
    monkeypatch.setattr(dispatch, "TIMEOUT", 0.2)
    async with stand(kind, "hang") as receiver:
        result = await deliver(receiver.settings)
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "timeout")


@every
async def test_a_server_that_is_away_is_tried_again(kind: str) -> None:
    own = {
        "email": {"host": "127.0.0.1", "port": free_port(), "tls": "none", **MAIL},
        "webhook": {"url": f"http://127.0.0.1:{free_port()}", "secret": SECRET},
        "alertmanager": {"peers": [f"http://127.0.0.1:{free_port()}"]},
    }[kind]
    result = await deliver(settings(kind, **own))
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "connect")


@every
async def test_no_secret_is_told(kind: str) -> None:
    async with stand(kind, "echo") as receiver:
        result = await deliver(receiver.settings)
    assert TOKEN not in repr(result)
    assert SECRET not in repr(result)
    assert TOKEN not in repr(receiver.settings.model_dump(exclude={"url"}))


@every
async def test_a_secret_that_cannot_be_read_is_tried_again(kind: str) -> None:
    missing = {"env": "TILLWATCH_NO_SUCH_SECRET"}
    own = {
        "email": {"host": "127.0.0.1", "tls": "none", "username": "u", "password": missing, **MAIL},
        "webhook": {"url": "http://127.0.0.1:9", "secret": missing},
        "alertmanager": {"peers": ["http://127.0.0.1:9"], "bearer_token": missing},
    }[kind]
    result = await deliver(settings(kind, **own))
    assert result == DeliveryError("the environment variable TILLWATCH_NO_SUCH_SECRET is not set, or empty", code="secret")


@every
async def test_a_drill_comes_through_marked(kind: str) -> None:
    async with stand(kind, "ok") as receiver:
        result = await dispatch.test_alert(receiver.settings, FACTS, ManualClock(), hold=0.0)
        assert isinstance(result, Delivered)
        assert receiver.taken() == (2 if receiver.settings.resends else 1)


@every
async def test_an_unexpected_error_becomes_a_value(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Delivered:
        raise ZeroDivisionError

    monkeypatch.setitem(RECEIVERS, kind, type(RECEIVERS[kind])(RECEIVERS[kind].settings, broken))
    async with stand(kind, "ok") as receiver:
        assert await deliver(receiver.settings) == DeliveryError("unexpected: ZeroDivisionError", code="internal")


@every
async def test_the_least_is_small(kind: str) -> None:
    async with stand(kind, "ok") as receiver, open_session() as session:
        message = make_message(make_incident(cause="x" * 9999), minimal=True)
        assert isinstance(await attempt(receiver.settings, session, message), Delivered)


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
    ],
)
def test_impossible_settings_are_refused(kind: str, values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(kind, **values)
