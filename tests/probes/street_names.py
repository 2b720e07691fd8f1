"""A name server, over UDP and TCP, that knows the shop and for other names does all that name servers can do wrong."""

import asyncio
import contextlib
import itertools
import struct
from typing import Any

from loopback import name_at, packed

_TRUNCATED, _SERVFAIL, _NXDOMAIN, _REFUSED = 0x0200, 2, 3, 5

TABLE: dict[str, list[str]] = {
    "shop.test": ["127.0.0.1"],
    "lie.test": ["127.0.0.1"],                                    # where somebody else's certificate waits
    "metadata.test": ["169.254.169.254"],
    "eyeballs.test": ["::1", "127.0.0.1"],                        # the first one is a black hole
    "thousand.test": [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(1_000)],
    "halfway.test": ["127.0.0.1"],
}
_TURNS = {"flip.test": itertools.cycle((["127.0.0.1"], ["127.0.0.5"], []))}
_CODES = {"servfail.test": _SERVFAIL, "refused.test": _REFUSED}


def reply(data: bytes, *, tcp: bool) -> bytes | None:
    """The answer to a query, or None for silence."""
    name, end = name_at(data, 12)
    kind = struct.unpack_from("!H", data, end)[0]
    question = data[12 : end + 4]
    if name.startswith("silent") or (tcp and name == "halfway.test"):
        return None
    if name == "garbage.test":
        return data[:2] + b"\xff" * 60
    if name == "foreign.test":                                    # an answer to a question that nobody asked
        return _message(bytes([data[0] ^ 0xFF, data[1]]), 0, question, [_record(kind, packed("127.0.0.1"))] if kind == 1 else [])
    if name == "circle.test":
        return _message(data[:2], 0, question, [_record(5, question[:-4])])
    if name in ("thousand.test", "halfway.test") and not tcp:
        return _message(data[:2], _TRUNCATED, question, [])
    found = next(_TURNS[name]) if name in _TURNS and kind == 1 else TABLE.get(name, [])
    code = _CODES.get(name, 0 if found or name in TABLE or name in _TURNS else _NXDOMAIN)
    records = [_record(kind, packed(address)) for address in found if (":" in address) == (kind == 28)]
    return _message(data[:2], code, question, records)


def _record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def _message(number: bytes, flags: int, question: bytes, records: list[bytes]) -> bytes:
    return number + struct.pack("!HHHHH", 0x8180 | flags, 1, len(records), 0, 0) + question + b"".join(records)


class _Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if (answer := reply(data, tcp=False)) is not None:
            self._transport.sendto(answer, addr)


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            size = struct.unpack("!H", await reader.readexactly(2))[0]
            answer = reply(await reader.readexactly(size), tcp=True)
            if answer is not None:
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
    writer.transport.abort()


async def serve_names() -> tuple[str, asyncio.Server]:
    """Start it; "address:port" of it, and the server to keep."""
    server = await asyncio.start_server(_stream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.get_running_loop().create_datagram_endpoint(_Datagrams, local_addr=("127.0.0.1", port))
    return f"127.0.0.1:{port}", server
