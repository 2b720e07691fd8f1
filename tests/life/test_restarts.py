"""A hundred lives of one daemon: none invents an outage, none says again what was said."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from homestead import house
from processes import until

pytestmark = pytest.mark.timeout(170)
LIVES = 100
CONFIRM = "3s"             # a shop that the machine holds up for a second or two is no outage

# Imports everything once; each life is a fork. Half of the lives end in order, half by kill -9, some while they are still starting.
NURSERY = """
import os, random, signal, sys, time, urllib.request
from pathlib import Path
from monitor import app, logs
from monitor.config import load

path, port, lives = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
chance = random.Random(42)

def ready():
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False

for life in range(lives):
    child = os.fork()
    if child == 0:
        config = load(path)
        logs.configure("json")
        app.run(config)
        os._exit(0)
    if life % 10 == 9:
        time.sleep(chance.uniform(0.0, 0.2))
    else:
        end = time.monotonic() + 20
        while not ready():
            assert time.monotonic() < end, life
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.5))
    number = chance.choice((signal.SIGTERM, signal.SIGKILL))
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, -int(number)}, (life, code)       # a signal before anybody listens for it
"""


def test_a_hundred_restarts_under_an_open_incident_repeat_no_page_and_invent_none(tmp_path: Path) -> None:
    """T42"""
    with house(tmp_path) as home:
        fine = "".join(home.probe(f"ok-{n}", f"/ok?{n}") for n in range(10))
        home.write(fine + home.probe("bad", "/bad"), confirm=CONFIRM)
        home.start()
        until(lambda: [m for m in home.village.messages if m["type"] == "incident.firing"], 20, "the page")
        assert home.stop()[0] == 0
        with (tmp_path / "daemon.log").open("ab") as log:
            command = [sys.executable, "-c", NURSERY, str(home.config), str(home.port), str(LIVES)]
            nursery = subprocess.run(command, stderr=log, timeout=150, check=False)
        assert nursery.returncode == 0, (tmp_path / "daemon.log").read_text()[-2000:]
        assert [m["type"] for m in home.village.messages] == ["incident.firing"]
        home.write(fine + home.probe("bad", "/ok?bad"), confirm=CONFIRM)
        home.start()
        until(lambda: len(home.village.messages) > 1, 20, "the word of the end")
        failed = [sample["reason"] for n in range(10) for sample in home.get(f"/api/v1/samples?probe=ok-{n}&limit=1000")["samples"]
                  if sample["outcome"] == "failed"]
        assert all(reason.endswith("timeout") for reason in failed), "no run that we ended ourselves counts against the shop"
        incident, = home.get("/api/v1/incidents")["incidents"]
        assert (incident["members"][0]["probe"], len(incident["members"])) == ("bad", 1)
        assert home.stop()[0] == 0
        assert [m["type"] for m in home.village.messages] == ["incident.firing", "incident.resolved"]
        assert len(set(home.village.ids)) == 2


def test_a_restart_in_announced_downtime_pages_nobody(tmp_path: Path) -> None:
    """The incident changes at the start, before the update is built again: one of its probes is not configured any more."""
    with house(tmp_path) as home:
        home.write("".join(home.probe(name) for name in ("home", "basket", "pay")), confirm=CONFIRM)
        home.start()
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > 10, 20, "runs")
        assert home.post("/api/v1/updates", body={"version": "2.0", "expect_downtime": "10m"})[0] == 201
        home.village.down = True
        until(lambda: [len(i["members"]) for i in home.get("/api/v1/incidents?open=true")["incidents"]] == [3], 20, "the incident")
        told = [m["type"] for m in home.village.messages]
        home.kill()
        assert home.process is not None
        home.process.wait()
        home.write(home.probe("home") + home.probe("basket"), confirm=CONFIRM)
        home.start()
        until(lambda: [e for e in home.events("incident") if e["what"] == "changed" and e["probes"] == 3][-1:] and
              home.metric("tillwatch_probe_runs_total", outcome="failed") > 10, 20, "runs")
        time.sleep(1)                                # the lanes have been looking all the while
        incident, = home.get("/api/v1/incidents?open=true")["incidents"]
        assert (incident["told"], [m["probe"] for m in incident["members"] if m["recovered"] is None]) == (False, ["home", "basket"])
        assert [m["type"] for m in home.village.messages] == told
        assert home.stop()[0] == 0
