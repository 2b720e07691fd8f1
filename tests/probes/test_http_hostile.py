"""What a server can do wrong, and the reason that each gets. Run on asyncio and on uvloop."""

import asyncio
import contextlib
import errno
import os
import random
import resource
import socket
import ssl
import struct
import threading
import warnings
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import trustme
from loopback import TIMEOUT, Shop, page, request_of, settings_of
from neighbourhood import peak
from processes import Stopwatch
from villains import FLOODS, HOSTILE, brotli_bomb, flood, gzip_bomb, silent, zstd_bomb

from probes.clients import Clients, TlsSettings, build_context
from probes.faults import explain
from probes.http import probe
from probes.reasons import OURS, REASONS
from probes.sample import Outcome, Sample

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Ask = Callable[..., Awaitable[Sample]]
Serve = Callable[..., Awaitable[Shop]]


@pytest.mark.parametrize(("server", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
async def test_hostile_server(serve: Serve, ask: Ask, server: Any, reason: str) -> None:
    shop = await serve(server)
    with Stopwatch() as watch:
        sample = await ask(f"http://127.0.0.1:{shop.port}/", timeout="1s" if reason == "timeout" else TIMEOUT)
        assert (sample.reason, sample.outcome) == (reason, Outcome.FAILED), sample.evidence
        assert watch() < (1.5 if reason == "timeout" else 4)
    assert 0 < len(sample.evidence) <= 400
    assert sample.seconds == pytest.approx(sum(sample.values.values()), abs=0.05)


@pytest.mark.parametrize(("first", "again"), [row[1:] for row in FLOODS], ids=[row[0] for row in FLOODS])
async def test_flood_ends_long_before_the_deadline(serve: Serve, ask: Ask, first: bytes, again: bytes) -> None:
    shop = await serve(flood(first, again))
    busy = process_time()
    sample = await ask(f"http://127.0.0.1:{shop.port}/", timeout="40s")
    assert (sample.reason, sample.outcome) == ("protocol", Outcome.FAILED), sample.evidence
    assert process_time() - busy < 5             # the server's part and instrumentation included; unbounded it is all 40 s


@pytest.mark.parametrize("parts", [
    (_HEAD, b"5\r\nhello\r\n", b"zz\r\n"),
    (_HEAD + b"5\r\nhello\r\n", b"zz\r\n"),
    (_HEAD, b"0\r\n", b"X: y\r\n" * 10_000),
    (_HEAD[:-1], b"\n0\r", b"\n", b"X: y\r\n" * 10_000),
    (_HEAD, b"0\r\n", b"\1\2: \0y\r\n\r\n"),
], ids=["chunk", "second chunk", "trailers", "cut trailers", "trailer"])
async def test_what_turns_out_to_be_no_http_once_the_head_is_read_is_told_at_once(serve: Serve, ask: Ask, parts: tuple[bytes, ...]) -> None:
    """And not when the time is up: the server keeps the connection open."""
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)
        await asyncio.Event().wait()
    shop = await serve(talk)
    sample = await ask(f"http://127.0.0.1:{shop.port}/", timeout="40s")
    assert (sample.reason, sample.outcome) == ("protocol", Outcome.FAILED), sample.evidence
    assert sample.seconds < 20


def test_every_reason_of_the_table_is_in_the_closed_list() -> None:
    assert {reason for _, _, reason in HOSTILE} <= REASONS.keys()
    assert REASONS.keys() > OURS


@pytest.mark.parametrize("sent", [3, 70_000, 300_000])
async def test_a_reset_that_comes_with_data_is_seen(ask: Ask, sent: int) -> None:
    """The server is a thread: data and reset have both arrived when the event loop looks."""
    kept: list[float] = []                       # from the server's thread
    with socket.create_server(("127.0.0.1", 0)) as server, Stopwatch() as watch:
        thread = threading.Thread(target=_send_and_reset, args=(server, sent, kept))
        thread.start()
        sample = await ask(f"http://127.0.0.1:{server.getsockname()[1]}/")
        kept.append(watch.kept)
        thread.join()
    assert (sample.reason, sample.outcome) == ("disconnected", Outcome.FAILED), sample.evidence
    assert sample.seconds < 1 + sum(kept)


def _send_and_reset(server: socket.socket, sent: int, kept: list[float]) -> None:
    with Stopwatch() as watch:
        connection, _ = server.accept()
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + b"a" * sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        kept.append(watch.kept)


async def test_refused(ask: Ask) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))              # bound and not listening: nobody else gets the port
        sample = await ask(f"http://127.0.0.1:{sock.getsockname()[1]}/")
    assert (sample.reason, sample.outcome) == ("connect_refused", Outcome.FAILED)
    assert sample.facts["status_code"] == 0


