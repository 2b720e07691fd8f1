"""Mail: each recipient for itself, TLS by default, and nothing that can be smuggled into a header."""

import asyncio
import email
import email.policy
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from desk import FACTS, Mailbox, mail_server, make_incident, make_message, settings, silent_server, teller
from stands import notice, steps

from monitor.alerts import delivery, dispatch
from monitor.alerts import email as mail_room
from monitor.alerts.delivery import Delivered, DeliveryError, Message
from monitor.alerts.dispatch import Dispatch
from monitor.alerts.email import send
from monitor.alerts.post import open_session
from monitor.clock import ManualClock
from monitor.store import Store

THREE = ["a@shop.example", "Bea <b@shop.example>", "c@shop.example"]


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    box = Mailbox()
    async with mail_server(box) as port:
        box.port = port  # type: ignore[attr-defined]
        yield box


def mail_settings(port: int, **values: Any) -> Any:
    return settings("email", **{"host": "127.0.0.1", "port": port, "tls": "none", "from": "Tillwatch <till@shop.example>", "to": THREE} | values)


async def transmit(own: Any, message: Message | None = None) -> Delivered | DeliveryError:
    async with open_session() as session:
        return await send(own, session, message or make_message())


def parsed(content: Any) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.default)  # type: ignore[return-value]


async def test_a_mail_is_whole_and_hangs_together(box: Mailbox) -> None:
    own = mail_settings(box.port)
    assert await transmit(own) == Delivered()
    assert await transmit(own) == Delivered()
    assert await transmit(own, make_message(id_="01second")) == Delivered()
    mails = [parsed(e.content) for e in box.mails]
    assert box.mails[0].rcpt_tos == ["a@shop.example", "b@shop.example", "c@shop.example"]
    assert mails[0]["Message-ID"] == mails[1]["Message-ID"] == "<01message@shop.example>"
    assert mails[2]["Message-ID"] == "<01second@shop.example>"
    assert {m["References"] for m in mails} == {"<incident.01incident@shop.example>"}
    assert mails[0]["Auto-Submitted"] == "auto-generated"
    assert mails[0]["Date"].datetime is not None
    assert mails[0]["Subject"].startswith("[page] example-shop: Customers cannot use *pay* since")
    assert "Why you get this: 4 of 4 runs failed" in mails[0].get_content()


async def test_alertmanager_3496_one_refused_recipient_does_not_cost_the_others(box: Mailbox) -> None:
    box.refuse["b@shop.example"] = "550 no such user"
    result = await transmit(mail_settings(box.port))
    assert isinstance(result, Delivered)
    assert result.detail == "1 of 3 recipients refused: b@shop.example: 550 no such user"
    assert box.mails[0].rcpt_tos == ["a@shop.example", "c@shop.example"]


async def test_a_greylisted_recipient_alone_is_tried_again(box: Mailbox) -> None:
    box.refuse |= {"a@shop.example": "451 greylisted", "b@shop.example": "550 no such user"}
    result = await transmit(mail_settings(box.port))
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.retry_after, result.settled) == (False, 60.0, ("!b@shop.example", "c@shop.example"))
    box.refuse.clear()
    assert await transmit(mail_settings(box.port), make_message(settled=result.settled)) == Delivered()
    assert [m.rcpt_tos for m in box.mails] == [["c@shop.example"], ["a@shop.example"]]


async def test_wpmgr_144_nobody_left_is_no_delivery(box: Mailbox) -> None:
    box.refuse["*"] = "550 no"
    result = await transmit(mail_settings(box.port), make_message(settled=("!b@shop.example", "!c@shop.example")))
    assert isinstance(result, DeliveryError)
    assert result.permanent


@pytest.mark.parametrize(("answer", "permanent"), [("451 busy", False), ("554 spam", True)])
async def test_the_mail_itself_can_be_refused(box: Mailbox, answer: str, permanent: bool) -> None:
    box.after_data = answer
    result = await transmit(mail_settings(box.port))
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (permanent, answer[:3])


async def test_an_error_after_the_server_has_the_mail_is_a_success() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx\r\n")
        while not (line := await reader.readline()).startswith(b"DATA"):
            writer.write(b"250 ok\r\n" if line else b"")
        writer.write(b"354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 taken\r\n")
        await writer.drain()
        writer.transport.close()  # and not a word to whatever comes after

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        assert await transmit(mail_settings(server.sockets[0].getsockname()[1])) == Delivered()


