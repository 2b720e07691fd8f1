"""What a server can do wrong, and the reason that each gets. Run on asyncio and on uvloop."""

import asyncio
import contextlib
import errno
import gc
import os
import random
import re
import resource
import socket
import ssl
import warnings
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import brotli
import pytest
import trustme
from backports.zstd import ZstdCompressor
from loopback import Shop, page, request_of, settings_of

from probes.clients import Clients
from probes.faults import explain
from probes.http import probe
from probes.reasons import OURS, REASONS
from probes.sample import Outcome, Sample

Ask = Callable[..., Awaitable[Sample]]
Serve = Callable[..., Awaitable[Shop]]


# Behaviours ----------------------------------------------------------------------------------------------------------

async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc")
    await writer.drain()
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def drip_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.1)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.2)


async def endless_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"8000\r\n" + b"a" * 0x8000 + b"\r\n")
        await writer.drain()


async def endless_interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def ten_gigabytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        writer.write(b"a" * 65536)
        await writer.drain()


HOSTILE: list[tuple[str, Any, str]] = [
    ("accepts and says nothing", silent, "timeout"),
    ("drips a header", drip_header, "timeout"),
    ("drips the body", drip_body, "timeout"),
    ("never ends its interim answers", endless_interim, "timeout"),
    ("hangs up on the request", hang_up, "disconnected"),
    ("resets in the body", reset, "disconnected"),
    ("chunks without end", endless_chunks, "too_large"),
    ("sends 10 GB", ten_gigabytes, "too_large"),
    ("sends less than it said", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "protocol"),
    ("cuts a chunked body", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "protocol"),
    ("has a bad chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n", "protocol"),
    ("gives two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "protocol"),
    ("gives no number as length", b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabc", "protocol"),
    ("has a header of 1 MB", b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 1_000_000 + b"\r\n\r\n", "protocol"),
    ("has 10,000 headers", b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n", "protocol"),
    ("has a status line of 1 MB", b"HTTP/1.1 200 " + b"a" * 1_000_000 + b"\r\n\r\n", "protocol"),
    ("speaks another protocol", b"220 mail.example ESMTP\r\n", "protocol"),
    ("speaks TLS on a plain port", b"\x15\x03\x01\x00\x02\x02\x46", "protocol"),
    ("says gzip and is not", page("no gzip", "200 OK", "Content-Encoding: gzip"), "protocol"),
    ("says deflate and is not", page(b"\x01\x02\x03no", "200 OK", "Content-Encoding: deflate"), "protocol"),
    ("says br and is not", page("no brotli at all", "200 OK", "Content-Encoding: br"), "protocol"),
    ("says zstd and is not", page("no zstd at all", "200 OK", "Content-Encoding: zstd"), "protocol"),
    ("nests encodings", page("whatever", "200 OK", "Content-Encoding: gzip, gzip"), "protocol"),
    ("uses an unknown encoding", page("whatever", "200 OK", "Content-Encoding: exi"), "protocol"),
    ("redirects to a file", page("", "302 Found", "Location: file:///etc/passwd"), "redirects"),
    ("redirects to ftp", page("", "302 Found", "Location: ftp://127.0.0.1/x"), "redirects"),
    ("redirects to nonsense", page("", "302 Found", "Location: http://[::1"), "redirects"),
    ("redirects to no host", page("", "302 Found", "Location: http:///x"), "redirects"),
    ("redirects to a script", page("", "302 Found", "Location: javascript:alert(1)"), "redirects"),
    ("redirects to itself", page("", "302 Found", "Location: /"), "redirects"),
    ("redirects to cloud metadata", page("", "302 Found", "Location: http://169.254.169.254/latest"), "redirects"),
    ("redirects to it in IPv6 clothes", page("", "302 Found", "Location: http://[::ffff:169.254.169.254]/"), "redirects"),
    ("redirects to a name that cannot be", page("", "302 Found", f"Location: http://{'a' * 300}.example/"), "dns"),
    ("redirects to an empty label", page("", "302 Found", "Location: http://a..b/"), "dns"),
    ("is broken", page("<title>Oops</title>", "500 Internal Server Error"), "status"),
]


@pytest.mark.parametrize(("server", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
async def test_hostile_server(serve: Serve, ask: Ask, server: Any, reason: str) -> None:
    shop = await serve(server)
    began = perf_counter()
    sample = await ask(f"http://127.0.0.1:{shop.port}/", timeout="1s" if reason == "timeout" else "5s")
    assert (sample.reason, sample.outcome) == (reason, Outcome.FAILED), sample.evidence
    assert perf_counter() - began < (1.5 if reason == "timeout" else 4)
    assert 0 < len(sample.evidence) <= 400
    assert sample.seconds == pytest.approx(sum(sample.values.values()), abs=0.05)


def test_every_reason_of_the_table_is_in_the_closed_list() -> None:
    assert {reason for _, _, reason in HOSTILE} <= REASONS.keys()
    assert REASONS.keys() > OURS


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
        sample = await ask(f"http://127.0.0.1:{sock.getsockname()[1]}/", timeout="500ms")
    assert sample.reason == "connect_timeout"
    assert sample.values["connect"] == pytest.approx(0.5, abs=0.2)


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

def gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH)
    block = packer.compress(bytes(10_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * 30


def brotli_bomb() -> bytes:
    packer = brotli.Compressor(quality=1)
    return b"".join([*(packer.process(bytes(3_000_000)) for _ in range(100)), packer.finish()])


def zstd_bomb() -> bytes:
    packer = ZstdCompressor()
    return b"".join([*(packer.compress(bytes(3_000_000)) for _ in range(100)), packer.flush()])


def _memory(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


@contextlib.contextmanager
def _peak() -> Iterator[dict[str, int]]:
    """The growth of this process's resident memory at its highest, in kB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, grown = _memory("VmRSS"), {}
    yield grown
    grown["kB"] = _memory("VmHWM") - before


async def _lag(longest: list[float]) -> None:
    while True:
        began = perf_counter()
        await asyncio.sleep(0.001)
        longest[0] = max(longest[0], perf_counter() - began - 0.001)


@pytest.mark.parametrize(("encoding", "make"), [("gzip", gzip_bomb), ("br", brotli_bomb), ("zstd", zstd_bomb)])
async def test_bomb_is_cut(serve: Serve, ask: Ask, encoding: str, make: Callable[[], bytes]) -> None:
    bomb = make()
    assert len(bomb) < 1_000_000
    shop = await serve(page(bomb, "200 OK", f"Content-Encoding: {encoding}"))
    url = f"http://127.0.0.1:{shop.port}/"
    await ask(url)
    longest = [0.0]
    watcher = asyncio.create_task(_lag(longest))
    with _peak() as grown:
        sample = await ask(url)
    watcher.cancel()
    assert sample.reason == "too_large"
    assert grown["kB"] <= 10_000
    assert longest[0] < 0.1


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
    assert (await ask(f"https://127.0.0.1:{shop.port}/", timeout="5s")).reason == "tls_untrusted"


async def test_outdated_tls(serve: Serve, ask: Ask, certificate: Any, ca_file: str) -> None:
    context = certificate()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    shop = await serve(page(), tls=context)
    assert (await ask(f"https://127.0.0.1:{shop.port}/", tls={"ca_file": ca_file})).reason == "tls_protocol"


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
    sample = await ask(f"https://127.0.0.1:{shop.port}/", timeout="1s", expect={"max_duration": "500ms"})
    assert sample.reason == reason, sample.evidence
    assert sample.seconds < 1.5
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
        await asyncio.sleep(0.01)                # the server's own end
        assert len(_descriptors()) <= len(before)


async def test_an_unexpected_error_flies(serve: Serve, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await serve(page())

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("probes.http._addresses", broken)
    with pytest.raises(ZeroDivisionError):
        await probe(settings_of(f"http://127.0.0.1:{shop.port}/"), clients)