async def test_connect_timeout(ask: Ask) -> None:
    with socket.socket() as sock, contextlib.ExitStack() as stack:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(4):                       # fill the queue, so that a further SYN is dropped
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        watch = stack.enter_context(Stopwatch())
        sample = await ask(f"http://127.0.0.1:{sock.getsockname()[1]}/", timeout="500ms")
        kept = watch.kept
    assert sample.reason == "connect_timeout"
    assert 0.3 < sample.values["connect"] < 0.7 + kept


async def test_no_descriptors_left_is_ours(ask: Ask) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(_descriptors()) + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        sample = await ask("http://127.0.0.1:1/")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
    assert (sample.reason, sample.outcome) == ("local_resources", Outcome.BROKEN)


def _descriptors() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/fd").iterdir()]


@pytest.mark.parametrize(
    ("error", "phase", "reason"),
    [
        (OSError(errno.ENETUNREACH, "x"), "connect", "local_network"),
        (OSError(errno.EPERM, "x"), "connect", "local_network"),
        (OSError(errno.ENOBUFS, "x"), "connect", "local_resources"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "connect", "local_resources"),
        (OSError(errno.EHOSTUNREACH, "x"), "connect", "connect_failed"),
        (OSError(errno.ETIMEDOUT, "x"), "connect", "connect_timeout"),
        (OSError("Multiple exceptions: [Errno 101] unreachable, [Errno 111] refused"), "connect", "connect_refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "tls", "tls_protocol"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "processing", "disconnected"),
    ],
)
def test_system_error(error: OSError, phase: str, reason: str) -> None:
    assert explain(error, phase).reason == reason


async def test_no_answer_makes_the_probe_raise(serve: Serve, ask: Ask) -> None:
    """Answers with random damage: each is a reason of the list or right, none an exception, none hangs."""
    chance = random.Random(7)
    good = page(zlib.compress(b"hello"), "200 OK", "Content-Encoding: deflate", "Set-Cookie: a=b", "Content-Type: text/html; charset=x")
    moved = page("", "302 Found", "Location: http://127.0.0.1:1/\xfc?a=b", "Set-Cookie: a=b; Max-Age=0; Secure")
    current = [b""]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(current[0])
        await writer.drain()

    shop = await serve(talk)
    for number in range(400):
        answer = bytearray(good if number % 2 else moved)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(answer))
            answer[at : at + chance.choice((0, 1, 4))] = chance.randbytes(chance.choice((0, 1, 3)))
        current[0] = bytes(answer)
        sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"json": {"a": 1}, "header_matches": {"x": "y"}})
        assert sample.reason in REASONS, answer
        assert sample.reason != "timeout", answer


# Bombs ---------------------------------------------------------------------------------------------------------------

async def _lag(longest: list[float]) -> None:
    with Stopwatch() as watch:
        while True:
            watch.again()
            await asyncio.sleep(0.001)
            longest[0] = max(longest[0], watch() - 0.001)


@pytest.mark.parametrize(("encoding", "make"), [("gzip", gzip_bomb), ("br", brotli_bomb), ("zstd", zstd_bomb)])
async def test_bomb_is_cut(serve: Serve, ask: Ask, encoding: str, make: Callable[[], bytes]) -> None:
    bomb = make()
    assert len(bomb) < 1_000_000
    shop = await serve(page(bomb, "200 OK", f"Content-Encoding: {encoding}"))
    url = f"http://127.0.0.1:{shop.port}/"
    await ask(url)
    taken, lags = [], []
    for _ in range(3):                           # the interpreter takes memory and time for other things too, but not each time
        longest = [0.0]
        with peak() as grown:
            watcher = asyncio.create_task(_lag(longest))
            sample = await ask(url)
            watcher.cancel()
        assert sample.reason == "too_large"
        taken.append(grown["kB"])
        lags.append(longest[0])
    assert min(taken) <= 10_000
    assert min(lags) < 0.1


