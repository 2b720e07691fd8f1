"""A street of servers on loopback, in a process of its own, so that its CPU and memory are not the monitor's.

    python street.py healthy|hostile FOLDER

`healthy` has 100 shops and the name server, `hostile` everything that a target can do wrong. Prints one line of JSON: the
address of the name server if it has one, and the targets. Ends when its standard input ends. FOLDER takes certificates.
"""

import asyncio
import contextlib
import gzip
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop
from loopback import Shop, Talk, page, request_of
from street_names import serve_names
from street_tls import HOST, Certificates, faulty
from villains import FLOODS, HOSTILE, brotli_bomb, flood, gzip_bomb, silent, zstd_bomb

PLAIN, SECURE = 60, 40      # healthy shops
SHORT, LONG = "2s", "4s"    # time-outs: of targets that use theirs up, and of all others
_SPENT = {"timeout", "dns_timeout", "connect_timeout"}

_NASTY = {"expect": {"body_matches": ["(a+)+$", "(.*a){20}$", "(a?){900}", "(x+x+)*a"]}}
_JSON = {"expect": {"json": {"a": 1}}}
_TEXT = {"expect": {"body_contains": ["übrig"]}}
PAGES: list[tuple[str, bytes, str, dict[str, Any]]] = [
    ("is a trap for (a+)+$", page(b"a" * 65_536 + b"!"), "body", _NASTY),
    ("is a trap for (a+)+$ that matches, 1.9 MB", page(b"a" * 1_900_000), "", _NASTY),
    ("is JSON a million levels deep", page(b"[" * 1_000_000), "json", _JSON),
    ("is JSON of 600,000 lists", page(b"[" + b"[]," * 600_000 + b"[]]"), "json", _JSON),
    ("is JSON with a number of 1.9 MB", page(b'{"a":0.' + b"1" * 1_900_000 + b"}"), "json", _JSON),
    ("is all titles", page(b"<title" * 300_000), "body", _TEXT),
    ("is no Chinese but says so", page(b"\xff" * 1_900_000, "200 OK", "Content-Type: text/html; charset=gb18030"), "body", _TEXT),
    ("is a refusal full of half markers", page(b"_incapsula_resource?" * 2_000, "403 Forbidden"), "status", {}),
    ("sets 120 cookies of 8 kB and goes round",
     page("", "302 Found", "Location: /", *(f"Set-Cookie: c{n}={'; ' * 4_000}" for n in range(120))), "redirects", {}),
    ("redirects to 4,000 letters", page("", "302 Found", f"Location: http://{'ü' * 4_000}.example/"), "redirects", {}),
]


class Street:
    """The servers that run, and what a probe is to make of each."""

    def __init__(self, folder: Path) -> None:
        self.made = Certificates(folder)
        self.targets: list[dict[str, Any]] = []
        self._kept: list[Any] = []

    async def serve(self, talk: Talk | bytes, tls: ssl.SSLContext | None = None) -> int:
        """A server on a port of its own."""
        shop = Shop(_fixed(talk) if isinstance(talk, bytes) else talk)
        server = await asyncio.start_server(shop.handle, HOST, 0, ssl=tls, ssl_handshake_timeout=20 if tls else None)
        self._kept.append(server)
        return int(server.sockets[0].getsockname()[1])

    def target(self, name: str, url: str, *reasons: str, **keys: Any) -> None:
        """A target to probe, and the reasons that are right for it."""
        timeout = SHORT if _SPENT & set(reasons) else LONG
        self.targets.append({"name": name, "url": url, "reasons": reasons, "keys": {"timeout": timeout, **keys}})

    def closed_port(self) -> int:
        """A port where nobody listens, and where nobody else will."""
        sock = socket.socket()
        sock.bind((HOST, 0))
        self._kept.append(sock)
        return int(sock.getsockname()[1])

    def black_hole(self, host: str, port: int = 0) -> int:
        """A port that lets connections wait for ever: its queue is full, so that further SYNs are dropped."""
        hole = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        hole.bind((host, port))
        hole.listen(0)
        self._kept.append(hole)
        for _ in range(4):
            filler = socket.socket(hole.family)
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
            self._kept.append(filler)
        return int(hole.getsockname()[1])


