"""Servers on loopback that note who comes: some a browser may reach, some it may not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

WORKER = b"""
self.addEventListener("install", () => self.skipWaiting())
self.addEventListener("activate", event => event.waitUntil(clients.claim()))
self.addEventListener("message", async event => {
  const told = {}
  for (const url of event.data) { try { await fetch(url, {mode: "no-cors"}); told[url] = true } catch { told[url] = false } }
  event.source.postMessage(told)
})
"""


@dataclass
class Seen:
    """What arrived: the host that was asked for, by place."""

    port: int = 0
    asked: dict[str, list[str]] = field(default_factory=dict)

    def note(self, place: str, what: str) -> None:
        self.asked.setdefault(place, []).append(what)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._seen.note("udp", data[:8].hex())


@asynccontextmanager
async def street() -> AsyncIterator[Seen]:
    """One port on 127.0.0.1 and ::1, where the shop is, on 127.0.0.2, TCP and UDP, where nobody should come, and a proxy at 127.0.0.3."""
    seen = Seen()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await asyncio.wait_for(reader.read(65536), 20)).decode("latin-1")
            host = next((line.partition(" ")[2] for line in head.splitlines() if line.lower().startswith("host:")), "")
            seen.note(writer.get_extra_info("sockname")[0], f"{host.rpartition(':')[0]} {head.partition(chr(13))[0]}")
            kind, body = ("text/javascript", WORKER) if " /worker.js" in head else ("text/html", b"<!doctype html><title>shop</title>")
            where = head.partition("to=")[2].partition(" ")[0]
            status = f"302 Found\r\nLocation: {where}" if where else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()
    async with AsyncExitStack() as stack:
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3", *(["::1"] if _has_ipv6() else [])):
            server = await stack.enter_async_context(await asyncio.start_server(serve, host, seen.port))
            seen.port = server.sockets[0].getsockname()[1]
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Datagrams(seen), local_addr=("127.0.0.2", seen.port))
        stack.callback(transport.close)
        yield seen


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True
