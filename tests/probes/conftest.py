"""Fixtures of the probe tests: raw servers, certificates of any kind, a name server, and the probe itself."""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import trustme
import uvloop
from loopback import NameServer, Shop, Talk, request_of, settings_of

from probes.clients import Clients
from probes.http import probe
from probes.sample import Sample


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The connector drives sockets itself: what it does with a hostile server is tested on both event loops."""
    if item.path.name == "test_street.py":
        return {"uvloop": uvloop.new_event_loop}         # as the daemon runs
    both = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return both if item.path.name == "test_http_hostile.py" else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Shop]]]:
    """serve(talk) starts a raw server; serve(b"...") one that answers every request with these bytes and closes."""
    running: list[tuple[asyncio.Server, Shop]] = []

    async def start(talk: Talk | bytes, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> Shop:
        async def fixed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            shop.requests.append(await request_of(reader))
            writer.write(talk)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(0)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

        shop = Shop(fixed if isinstance(talk, bytes) else talk)
        server = await asyncio.start_server(shop.handle, host, port, ssl=tls, ssl_handshake_timeout=20 if tls else None)
        shop.port = server.sockets[0].getsockname()[1]
        running.append((server, shop))
        return shop

    yield start
    for server, shop in running:
        server.close()
        await shop.stop()


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async with Clients() as shared:
        yield shared


@pytest.fixture
def ask(clients: Clients) -> Callable[..., Awaitable[Sample]]:
    """ask(url, **settings) runs the probe once."""

    async def once(url: str, **keys: Any) -> Sample:
        return await probe(settings_of(url, **keys), clients)

    return once


# Certificates --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA) -> Callable[..., ssl.SSLContext]:
    """A server context with a certificate for these names, valid from and for the given days."""

    def make(*names: str, starts: float = -1, days: float = 30, ca: trustme.CA | None = None) -> ssl.SSLContext:
        now = dt.datetime.now(dt.UTC)
        begin, end = now + dt.timedelta(days=starts), now + dt.timedelta(days=days)
        issued = (ca or authority).issue_cert(*(names or ("127.0.0.1",)), not_before=begin, not_after=end)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        return context

    return make


# Names ---------------------------------------------------------------------------------------------------------------

@pytest.fixture
async def names() -> AsyncIterator[Callable[..., Awaitable[tuple[NameServer, Clients]]]]:
    """names({...}) starts a name server and gives Clients that ask it."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            table: dict[str, list[str]], *, silent: frozenset[str] = frozenset(), failing: frozenset[str] = frozenset(),
            kind: type[NameServer] = NameServer,
        ) -> tuple[NameServer, Clients]:
            loop = asyncio.get_running_loop()
            transport, server = await loop.create_datagram_endpoint(
                lambda: kind(table, silent, failing), local_addr=("127.0.0.1", 0),
            )
            stack.callback(transport.close)
            port = transport.get_extra_info("sockname")[1]
            return server, await stack.enter_async_context(Clients(nameservers=[f"127.0.0.1:{port}"]))

        yield start