# TLS -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    ("names", "validity", "own_ca", "reason"),
    [
        (("127.0.0.1",), {}, False, ""),
        (("127.0.0.1",), {"starts": -10, "days": -1}, False, "tls_expired"),
        (("127.0.0.1",), {"starts": 1, "days": 30}, False, "tls_not_yet_valid"),
        (("other.example",), {}, False, "tls_hostname"),
        (("127.0.0.1",), {}, True, "tls_untrusted"),
    ],
    ids=["good", "expired", "not yet valid", "wrong host", "unknown authority"],
)
async def test_certificate(
    serve: Serve, ask: Ask, certificate: Any, ca_file: str, names: tuple[str, ...], validity: dict[str, float], own_ca: bool, reason: str,
) -> None:
    shop = await serve(page(), tls=certificate(*names, **validity, ca=trustme.CA() if own_ca else None))
    sample = await ask(f"https://127.0.0.1:{shop.port}/", tls={"ca_file": ca_file})
    assert sample.reason == reason, sample.evidence
    accepted = await ask(f"https://127.0.0.1:{shop.port}/", tls={"insecure_skip_verify": True})
    assert accepted.reason == ""
    assert accepted.facts["cert_expiry"] > 0


async def test_unknown_authority_without_ca_file(serve: Serve, ask: Ask, certificate: Any) -> None:
    shop = await serve(page(), tls=certificate())
    assert (await ask(f"https://127.0.0.1:{shop.port}/")).reason == "tls_untrusted"


async def test_outdated_tls(serve: Serve, ask: Ask, certificate: Any, ca_file: str) -> None:
    context = certificate()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    shop = await serve(page(), tls=context)
    assert (await ask(f"https://127.0.0.1:{shop.port}/", tls={"ca_file": ca_file})).reason == "tls_protocol"


def test_no_key_exchange_that_the_server_can_make_heavy() -> None:
    assert not [cipher["name"] for cipher in build_context(TlsSettings()).get_ciphers() if "DHE-" in cipher["name"].replace("ECDHE-", "")]


@pytest.mark.parametrize(
    ("server", "reason"),
    [(silent, "timeout"), (page(), "tls_protocol"), (b"", "tls_protocol")],
    ids=["hangs in the handshake", "speaks plain HTTP", "closes"],
)
async def test_no_tls(serve: Serve, ask: Ask, server: Any, reason: str) -> None:
    async def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(server)
        await writer.drain()

    shop = await serve(answer_at_once if isinstance(server, bytes) else server)
    with Stopwatch() as watch:
        sample = await ask(f"https://127.0.0.1:{shop.port}/", timeout="1s" if reason == "timeout" else TIMEOUT, expect={"max_duration": "500ms"})
        kept = watch.kept
    assert sample.reason == reason, sample.evidence
    assert sample.seconds < 1.5 + kept
    if reason == "timeout":
        assert "handshake" in sample.evidence


async def test_client_certificate_is_asked_for(serve: Serve, ask: Ask, certificate: Any, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    context = certificate()
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    shop = await serve(page(), tls=context)
    url = f"https://127.0.0.1:{shop.port}/"
    assert (await ask(url, tls={"ca_file": ca_file})).reason in ("tls_protocol", "disconnected")
    authority.issue_cert("tillwatch@example.com").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    assert (await ask(url, tls={"ca_file": ca_file, "cert_file": str(tmp_path / "me.pem")})).reason == ""


# Cleaning up ---------------------------------------------------------------------------------------------------------

async def test_cancelling_leaves_no_connection(serve: Serve, certificate: Any, clients: Clients) -> None:
    shop = await serve(silent)
    before = _descriptors()
    for scheme in ("http", "https"):
        shop.met.clear()
        task = asyncio.create_task(probe(settings_of(f"{scheme}://127.0.0.1:{shop.port}/"), clients))
        await shop.met.wait()
        assert len(_descriptors()) > len(before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await shop.stop()
        async with asyncio.timeout(20):          # the server's own end
            while len(_descriptors()) > len(before):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)


async def test_an_unexpected_error_flies(serve: Serve, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await serve(page())

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("probes.http._addresses", broken)
    with pytest.raises(ZeroDivisionError):
        await probe(settings_of(f"http://127.0.0.1:{shop.port}/"), clients)
