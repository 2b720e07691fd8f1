"""T47, told from outside: a real daemon on a host whose cable is pulled out. Nobody is told that the shop is down."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import ELSEWHERE, OUTSIDE, Cable, cable, stop

SERVE = """\
import http.server, sys
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
ASK = "import sys, urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9464/api/v1/' + sys.argv[1], timeout=5).read().decode())"
PICTURES = "10.77.47.4"
CONFIG = f"""\
[shop]
name = "till"
url = "http://{OUTSIDE}:9001/"
[daemon]
uplink = ["{ELSEWHERE}:9000"]
[defaults]
interval = "1s"
timeout = "500ms"
recheck = "500ms"
confirm = "9s"
[[probe]]
name = "home"
kind = "http"
url = "http://{OUTSIDE}:9001/"
[[probe]]
name = "search"
kind = "http"
url = "http://{OUTSIDE}:9001/?q=tea"
[[probe]]
name = "pay"
kind = "http"
url = "http://{OUTSIDE}:9001/?pay"
critical = true
[[probe]]
name = "pictures"
kind = "http"
url = "http://{PICTURES}:9002/"
"""


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable() as found:
        yield found


@pytest.fixture
def outside(wire: Cable, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The shop and the witness, each at an address of its own."""
    subprocess.run(["ip", "-n", wire.outside, "address", "add", f"{PICTURES}/24", "dev", "outer"], check=True, timeout=10)
    places = ((OUTSIDE, "9001"), (ELSEWHERE, "9000"), (PICTURES, "9002"))
    servers = [wire.start(wire.outside, "-c", SERVE, host, port, log=tmp_path / f"{port}.log") for host, port in places]
    yield servers
    for server in servers:
        stop(server)


@pytest.fixture
def log(wire: Cable, outside: list[subprocess.Popen[bytes]], tmp_path: Path) -> Iterator[Path]:
    """The log of a daemon that has found all well."""
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    config.write_text(CONFIG)
    daemon = wire.start(wire.watcher, "-m", "monitor", "-c", str(config), "run", log=tmp_path / "daemon.log")
    try:
        until(lambda: '"ready"' in (tmp_path / "daemon.log").read_text(), 20, tmp_path / "daemon.log")
        until(lambda: all(probe["state"] == "up" for probe in api(wire, "probes")["probes"]), 20, tmp_path / "daemon.log")
        yield tmp_path / "daemon.log"
    finally:
        stop(daemon)


def api(wire: Cable, path: str) -> Any:
    return json.loads(wire.inside(sys.executable, "-c", ASK, path))


def until(true: Callable[[], Any], seconds: float, log: Path) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not in time:\n{log.read_text()[-4000:]}"
        time.sleep(0.2)
    return found


@pytest.mark.timeout(120)
def test_t47_a_lost_network_is_one_fault_of_ours_and_no_outage(wire: Cable, log: Path) -> None:
    wire.plug("down")
    incident = until(lambda: api(wire, "incidents")["incidents"], 40, log)[0]
    until(lambda: {p["state"] for p in api(wire, "probes")["probes"]} == {"broken"}, 20, log)
    assert incident["kind"] == "monitor_fault"
    assert incident["cause"] == "broken:uplink"
    assert {p["reason"] for p in api(wire, "probes")["probes"]} == {"uplink"}
    wire.plug("up")
    until(lambda: all(i["resolved"] for i in api(wire, "incidents")["incidents"]), 40, log)
    found = api(wire, "incidents")["incidents"]
    assert [(i["kind"], i["cause"]) for i in found] == [("monitor_fault", "broken:uplink")]
    assert {member["probe"] for member in found[0]["members"]} == {"home", "search", "pay", "pictures"}
    until(lambda: log.read_text().count("this monitor has its network again") == 1, 10, log)
    assert log.read_text().count("this monitor has lost its network") == 1
    assert "probe is down" not in log.read_text()


@pytest.mark.timeout(120)
def test_t47_a_shop_that_dies_while_the_witness_answers_is_down(wire: Cable, log: Path, outside: list[subprocess.Popen[bytes]]) -> None:
    """The shop's host goes silent, and nothing else."""
    subprocess.run(["ip", "-n", wire.outside, "address", "delete", f"{OUTSIDE}/24", "dev", "outer"], check=True, timeout=10)
    subprocess.run(["ip", "-n", wire.outside, "address", "add", f"{ELSEWHERE}/24", "dev", "outer"], check=False, capture_output=True, timeout=10)
    incident = until(lambda: api(wire, "incidents")["incidents"], 40, log)[0]
    assert incident["kind"] == "outage"
    assert "this monitor has lost its network" not in log.read_text()


@pytest.mark.timeout(120)
def test_a_shop_that_dies_together_with_the_only_witness_is_down_while_its_pictures_answer(wire: Cable, log: Path) -> None:
    subprocess.run(["ip", "-n", wire.outside, "address", "flush", "dev", "outer"], check=True, timeout=10)
    subprocess.run(["ip", "-n", wire.outside, "address", "add", f"{PICTURES}/24", "dev", "outer"], check=True, timeout=10)
    all_but_pictures = {"home": "down", "search": "down", "pay": "down", "pictures": "up"}
    until(lambda: {p["probe"]: p["state"] for p in api(wire, "probes")["probes"]} == all_but_pictures, 40, log)
    assert log.read_text().count("this monitor has lost its network") <= 1
    assert all(i["kind"] == "outage" for i in api(wire, "incidents")["incidents"])
