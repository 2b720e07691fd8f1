"""Requests that mean harm, against a real daemon: too large, too slow, too many, two in one; direct and behind nginx (T90, T91)."""

import asyncio
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from masquerade import Guest
from processes import Stopwatch, free_port, until

from monitor.web.door import MOST_CONNECTIONS

pytestmark = pytest.mark.timeout(90)

INTERVAL = 0.25          # s, of the probes that run beside
HOST = b"Host: localhost\r\n"
SECOND = b"GET /api/v1/openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /api/v1/updates HTTP/1.1\r\n" + HOST
TOKEN = b"Authorization: Bearer update-0123456789-0123456789\r\n"

SMUGGLED = {
    "CL and TE": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE and CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n",
    "chunk extension ended by LF": POST + b"Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n",
    "hexadecimal chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "unknown TE": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two TE": POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip and chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE before a space": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE in HTTP/1.0": b"POST /api/v1/updates HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "the same length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "two hosts": b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
    "the same host twice": b"GET /-/healthy HTTP/1.1\r\n" + HOST * 2 + b"\r\n",
    "no host": b"GET /-/healthy HTTP/1.1\r\n\r\n",
    "lines ended by LF": b"GET /-/healthy HTTP/1.1\nHost: localhost\n\n",
    "lines ended by CR": b"GET /-/healthy HTTP/1.1\rHost: localhost\r\r",
    "a folded header": b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "NUL in a header": b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "a header without a name": b"GET /-/healthy HTTP/1.1\r\n" + HOST + b": a\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303"),
}


async def said(port: int, request: bytes, seconds: float = 20.0) -> bytes:
    """All that is answered until the other side closes, or nothing more comes for half a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            while piece := await asyncio.wait_for(reader.read(65536), 0.5 if answer else seconds):
                answer += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


@pytest.mark.parametrize("case", SMUGGLED)
async def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_ends(daemon: Guest, case: str) -> None:
    answer = await said(daemon.port, SMUGGLED[case] + SECOND)
    assert statuses(answer) in ([400], [411]), answer[:300]
    assert b"openapi" not in answer
    assert b"application/problem+json" in answer
    assert b"aiohttp" not in answer
    assert b"Python" not in answer


async def test_what_was_sent_is_not_shown_in_the_refusal(daemon: Guest) -> None:
    """aiohttp's own answer quotes the line that it could not read; that line may be a credential."""
    for line in (b"Authorization : Bearer SECRET-0123456789", b"Authorization: Bearer " + b"SECRET-0123456789" * 600, b"SECRET-0123456789\x01: x"):
        answer = await said(daemon.port, b"GET /-/healthy HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n")
        assert statuses(answer) in ([400], [431])
        assert b"SECRET" not in answer
    assert "SECRET" not in (daemon.folder / "daemon.log").read_text()