def _fixed(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return talk


async def healthy(street: Street) -> str:
    """100 shops, plain and TLS, by address and by name. The address of the name server."""
    names, server = await serve_names()
    street.targets, kept = [], server
    body = b"<title>Shop</title>" + b"<p>something to buy</p>" * 900 + b"in stock"
    talk = page(gzip.compress(body), "200 OK", "Content-Encoding: gzip", "Content-Type: text/html; charset=utf-8")
    plain, secure = await street.serve(talk), await street.serve(talk, street.made.good(HOST, "shop.test"))
    keys = {"timeout": "5s", "expect": {"body_contains": ["in stock"], "body_matches": ["buy.*in stock$"]}}
    for number in range(PLAIN + SECURE):
        host = "shop.test" if number % 2 else HOST
        if number < PLAIN:
            street.target(f"shop {number}", f"http://{host}:{plain}/{number}", "", **keys)
        else:
            street.target(f"shop {number}", f"https://{host}:{secure}/{number}", "", **keys, tls={"ca_file": street.made.ca_file})
    with contextlib.suppress(OSError):                             # a machine without IPv6
        street.black_hole("::1", plain)
        street.targets[0] |= {"name": "shop behind a silent IPv6 address", "url": f"http://eyeballs.test:{plain}/"}
    assert kept.is_serving()
    return names


async def hostile(street: Street) -> str:
    """Everything else. Behind the others in line for the processor: real shops do not share one with their neighbours."""
    os.nice(10)
    for name, server, reason in [*HOSTILE, *_moving()]:
        street.target(f"http: {name}", f"http://{HOST}:{await street.serve(server)}/", reason)
    for name, first, again in FLOODS:
        street.target(f"http: {name}", f"http://{HOST}:{await street.serve(flood(first, again))}/", "protocol")
    going_on = flood(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"x" * 65_536)     # whether it is noticed depends on the packets
    street.target("http: goes on after the page", f"http://{HOST}:{await street.serve(going_on)}/", "", "protocol")
    for encoding, bomb in (("gzip", gzip_bomb()), ("br", brotli_bomb()), ("zstd", zstd_bomb())):
        port = await street.serve(page(bomb, "200 OK", f"Content-Encoding: {encoding}"))
        street.target(f"http: is a {encoding} bomb", f"http://{HOST}:{port}/", "too_large")
    for name, answer, reason, keys in PAGES:
        street.target(f"page: {name}", f"http://{HOST}:{await street.serve(answer)}/", reason, **keys)
    street.target("http: has its port closed", f"http://{HOST}:{street.closed_port()}/", "connect_refused")
    street.target("http: drops the SYN", f"http://{HOST}:{street.black_hole(HOST)}/", "connect_timeout")
    await _secure(street)
    await _named(street)
    return ""


def _moving() -> Iterator[tuple[str, Talk, str]]:
    """Servers whose redirects depend on where one is."""
    async def onward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await request_of(reader)).split()[1]
        writer.write(page("", "302 Found", f"Location: {path}x"))
        await writer.drain()

    async def circle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await request_of(reader)).split()[1]
        writer.write(page("", "302 Found", "Location: /b" if path == "/a" else "Location: /a"))
        await writer.drain()

    yield "redirects on and on", onward, "redirects"
    yield "redirects in a circle of two", circle, "redirects"


async def _secure(street: Street) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        for byte in b"\x16\x03\x03\x40\x00" + bytes(1_000):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(page())
        await writer.drain()

    trust = {"ca_file": street.made.ca_file}
    page_of_shop = page()
    for name, context, reason, keys in faulty(street.made):
        port = await street.serve(page_of_shop, context)
        street.target(f"tls: a certificate {name}", f"https://{HOST}:{port}/", reason, tls=trust | keys)
    for name, talk, reason in (("hangs", silent, "timeout"), ("drips", drip, "timeout"), ("closes", close, "tls_protocol"),
                               ("speaks plain HTTP", plain, "tls_protocol")):
        street.target(f"tls: a handshake that {name}", f"https://{HOST}:{await street.serve(talk)}/", reason, tls=trust)


async def _named(street: Street) -> None:
    here = await street.serve(page())
    for number in range(8):
        street.target(f"dns: never answers ({number})", f"http://silent{number}.test:{here}/", "dns_timeout")
    street.target("dns: stops answering over TCP", f"http://halfway.test:{here}/", "dns_timeout")
    street.target("dns: answers another question", f"http://foreign.test:{here}/", "dns_timeout", "dns")
    street.target("dns: answers garbage", f"http://garbage.test:{here}/", "dns_timeout", "dns")
    for name in ("servfail", "refused", "circle", "none"):
        street.target(f"dns: {name}", f"http://{name}.test:{here}/", "dns")
    street.target("dns: has 1,000 addresses, and nobody is there", f"http://thousand.test:{street.closed_port()}/", "connect_refused")
    street.target("dns: says something else each time", f"http://flip.test:{here}/", "", "connect_refused", "dns")
    port = await street.serve(page(), street.made.good())
    street.target("dns: leads to somebody else's server", f"https://lie.test:{port}/", "tls_hostname", tls={"ca_file": street.made.ca_file})
    port = await street.serve(page("", "302 Found", "Location: http://metadata.test/latest/"))
    street.target("dns: a redirect's name leads to cloud metadata", f"http://{HOST}:{port}/", "redirects")


async def main(role: str, folder: Path) -> None:
    street = Street(folder)
    names = await (healthy if role == "healthy" else hostile)(street)
    print(json.dumps({"names": names, "targets": street.targets}), flush=True)
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(gone.set)

    threading.Thread(target=wait, daemon=True).start()
    await gone.wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