async def test_starttls_is_used_and_never_given_up(tmp_path: Path) -> None:
    authority, box = trustme.CA(), Mailbox()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = {"tls": "starttls", "ca_file": str(tmp_path / "ca.pem")}
    async with mail_server(box, tls_context=context, require_starttls=True) as port, mail_server(box) as stripped:
        assert await transmit(mail_settings(port, **trusted)) == Delivered()
        assert isinstance(await transmit(mail_settings(port, tls="starttls")), DeliveryError)
        assert isinstance(await transmit(mail_settings(stripped, **trusted)), DeliveryError)
    assert len(box.mails) == 1


def test_default_ports_and_alias() -> None:
    own = settings("email", host="mx.example", **{"from": "a@x.example", "to": ["b@x.example"]})
    assert own.tls == "starttls"  # type: ignore[attr-defined]
    assert own.sender == "a@x.example"  # type: ignore[attr-defined]


async def test_nothing_is_smuggled_into_a_header(box: Mailbox) -> None:
    incident = make_incident(kind="regression", version="2.0\r\nBcc: evil@x.example\r\n\r\nhello", update="u")
    await transmit(mail_settings(box.port), make_message(incident))
    mail = parsed(box.mails[0].content)
    assert mail["Bcc"] is None
    assert "Bcc: evil" not in "".join(f"\n{k}: " for k in mail)
    assert box.mails[0].rcpt_tos == ["a@shop.example", "b@shop.example", "c@shop.example"]


async def test_a_greylisted_mail_is_left_alone_for_a_minute_and_then_delivered(box: Mailbox, store: Store, clock: ManualClock) -> None:
    receiver = mail_settings(box.port, name="mail")
    asked = 0

    async def later(*_: Any) -> str:
        nonlocal asked
        asked += 1
        return "451 greylisted"

    taken, box.handle_DATA = box.handle_DATA, later  # type: ignore[method-assign]
    async with Dispatch(store, [receiver], clock, lambda _incident: FACTS) as desk:
        await teller(store, clock, [receiver])("firing", make_incident())
        await desk.settled()
        clock.at += 59
        await desk.settled()
        assert asked == 1
        box.handle_DATA = taken  # type: ignore[method-assign]
        clock.at += 14
        await desk.settled()
    assert len(box.mails) == 1


@asynccontextmanager
async def saying(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Any]:
    """A server that talks as it likes; what it has left to say when it is shut down is not waited for."""
    tasks = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(lambda r, w: tasks.append(asyncio.create_task(serve(r, w))), "127.0.0.1", 0)
    try:
        yield mail_settings(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("piece", [b"220-" + b"x" * 100_000, b"220-" + b"x" * 96 + b"\r\n"], ids=["one line", "many lines"])
async def test_a_banner_of_ten_megabytes_costs_neither_memory_nor_time(piece: bytes) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(10_000_000 // len(piece)):
            writer.write(piece)
            await writer.drain()

    async with saying(talk) as own:
        tracemalloc.start()
        try:
            result = await transmit(own)
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "protocol")
    assert len(result.reason) < 300


async def test_a_server_that_never_says_a_word_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivery.TIMEOUT <= 20
    monkeypatch.setattr(mail_room, "TIMEOUT", 1.2)
    async with silent_server() as port:
        assert await transmit(mail_settings(port)) == DeliveryError("127.0.0.1 did not answer in time", code="timeout")


async def test_a_server_that_takes_its_time_with_every_word_is_given_up_in_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drawl(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for word in (b"220 mx\r\n", *[b"250 ok\r\n"] * 50):
            await asyncio.sleep(0.2)
            writer.write(word)
            await reader.readline()

    monkeypatch.setattr(dispatch, "TIMEOUT", 0.7)
    async with saying(drawl) as own, open_session() as session:
        result = await dispatch.attempt(own, session, make_message())
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (False, "timeout")


async def test_every_step_of_a_story_is_a_mail_of_one_thread(box: Mailbox) -> None:
    for message in steps(1_790_043_300.0).values():
        assert isinstance(await transmit(mail_settings(box.port), message), Delivered)
    mails = [parsed(e.content) for e in box.mails]
    assert len({m["Message-ID"] for m in mails}) == 5
    assert {m["References"] for m in mails} == {"<incident.01incident@shop.example>"}
    await transmit(mail_settings(box.port), notice(1_790_043_300.0))
    assert parsed(box.mails[-1].content)["X-Tillwatch-Incident"] == "notice-01"
