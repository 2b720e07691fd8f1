"""What the probe tests put up on loopback: servers that can do everything wrong, and a name server."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from probes.http import HttpSettings

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TIMEOUT = "20s"           # of runs that come to their own end: a machine that stands still for a while is not theirs


class Shop:
    """A server whose behaviour is one coroutine; it keeps the requests that it got."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._tasks: set[asyncio.Task[Any]] = set()
        self.requests: list[str] = []
        self.port = 0
        self.met = asyncio.Event()               # somebody has connected

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.met.set()
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                await self._talk(reader, writer)
        except asyncio.CancelledError:
            return                               # the test is over
        except RuntimeError:
            if not writer.transport.is_closing():
                raise                            # else it is how uvloop says that the client has gone
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def request_of(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def settings_of(url: str, **keys: Any) -> HttpSettings:
    return HttpSettings.model_validate({"name": "p", "url": url, "timeout": TIMEOUT, **keys})


def page(body: bytes | str = b"hello", status: str = "200 OK", *headers: str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class NameServer(asyncio.DatagramProtocol):
    """Answers A and AAAA from a table; names that are not in it do not exist. `silent` ones get no answer."""

    def __init__(self, names: dict[str, list[str]], silent: frozenset[str], failing: frozenset[str]) -> None:
        self.names, self.silent, self.failing = names, silent, failing
        self.asked: list[str] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        name, end = name_at(data, 12)
        kind = struct.unpack_from("!H", data, end)[0]
        self.asked.append(name)
        if name in self.silent:
            return
        question = data[12 : end + 4]
        found = [packed(address) for address in self.names.get(name, []) if (":" in address) == (kind == 28)]
        answers = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 300, len(raw)) + raw for raw in found)
        code = 2 if name in self.failing else 0 if name in self.names else 3
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(found), 0, 0)
        assert self.transport is not None
        self.transport.sendto(head + question + answers, addr)


def name_at(data: bytes, at: int) -> tuple[str, int]:
    """A host name of a DNS message, in lower case, and where it ends."""
    labels = []
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower(), at + 1


def packed(address: str) -> bytes:
    """An address as DNS sends it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
