"""Whose network is gone: pure decisions, and two hosts with a cable between them that is pulled out."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from netns import OUTSIDE, Cable, cable, run, stop
from processes import Stopwatch

from monitor.clock import ManualClock
from monitor.uplink import GAP_SECONDS, SETTLE_SECONDS, Uplink, address, answers, has_route, is_lost, is_near
from probes.clients import Resolver
from probes.sample import Outcome, Sample

A, B = ("1.1.1.1", 53), ("status.psp.example", 443)
FAILED = Sample("home", Outcome.FAILED, reason="connect_timeout")
SERVE = "import http.server, sys; http.server.ThreadingHTTPServer(('', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"


@pytest.mark.parametrize(("answered", "witnesses", "routeless", "lost"), [
    ((), (A, B), False, True),              # all were there, and none is
    ((B,), (A, B), False, False),           # one answers: the network is there
    ((B,), (A,), False, False),             # even one that did not answer before
    ((), (), False, False),                 # without a witness it is never lost: a masked outage is worse than a false one
    ((), (), True, True),                   # the default route has gone
    ((A,), (A,), True, False),              # and somebody answers all the same
])
def test_when_the_network_is_lost(answered: Any, witnesses: Any, routeless: bool, lost: bool) -> None:
    assert is_lost(answered, witnesses, routeless=routeless) is lost


@pytest.mark.parametrize(("text", "found"), [
    ("1.1.1.1:53", ("1.1.1.1", 53)), ("[2606:4700::1111]:53", ("2606:4700::1111", 53)), ("https://a.example/x?y", ("a.example", 443)),
    ("http://a.example", ("a.example", 80)), ("https://a.example:8443", ("a.example", 8443)), ("dns.example:853", ("dns.example", 853)),
])
def test_an_address_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert address(text) == found


@pytest.mark.parametrize("text", ["", "1.1.1.1", "host", "host:0", "host:99999", "host:x", ":53", "ftp://a.example", "a b:53", "https://"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|[Pp]ort"):
        address(text)


def test_this_machine_is_no_witness_for_its_own_network() -> None:
    near = ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "shop.localhost", "::ffff:127.0.0.1")
    far = ("10.0.0.1", "128.0.0.1", "local.example", "2001:db8::1", "127.example")
    assert [is_near(host) for host in near] == [True] * len(near)
    assert [is_near(host) for host in far[:-1]] == [False] * (len(far) - 1)


async def test_only_runs_that_failed_as_without_a_network_raise_doubt() -> None:
    uplink = Uplink([A], ManualClock(), near={"local"})
    for outcome, reason, probe in ((Outcome.OK, "", "home"), (Outcome.FAILED, "status", "home"), (Outcome.FAILED, "connect_refused", "home"),
                                   (Outcome.FAILED, "timeout", "local"), (Outcome.BROKEN, "challenged", "home")):
        assert uplink.note(Sample(probe, outcome, reason=reason)) is False
        assert not uplink._doubt.is_set()
    assert uplink.note(FAILED) is False
    assert uplink._doubt.is_set()
    uplink.since = 5.0
    assert uplink.note(FAILED) is True
    assert uplink.note(Sample("home", Outcome.FAILED, reason="status")) is False         # whoever answers is there
    assert uplink.note(Sample("local", Outcome.FAILED, reason="timeout")) is False


def test_a_run_that_began_before_the_network_was_back_says_nothing_of_the_shop() -> None:
    """The witness answers again a moment before a page does: "no route to host" of a neighbour that had been given up is not the shop's."""
    clock = ManualClock()
    uplink = Uplink([A], clock)
    uplink._rule(frozenset({A}))
    uplink._rule(frozenset())
    uplink._rule(frozenset({A}))
    assert not uplink.lost
    assert uplink.note(replace(FAILED, started=clock.now() - 0.3)) is True
    assert uplink.note(replace(FAILED, started=clock.now() + SETTLE_SECONDS)) is False


async def test_a_refusal_is_an_answer_and_silence_is_none() -> None:
    with socket.socket() as listening, socket.socket() as closed:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        closed.bind(("127.0.0.1", 0))
        for endpoint in (listening, closed):
            assert await answers([(socket.AF_INET, socket.SOCK_STREAM, 6, "", endpoint.getsockname())])


