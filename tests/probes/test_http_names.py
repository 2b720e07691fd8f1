"""Names and addresses: how the http probe finds the server, and what it says when it does not."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loopback import NameServer, Shop, page, settings_of

from probes.clients import Clients
from probes.http import probe
from probes.sample import Outcome, Sample

Serve = Callable[..., Awaitable[Shop]]
Names = Callable[..., Awaitable[tuple[NameServer, Clients]]]

async def test_names(serve: Serve, names: Names) -> None:
    shop = await serve(page())
    server, clients = await names(
        {"shop.test": ["127.0.0.1"], "v6.test": ["::1"]}, silent=frozenset({"silent.test"}), failing=frozenset({"failing.test"}),
    )

    async def ask(host: str, **keys: Any) -> Sample:
        return await probe(settings_of(f"http://{host}:{shop.port}/", **keys), clients)

    found = await ask("shop.test")
    assert found.outcome is Outcome.OK, found.evidence
    assert found.values["resolve"] == found.facts["dns_lookup"] > 0
    assert (await ask("none.test")).reason == "dns"
    assert (await ask("failing.test", timeout="10s")).reason == "dns"
    assert (await ask("shop.test", ip_family="ipv6")).reason == "dns"
    assert (await ask("127.0.0.1", ip_family="ipv6")).reason == "dns"
    asked = len(server.asked)
    assert (await ask("127.0.0.1")).outcome is Outcome.OK
    assert len(server.asked) == asked


async def test_silent_name_server(names: Names) -> None:
    _, clients = await names({}, silent=frozenset({"silent.test", "other.test"}))
    soon, late = await asyncio.gather(
        probe(settings_of("http://silent.test/", timeout="500ms"), clients),
        probe(settings_of("http://other.test/", timeout="10s"), clients),
    )
    assert (soon.reason, late.reason) == ("dns_timeout", "dns_timeout")
    assert soon.seconds == pytest.approx(0.5, abs=0.2)
    assert late.seconds < 5
    assert late.values["resolve"] == pytest.approx(late.seconds, abs=0.1)


async def test_every_look_up_is_measured(serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.clients._DNS_CHANNEL", 0.0)
    shop = await serve(page())
    server, clients = await names({"shop.test": ["127.0.0.1"]}, silent=frozenset({"silent.test"}))
    stuck = asyncio.create_task(probe(settings_of("http://silent.test/", timeout="1s"), clients))
    for _ in range(3):
        assert (await probe(settings_of(f"http://shop.test:{shop.port}/"), clients)).outcome is Outcome.OK
    assert server.asked.count("shop.test") >= 3
    assert (await stuck).reason == "dns_timeout"


async def test_no_name_server_is_ours() -> None:
    async with Clients(nameservers=["127.0.0.1:1"]) as clients:
        sample = await probe(settings_of("http://shop.test/", timeout="8s"), clients)
    assert (sample.reason, sample.outcome) == ("local_network", Outcome.BROKEN), sample.evidence


async def test_every_address_is_tried(serve: Serve, names: Names) -> None:
    shop = await serve(page())
    _, clients = await names({"shop.test": ["127.0.0.3", "127.0.0.4", "127.0.0.1"]})
    sample = await probe(settings_of(f"http://shop.test:{shop.port}/"), clients)
    assert sample.outcome is Outcome.OK, sample.evidence
    refused = await probe(settings_of("http://shop.test:1/"), clients)
    assert refused.reason == "connect_refused", refused.evidence


async def test_a_black_holed_address_costs_little(serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await serve(page())
    with socket.socket() as hole:
        hole.bind(("127.0.0.9", shop.port))
        hole.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
            fillers.append(filler)
        _, clients = await names({"shop.test": ["127.0.0.9", "127.0.0.1"]})
        sample = await probe(settings_of(f"http://shop.test:{shop.port}/"), clients)
        for filler in fillers:
            filler.close()
    assert sample.outcome is Outcome.OK, sample.evidence
    assert sample.values["connect"] < 0.35