@pytest.mark.parametrize(("request_", "status"), [
    (POST + TOKEN + b"Content-Length: 10000000000\r\n\r\n" + b"x" * 100_000, 413),
    (POST + TOKEN + b"Content-Length: 65537\r\n\r\n", 413),
    (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    (b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: y\r\n" % number for number in range(10_000)) + b"\r\n", 431),
    (b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 9000 + b"\r\n\r\n", 431),
    (b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    (POST + b"Authorization: Bearer " + b"x" * 1_000_000 + b"\r\nContent-Length: 2\r\n\r\n{}", 431),
    (POST + TOKEN + b"Content-Length: 2\r\nContent-Encoding: br\r\n\r\n{}", 415),
])
async def test_limits(daemon: Guest, request_: bytes, status: int) -> None:
    """Said before the body is read, and the connection is closed."""
    answer = await said(daemon.port, request_)
    assert statuses(answer) == [status]
    if status not in {400, 431}:
        assert b"onnection: close" in answer or answer.startswith(b"HTTP/1.0")


async def test_a_bomb_is_not_unpacked(daemon: Guest) -> None:
    before, bomb = memory(daemon), gzip.compress(b" " * 60_000_000)
    assert len(bomb) < 64 * 1024
    head = POST + TOKEN + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    answers = await asyncio.gather(*(said(daemon.port, head + bomb) for _ in range(20)))
    assert {status for answer in answers for status in statuses(answer)} == {415}
    assert memory(daemon) - before < 20


def memory(daemon: Guest) -> float:
    """Resident, MB."""
    assert daemon.process
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{daemon.process.pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def missed(daemon: Guest) -> float:
    lines = daemon.get("/metrics").splitlines()
    return sum(float(line.rsplit(b" ", 1)[1]) for line in lines if line.startswith(b"tillwatch_scheduler_missed_total{"))


def on_time(daemon: Guest, before: float, watch: Stopwatch) -> bool:
    """No run was left out since `before`, but for what the machine withheld: of each that was, half its interval at least."""
    return (missed(daemon) - before) * INTERVAL / 2 <= watch.kept


def stopwatch(daemon: Guest) -> Stopwatch:
    """Less what was withheld from all that take part: ourselves, the daemon's event loop, and the shop that it probes, a thread of ours."""
    assert daemon.process
    return Stopwatch(daemon.process.pid, daemon.shop)


def busy(daemon: Guest) -> float:
    """Seconds for which this thread and the daemon, all its threads, have had the processor so far."""
    assert daemon.process
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return time.thread_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(daemon: Guest) -> int:
    assert daemon.process
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


async def healthy(daemon: Guest, times: int, pause: float = 0.0) -> list[float]:
    """How long each answer took, s, less what was withheld; each on a connection of its own."""
    took = []
    with stopwatch(daemon) as watch:
        for _ in range(times):
            watch.again()
            answer = await said_once(daemon.port)
            took.append(watch())
            assert answer.startswith(b"HTTP/1.1 200"), answer[:100]
            await asyncio.sleep(pause)
    return sorted(took)


async def said_once(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def lorises(port: int, number: int, begin: bytes) -> AsyncIterator[list[asyncio.StreamReader]]:
    """That many connections, each dripping a byte every half second."""
    found = [await asyncio.open_connection("127.0.0.1", port) for _ in range(number)]

    async def drip(writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(begin)
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.5)
        except ConnectionError:
            pass
    tasks = [asyncio.create_task(drip(writer)) for _, writer in found]
    try:
        yield [reader for reader, _ in found]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in found:
            writer.transport.abort()


@pytest.mark.parametrize("begin", [b"GET /-/healthy HTTP/1.1\r\nX: ", POST + TOKEN + b"Content-Length: 60000\r\n\r\n"])
async def test_five_hundred_that_drip_keep_nobody_out(daemon: Guest, begin: bytes) -> None:
    before, late = memory(daemon), missed(daemon)
    with stopwatch(daemon) as watch:
        async with lorises(daemon.port, 500, begin):
            took = await healthy(daemon, 40, 0.02)
            assert took[-4] < 0.1, took
            assert memory(daemon) - before < 20
            assert open_files(daemon) < MOST_CONNECTIONS + 60
        assert on_time(daemon, late, watch)


async def test_a_head_or_a_body_that_never_ends_is_given_up(daemon: Guest) -> None:
    async with lorises(daemon.port, 5, b"GET /-/healthy HTTP/1.1\r\nX: ") as readers:
        begun = time.monotonic()
        with stopwatch(daemon) as watch:
            late = asyncio.create_task(said(daemon.port, POST + TOKEN + b"Content-Length: 30\r\n\r\n{}", 40.0))      # 28 bytes are missing
            assert await asyncio.wait_for(asyncio.gather(*(reader.read() for reader in readers), return_exceptions=True), 40)
            assert time.monotonic() - begun > 8
            assert watch() < 13
        assert statuses(await late) == [408]


async def test_a_thousand_requests_a_second_do_no_harm(daemon: Guest) -> None:
    """Ten clients as fast as they can; then what the others notice of it. So many a second of the processors' time, which others want too."""
    before, late, over, count = memory(daemon), missed(daemon), asyncio.Event(), 0

    async def hammer() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        while not over.is_set():
            begun = time.perf_counter()
            writer.write(b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"\r\n")
            await reader.readuntil(b'"}')
            count += 1
            await asyncio.sleep(max(0.0, 0.01 - (time.perf_counter() - begun)))
        writer.close()
    with stopwatch(daemon) as watch:
        clients, begun = [asyncio.create_task(hammer()) for _ in range(10)], busy(daemon)
        took = await healthy(daemon, 100, 0.02)
        over.set()
        await asyncio.gather(*clients)
        assert count / (busy(daemon) - begun) > 300          # the clients' own share included
        assert took[-2] < 0.1, took[-5:]
        assert memory(daemon) - before < 20
        assert on_time(daemon, late, watch)


# ---- behind nginx

NGINX = """
daemon off; pid {dir}/pid; error_log {dir}/error.log;
events {{ }}
http {{
  access_log off; client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
  upstream till {{ server 127.0.0.1:{port}; keepalive 4; }}
  server {{ listen 127.0.0.1:{own}; location / {{ proxy_pass http://till; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host till.example; proxy_request_buffering off; }} }}
}}
"""


@pytest.fixture(scope="module")
def nginx(daemon: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed: smuggling through a reverse proxy is NOT tested here")
    folder, own = tmp_path_factory.mktemp("nginx"), free_port()
    (folder / "nginx.conf").write_text(NGINX.format(dir=folder, port=daemon.port, own=own))
    running = subprocess.Popen([program, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", own)) == 0, 30, "nginx")
        yield own
    finally:
        running.terminate()
        running.wait(10)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_behind_nginx_no_request_is_answered_twice(daemon: Guest, nginx: int) -> None:
    """Whatever nginx passes on, what follows is nobody else's answer: a witness on the same upstream connections hears its own alone."""
    for case, request in SMUGGLED.items():
        answer = await said(nginx, request + b"GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n", 3.0)
        assert len(statuses(answer)) <= 2, (case, answer)
        witness = await said(nginx, b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert statuses(witness) == [200], (case, witness)
        assert json.loads(witness.partition(b"\r\n\r\n")[2].strip())["healthy"], case