async def test_a_witness_that_was_never_reached_tells_nothing() -> None:
    """And one on this machine is not asked at all."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        uplink = Uplink([("localhost", listening.getsockname()[1]), ("127.0.0.1", listening.getsockname()[1])], ManualClock())
        uplink._resolver = Resolver()
        uplink._rule(await uplink._ask(0.0))
        assert not uplink.witnesses
        assert not uplink.lost
        listening.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listening.accept()
        await uplink._resolver.close()


def test_witnesses_are_forgotten_with_the_configuration() -> None:
    uplink = Uplink([A, B], ManualClock())
    uplink._rule(frozenset({A, B}))
    uplink.change([B])
    assert uplink.witnesses == {B}
    uplink._rule(frozenset())
    assert (uplink.lost, uplink.since) == (True, ManualClock().now())
    uplink._rule(frozenset({B}))
    assert (uplink.lost, uplink.since) == (False, None)


async def test_another_page_that_answers_is_a_witness() -> None:
    """The shop's payment service is gone together with the only witness, and its pictures are still served: an outage, not our network."""
    clock = ManualClock()
    uplink = Uplink([], clock, near={"local"})
    uplink._witnesses, uplink._resolver = frozenset({A}), Resolver()
    pictures = [Sample("pictures", Outcome.OK), Sample("pictures", Outcome.FAILED, reason="status")]
    for answered in pictures:
        earlier = replace(answered, started=clock.now())
        uplink.note(FAILED)
        clock.at += 1.0
        silent = await uplink._ask(0.0)
        uplink.note(earlier)                                                     # begun before the doubt: the network may have gone since
        clock.at += 1.0
        for deaf in (Sample("local", Outcome.OK), Sample("pictures", Outcome.BROKEN, reason="settings"), FAILED):
            assert uplink.note(replace(deaf, started=clock.now())) is False
        uplink._rule(silent)
        assert uplink.lost
        assert uplink.note(replace(FAILED, started=clock.now())) is True
        assert uplink.note(replace(answered, started=clock.now())) is False
        assert not uplink.lost                                                   # at once
        assert uplink._doubt.is_set()                                            # and the witnesses are asked again soon
        assert uplink.witnesses == set()
        uplink._rule(await uplink._ask(0.0))
        assert not uplink.lost                                                   # they are still silent, and not believed
        uplink._witnesses = frozenset({A})
    clock.at += 1.0
    silent = await uplink._ask(0.0)
    clock.at += 1.0
    uplink.note(replace(pictures[0], started=clock.now()))
    uplink._rule(silent)
    assert not uplink.lost                                                       # heard while they were asked
    await uplink._resolver.close()


# ---- two hosts and a cable -------------------------------------------------------------------------------------------


def until(true: Callable[[], Any], seconds: float, log: Path) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not in time:\n{log.read_text()}"
        time.sleep(0.05)
    return found


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable() as found:
        yield found


def serving(wire: Cable, port: int, log: Path) -> subprocess.Popen[bytes]:
    process = wire.start(wire.outside, "-c", SERVE, str(port), log=log)
    answer = ["ip", "netns", "exec", wire.outside, sys.executable, "-c", f"import socket; socket.create_connection(('{OUTSIDE}', {port}), 1)"]
    until(lambda: subprocess.run(answer, check=False, capture_output=True).returncode == 0, 20, log)
    return process


def watching(wire: Cable, log: Path, *witnesses: str) -> subprocess.Popen[bytes]:
    return wire.start(wire.watcher, str(Path(__file__).with_name("uplink_watcher.py")), *witnesses, log=log)


def test_t47_a_pulled_cable_is_our_network_and_its_return_ends_it(wire: Cable, tmp_path: Path) -> None:
    log = tmp_path / "watcher.log"
    server = serving(wire, 9000, tmp_path / "server.log")
    watcher = watching(wire, log, f"{OUTSIDE}:9000", "192.0.2.1:9")             # the second one never answers, and costs nothing
    try:
        until(lambda: "witnesses 1" in log.read_text(), 20, log)
        time.sleep(GAP_SECONDS + 1)
        assert "lost" not in log.read_text()                                     # failing runs alone prove nothing while a witness answers
        wire.plug("down")
        until(lambda: "lost" in log.read_text(), GAP_SECONDS + 15, log)
        wire.plug("up")
        until(lambda: "found" in log.read_text(), GAP_SECONDS + 15, log)
    finally:
        stop(watcher)
        stop(server)


def test_t47_a_shop_that_dies_with_its_witness_is_not_our_network(wire: Cable, tmp_path: Path) -> None:
    """The witness's host is there: it refuses."""
    log = tmp_path / "watcher.log"
    server = serving(wire, 9000, tmp_path / "server.log")
    watcher = watching(wire, log, f"{OUTSIDE}:9000")
    try:
        until(lambda: "witnesses 1" in log.read_text(), 20, log)
        stop(server)
        time.sleep(2 * GAP_SECONDS + 1)
        assert "lost" not in log.read_text()
    finally:
        stop(watcher)
        stop(server)


def test_t47_a_default_route_that_goes_is_seen_at_once_without_any_witness(wire: Cable, tmp_path: Path) -> None:
    log = tmp_path / "watcher.log"
    run("ip", "-n", wire.watcher, "route", "add", "default", "via", OUTSIDE)
    watcher = watching(wire, log)
    try:
        until(lambda: "witnesses 0" in log.read_text(), 20, log)
        time.sleep(0.5)
        run("ip", "-n", wire.watcher, "route", "delete", "default")
        with Stopwatch(watcher.pid) as watch:
            until(lambda: "lost" in log.read_text(), GAP_SECONDS + 15, log)
            assert watch() < 1
        run("ip", "-n", wire.watcher, "route", "add", "default", "via", OUTSIDE)
        until(lambda: "found" in log.read_text(), GAP_SECONDS + 15, log)
    finally:
        stop(watcher)


def test_the_kernel_tells_whether_there_is_a_route(wire: Cable) -> None:
    ask = ["ip", "netns", "exec", wire.watcher, sys.executable, "-c", "from monitor.uplink import has_route; print(has_route())"]
    assert subprocess.run(ask, check=True, capture_output=True, text=True).stdout == "False\n"
    run("ip", "-n", wire.watcher, "route", "add", "default", "via", OUTSIDE)
    assert subprocess.run(ask, check=True, capture_output=True, text=True).stdout == "True\n"
    assert isinstance(has_route(), bool)
