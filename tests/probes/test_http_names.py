"""Names and addresses: how the http probe finds the server, and what it says when it does not."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loopback import NameServer, Shop, name_at, page, settings_of
from neighbourhood import threads
from processes import Stopwatch

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
    assert (await ask("failing.test")).reason == "dns"
    assert (await ask("shop.test", ip_family="ipv6")).reason == "dns"
    assert (await ask("127.0.0.1", ip_family="ipv6")).reason == "dns"
    asked = len(server.asked)
    assert (await ask("127.0.0.1")).outcome is Outcome.OK
    assert len(server.asked) == asked


async def test_silent_name_server(names: Names) -> None:
    _, clients = await names({}, silent=frozenset({"silent.test", "other.test"}))
    with Stopwatch() as watch:
        soon, late = await asyncio.gather(
            probe(settings_of("http://silent.test/", timeout="500ms"), clients),
            probe(settings_of("http://other.test/"), clients),
        )
        kept = watch.kept
    assert (soon.reason, late.reason) == ("dns_timeout", "dns_timeout")
    assert 0.3 < soon.seconds < 0.7 + kept
    assert late.seconds < 5 + kept
    assert late.values["resolve"] == pytest.approx(late.seconds, abs=0.1 + kept)


class Slow(NameServer):
    """Takes its time for the names that are not in its cache, as a name server does: the first label says how many ms."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        first = name_at(data, 12)[0].partition(".")[0]
        wait = float(first) / 1000 if first.isdigit() else 0.0
        asyncio.get_running_loop().call_later(wait, super().datagram_received, data, addr)


async def test_a_slow_answer_is_waited_for(serve: Serve, names: Names) -> None:
    """Also when all answers before it came at once."""
    shop = await serve(page())
    server, clients = await names({"shop.test": ["127.0.0.1"], "800.test": ["127.0.0.1"], "2000.test": ["127.0.0.1"]}, kind=Slow)
    with Stopwatch() as watch:                   # also of the answers before: by them c-ares learns how long to wait
        for number in range(8):
            assert (await probe(settings_of(f"http://none{number}.test/"), clients)).reason == "dns"
        assert len(server.asked) >= 16
        slow = [settings_of(f"http://{name}.test:{shop.port}/") for name in ("800", "2000")]
        for sample in await asyncio.gather(*(probe(settings, clients) for settings in slow)):
            assert sample.outcome is Outcome.OK, sample.evidence
            assert sample.seconds < 3 + watch.kept


class HalfSlow(NameServer):
    """Takes its time for IPv4 addresses only."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        name, end = name_at(data, 12)
        wait = 0.8 if name == "shop.test" and data[end : end + 2] == b"\0\1" else 0.0
        asyncio.get_running_loop().call_later(wait, super().datagram_received, data, addr)


async def test_one_address_family_is_not_taken_for_all(serve: Serve, names: Names) -> None:
    shop = await serve(page())
    _, clients = await names({"shop.test": ["127.0.0.1", "::1"]}, kind=HalfSlow)        # nobody listens on ::1
    for number in range(8):
        assert (await probe(settings_of(f"http://none{number}.test/"), clients)).reason == "dns"
    sample = await probe(settings_of(f"http://shop.test:{shop.port}/"), clients)
    assert sample.outcome is Outcome.OK, sample.evidence


class Garbled(NameServer):
    """Answers one name with garbage, and another one a little later."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if name_at(data, 12)[0] == "garbled.test":
            assert self.transport is not None
            self.transport.sendto(data[:2] + b"\xff" * 60, addr)
        else:
            asyncio.get_running_loop().call_later(0.05, super().datagram_received, data, addr)


async def test_garbage_harms_nobody_else(serve: Serve, names: Names) -> None:
    shop = await serve(page())
    _, clients = await names({"shop.test": ["127.0.0.1"]}, kind=Garbled)
    good, bad = await asyncio.gather(*(probe(settings_of(f"http://{name}.test:{shop.port}/"), clients) for name in ("shop", "garbled")))
    assert good.outcome is Outcome.OK, good.evidence
    assert bad.reason in ("dns", "dns_timeout")


async def test_fifty_silent_names_delay_nobody(serve: Serve, names: Names) -> None:
    shop = await serve(page())
    silent = [f"silent{number}.test" for number in range(50)]
    _, clients = await names({"shop.test": ["127.0.0.1"]}, silent=frozenset(silent))
    settings = settings_of(f"http://shop.test:{shop.port}/")
    before = threads()
    with Stopwatch() as watch:
        stuck = [asyncio.create_task(probe(settings_of(f"http://{name}/"), clients)) for name in silent]
        await asyncio.sleep(0)
        runs = 0
        while not all(task.done() for task in stuck):
            sample = await probe(settings, clients)
            assert sample.outcome is Outcome.OK, sample.evidence
            runs += 1
            await asyncio.sleep(0.01)
        assert runs > 50 / 4.5 * watch()         # 50 in the 4.5 s that the others take, if the machine gives us those
        for sample in await asyncio.gather(*stuck):
            assert sample.reason == "dns_timeout"
            assert sample.seconds < 5 + watch.kept
    async with asyncio.timeout(20):
        while threads() >= before + 10:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)


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
        sample = await probe(settings_of("http://shop.test/"), clients)
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
        with Stopwatch() as watch:
            sample = await probe(settings_of(f"http://shop.test:{shop.port}/"), clients)
            kept = watch.kept
        for filler in fillers:
            filler.close()
    assert sample.outcome is Outcome.OK, sample.evidence
    assert sample.values["connect"] < 0.35 + kept
